"""Makes and changes records, together with the bytes that Get answers with.

Those bytes are stored next to the fields they are made of, so that a read makes no message. Every
change that Get shows goes through ``published``: it checks the steps, keeps ``update_time`` from
going back, and makes the bytes anew.

All times are microseconds since 1970 UTC; 0 stands for unset.
"""

from __future__ import annotations

import functools
from typing import Any

from google.longrunning import operations_pb2
from google.protobuf import any_pb2

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
_value_field = encoding.message(any_pb2.Any.VALUE_FIELD_NUMBER)
_IS_DONE = encoding.number(operations_pb2.Operation.DONE_FIELD_NUMBER)(True)


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


def published(
    record: Record,
    now: int,
    result: operations_pb2.Operation | None = None,
    *,
    path: tuple[int, ...] = (),
    **changes: Any,
) -> Record:
    """Returns the changed record, with the bytes that Get answers with made anew.

    Args:
        record: The record to change.
        now: The time of the change.
        result: An Operation with the outcome and nothing else; ends the operation.
        path: The states to walk through, the last of which is the new one.
        **changes: The fields to change besides.

    Raises:
        IllegalTransitionError: If the lifecycle lacks one of the steps.
    """
    if path:
        if record.state == UPDATING and path[0] != RUNNING:
            path = (RUNNING, *path)  # whatever ends UPDATING ends it first
        JOB.check(record.state, *path)
        changes["state"] = path[-1]
    now = max(now, record.update_time)  # a clock may be set back; update_time never goes back
    changes["update_time"] = now
    if result is not None:
        changes.update(
            end_time=now,
            expire_time=min(now + record.retention, LAST_TIME),
            lease_expire_time=0,
            scheduled_time=0,
            pause_requested=False,
            exclusive_target="",
            error_code=result.error.code,
            response_type=result.response.type_url.rpartition("/")[2],
        )
    record = record.with_changes(changes)
    return record.with_operation(_operation(record, result))


def _operation(record: Record, result: operations_pb2.Operation | None) -> bytes:
    """Returns the serialized Operation of a record: its own fields, and those of the result."""
    packed = _type_url_field(record.metadata_type) + _value_field(_metadata(record))
    operation = _name_field(record.name) + _metadata_field(packed)
    return operation if result is None else operation + _IS_DONE + result.SerializeToString()


def _metadata(record: Record) -> bytes:
    """Returns the serialized metadata; the former one if the service no longer has its type."""
    try:
        kind = metadata.message_class(record.metadata_type)
    except ConfigurationError:
        return operations_pb2.Operation.FromString(record.operation).metadata.value
    if not record.handler_metadata:
        return metadata.filled(kind, record)
    message = kind.FromString(record.handler_metadata)
    metadata.fill(message, record)
    return message.SerializeToString()
