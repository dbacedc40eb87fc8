"""Operations of another server, as records of this package: stored as they were, and never run.

A caller must find an operation as it was before, whichever server answers. So the bytes that Get
answers with are those of the old server: name, metadata and result, of types that nobody here needs
to know. What the metadata say in conventional fields, such as ``create_time``, the record has, too,
for filters and descriptions to go by.

One that is not done has nobody who works on it any more. It is not begun again: its method has run
elsewhere, perhaps to its end. So it fails, with ABORTED, and its callers decide; or it is left out,
and the old server goes on with it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from google.longrunning import operations_pb2
from google.protobuf.message import Message

from lro_grpc import _anys
from lro_grpc._errors import LIBRARY_DOMAIN, Code, InvalidArgumentError, LroError, cut, to_status
from lro_grpc._operation import integrity, metadata, names, size
from lro_grpc._operation.publication import LAST_TIME
from lro_grpc._operation.record import FIELDS, Record
from lro_grpc._operation.states import CANCELLED, FAILED, SUCCEEDED
from lro_grpc._wire.plain_text import is_text
from lro_grpc._wire.proto_plus import protobuf_message

_MOST_CHARACTERS = 8192
"""Of a method and of a caller: about what a gRPC server reads of all headers of a call."""

_METHOD = re.compile(r"/[A-Za-z_][\w.]*/[A-Za-z_]\w*", re.ASCII)
_TIMES = frozenset({"create_time", "start_time", "end_time"})
_TAKEN = _TIMES | {
    *("target", "verb", "api_version", "status_detail", "progress_percent", "cancel_requested")
}
"""The conventional values of its metadata that the record of an old operation has, too."""

_BLANK: Mapping[str, Any] = {name: field.type() for name, field in FIELDS.items()}


@dataclass(frozen=True, slots=True)
class OldOperation:
    """An operation of another server, with what is known of its start.

    Attributes:
        operation: The operation, as the other server answers a Get.
        method: The method that started it, as ``/pkg.Service/Method``; empty for unknown.
        request: Its request, a message or its bytes; empty for unknown. With both of these it can
            be run again, as a new operation, where the method is served.
        caller: The caller that started it, as ``identify`` names callers; empty for unknown.
    """

    operation: operations_pb2.Operation
    method: str = ""
    request: Message | bytes = b""
    caller: str = ""


def record_of(old: OldOperation, *, now: int, retention: int, operation_bytes: int) -> Record:
    """Returns the record of an old operation, which is done.

    Args:
        old: The operation. One that is not done fails.
        now: The time of the import: also of what the metadata tell no time of.
        retention: The time that it is kept from now on, in microseconds.
        operation_bytes: The most bytes of an operation.

    Raises:
        InvalidArgumentError: If it is no operation that can be stored.
        InvalidNameError: If its name is none.
        OperationTooLargeError: If it is too large.
    """
    parent = _checked_parent(old)
    values = _values_of_metadata(old.operation, now)
    ended = operations_pb2.Operation()
    ended.CopyFrom(old.operation)
    if not ended.done:
        ended.done = True
        ended.error.CopyFrom(to_status(_abandoned(ended.name)))
        values["end_time"] = now
    values.setdefault("end_time", now)
    values.setdefault("create_time", min(values.get("start_time", now), values["end_time"]))
    values.update(
        name=ended.name,
        parent=parent,
        method=old.method,
        request=_bytes_of(old),
        caller=old.caller,
        metadata_type=ended.metadata.TypeName(),
        max_attempts=1,
        retention=min(retention, LAST_TIME),
        update_time=now,
        expire_time=min(now + retention, LAST_TIME),
        state=_state_of(ended),
        error_code=ended.error.code,
        response_type=ended.response.TypeName(),
    )
    record = Record(**{**_BLANK, **values})
    if not old.operation.done:
        _tell_of_end(ended, record)
    record = record._replace(operation=ended.SerializeToString())
    if fault := integrity.fault_in(record):
        raise _invalid(ended.name, fault)
    size.check(record, operation_bytes)
    return record


def is_same(stored: Record, old: OldOperation, operation_bytes: int) -> bool:
    """Returns whether a record is what an old operation was, or would be, stored as."""
    if not stored.done:
        return False
    made = record_of(
        old, now=stored.end_time, retention=stored.retention, operation_bytes=operation_bytes
    )
    known = (stored.method, stored.request, stored.caller)
    if known != (made.method, made.request, made.caller):
        return False
    return stored.operation == made.operation or _plain(stored) == _plain(made)


def _checked_parent(old: OldOperation) -> str:
    """Checks an old operation, and returns the parent that its name has."""
    operation = old.operation
    parent, _ = names.split(operation.name)
    names.check_one(operation.name)
    if not is_text(old.caller):
        raise _invalid(operation.name, f"its caller is {cut(repr(old.caller))}; give a text")
    if not isinstance(old.method, str) or (old.method and not _METHOD.fullmatch(old.method)):
        method = cut(repr(old.method))
        raise _invalid(operation.name, f"its method is {method}; give /pkg.Service/Method")
    for what, text in (("caller", old.caller), ("method", old.method)):
        if len(text) > _MOST_CHARACTERS:
            fault = f"its {what} has {len(text):,} characters, and may have {_MOST_CHARACTERS:,}"
            raise _invalid(operation.name, fault)
    result = operation.WhichOneof("result")
    if operation.done and result is None:
        raise _invalid(operation.name, "it is done, with neither a response nor an error; add one")
    if result is not None and not operation.done:
        raise _invalid(operation.name, f"it has a result, its {result}, and is not done; which?")
    if result == "error" and operation.error.code <= 0:
        fault = f"it failed, with the code {operation.error.code}, which no error has; give another"
        raise _invalid(operation.name, fault)
    return parent


def _bytes_of(old: OldOperation) -> bytes:
    if isinstance(old.request, bytes):
        return old.request
    message = protobuf_message(old.request)
    if not isinstance(message, Message):
        kind = type(old.request).__qualname__
        raise _invalid(old.operation.name, f"its request is a {kind}; give a message, or bytes")
    return message.SerializeToString()


def _values_of_metadata(operation: operations_pb2.Operation, now: int) -> dict[str, Any]:
    """Returns the conventional values that its metadata have, but for those that cannot be so."""
    message = _anys.unpack(operation.metadata)
    found = {} if message is None else metadata.read(message)
    values = {name: found[name] for name in _TAKEN & found.keys()}
    for name in _TIMES & found.keys():
        time = values[name].seconds * 1_000_000 + values[name].nanos // 1000
        if 0 < time <= now:
            values[name] = time
        else:
            del values[name]
    if "progress_percent" in values:
        values["progress_percent"] = max(0, min(values["progress_percent"], 100))
    return values


def _state_of(operation: operations_pb2.Operation) -> int:
    if operation.HasField("response"):
        return SUCCEEDED
    return CANCELLED if operation.error.code == Code.CANCELLED else FAILED


def _tell_of_end(operation: operations_pb2.Operation, record: Record) -> None:
    """Has the metadata of an operation that fails here say so, where they have fields for it."""
    message = _anys.unpack(operation.metadata)
    if message is not None:
        metadata.fill(message, record, clear=False)
        operation.metadata.value = message.SerializeToString(deterministic=True)


def _plain(record: Record) -> operations_pb2.Operation:
    """Returns what Get answers with, the same for the same fields however they are written."""
    operation = operations_pb2.Operation.FromString(record.operation)
    for packed in (operation.metadata, operation.response, *operation.error.details):
        if packed.value and (message := _anys.unpack(packed)) is not None:
            packed.value = message.SerializeToString(deterministic=True)
    return operation


def _abandoned(name: str) -> LroError:
    return LroError(
        f"{name} was not done when it was taken over from another server, and nobody goes on with"
        " it; see what it has done, and start it again",
        code=Code.ABORTED,
        reason="OPERATION_ABANDONED",
        domain=LIBRARY_DOMAIN,
        metadata={"operation": name},
    )


def _invalid(name: str, fault: str) -> InvalidArgumentError:
    return InvalidArgumentError(
        f"operation {cut(name)!r} cannot be stored: {fault}",
        reason="INVALID_OPERATION",
        domain=LIBRARY_DOMAIN,
        metadata={"operation": cut(name)},
    )
