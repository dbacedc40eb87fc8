"""What can be told of any operation at a glance, whatever its metadata type."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from google.longrunning import operations_pb2
from google.protobuf.message import Message
from google.rpc import code_pb2

from lro.v1 import batch_create_instances_pb2
from lro_grpc._cli.exit_codes import outcome
from lro_grpc._cli.terminal_text import one_line
from lro_grpc._operation import lifecycle, metadata

if TYPE_CHECKING:
    from collections.abc import Mapping

    from google.rpc import status_pb2

    from lro_grpc._cli.message_types import MessageTypes

_BatchMetadata = batch_create_instances_pb2.BatchCreateInstancesMetadata
_PREFIX = "JOB_STATE_"


@dataclass(frozen=True, slots=True)
class Instance:
    """One target of a batch."""

    name: str
    state: str
    error: str


@dataclass(frozen=True, slots=True)
class Summary:
    """An operation, as far as its conventional metadata fields tell; the rest is empty or None."""

    name: str
    state: str
    """Such as RUNNING; if nothing tells it, NOT_DONE or what the result is."""
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
    """What was asked for, and is not to be seen in the state: ``cancel``, ``pause``."""
    create_time: datetime | None
    start_time: datetime | None
    update_time: datetime | None
    end_time: datetime | None
    expire_time: datetime | None
    batch: tuple[Instance, ...]


def summary(operation: operations_pb2.Operation, types: MessageTypes) -> Summary:
    """Returns what can be told of an operation."""
    unpacked = types.unpack(operation.metadata) if operation.HasField("metadata") else None
    told = metadata.read(unpacked) if unpacked is not None else {}
    state = _state(operation, told)
    asked = {
        "cancel": told.get("cancel_requested") and not state.startswith("CANCEL"),
        "pause": told.get("pause_requested"),
    }
    return Summary(
        name=one_line(operation.name),
        state=state,
        done=operation.done,
        error=_error_line(operation.error) if operation.HasField("error") else "",
        progress=told.get("progress_percent"),
        detail=one_line(told.get("status_detail", "")),
        verb=one_line(told.get("verb", "")),
        target=one_line(told.get("target", "")),
        api_version=one_line(told.get("api_version", "")),
        attempt=told.get("attempt"),
        requested=tuple(what for what, is_so in asked.items() if is_so),
        create_time=_time(told, "create_time"),
        start_time=_time(told, "start_time"),
        update_time=_time(told, "update_time"),
        end_time=_time(told, "end_time"),
        expire_time=_time(told, "expire_time"),
        batch=_batch(told),
    )


def _error_line(status: status_pb2.Status) -> str:
    """Returns an error's code and message as one line."""
    known = status.code in code_pb2.Code.values()
    code = code_pb2.Code.Name(status.code) if known else str(status.code)
    return one_line(f"{code}: {status.message}" if status.message else code)


def _state(operation: operations_pb2.Operation, told: Mapping[str, Any]) -> str:
    state = lifecycle.JOB.states.get(told.get("state", 0))
    if state is not None and state.terminal == operation.done:
        return state.name.removeprefix(_PREFIX)
    return outcome(operation).name if operation.done else "NOT_DONE"


def _time(told: Mapping[str, Any], name: str) -> datetime | None:
    value = told.get(name)
    if value is None or not (value.seconds or value.nanos):
        return None
    try:
        found: datetime = value.ToDatetime(tzinfo=timezone.utc)
    except (ValueError, OverflowError):  # beyond the years 1 to 9999
        return None
    return found


def _batch(told: Mapping[str, Any]) -> tuple[Instance, ...]:
    message: Message | None = told.get("batch")
    if message is None:
        return ()
    # A server's type of that shape has the same bytes as ours.
    batch = _BatchMetadata.FromString(message.SerializeToString())
    return tuple(_instance(name, batch.instance_statuses[name]) for name in batch.instance_targets)


def _instance(name: str, status: batch_create_instances_pb2.BatchCreateInstanceStatus) -> Instance:
    return Instance(
        name=one_line(name),
        state=lifecycle.BATCH_INSTANCE.name_of(status.state) if status.state else "-",
        error=_error_line(status.error) if status.HasField("error") else "",
    )
