"""The size of operations: refuses what no client could read, and cuts errors to fit.

A gRPC client reads messages of up to 4 MiB unless it is set otherwise. An operation is one message,
made of all that its handler, its errors and its batch say; so it is their sum that is bounded, and
where they are written: what is stored can be got, waited for and listed.

An attempt asks before it writes, not the store: the handler is told at once, and a batch is rolled
back where the response does not fit. The library's own few fields may come on top, as those of a
cancel do; the limit's default leaves room for them.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

from google.longrunning import operations_pb2
from google.rpc import status_pb2

from lro_grpc._errors import OperationTooLargeError, cut
from lro_grpc._operation.events import Event, Report
from lro_grpc._operation.record import Record

OPERATION_BYTES = 4_000_000
"""The most bytes of an operation, unless the server sets another limit."""

READ_AT_ONCE = 16 * 1024
"""The most bytes of a request that an event loop reads at once."""

_PARTS = ("response", "error", "batch", "checkpoint")
"""The fields in which events have more than a report."""

_OWN_BYTES = 1_000
"""More than the library's own fields take when an event changes them."""

LISTED_BYTES = 190_000
"""More than the library's own fields add to an operation that was within its limit when it was
written; and less than what is then left of the 4 MiB that a client reads of a page."""

_ERROR_BYTES = 2_000
"""The least room of an error, however large the rest of its operation is."""


def check(record: Record, limit: int, *, room: int = 0) -> None:
    """Refuses an operation that is larger than may be stored.

    Args:
        record: The operation.
        limit: The most bytes.
        room: Bytes that have to be left, for what is still to come.

    Raises:
        OperationTooLargeError: If it is, or its checkpoint.
    """
    if len(record.checkpoint) > limit:
        raise _too_large(record, "checkpoint", len(record.checkpoint), limit)
    if len(record.operation) + room > limit:
        operation = operations_pb2.Operation.FromString(record.operation)
        parts = {
            "metadata": operation.metadata.ByteSize(),
            "response": operation.response.ByteSize(),
            "error": operation.error.ByteSize(),
        }
        part = max(parts, key=parts.__getitem__)
        raise _too_large(record, part, len(record.operation) + room, limit)


def check_event(event: Event, record: Record, limit: int, *, room: int = 0) -> None:
    """Refuses an event that would make an operation larger than may be stored.

    Args:
        event: An event of the attempt that holds the operation.
        record: The operation before it.
        limit: The most bytes.
        room: Bytes that have to be left.

    Raises:
        OperationTooLargeError: If it would, or its checkpoint.
    """
    if len(record.operation) + _bytes_in(event) + room + _OWN_BYTES > limit:
        check(event.apply(record, record.update_time), limit, room=room)


def fitted(error: status_pb2.Status, report: Report, record: Record, limit: int) -> bytes:
    """Returns an error, serialized, and cut so that an operation that ends with it may be stored.

    Args:
        error: The error.
        report: The last that the handler has said; it fits.
        record: The operation before.
        limit: The most bytes.
    """
    room = limit - len(record.operation) - _bytes_in(report) - _OWN_BYTES
    if error.ByteSize() > room:
        reported = report.apply(record, record.update_time)
        room = max(_ERROR_BYTES, limit - len(reported.operation) - _OWN_BYTES)
    return shortened(error, room).SerializeToString()


def shortened(error: status_pb2.Status, most: int) -> status_pb2.Status:
    """Returns an error cut to a size: the code, the message's beginning, the details that fit."""
    if error.ByteSize() <= most:
        return error
    message = error.message.encode()
    shown = status_pb2.Status(code=error.code, message=error.message)
    if len(message) > most // 2:  # the other half is for the details, of which the reason is one
        shown.message = message[: max(0, most // 2 - 3)].decode(errors="ignore") + "..."
    for detail in error.details:
        if shown.ByteSize() + detail.ByteSize() + 8 <= most:
            shown.details.append(detail)
    return shown


def _bytes_in(event: Any) -> int:
    """Returns the bytes that an event may add, or more; the numbers beside them are few."""
    report = getattr(event, "report", event)
    said = 4 * len(report.status_detail or "") + len(report.handler_metadata or b"")
    for part in _parts_of(event.__class__):
        said += len(getattr(event, part))
    return said


@functools.cache
def _parts_of(kind: Any) -> Sequence[str]:
    return [field.name for field in dataclasses.fields(kind) if field.name in _PARTS]


def _too_large(record: Record, part: str, size: int, limit: int) -> OperationTooLargeError:
    what = "for its checkpoint" if part == "checkpoint" else f"most of them for its {part}"
    return OperationTooLargeError(
        f"{cut(record.name)} would take {size} bytes, {what}; the limit is {limit}. Make that"
        " smaller, or raise Limits(operation_bytes=...), and with it what clients may receive",
        metadata={
            "operation": cut(record.name),
            "part": part,
            "bytes": str(size),
            "limit": str(limit),
        },
    )
