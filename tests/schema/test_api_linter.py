"""The exceptions to the rules of Google's api-linter: in the protos, each with its reason."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor, FileDescriptor
from test_golden import schema_files

PROTOS = Path(__file__).parents[2] / "protos"
FILES: list[FileDescriptor] = [
    descriptor_pool.Default().FindFileByName(file.name) for file in schema_files()
]
FORM = re.compile(
    r"// \(-- api-linter: core::(\d{4}::[a-z-]+)=disabled\n"
    r" *//     aip\.dev/not-precedent: [A-Z].+\. --\)\n"
)
TIMES = ("time", "timestamp", "date")


def fields_of(file: FileDescriptor) -> list[FieldDescriptor]:
    left = list(file.message_types_by_name.values())
    found = []
    while left:
        message = left.pop()
        left += message.nested_types
        found += message.fields
    return found


def enums_of(file: FileDescriptor) -> set[EnumDescriptor]:
    return {f.enum_type for f in fields_of(file) if f.enum_type and f.enum_type.file == file}


def type_of(field: FieldDescriptor) -> str:
    return field.message_type.full_name if field.message_type else ""


def broken(file: FileDescriptor) -> dict[str, int]:
    """Counts the fields, enums and values that break a rule of those that this schema breaks."""
    fields, enums = fields_of(file), enums_of(file)
    values = [value for enum in enums for value in enum.values]
    lacking = [
        field
        for field in fields
        if field.enum_type is not None
        and field.enum_type.name.endswith("State")
        and "field_behavior" not in str(field.GetOptions())
    ]
    counts = {
        "0126::upper-snake-values": sum(value.name != value.name.upper() for value in values),
        "0140::prepositions": sum("with" in field.name.split("_") for field in fields),
        "0142::time-field-type": sum(
            field.name.endswith(TIMES) and type_of(field) != "google.protobuf.Timestamp"
            for field in fields
        ),
        "0146::any": sum(type_of(field) == "google.protobuf.Any" for field in fields),
        "0216::state-field-output-only": len(lacking),
        "0216::synonyms": sum(enum.name.endswith("Status") for enum in enums),
        "0216::value-synonyms": sum(
            value.name == "READY" and value.type.name.endswith("State") for value in values
        ),
    }
    return {rule: count for rule, count in counts.items() if count}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_what_breaks_a_rule_is_an_exception_with_a_reason(file: FileDescriptor) -> None:
    text = (PROTOS / file.name).read_text()
    exceptions = FORM.findall(text)
    assert sorted(exceptions) == sorted(broken(file))
    assert text.count("api-linter") == len(exceptions)
