"""Prints one operation for people, as ``lro get`` and ``lro wait`` do."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from lro_grpc._cli.output import Output, print_value, to_yaml
from lro_grpc._cli.style import Terminal, instance_table, percent, state_text, utc
from lro_grpc._cli.terminal_text import printable_summary
from lro_grpc._inspection.description import (
    AttemptSummary,
    DeliverySummary,
    Description,
    read_description,
)
from lro_grpc._inspection.summary import Summary
from lro_grpc._operation.metadata import DEFAULT_TYPE
from lro_grpc._wire.plain_text import one_line

if TYPE_CHECKING:
    from google.longrunning import operations_pb2

    from lro.v1.operation_description_pb2 import DescribeOperationResponse
    from lro_grpc._inspection.message_types import MessageTypes

_LABEL_WIDTH = 10
_DEFAULT_TYPE = DEFAULT_TYPE.DESCRIPTOR.full_name
_IN_SUMMARY = {
    *("@type", "createTime", "startTime", "updateTime", "endTime", "expireTime"),
    *("target", "verb", "apiVersion", "statusDetail", "progressPercent", "state", "attempt"),
    *("cancelRequested", "pauseRequested", "batchCreateInstancesMetadata"),
}
"""The fields of ``lro.v1.OperationMetadata`` that the lines at the top show."""


def show(
    operation: operations_pb2.Operation,
    types: MessageTypes,
    output: Output,
    *,
    is_one_of_many: bool = False,
) -> None:
    """Prints an operation in a format."""
    if output is Output.TABLE:
        _print_report(operation, types)
    else:
        print_value(types.to_dict(operation), output, is_one_of_many=is_one_of_many)


def show_description(
    description: DescribeOperationResponse,
    types: MessageTypes,
    output: Output,
    *,
    attempts: bool,
    request: bool,
    is_one_of_many: bool = False,
) -> None:
    """Prints all that is known of an operation in a format.

    Args:
        description: It.
        types: The types of messages in it.
        output: The format.
        attempts: Whether a report is to have the attempts.
        request: Whether it is to have the request.
        is_one_of_many: As in ``print_value``.
    """
    if output is not Output.TABLE:
        print_value(types.to_dict(description), output, is_one_of_many=is_one_of_many)
        return
    values = read_description(description)
    _print_report(description.operation, types, _lines_of(values))
    terminal = Terminal()
    if attempts:
        terminal.line("  attempts")
        terminal.table(_attempt_table(values.attempts), indent=4)
    if request:
        shown = types.to_dict(description).get("request", "not shown")
        terminal.line("  request")
        terminal.line(textwrap.indent(to_yaml(shown), "    ").rstrip())


def _lines_of(description: Description) -> Iterator[tuple[str, str]]:
    """Yields the label and the text of each value that an operation itself does not have."""
    schedule_time = utc(description.schedule_time)
    waits = [
        f"{one} until {schedule_time}" if one == "SCHEDULED" else one
        for one in description.wait_reasons
    ]
    failed, most = description.failed_attempts, description.max_attempts
    yield from (
        (label, value)
        for label, value in (
            ("method", one_line(description.method)),
            ("caller", one_line(description.caller)),
            ("labels", one_line(", ".join(map("=".join, description.labels)))),
            ("waits", ", ".join(waits)),
            ("failures", f"{failed} of at most {most}" if failed else ""),
            ("worker", one_line(description.worker)),
            ("lease", utc(description.lease_expire_time)),
            ("deadline", utc(description.deadline_time)),
            ("priority", str(description.priority or "")),
            ("key", one_line(description.concurrency_key)),
            ("exclusive", one_line(description.exclusive_target)),
            ("reruns", one_line(description.source_operation)),
            ("rerun as", one_line(description.rerun_operation)),
            ("operator", one_line(description.operator_caller)),
            ("told", _told(description.delivery)),
            ("request", f"{description.request_size_bytes:,} bytes"),
            ("you may", ", ".join(description.actions)),
        )
        if value
    )


def _told(delivery: DeliverySummary | None) -> str:
    """Returns how far the telling of an operation's end is; empty if nobody is to be told."""
    if delivery is None:
        return ""
    number = delivery.attempts
    next_time = utc(delivery.next_attempt_time)
    parts = (
        delivery.state,
        f"{number} attempt{'s' * (number > 1)}" if number else "",
        f"the next from {next_time}" if next_time else "",
        one_line(delivery.error),
    )
    return ", ".join(filter(None, parts))


def _attempt_table(attempts: Iterable[AttemptSummary]) -> Table:
    columns = ("number", "worker", "started", "ended", "outcome", "error")
    table = Table(*columns, box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for one in attempts:
        cells = (
            str(one.number),
            one_line(one.worker) or "-",
            utc(one.start_time) or "-",
            utc(one.end_time) or "-",
            one.outcome or "-",
            one_line(one.error),
        )
        table.add_row(*map(Text, cells))
    return table


def _print_report(
    operation: operations_pb2.Operation,
    types: MessageTypes,
    more: Iterable[tuple[str, str]] = (),
) -> None:
    """Prints a line for each value of the summary, and the rest of the operation as YAML.

    Args:
        operation: The operation.
        types: The types of messages in it.
        more: The labels and the texts of further lines.
    """
    terminal = Terminal()
    summary = printable_summary(operation, types)
    terminal.line(Text(summary.name, style="bold"))
    for label, value in (*_lines(summary), *more):
        terminal.line(f"  {label:{_LABEL_WIDTH}}", value)
    if summary.batch:
        terminal.line("  batch")
        terminal.table(instance_table(summary.batch), indent=4)
    for label, message in _messages(types.to_dict(operation)):
        terminal.line(f"  {label}")
        terminal.line(textwrap.indent(to_yaml(message), "    ").rstrip())


def _lines(summary: Summary) -> Iterator[tuple[str, str | Text]]:
    """Yields the label and the text of each value that is there."""
    state = state_text(summary.state)
    state.append("".join(f", {one} requested" for one in summary.requested), style="not bold")
    yield "state", state
    if summary.progress is not None:
        yield "progress", percent(summary.progress)
    yield from (
        (label, value)
        for label, value in (
            ("detail", summary.detail),
            ("verb", summary.verb),
            ("target", summary.target),
            ("API", summary.api_version),
            ("attempt", str(summary.attempt or "")),
            ("created", utc(summary.create_time)),
            ("scheduled", utc(summary.schedule_time)),
            ("started", utc(summary.start_time)),
            ("updated", utc(summary.update_time)),
            ("ended" if summary.done else "to end", utc(summary.end_time)),
            ("expires", utc(summary.expire_time)),
            ("error", summary.error),
        )
        if value
    )


def _messages(operation: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yields the messages of an operation, without the fields that the lines at the top show."""
    details = operation.get("error", {}).get("details")
    if details:
        yield "error details", details
    if "response" in operation:
        yield "response", operation["response"]
    metadata = operation.get("metadata", {})
    if metadata.get("@type", "").rpartition("/")[2] == _DEFAULT_TYPE:
        metadata = {k: v for k, v in metadata.items() if k not in _IN_SUMMARY}
    if metadata:
        yield "metadata", metadata
