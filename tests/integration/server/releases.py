"""Releases of a service on one store: each has methods and types of its own, as a deploy does."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

import lro_grpc

FIELD = descriptor_pb2.FieldDescriptorProto
SERVICE = "deploys.v1.Reports"

_files = itertools.count(1)


def message(name: str, pool: Any = None, /, **fields: int | tuple[int, int]) -> Any:
    """Declares a message, and returns its class.

    Args:
        name: Its name in ``deploys.v1``.
        pool: A pool of its own for a name that another release has with other fields.
        **fields: Each has a type, and a number that is its place unless given.
    """
    file = descriptor_pb2.FileDescriptorProto(
        name=f"deploys/v1/release{next(_files)}.proto", package="deploys.v1", syntax="proto3"
    )
    declared = file.message_type.add(name=name)
    for place, (field, kind) in enumerate(fields.items(), start=1):
        number, type_ = kind if isinstance(kind, tuple) else (place, kind)
        declared.field.add(name=field, number=number, type=type_, label=FIELD.LABEL_OPTIONAL)
    chosen = pool or descriptor_pool.Default()
    chosen.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(chosen.FindMessageTypeByName(f"deploys.v1.{name}"))


def method(name: str) -> str:
    return f"/{SERVICE}/{name}"


def release(
    methods: Mapping[str, Any],
    *,
    request: Any,
    response: Any,
    metadata: Any = None,
    prepare: Any = None,
    former_names: Sequence[str] = (),
    **options: Any,
) -> Any:
    """Returns what adds the methods of a release to operations."""

    def configure(operations: lro_grpc.Operations) -> None:
        for name, run in methods.items():
            operations.add_method(
                method(name),
                run,
                request=request,
                response=response,
                prepare=prepare,
                options=lro_grpc.MethodOptions(former_names=former_names, **options),
                **({} if metadata is None else {"metadata": metadata}),
            )

    return configure
