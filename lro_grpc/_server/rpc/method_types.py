"""The types of a long-running method, as its proto declares them."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from google.longrunning import operations_pb2
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message

from lro_grpc import _anys
from lro_grpc._errors import ConfigurationError
from lro_grpc._wire.proto_plus import protobuf_class

_OPERATION_INFO: Any = operations_pb2.operation_info
_OPERATION = operations_pb2.Operation.DESCRIPTOR.full_name


@dataclass(frozen=True, slots=True)
class MethodTypes:
    """The types of a long-running method: protobuf's own classes, or proto-plus classes."""

    request: type[Any]
    response: type[Any]
    metadata: type[Any]

    def __post_init__(self) -> None:
        """Checks that they are message types."""
        for declared in (self.request, self.response, self.metadata):
            protobuf_class(declared)


def methods_of(service: str) -> list[str]:
    """Returns the full names (``/pkg.Service/Method``) of a service's methods; none if unknown."""
    try:
        descriptor = descriptor_pool.Default().FindServiceByName(service)
    except KeyError:
        return []
    return [f"/{service}/{method.name}" for method in descriptor.methods]


def messages_of(method: str) -> tuple[type[Message], type[Message]]:
    """Returns the types of a method's request and of its response.

    Args:
        method: ``/pkg.Service/Method`` of a service whose _pb2 module was imported.
    """
    service, _, name = method.strip("/").partition("/")
    descriptor = descriptor_pool.Default().FindServiceByName(service).methods_by_name[name]
    get = message_factory.GetMessageClass
    return get(descriptor.input_type), get(descriptor.output_type)


def types_of(method: str) -> MethodTypes:
    """Returns a method's request type and the types in its ``operation_info`` (P11).

    Args:
        method: ``/pkg.Service/Method`` of a service whose _pb2 module was imported.

    Raises:
        ConfigurationError: If the method does not return an Operation, has no ``operation_info``,
            or one with a type that no imported module defines; says which lines are missing.
    """
    service, _, name = method.strip("/").partition("/")
    descriptor = descriptor_pool.Default().FindServiceByName(service).methods_by_name[name]
    if descriptor.output_type.full_name != _OPERATION:
        raise _wrong(method, f"it returns {descriptor.output_type.full_name}, not {_OPERATION}")
    info: Any = descriptor.GetOptions().Extensions[_OPERATION_INFO]
    missing = [
        f'    {field}: "..."'
        for field in ("response_type", "metadata_type")
        if not getattr(info, field)
    ]
    if missing:
        lines = ["  option (google.longrunning.operation_info) = {", *missing, "  };"]
        text = "\n".join(lines)
        raise _wrong(method, f"{descriptor.containing_service.file.name} lacks for its rpc\n{text}")
    return MethodTypes(
        request=message_factory.GetMessageClass(descriptor.input_type),
        response=_message_class(method, descriptor, "response_type", info.response_type),
        metadata=_message_class(method, descriptor, "metadata_type", info.metadata_type),
    )


def declared_metadata(method: MethodDescriptor) -> type[Message] | None:
    """Returns the metadata type in a method's ``operation_info``; None if it declares none.

    Raises:
        ConfigurationError: If no imported module defines it.
    """
    info: Any = method.GetOptions().Extensions[_OPERATION_INFO]
    if not info.metadata_type:
        return None
    name = f"/{method.containing_service.full_name}/{method.name}"
    return _message_class(name, method, "metadata_type", info.metadata_type)


def operation_types(name: str) -> Mapping[str, type[Message]]:
    """Returns what a method's ``operation_info`` names: ``response`` and ``metadata``.

    Args:
        name: ``/pkg.Service/Method``.

    Returns:
        The types that are known here; none if the method is not.
    """
    service, _, method = name.strip("/").partition("/")
    try:
        descriptor = descriptor_pool.Default().FindServiceByName(service).methods_by_name[method]
    except KeyError:
        return {}
    info: Any = descriptor.GetOptions().Extensions[_OPERATION_INFO]
    found = {}
    for what, declared in (("response", info.response_type), ("metadata", info.metadata_type)):
        with contextlib.suppress(ConfigurationError):
            if declared:
                found[what] = _message_class(name, descriptor, what, declared)
    return found


def _message_class(
    method: str, descriptor: MethodDescriptor, field: str, name: str
) -> type[Message]:
    """Resolves a name of ``operation_info``: in the method's package first, then further out."""
    package = descriptor.containing_service.file.package
    scopes = [] if name.startswith(".") else package.split(".")
    for length in range(len(scopes), -1, -1):
        found = _anys.find_class(".".join([*scopes[:length], name.lstrip(".")]))
        if found is not None:
            return found
    raise _wrong(
        method,
        f"its operation_info names {field}: {name!r}, which no imported module defines;"
        f" import the _pb2 module of that type, or correct the name in"
        f" {descriptor.containing_service.file.name}",
    )


def _wrong(method: str, what: str) -> ConfigurationError:
    return ConfigurationError(
        f"{method} cannot be a long-running method: {what}",
        reason="BAD_OPERATION_INFO",
        metadata={"method": method},
    )
