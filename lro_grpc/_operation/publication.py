"""Makes and changes records, together with the bytes that Get answers with.

Those bytes are stored next to the fields they are made of, so that a read makes no message. Every
change that Get shows goes through ``published``: it checks the steps, keeps ``update_time`` from
going back, and makes the bytes anew. It makes them of the values that the next record will have,
and then the record of both: so a change makes one record, not one for its fields and another for
its bytes. A start is such a change, too: of the ``Template`` of its method, which has all that the
options of the method say.

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
from lro_grpc._operation.record import FIELDS, Record
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

_UNSET = Record(
    **{name: FIELDS[name].type() for name in Record._fields if name not in Record._field_defaults}
)

_NO_CHANGES: Mapping[str, Any] = {}

_check_path = functools.cache(JOB.check)
"""The paths that it has let pass are kept: there are few."""


@functools.lru_cache(maxsize=1000)
def _type_url_field(metadata_type: str) -> bytes:
    encode = encoding.text(any_pb2.Any.TYPE_URL_FIELD_NUMBER)
    return encode(_anys.TYPE_URL_PREFIX + metadata_type)


class Template:
    """The beginning that all operations of a method have in common; made once.

    Args:
        method: The method's full name.
        metadata_type: The full name of its metadata message.
        exclusive: Whether no other operation may have the target meanwhile (S6).
        timeout: The operations' time limit, in microseconds; 0 for none.
        retention: As a record has it.
        max_attempts: As a record has it.
        **values: Further fields of a record.
    """

    def __init__(
        self,
        method: str,
        metadata_type: str,
        *,
        exclusive: bool = False,
        timeout: int = 0,
        retention: int = DEFAULT_RETENTION,
        max_attempts: int = 10,
        **values: Any,
    ) -> None:
        self._exclusive = exclusive
        self._timeout = timeout
        self._record = _UNSET._replace(
            method=method,
            metadata_type=metadata_type,
            retention=min(retention, LAST_TIME),
            max_attempts=max_attempts,
            **values,
        )

    def create(
        self,
        parent: str,
        operation_id: str,
        now: int,
        values: Mapping[str, Any],
        *,
        schedule_time: int = 0,
    ) -> Record:
        """Returns a new record, QUEUED and not yet stored.

        Args:
            parent: The part of its name before ``/operations/``; empty for none.
            operation_id: The part behind it.
            now: The time of its start.
            values: Further fields of it; they win over those of the template.
            schedule_time: The time before which it does not begin, and from which its time limit
                counts; 0, and any that has come, stands for now.
        """
        name = names.operation_name(parent, operation_id)
        changes = {**values, "name": name, "parent": parent, "create_time": now}
        begin = max(schedule_time, now)
        if begin > now:
            changes["delayed_until"] = changes["scheduled_time"] = begin
        if self._timeout:
            changes["deadline_time"] = min(begin + self._timeout, LAST_TIME)
        if self._exclusive:
            changes["exclusive_target"] = changes.get("target", "")
        priority = changes.get("priority", 0)
        if begin > now or priority or changes.get("concurrency_key"):
            changes["queue_order"] = max(1, begin - priority * HEAD_START)
        return published(self._record, now, changes)


def create(
    *,
    parent: str,
    operation_id: str,
    method: str,
    metadata_type: str,
    now: int,
    schedule_time: int = 0,
    exclusive: bool = False,
    timeout: int = 0,
    retention: int = DEFAULT_RETENTION,
    **values: Any,
) -> Record:
    """Returns one new record, by a :class:`Template` of its own; see there."""
    template = Template(
        method, metadata_type, exclusive=exclusive, timeout=timeout, retention=retention
    )
    return template.create(parent, operation_id, now, values, schedule_time=schedule_time)


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
