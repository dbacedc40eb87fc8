"""Services declared at run time: what a proto of a user's own would put into the default pool."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import grpc
from google.longrunning import operations_pb2
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

OPERATION = ".google.longrunning.Operation"
FIELD = descriptor_pb2.FieldDescriptorProto

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Rpc:
    """One rpc of a declared service."""

    info: tuple[str, str] | None = ("Thing", "Progress")
    """``response_type`` and ``metadata_type`` of its ``operation_info``, in which ``{package}``
    stands for the service's own; None for no option."""
    output: str = OPERATION
    client_streaming: bool = False
    server_streaming: bool = False


class Declared:
    """A service in a package of its own, with its messages.

    Each package has ``Thing`` (with a nested ``Part``), ``Ask`` and ``Progress``, each with one
    string field ``name``; and what ``messages`` adds.

    Args:
        rpcs: The rpcs by their names.
        messages: More messages: fields by name, each a type's number, or ``string`` or a message's
            full name with a ``*`` behind it if it is repeated.
    """

    def __init__(
        self,
        rpcs: Mapping[str, Rpc],
        messages: Mapping[str, Mapping[str, int | str]] | None = None,
    ) -> None:
        self.package = f"test.declared{next(_numbers)}.v1"
        self.service = f"{self.package}.Things"
        self.rpcs = rpcs
        file = descriptor_pb2.FileDescriptorProto(
            name=f"{self.package.replace('.', '/')}/things.proto",
            package=self.package,
            syntax="proto3",
            dependency=[
                "google/longrunning/operations.proto",
                "google/protobuf/timestamp.proto",
                "google/rpc/status.proto",
                "lro/v1/state.proto",
                "lro/v1/batch_create_instances.proto",
            ],
        )
        named = {"name": FIELD.TYPE_STRING}
        for name, fields in {
            "Thing": named,
            "Ask": {**named, "parent": FIELD.TYPE_STRING},
            "Progress": named,
            **(messages or {}),
        }.items():
            _add_message(file.message_type.add(name=name), fields)
        _add_message(file.message_type[0].nested_type.add(name="Part"), named)
        service = file.service.add(name="Things")
        for name, rpc in rpcs.items():
            method = service.method.add(
                name=name,
                input_type=f".{self.package}.Ask",
                output_type=rpc.output if rpc.output[0] == "." else f".{self.package}.{rpc.output}",
                client_streaming=rpc.client_streaming,
                server_streaming=rpc.server_streaming,
            )
            if rpc.info is not None:
                info: Any = method.options.Extensions[operations_pb2.operation_info]
                names = [name.format(package=self.package) for name in rpc.info]
                info.response_type, info.metadata_type = names
        self.file = file.name
        descriptor_pool.Default().AddSerializedFile(file.SerializeToString())

    def method(self, name: str) -> str:
        return f"/{self.service}/{name}"

    def message(self, name: str) -> Any:
        return message_class(f"{self.package}.{name}")

    def add(self, servicer: Any, server: Any) -> None:
        """Adds a servicer as the present generated adders do."""
        handlers = self._handlers(servicer)
        generic = grpc.method_handlers_generic_handler(self.service, handlers)
        server.add_generic_rpc_handlers((generic,))
        server.add_registered_method_handlers(self.service, handlers)

    def add_old_style(self, servicer: Any, server: Any) -> None:
        """Adds a servicer as the adders of grpcio-tools before 1.63 do."""
        generic = grpc.method_handlers_generic_handler(self.service, self._handlers(servicer))
        server.add_generic_rpc_handlers((generic,))

    def _handlers(self, servicer: Any) -> dict[str, Any]:
        return {
            name: _shape(rpc)(
                getattr(servicer, name),
                request_deserializer=self.message("Ask").FromString,
                response_serializer=lambda message: message.SerializeToString(),
            )
            for name, rpc in self.rpcs.items()
        }


def _shape(rpc: Rpc) -> Callable[..., Any]:
    shape = (rpc.client_streaming, rpc.server_streaming)
    return {
        (False, False): grpc.unary_unary_rpc_method_handler,
        (False, True): grpc.unary_stream_rpc_method_handler,
        (True, False): grpc.stream_unary_rpc_method_handler,
        (True, True): grpc.stream_stream_rpc_method_handler,
    }[shape]


def _add_message(message: Any, fields: Mapping[str, int | str]) -> None:
    for number, (name, kind) in enumerate(fields.items(), start=1):
        field = message.field.add(name=name, number=number, label=FIELD.LABEL_OPTIONAL)
        if isinstance(kind, int):
            field.type = kind
            continue
        if kind.endswith("*"):
            field.label = FIELD.LABEL_REPEATED
        full_name = kind.removesuffix("*")
        if full_name == "string":
            field.type = FIELD.TYPE_STRING
            continue
        field.type_name = f".{full_name}"
        field.type = FIELD.TYPE_ENUM if full_name == "lro.v1.JobState" else FIELD.TYPE_MESSAGE


def message_class(full_name: str) -> Any:
    found = descriptor_pool.Default().FindMessageTypeByName(full_name)
    return message_factory.GetMessageClass(found)
