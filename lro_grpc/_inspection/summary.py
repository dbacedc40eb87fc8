"""Summarizes any operation in a few plain values, whatever type its metadata is of.

The texts are as the server has sent them, so each place that shows them makes them fit for itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from google.longrunning import operations_pb2
from google.protobuf.message import Message
from google.rpc import code_pb2

from lro.v1 import batch_create_instances_pb2
from lro_grpc._operation import metadata as conventional
from lro_grpc._operation import states

if TYPE_CHECKING:
    from collections.abc import Mapping

    from google.protobuf import timestamp_pb2
    from google.rpc import status_pb2

_BatchMetadata = batch_create_instances_pb2.BatchCreateInstancesMetadata


@dataclass(frozen=True, slots=True)
class InstanceSummary:
    """One instance of a batch."""

    name: str
    state: str
    error: str
    """The code and the message."""


@dataclass(frozen=True, slots=True)
class Summary:
    """An operation's result and conventional metadata; a missing value is empty or None."""

    name: str
    state: str
    """Such as RUNNING; derived from the rest if the metadata has none."""
    done: bool
    error: str
    """The code and the message."""
    progress: int | None
    """In percent."""
    detail: str
    verb: str
    target: str
    api_version: str
    attempt: int | None
    requested: tuple[str, ...]
    """The requests that the state does not show yet: ``cancel``, ``pause``."""
    create_time: datetime | None
    schedule_time: datetime | None
    """The time before which its first attempt does not begin."""
    start_time: datetime | None
    update_time: datetime | None
    end_time: datetime | None
    expire_time: datetime | None
    batch: tuple[InstanceSummary, ...]
    partial_failures: tuple[str, ...] = ()
    """The code and the message of each failure of a part."""


def read_summary(operation: operations_pb2.Operation, metadata: Message | None) -> Summary:
    """Returns the summary of an operation.

    Args:
        operation: The operation.
        metadata: The message inside of its metadata; None if there is none, or its type is unknown.
    """
    values = conventional.read(metadata) if metadata is not None else {}
    failures = conventional.partial_failures(metadata) if metadata is not None else ()
    state = _state(operation, values)
    requests = {
        "cancel": values.get("cancel_requested") and not state.startswith("CANCEL"),
        "pause": values.get("pause_requested"),
    }
    return Summary(
        name=operation.name,
        state=state,
        done=operation.done,
        error=error_text(operation.error) if operation.HasField("error") else "",
        progress=values.get("progress_percent"),
        detail=values.get("status_detail", ""),
        verb=values.get("verb", ""),
        target=values.get("target", ""),
        api_version=values.get("api_version", ""),
        attempt=values.get("attempt"),
        requested=tuple(request for request, is_open in requests.items() if is_open),
        create_time=_time(values, "create_time"),
        schedule_time=_time(values, "delayed_until"),
        start_time=_time(values, "start_time"),
        update_time=_time(values, "update_time"),
        end_time=_time(values, "end_time"),
        expire_time=_time(values, "expire_time"),
        batch=_batch(values),
        partial_failures=tuple(map(error_text, failures)),
    )


def error_text(status: status_pb2.Status) -> str:
    """Returns an error's code and message."""
    number = status.code or code_pb2.UNKNOWN  # an error without a code is one all the same
    known = number in code_pb2.Code.values()
    code = code_pb2.Code.Name(number) if known else str(number)
    return f"{code}: {status.message}" if status.message else code


def _state(operation: operations_pb2.Operation, values: Mapping[str, Any]) -> str:
    return states.JOB.spoken(states.state_of(operation, values))


def _time(values: Mapping[str, Any], name: str) -> datetime | None:
    value = values.get(name)
    return None if value is None else time_of(value)


def time_of(value: timestamp_pb2.Timestamp) -> datetime | None:
    """Returns a timestamp as a time; None if it is unset, or beyond the years 1 to 9999."""
    if not (value.seconds or value.nanos):
        return None
    try:
        found: datetime = value.ToDatetime(tzinfo=timezone.utc)
    except (ValueError, OverflowError):
        return None
    return found


def _batch(values: Mapping[str, Any]) -> tuple[InstanceSummary, ...]:
    message: Message | None = values.get("batch")
    if message is None:
        return ()
    # It may be a type of the server's own, which has the same bytes as this one.
    batch = _BatchMetadata.FromString(message.SerializeToString())
    return tuple(_instance(name, batch.instance_statuses[name]) for name in batch.instance_targets)


def _instance(
    name: str, status: batch_create_instances_pb2.BatchCreateInstanceStatus
) -> InstanceSummary:
    return InstanceSummary(
        name=name,
        state=states.BATCH_INSTANCE.name_of(status.state) if status.state else "-",
        error=error_text(status.error) if status.HasField("error") else "",
    )
