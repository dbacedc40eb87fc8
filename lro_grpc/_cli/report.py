"""One operation for people, as ``lro get`` and ``lro wait`` print it."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from rich.text import Text

from lro_grpc._cli.output import Output, print_one, to_yaml
from lro_grpc._cli.style import Terminal, instance_table, percent, state_text
from lro_grpc._cli.terminal_text import printable_summary
from lro_grpc._inspection.summary import Summary
from lro_grpc._operation.metadata import DEFAULT_TYPE

if TYPE_CHECKING:
    from google.longrunning import operations_pb2

    from lro_grpc._inspection.message_types import MessageTypes

_LABEL_WIDTH = 10
_OWN_TYPE = DEFAULT_TYPE.DESCRIPTOR.full_name
_SAID_ELSEWHERE = {
    *("@type", "createTime", "startTime", "updateTime", "endTime", "expireTime"),
    *("target", "verb", "apiVersion", "statusDetail", "progressPercent", "state", "attempt"),
    *("cancelRequested", "pauseRequested", "batchCreateInstancesMetadata"),
}
"""The fields of ``lro.v1.OperationMetadata`` that the lines at the top tell of."""


def show(operation: operations_pb2.Operation, types: MessageTypes, output: Output) -> None:
    """Prints an operation in the format that was asked for."""
    if output is Output.TABLE:
        _print_report(operation, types)
    else:
        print_one(operation, types, output)


def _print_report(operation: operations_pb2.Operation, types: MessageTypes) -> None:
    """Prints a line for each thing that the metadata tells, and then what is left as YAML."""
    terminal = Terminal()
    told = printable_summary(operation, types)
    terminal.line(Text(told.name, style="bold"))
    for label, value in _lines(told):
        terminal.line(f"  {label:{_LABEL_WIDTH}}", value)
    if told.batch:
        terminal.line("  batch")
        terminal.table(instance_table(told.batch), indent=4)
    for label, message in _messages(types.to_dict(operation)):
        terminal.line(f"  {label}")
        terminal.line(textwrap.indent(to_yaml(message), "    ").rstrip())


def _lines(told: Summary) -> Iterator[tuple[str, str | Text]]:
    """Yields the label and the value of all that is told."""
    state = state_text(told.state)
    state.append("".join(f", {what} requested" for what in told.requested), style="not bold")
    yield "state", state
    if told.progress is not None:
        yield "progress", percent(told.progress)
    yield from (
        (label, value)
        for label, value in (
            ("detail", told.detail),
            ("verb", told.verb),
            ("target", told.target),
            ("API", told.api_version),
            ("attempt", str(told.attempt or "")),
            ("created", _utc(told.create_time)),
            ("started", _utc(told.start_time)),
            ("updated", _utc(told.update_time)),
            ("ended", _utc(told.end_time)),
            ("expires", _utc(told.expire_time)),
            ("error", told.error),
        )
        if value
    )


def _messages(operation: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yields what the lines at the top do not tell."""
    details = operation.get("error", {}).get("details")
    if details:
        yield "error details", details
    if "response" in operation:
        yield "response", operation["response"]
    metadata = operation.get("metadata", {})
    if metadata.get("@type", "").rpartition("/")[2] == _OWN_TYPE:
        metadata = {k: v for k, v in metadata.items() if k not in _SAID_ELSEWHERE}
    if metadata:
        yield "metadata", metadata


def _utc(time: datetime | None) -> str:
    return f"{time.replace(tzinfo=None).isoformat(' ', 'seconds')} UTC" if time else ""
