"""The comments of protos, from a descriptor set that has them.

What ``protoc`` compiles into Python has none. A file that it writes with
``--include_source_info --descriptor_set_out`` does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from google.protobuf import descriptor_pb2
from google.protobuf.message import DecodeError

from lro_grpc._errors import ConfigurationError

_INTERNAL = re.compile(r"\(--.*?--\)", re.DOTALL)
"""A comment to those who write the proto alone (AIP-192)."""

_FILE = descriptor_pb2.FileDescriptorProto
_MESSAGE = descriptor_pb2.DescriptorProto
_ENUM = descriptor_pb2.EnumDescriptorProto
_SERVICE = descriptor_pb2.ServiceDescriptorProto

_CHILDREN = {
    _FILE: {
        _FILE.MESSAGE_TYPE_FIELD_NUMBER: "message_type",
        _FILE.ENUM_TYPE_FIELD_NUMBER: "enum_type",
        _FILE.SERVICE_FIELD_NUMBER: "service",
    },
    _MESSAGE: {
        _MESSAGE.FIELD_FIELD_NUMBER: "field",
        _MESSAGE.NESTED_TYPE_FIELD_NUMBER: "nested_type",
        _MESSAGE.ENUM_TYPE_FIELD_NUMBER: "enum_type",
    },
    _ENUM: {_ENUM.VALUE_FIELD_NUMBER: "value"},
    _SERVICE: {_SERVICE.METHOD_FIELD_NUMBER: "method"},
}
"""The parts of each kind of descriptor that have names, by the numbers in a location's path."""


class Comments:
    """The comments of the files of a descriptor set.

    Args:
        descriptor_set: A serialized ``google.protobuf.FileDescriptorSet``; empty for none.

    Raises:
        ConfigurationError: If it is none.
    """

    def __init__(self, descriptor_set: bytes = b"") -> None:
        try:
            files = descriptor_pb2.FileDescriptorSet.FromString(descriptor_set).file
        except (DecodeError, TypeError) as cause:
            raise ConfigurationError(
                "comments is no serialized FileDescriptorSet; give the bytes of the file that"
                " protoc writes with --include_source_info --descriptor_set_out=FILE"
            ) from cause
        self._by_name = dict(found for file in files for found in _comments_in(file))

    def of(self, descriptor: Any) -> str:
        """Returns the comment of a message, a field, an enum or a method; empty for none."""
        return self._by_name.get(descriptor.full_name, "")


def _comments_in(file: descriptor_pb2.FileDescriptorProto) -> Iterator[tuple[str, str]]:
    for location in file.source_code_info.location:
        comment = _INTERNAL.sub("", location.leading_comments)
        name = _name_at(file, list(location.path)) if comment else ""
        text = "\n".join(line.strip() for line in comment.strip().splitlines())
        if name and text:
            yield name, text


def _name_at(file: descriptor_pb2.FileDescriptorProto, path: list[int]) -> str:
    """Returns the full name of what is at a path; empty for what has none."""
    part: Any = file
    names = [file.package] if file.package else []
    for number, index in zip(path[::2], path[1::2], strict=False):
        child = _CHILDREN.get(type(part), {}).get(number)
        children = getattr(part, child) if child is not None else ()
        if index >= len(children):
            return ""
        part = children[index]
        names.append(part.name)
    return ".".join(names) if part is not file and len(path) % 2 == 0 else ""
