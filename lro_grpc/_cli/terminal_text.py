"""Makes a server's texts fit for a terminal: each is one line, and commands nothing."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from lro_grpc._inspection.summary import InstanceSummary, Summary, read_summary
from lro_grpc._wire.plain_text import one_line

if TYPE_CHECKING:
    from google.longrunning import operations_pb2

    from lro_grpc._inspection.message_types import MessageTypes


def printable_summary(operation: operations_pb2.Operation, types: MessageTypes) -> Summary:
    """Returns the summary of an operation, each of its texts as one line."""
    summary = read_summary(operation, types.unpack(operation.metadata))
    batch = tuple(dataclasses.replace(one, **_lines_of(one)) for one in summary.batch)
    return dataclasses.replace(summary, **_lines_of(summary), batch=batch)


def _lines_of(summary: Summary | InstanceSummary) -> dict[str, Any]:
    """Returns the texts of a summary by the names of their fields, each as one line."""
    values = {field.name: getattr(summary, field.name) for field in dataclasses.fields(summary)}
    return {name: one_line(text) for name, text in values.items() if isinstance(text, str)}
