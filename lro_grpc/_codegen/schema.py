"""The protos that protoc hands to its plugins, as far as long-running methods need them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from google.longrunning import operations_pb2
from google.protobuf import descriptor_pb2

EMPTY = "google.protobuf.Empty"
OPERATION = "google.longrunning.Operation"

_OPERATION_INFO: Any = operations_pb2.operation_info

# Field numbers of descriptor.proto, of which the paths of SourceCodeInfo are made.
SERVICE = 6
_METHOD, _OPTIONS = 2, 4
_INFO = _OPERATION_INFO.number
_LONGEST_PATH = 6
"""That of a method's option: three steps, each by its field and its place or number."""


class IncompleteError(Exception):
    """The protos do not have all that is named in them, as those of protoc do."""


@dataclass(frozen=True, slots=True)
class MessageType:
    """A message, and where it is declared."""

    full_name: str
    file: str
    """The proto, by the name it is imported by."""
    package: str
    has_name: bool
    """Whether it has a field ``name``, as each resource does (AIP-122)."""

    @property
    def path(self) -> tuple[str, ...]:
        """Its name below the package; more than one part for a nested message."""
        return tuple(self.full_name.removeprefix(f"{self.package}.").split("."))


@dataclass(frozen=True, slots=True)
class OperationInfo:
    """A method's ``google.longrunning.operation_info``: names, and the messages they stand for."""

    response_type: str
    metadata_type: str
    response: MessageType | None
    """None if the file cannot see a message of that name."""
    metadata: MessageType | None
    """Likewise."""
    line: int


@dataclass(frozen=True, slots=True)
class Method:
    """A method of a service."""

    name: str
    path: str
    """``/pkg.Service/Method``."""
    file: str
    package: str
    line: int
    comment: str
    request: MessageType
    output: MessageType
    client_streaming: bool
    server_streaming: bool
    info: OperationInfo | None

    @property
    def streams(self) -> bool:
        """Whether it streams, in either direction."""
        return self.client_streaming or self.server_streaming

    @property
    def operation_types(self) -> tuple[MessageType, MessageType] | None:
        """The response and the metadata of a long-running method; None of any other."""
        info = self.info
        if self.output.full_name != OPERATION or self.streams or info is None:
            return None
        return (info.response, info.metadata) if info.response and info.metadata else None


@dataclass(frozen=True, slots=True)
class Service:
    """A service of a file."""

    name: str
    full_name: str
    comment: str
    methods: tuple[Method, ...]

    @property
    def is_long_running(self) -> bool:
        """Whether one of its methods is."""
        return any(method.operation_types for method in self.methods)


class Schema:
    """Some files, and all that they import.

    Its methods raise an ``IncompleteError`` where something is missing.

    Args:
        files: The files, imports included.
    """

    def __init__(self, files: Iterable[descriptor_pb2.FileDescriptorProto]) -> None:
        self._files = {file.name: file for file in files}
        self._messages = {
            message.full_name: message
            for file in self._files.values()
            for message in _messages(file, file.message_type, file.package)
        }

    def services(self, file_name: str) -> list[Service]:
        """Returns the services of a file, in their order."""
        file = self._file(file_name, file_name)
        where = _Locations(file)
        return [
            Service(
                name=service.name,
                full_name=_join(file.package, service.name),
                comment=where.comment(SERVICE, index),
                methods=tuple(
                    self._method(file, service, method, where, (SERVICE, index, _METHOD, number))
                    for number, method in enumerate(service.method)
                ),
            )
            for index, service in enumerate(file.service)
        ]

    def all_methods(self) -> Iterator[Method]:
        """Yields the methods of every file."""
        for name in self._files:
            for service in self.services(name):
                yield from service.methods

    def imports(self, file_name: str) -> set[str]:
        """Returns the files whose messages a file may name: itself, and its imports."""
        seen = {file_name}
        left = list(self._file(file_name, file_name).dependency)
        while left:
            name = left.pop()
            if name not in seen:
                seen.add(name)
                file = self._file(name, file_name)
                left += _public_imports(file)
        return seen

    def _file(self, name: str, by: str) -> descriptor_pb2.FileDescriptorProto:
        """Returns a file that is named by one."""
        if name not in self._files:
            raise IncompleteError(f"{by}: the protos lack the file {name!r}")
        return self._files[name]

    def _message(self, name: str, by: str) -> MessageType:
        """Returns the message that a file names, with a dot before it."""
        if name[1:] not in self._messages:
            raise IncompleteError(f"{by}: the protos lack the message {name!r}")
        return self._messages[name[1:]]

    def resolve(self, name: str, package: str) -> MessageType | None:
        """Finds a message by a name as it stands in a package: in it first, then further out.

        Args:
            name: Relative, full, or full with a leading dot.
            package: The package in which the name stands.
        """
        if name.startswith("."):
            return self._messages.get(name[1:])
        scopes = package.split(".") if package else []
        for length in range(len(scopes), -1, -1):
            found = self._messages.get(".".join([*scopes[:length], name]))
            if found is not None:
                return found
        return None

    def _method(
        self,
        file: descriptor_pb2.FileDescriptorProto,
        service: descriptor_pb2.ServiceDescriptorProto,
        method: descriptor_pb2.MethodDescriptorProto,
        where: _Locations,
        path: tuple[int, ...],
    ) -> Method:
        return Method(
            name=method.name,
            path=f"/{_join(file.package, service.name)}/{method.name}",
            file=file.name,
            package=file.package,
            line=where.line(*path),
            comment=where.comment(*path),
            request=self._message(method.input_type, file.name),
            output=self._message(method.output_type, file.name),
            client_streaming=method.client_streaming,
            server_streaming=method.server_streaming,
            info=self._info(file.package, method, where.line(*path, _OPTIONS, _INFO)),
        )

    def _info(
        self, package: str, method: descriptor_pb2.MethodDescriptorProto, line: int
    ) -> OperationInfo | None:
        if not method.options.HasExtension(_OPERATION_INFO):
            return None
        info = method.options.Extensions[_OPERATION_INFO]
        return OperationInfo(
            response_type=info.response_type,
            metadata_type=info.metadata_type,
            response=self.resolve(info.response_type, package),
            metadata=self.resolve(info.metadata_type, package),
            line=line,
        )


class _Locations:
    """The places of a file's elements in its text, by their paths of field numbers."""

    def __init__(self, file: descriptor_pb2.FileDescriptorProto) -> None:
        self._found: dict[tuple[int, ...], descriptor_pb2.SourceCodeInfo.Location] = {}
        for location in file.source_code_info.location:
            self._found.setdefault(tuple(location.path), location)
        self._first_part: dict[tuple[int, ...], tuple[int, ...]] = {}
        for path in sorted(self._found):
            for length in range(1, min(len(path), _LONGEST_PATH + 1)):
                self._first_part.setdefault(path[:length], path)

    def line(self, *path: int) -> int:
        """Returns the line of an element, or of the one around it, from 1 on; 0 if unknown."""
        while path and path not in self._found:
            # An option that is set by its parts has no place as a whole.
            path = self._first_part.get(path, path[:-1])
        return line_of(self._found[path]) if path else 0

    def comment(self, *path: int) -> str:
        """Returns the comment above an element."""
        location = self._found.get(path)
        lines = location.leading_comments.splitlines() if location else []
        return "\n".join(line.removeprefix(" ").rstrip() for line in lines).strip("\n")


def line_of(location: descriptor_pb2.SourceCodeInfo.Location) -> int:
    """Returns the line of a place in a file, from 1 on; 0 if unknown."""
    return location.span[0] + 1 if location.span else 0


def _public_imports(file: descriptor_pb2.FileDescriptorProto) -> list[str]:
    try:
        return [file.dependency[index] for index in file.public_dependency]
    except IndexError as cause:
        raise IncompleteError(
            f"{file.name}: the protos lack an import that it makes public"
        ) from cause


def _messages(
    file: descriptor_pb2.FileDescriptorProto,
    messages: Iterable[descriptor_pb2.DescriptorProto],
    scope: str,
) -> Iterator[MessageType]:
    for message in messages:
        name = _join(scope, message.name)
        has_name = any(field.name == "name" for field in message.field)
        yield MessageType(name, file.name, file.package, has_name)
        yield from _messages(file, message.nested_type, name)


def _join(scope: str, name: str) -> str:
    return f"{scope}.{name}" if scope else name
