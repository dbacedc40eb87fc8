"""Prints operations on stdout, as JSON or YAML, and messages on stderr."""

from __future__ import annotations

import enum
import json
import sys
from typing import TYPE_CHECKING, Any

import yaml

from lro_grpc._wire.plain_text import one_line

if TYPE_CHECKING:
    from google.longrunning import operations_pb2

    from lro_grpc._inspection.message_types import MessageTypes


class Output(str, enum.Enum):
    """The values of ``--output``."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


def print_next(operation: operations_pb2.Operation, types: MessageTypes, output: Output) -> None:
    """Prints an operation in protobuf's JSON form, as one of many."""
    print_value(types.to_dict(operation), output, is_one_of_many=True)


def print_value(value: Any, output: Output, *, is_one_of_many: bool = False) -> None:
    """Prints a JSON value: as YAML for ``Output.YAML``, else as JSON.

    Args:
        value: The value.
        output: The format.
        is_one_of_many: Whether more may follow: it is a line of JSON then, not an indented object,
            or a YAML document after its ``---``.
    """
    if output is Output.YAML:
        print("---\n" * is_one_of_many + to_yaml(value), end="", flush=True)
    else:
        print(json.dumps(value, indent=None if is_one_of_many else 2), flush=True)


def to_yaml(value: Any) -> str:
    """Returns a JSON value as block YAML."""
    plain = json.loads(json.dumps(value))  # YAML does not know protobuf's own kinds of dict
    text: str = yaml.dump(plain, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)
    return text


class _Dumper(yaml.SafeDumper):
    """Escapes a text with characters that do not show, such as those that change direction."""

    def analyze_scalar(self, scalar: str) -> Any:
        """Decides how a text is written; called for each before it is."""
        self.allow_unicode = all(map(str.isprintable, scalar.splitlines()))
        return super().analyze_scalar(scalar)


def print_unserved(name: str, why: str) -> None:
    """Prints that an operation waits in vain, if there is a reason for that."""
    if why:
        print_message(f"{name} waits, and nobody will go on with it: {why}")


def print_message(text: str) -> None:
    """Prints a line on stderr, in the name of the command."""
    print(f"lro: {one_line(text)}", file=sys.stderr)


def print_lines(text: str) -> None:
    """Prints a text of several lines likewise."""
    print("lro:", "\n".join(map(one_line, text.splitlines())), file=sys.stderr)
