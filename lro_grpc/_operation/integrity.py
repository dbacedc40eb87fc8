"""Finds the records that this package cannot have written, as after damage to a disk.

A store that reads its records from outside asks before it hands one out: what is wrong with one
record must not reach the code that has many of them in its hands. Damage within a value, such as
another letter in a text, is not seen; what is found is what would make an event or a reader fail.
"""

from __future__ import annotations

from typing import Any

from google.longrunning import operations_pb2
from google.protobuf.message import DecodeError, Message
from google.rpc import status_pb2

from lro_grpc import _anys
from lro_grpc._errors import OperationDamagedError, cut
from lro_grpc._operation import concurrency_key, labels, names
from lro_grpc._operation.batch_states import Message as BatchMessage
from lro_grpc._operation.publication import LAST_TIME
from lro_grpc._operation.record import FIELDS, MOST_PRIORITY, Kind, Record
from lro_grpc._operation.states import JOB

_NUMBERS = tuple(name for name, field in FIELDS.items() if field.type is int and name != "priority")
_TIMES = tuple(
    name for name, field in FIELDS.items() if field.kind is Kind.TIME or name.endswith("_time")
)
_MOST_COUNTED = 2**31 - 1
_COUNTS = (
    *("attempt", "failed_attempts", "progress_percent", "error_code"),
    *("attempt_number", "attempt_outcome"),
)
"""Numbers that are no times: an ``int32`` holds each of them, and the next one."""
_TYPES = tuple((name, field.type) for name, field in FIELDS.items())


def damaged(name: object, why: str) -> OperationDamagedError:
    """Returns the error for an operation whose record cannot be read."""
    shown = cut(name) if isinstance(name, str) else repr(name)
    return OperationDamagedError(
        f"the record of operation {shown!r} is damaged: {why}; it is set aside, and everything else"
        " goes on. Delete it, or restore it from a backup",
        metadata={"operation": shown},
    )


def fault_in(record: Record) -> str:
    """Returns what is wrong with a record; empty if nothing is."""
    try:
        return _fault_in(record)
    except DecodeError as cause:
        return f"it does not parse ({cause})"


def fault_in_served(operation: bytes) -> str:
    """Returns what is wrong with the bytes that Get answers with; empty if nothing is."""
    try:
        shown = operations_pb2.Operation.FromString(operation)
    except DecodeError as cause:
        return f"its operation does not parse ({cause})"
    if not shown.name:
        return "its operation has no name"
    kind = _anys.find_class(shown.metadata.TypeName())
    if kind is not None and _anys.unpack(shown.metadata) is None:
        return "its metadata does not parse"
    return ""


def fault_in_types(record: Record) -> str:
    """Returns which value is not of its type; empty if each is, so that a filter can ask for it."""
    for name, kind in _TYPES:
        if type(getattr(record, name)) is not kind:
            return f"its {name} is {cut(repr(getattr(record, name)))}"
    return "" if record.state in JOB.states else f"its state is {record.state}"


def _fault_in(record: Record) -> str:
    if fault := fault_in_types(record):
        return fault
    for name in _NUMBERS:
        if getattr(record, name) < 0:
            return f"its {name} is {getattr(record, name)}"
    if abs(record.priority) > MOST_PRIORITY:
        return f"its priority is {record.priority}"
    for name in _TIMES:
        if getattr(record, name) > LAST_TIME:
            return f"its {name} is {getattr(record, name)}"
    for name in _COUNTS:
        if getattr(record, name) >= _MOST_COUNTED:
            return f"its {name} is {getattr(record, name)}"
    if not record.name.startswith(names.operation_name(record.parent, "")):
        return f"its parent is {cut(record.parent)!r}"
    if not labels.is_sound(record.labels):
        return f"its labels are {cut(record.labels)!r}"
    key = record.concurrency_key
    if not concurrency_key.is_sound(key) or (key and not record.queue_order):
        return f"its concurrency key is {cut(key)!r}, in the order {record.queue_order}"
    if record.done == (not record.end_time) or (record.done and record.lease_expire_time):
        return f"it is {JOB.spoken(record.state)}, and its times say otherwise"
    if fault := fault_in_served(record.operation):
        return fault
    shown = operations_pb2.Operation.FromString(record.operation)
    if shown.name != record.name:
        return "its operation has another name"
    if not shown.done == record.done == bool(shown.WhichOneof("result")):
        return "its operation has another outcome"
    return _fault_in_parts(record)


def _fault_in_parts(record: Record) -> str:
    parts: dict[str, type[Message] | None] = {
        "batch": BatchMessage,
        "batch_error": status_pb2.Status,
        "attempt_error": status_pb2.Status,
        "handler_metadata": _anys.find_class(record.metadata_type),
    }
    for name, kind in parts.items():
        value: Any = getattr(record, name)
        if not value or kind is None:
            continue
        try:
            kind.FromString(value)
        except DecodeError as cause:
            return f"its {name} does not parse ({cause})"
    return ""
