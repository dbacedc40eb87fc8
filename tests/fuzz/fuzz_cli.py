"""The command: what it shows of a server's texts, and what it reads from its own arguments."""

from __future__ import annotations

import json
import unicodedata
from typing import Any

import typer
import yaml
from fuzz_messages import OPERATIONS, TYPE_WORDS
from google.longrunning import operations_pb2
from google.protobuf.message import DecodeError
from target import target, text_of

from lro_grpc._cli import output, parameters, report, shell_completion, terminal_text
from lro_grpc._cli.connection import ConnectionOptions
from lro_grpc._cli.operation_lines import Line, LineError, parse
from lro_grpc._errors import LroError
from lro_grpc._inspection.message_types import MessageTypes
from lro_grpc._operation.integrity import fault_in
from lro_grpc._operation.old_operation import is_same, record_of


class NoReflection:
    """A server without a reflection service."""

    def perform(self, call: Any) -> Any:
        del call
        return None


def is_plain(text: str) -> bool:
    """Whether a terminal shows a text, and does nothing else."""
    return not any(unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") for c in text)


ESCAPES = (
    "\x1b[2J",
    "\x1b]0;x\x07",
    "\x9b2J",
    "\u202e",
    "\u2066",
    "\r",
    "\n",
    "\t",
    "\0",
    "\ufeff",
)


@target("a text", *ESCAPES, words=ESCAPES)
def terminal_line(data: bytes) -> None:
    for text in (text_of(data), data.decode("latin-1")):
        line = terminal_text.one_line(text)
        assert is_plain(line)
        assert line == text or not text.isprintable()


@target(*OPERATIONS, words=(*TYPE_WORDS, *ESCAPES))
def operation_on_a_terminal(data: bytes) -> None:
    try:
        operation = operations_pb2.Operation.FromString(data)
    except DecodeError:
        return
    reflection: Any = NoReflection()
    types = MessageTypes(reflection, lambda note: None)
    summary = terminal_text.printable_summary(operation, types)
    for _, value in report._lines(summary):
        assert is_plain(str(value))
    try:
        value = types.to_dict(operation)
    except LroError:
        return
    assert is_plain(json.dumps(value))
    again = yaml.safe_load(output.to_yaml(value))
    assert json.dumps(again) == json.dumps(value)


@target("projects/p/locations/l/operations/op-1", "`reboot`", "$(reboot)", words=["\\$(", "`", ";"])
def completed_name(data: bytes) -> None:
    name = text_of(data)
    if not shell_completion._PLAIN.fullmatch(name):
        return
    assert not set(name) & set("`$(){}[]<>|&;!\"'\\*? \t\n\r#")
    assert is_plain(name)


@target("30", "1e9", "nan", "-inf", "5m", "50ms", words=["e", "_", "inf", "nan", ".", "s", "h"])
def timeout_option(data: bytes) -> None:
    try:
        time = parameters._duration(text_of(data))
    except typer.BadParameter:
        return
    assert time.total_seconds() > 0


@target("key=value", "x-bin=AAEC", "=", "a=b=c", words=["-bin=", "=", "\x7f"])
def metadata_option(data: bytes) -> None:
    try:
        ((key, value),) = ConnectionOptions(metadata=[text_of(data)]).call_metadata
    except typer.BadParameter:
        return
    assert key == key.lower()
    assert isinstance(value, bytes) == key.endswith("-bin")
    assert isinstance(value, bytes) or (value.isascii() and value.isprintable())


@target(
    '{"name": "operations/a", "done": true, "response": {"@type": "x/no.such", "value": "AA=="}}',
    '{"name": "operations/a", "done": true, "error": {"code": 5, "details": [{"@type": "x/a.B"}]}}',
    '{"operation": "CgxvcGVyYXRpb25zL2E=", "method": "/a.B/C", "request": "AAE=", "caller": "ada"}',
    words=[*TYPE_WORDS, '"operation":', '"request":', '"metadata":', '"done": true', "null"],
)
def operation_line(data: bytes) -> None:
    try:
        old = parse(Line(1, data))
        record = record_of(old, now=10**15, retention=10**12, operation_bytes=4_000_000)
    except (LineError, LroError):
        return
    assert record.done
    assert not fault_in(record)
    assert is_same(record, old, 4_000_000)
    if old.operation.done:
        assert record.operation == old.operation.SerializeToString()
