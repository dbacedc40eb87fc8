"""Makes and changes records, together with the bytes that Get answers with.

Those bytes are stored next to the fields they are made of, so that a read makes no message. Every
change that Get shows goes through ``published``: it checks the steps, keeps ``update_time`` from
going back, and makes the bytes anew. It makes them of the values that the next record will have,
and then the record of both: so a change makes one record, not one for its fields and another for
its bytes.

All times are microseconds since 1970 UTC; 0 stands for unset.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from google.longrunning import operations_pb2
from google.protobuf import any_pb2
from google.rpc import status_pb2

from lro_grpc import _anys
from lro_grpc._errors import ConfigurationError, OperationNotFoundError
from lro_grpc._operation import metadata, names
from lro_grpc._operation.record import Record
from lro_grpc._operation.states import JOB, RUNNING, UPDATING
from lro_grpc._wire import encoding

DEFAULT_RETENTION = 30 * 24 * 3600 * 1_000_000
"""The retention of an operation whose method sets none: 30 days (S7)."""

HEAD_START = 60 * 1_000_000
"""The time that one step of priority is worth, in microseconds."""

LAST_TIME = 253_402_300_799_999_999
"""The end of the year 9999: a ``Timestamp`` holds no later time."""

_name_field = encoding.text(operations_pb2.Operation.NAME_FIELD_NUMBER)
_metadata_field = encoding.message(operations_pb2.Operation.METADATA_FIELD_NUMBER)
_response_field = encoding.message(operations_pb2.Operation.RESPONSE_FIELD_NUMBER)
_error_field = encoding.message(operations_pb2.Operation.ERROR_FIELD_NUMBER)
_value_field = encoding.message(any_pb2.Any.VALUE_FIELD_NUMBER)
_IS_DONE = encoding.number(operations_pb2.Operation.DONE_FIELD_NUMBER)(True)

_NAME, _METADATA_TYPE, _HANDLER_METADATA, _OPERATION = map(
    Record._fields.index, ("name", "metadata_type", "handler_metadata", "operation")
)

_NO_CHANGES: Mapping[str, Any] = {}

_check_path = functools.cache(JOB.check)
"""The paths that it has let pass are kept: there are few."""


@functools.lru_cache(maxsize=1000)
def _type_url_field(metadata_type: str) -> bytes:
    encode = encoding.text(any_pb2.Any.TYPE_URL_FIELD_NUMBER)
    return encode(_anys.TYPE_URL_PREFIX + metadata_type)


def create(
    *,
    parent: str,
    operation_id: str,
    method: str,
    request: bytes,
    metadata_type: str,
    now: int,
    request_id: str = "",
    fingerprint: bytes = b"",
    target: str = "",
    verb: str = "",
    api_version: str = "",
    caller: str = "",
    trace_context: str = "",
    max_attempts: int = 10,
    pausable: bool = False,
    exclusive: bool = False,
    retention: int = DEFAULT_RETENTION,
    timeout: int = 0,
    handler_metadata: bytes = b"",
    batch: bytes = b"",
    request_understood: bool = False,
    source_operation: str = "",
    operator: str = "",
    notify: bool = False,
    labels: str = "",
    schedule_time: int = 0,
    priority: int = 0,
    concurrency_key: str = "",
) -> Record:
    """Returns a new record, QUEUED and not yet stored.

    With ``exclusive`` no other operation may have the target meanwhile (S6). ``timeout`` is its
    time limit, in microseconds; 0 stands for none. ``handler_metadata`` holds the
    first values of the handler's own metadata fields; ``batch`` has the targets of its batch,
    where they are known. ``request_understood`` tells whether each field of the request is known.
    ``source_operation`` is the operation that it runs again, and ``operator`` the caller of that.
    With ``notify`` its end is told to the server's ``on_done``. ``labels`` are packed.
    ``schedule_time`` is the time before which it does not begin, and from which its time limit
    counts; 0, and any that has come, stands for now. ``priority`` is a head start in minutes. Those
    of one ``concurrency_key`` take turns with those of others; empty stands for none.
    """
    delayed_until = schedule_time if schedule_time > now else 0
    begin = delayed_until or now
    is_ordered = bool(delayed_until or priority or concurrency_key)
    record = Record(
        name=names.operation_name(parent, operation_id),
        parent=parent,
        method=method,
        request=request,
        request_id=request_id,
        fingerprint=fingerprint,
        metadata_type=metadata_type,
        target=target,
        verb=verb,
        api_version=api_version,
        caller=caller,
        trace_context=trace_context,
        max_attempts=max_attempts,
        pausable=pausable,
        exclusive_target=target if exclusive else "",
        retention=min(retention, LAST_TIME),
        deadline_time=min(begin + timeout, LAST_TIME) if timeout else 0,
        create_time=now,
        handler_metadata=handler_metadata,
        batch=batch,
        request_understood=request_understood,
        source_operation=source_operation,
        operator=operator,
        notify=notify,
        labels=labels,
        delayed_until=delayed_until,
        scheduled_time=delayed_until,
        priority=priority,
        queue_order=max(1, begin - priority * HEAD_START) if is_ordered else 0,
        concurrency_key=concurrency_key,
    )
    return published(record, now)


def not_found(name: str) -> OperationNotFoundError:
    """Returns the error for a name that no operation has."""
    return OperationNotFoundError(f"operation {name!r} not found", metadata={"name": name})


class Outcome(NamedTuple):
    """The way in which an operation ends."""

    fields: bytes
    """The fields of its ``Operation`` that say so, serialized."""
    error_code: int
    """See :class:`Record`."""
    response_type: str
    """See :class:`Record`."""

    @classmethod
    def success(cls, response: bytes) -> Outcome:
        """Returns the outcome of an operation that has a response.

        Args:
            response: The serialized ``Any`` that holds it.
        """
        kind = any_pb2.Any.FromString(response).type_url.rpartition("/")[2]
        return cls(_IS_DONE + _response_field(response), 0, kind)

    @classmethod
    def failure(cls, error: status_pb2.Status) -> Outcome:
        """Returns the outcome of an operation that has an error."""
        fields = _IS_DONE + _error_field(error.SerializeToString())
        return cls(fields, error.code, "")


def published(
    record: Record,
    now: int,
    changes: Mapping[str, Any] = _NO_CHANGES,
    outcome: Outcome | None = None,
    *,
    path: tuple[int, ...] = (),
) -> Record:
    """Returns the changed record, with the bytes that Get answers with made anew.

    Args:
        record: The record to change.
        now: The time of the change.
        changes: The fields to change.
        outcome: Ends the operation.
        path: The states to walk through, the last of which is the new one.

    Raises:
        IllegalTransitionError: If the lifecycle lacks one of the steps.
    """
    now = max(now, record.update_time)  # a clock may be set back; update_time never goes back
    changed = {**changes, "update_time": now}
    if path:
        if record.state == UPDATING and path[0] != RUNNING:
            path = (RUNNING, *path)  # whatever ends UPDATING ends it first
        _check_path(record.state, *path)
        changed["state"] = path[-1]
    if outcome is not None:
        changed |= {
            "end_time": now,
            "expire_time": min(now + record.retention, LAST_TIME),
            "lease_expire_time": 0,
            "scheduled_time": 0,
            "pause_requested": False,
            "exclusive_target": "",
            "error_code": outcome.error_code,
            "response_type": outcome.response_type,
        }
    values = record.values_with(changed)
    values[_OPERATION] = _operation(values, outcome)
    return Record._make(values)


def _operation(values: Sequence[Any], outcome: Outcome | None) -> bytes:
    """Returns the serialized Operation of a record's values, and of its outcome."""
    packed = _type_url_field(values[_METADATA_TYPE]) + _value_field(_metadata(values))
    operation = _name_field(values[_NAME]) + _metadata_field(packed)
    return operation if outcome is None else operation + outcome.fields


def _metadata(values: Sequence[Any]) -> bytes:
    """Returns the serialized metadata; the former one if the service no longer has its type."""
    try:
        kind = metadata.message_class(values[_METADATA_TYPE])
    except ConfigurationError:
        return operations_pb2.Operation.FromString(values[_OPERATION]).metadata.value
    if not values[_HANDLER_METADATA]:
        return metadata.filled(kind, values)
    message = kind.FromString(values[_HANDLER_METADATA])
    metadata.fill(message, Record._make(values))
    return message.SerializeToString()
