"""The formats that a command can print operations in."""

from __future__ import annotations

import enum
import json
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from google.longrunning import operations_pb2

    from lro_grpc._inspection.message_types import MessageTypes


class Output(str, enum.Enum):
    """What ``--output`` takes."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


def print_one(operation: operations_pb2.Operation, types: MessageTypes, output: Output) -> None:
    """Prints an operation in protobuf's JSON form, as one indented object or one document."""
    print_value(types.to_dict(operation), output)


def print_value(value: Any, output: Output) -> None:
    """Prints a JSON value, as YAML if that is asked for, and else indented."""
    if output is Output.YAML:
        print(to_yaml(value), end="")
    else:
        print(json.dumps(value, indent=2))


def print_next(operation: operations_pb2.Operation, types: MessageTypes, output: Output) -> None:
    """Prints an operation as one of many: a line of JSON, or a YAML document after its ``---``."""
    found = types.to_dict(operation)
    if output is Output.JSON:
        print(json.dumps(found), flush=True)
    else:
        print(f"---\n{to_yaml(found)}", end="", flush=True)


def to_yaml(value: Any) -> str:
    """Returns a JSON value as block YAML."""
    plain = json.loads(json.dumps(value))  # protobuf's own kinds of dict are none of YAML's
    text: str = yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=100)
    return text
