"""What the wire depends on and no other check sees, pinned in a text file.

After an intended change, write the file again and review its diff::

    python tests/schema/test_golden.py
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from pathlib import Path
from typing import TYPE_CHECKING

from google.protobuf import descriptor_pb2, text_format

import lro

if TYPE_CHECKING:
    from collections.abc import Iterator

    from google.protobuf.message import Message

GOLDEN = Path(__file__).with_name("golden.txt")


def test_the_schema_is_as_pinned() -> None:
    """D5, P11: a change of ``operation_info`` breaks clients as one of a field does."""
    difference = "\n".join(
        difflib.unified_diff(
            GOLDEN.read_text().splitlines(),
            render().splitlines(),
            fromfile=str(GOLDEN.name),
            tofile="schema",
            lineterm="",
        )
    )
    assert not difference, (
        f"the schema changed:\n{difference}\n"
        f"If that is intended: python tests/schema/{Path(__file__).name}"
    )


def render() -> str:
    """Renders every element of the schema, with its number and all of its options."""
    return "".join(f"{line}\n" for file in schema_files() for line in file_lines(file))


def schema_files() -> Iterator[descriptor_pb2.FileDescriptorProto]:
    for module in sorted(info.name for info in pkgutil.walk_packages(lro.__path__, "lro.")):
        if module.endswith("_pb2"):
            file = descriptor_pb2.FileDescriptorProto()
            importlib.import_module(module).DESCRIPTOR.CopyToProto(file)
            yield file


def file_lines(file: descriptor_pb2.FileDescriptorProto) -> Iterator[str]:
    package = file.package
    yield f"file {file.name}{options(file)}"
    for extension in file.extension:
        yield f"  extend {extension.extendee}: {field_text(extension)}"
    for enum in file.enum_type:
        yield from enum_lines(enum, package)
    for message in file.message_type:
        yield from message_lines(message, package)
    for service in file.service:
        yield f"  service {package}.{service.name}{options(service)}"
        for method in service.method:
            stream = "stream " if method.server_streaming else ""
            yield (
                f"    {method.name}({method.input_type}) returns ({stream}{method.output_type})"
                f"{options(method)}"
            )
    yield ""


def message_lines(message: descriptor_pb2.DescriptorProto, scope: str) -> Iterator[str]:
    name = f"{scope}.{message.name}"
    yield f"  message {name}{options(message)}"
    for field in message.field:
        yield f"    {field_text(field)}"
    for enum in message.enum_type:
        yield from enum_lines(enum, name)
    for nested in message.nested_type:
        yield from message_lines(nested, name)


def enum_lines(enum: descriptor_pb2.EnumDescriptorProto, scope: str) -> Iterator[str]:
    yield f"  enum {scope}.{enum.name}{options(enum)}"
    for value in enum.value:
        yield f"    {value.number} {value.name}{options(value)}"


def field_text(field: descriptor_pb2.FieldDescriptorProto) -> str:
    kind = field.type_name or field.Type.Name(field.type).removeprefix("TYPE_").lower()
    repeated = "repeated " if field.label == field.LABEL_REPEATED else ""
    optional = "optional " if field.proto3_optional else ""
    json = f" (JSON {field.json_name})" if field.json_name else ""  # stubs keep only unusual ones
    return f"{field.number} {repeated}{optional}{kind} {field.name}{json}{options(field)}"


def options(
    element: descriptor_pb2.FileDescriptorProto
    | descriptor_pb2.DescriptorProto
    | descriptor_pb2.FieldDescriptorProto
    | descriptor_pb2.EnumDescriptorProto
    | descriptor_pb2.EnumValueDescriptorProto
    | descriptor_pb2.ServiceDescriptorProto
    | descriptor_pb2.MethodDescriptorProto,
) -> str:
    set_options: Message = element.options
    text = text_format.MessageToString(set_options, as_one_line=True)
    return f"  [{text}]" if text else ""


if __name__ == "__main__":
    GOLDEN.write_text(render())
