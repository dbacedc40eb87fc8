"""Refusals of protos of which no Python module can be made.

Names become code, and comments its docstrings. protoc checks the names within a proto, but not the
one of its file; and whoever runs the plugin may have a proto, or a whole request, of someone else.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator

from google.protobuf import descriptor_pb2

from lro_grpc._codegen.render import module_of
from lro_grpc._codegen.schema import SERVICE, Service, line_of


def unreadable(file: descriptor_pb2.FileDescriptorProto) -> Iterator[str]:
    """Yields what would be read of a file and is not UTF-8: protobuf gives that as bytes."""
    if not _is_text(file.name):
        yield f"{file.name!r}: the file's name is not UTF-8; rename it"
        return
    for name in _names_in(file):
        if not _is_text(name):
            yield f"{file.name}: the name {name!r} is not UTF-8, as names in a proto are"
    for location in file.source_code_info.location:
        if location.path[:1] == [SERVICE] and not _is_text(location.leading_comments):
            line = line_of(location)
            place = f"{file.name}:{line}" if line else file.name
            yield f"{place}: the comment above it is not UTF-8; save the file as UTF-8"


def _names_in(file: descriptor_pb2.FileDescriptorProto) -> Iterator[str]:
    """Yields the names that a file has, or refers to, outside of its messages."""
    yield from (file.package, *file.dependency)
    yield from (message.name for message in file.message_type)
    for service in file.service:
        yield service.name
        for method in service.method:
            yield from (method.name, method.input_type, method.output_type)


def _is_text(text: str | bytes) -> bool:
    return isinstance(text, str)


def unnameable(file: str, services: list[Service]) -> Iterator[str]:
    """Yields the names in a file's services that Python cannot have.

    Args:
        file: The proto's name.
        services: Those of its services that are written.
    """
    methods = [method for service in services for method in service.methods]
    messages = [
        message
        for method in methods
        for message in (method.request, *(method.operation_types or (method.output,)))
    ]
    for proto in sorted({file, *(message.file for message in messages)}):
        module = module_of(proto, "_pb2")
        if not _is_path(module):
            yield (
                f"{proto!a}: its module would be {module!a}, which Python cannot import;"
                " rename the file or its folder"
            )
    for name in sorted(
        {
            *(service.full_name for service in services),
            *(method.name for method in methods),
            *(message.full_name for message in messages),
        }
    ):
        if not _is_path(name):
            yield f"{file!a}: {name!a} is no name that a proto can have"


def uncompilable(file: str, text: str) -> Iterator[str]:
    """Yields the error of a module that is not Python, which is a mistake of the plugin."""
    try:
        compile(text, "", "exec", dont_inherit=True)
    except (SyntaxError, ValueError) as error:
        yield f"{file!a}: the module for it would not compile: {error}; please report this"


def _is_path(text: str) -> bool:
    """Tells whether Python takes a text for names with dots between them, and for no others."""
    is_itself = unicodedata.normalize("NFKC", text) == text
    return is_itself and all(map(str.isidentifier, text.split(".")))
