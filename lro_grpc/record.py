"""The stored operation: an immutable value and its pure transitions.

A transition is an event applied to a record at a time; it gives the next record, or an error and
no change. Nothing here reads a clock or does I/O: whoever arbitrates (a store) calls
``event.apply(record, now)`` on the latest record and keeps what it returns.

All times are microseconds since 1970 UTC; 0 stands for unset.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from google.longrunning import operations_pb2
from google.protobuf import any_pb2
from google.rpc import status_pb2

from lro.v1 import state_pb2
from lro_grpc import metadata, names
from lro_grpc.batch import BatchStates
from lro_grpc.errors import (
    LIBRARY_DOMAIN,
    Code,
    ConfigurationError,
    IllegalTransitionError,
    LroError,
    OperationNotFoundError,
    StaleAttemptError,
    to_status,
)
from lro_grpc.lifecycle import JOB

QUEUED = state_pb2.JOB_STATE_QUEUED
PENDING = state_pb2.JOB_STATE_PENDING
RUNNING = state_pb2.JOB_STATE_RUNNING
UPDATING = state_pb2.JOB_STATE_UPDATING
PAUSED = state_pb2.JOB_STATE_PAUSED
CANCELLING = state_pb2.JOB_STATE_CANCELLING
CANCELLED = state_pb2.JOB_STATE_CANCELLED
SUCCEEDED = state_pb2.JOB_STATE_SUCCEEDED
PARTIALLY_SUCCEEDED = state_pb2.JOB_STATE_PARTIALLY_SUCCEEDED
FAILED = state_pb2.JOB_STATE_FAILED
EXPIRED = state_pb2.JOB_STATE_EXPIRED

DEFAULT_RETENTION = 30 * 24 * 3600 * 1_000_000
"""For how long a done operation is kept unless its method says otherwise: 30 days (S7)."""


_LAST_TIME = 253_402_300_799_999_999
"""The end of the year 9999, after which a ``Timestamp`` shows nothing; 64 bits hold it, too."""


class Record(NamedTuple):
    """One operation, all of it.

    A named tuple, for it goes to and from a table's row as it is.
    """

    name: str
    """``[{parent}/]operations/{id}``."""
    parent: str
    """The part of the name before ``/operations/``; empty for none."""
    method: str
    """The full name of the gRPC method that started it: ``/pkg.Service/Method``."""
    request: bytes
    """The request message as it came over the wire."""
    request_id: str
    """The caller's idempotency key; empty for none, and once the operation is deleted."""
    fingerprint: bytes
    """A hash of the request, by which another one under the same key is told apart."""
    metadata_type: str
    """The full name of the metadata message."""
    target: str
    """The resource that the operation is about."""
    verb: str
    """What is done to the target, such as ``create``."""
    api_version: str
    """The version of the API that the operation was started with, such as ``v1``."""
    caller: str
    """Who started it, by the service's own account; empty if that is not known."""
    trace_context: str
    """What its attempts belong to: a W3C ``traceparent``, and after a space its ``tracestate``."""
    max_attempts: int
    """How many attempts may fail, be lost or get stuck before the operation fails."""
    pausable: bool
    """Whether its handler can pause."""
    exclusive_target: str
    """The target that no other operation may have meanwhile (S6); empty for none, and when done."""
    retention: int
    """For how long it is kept once it is done, in microseconds."""
    deadline_time: int
    """When its method's own time limit is over; 0 for none."""
    create_time: int
    """When it was started."""
    start_time: int
    """When its first attempt began; never moves."""
    update_time: int
    """When anything that Get shows last changed."""
    end_time: int
    """When it was done."""
    expire_time: int
    """From when on it may be removed; 0 until it is done."""
    state: int
    """A ``lro.v1.JobState``."""
    attempt: int
    """The number of the latest attempt: the fencing token. 0 before the first claim."""
    failed_attempts: int
    """How many attempts ended with an error to retry, without a worker, or stuck."""
    lease_time: int
    """Until when the latest attempt holds the operation; 0 while no attempt does."""
    ready_time: int
    """Before when no attempt may begin; 0 for no such time."""
    cancel_requested: bool
    """Whether someone asked to cancel it."""
    pause_requested: bool
    """Whether someone asked to pause it, and it has not come to where it can."""
    deleted: bool
    """Whether someone deleted it while it was not done: hidden, but still run to its end."""
    progress_percent: int
    """0 to 100; never goes back."""
    status_detail: str
    """What the handler last said about its progress."""
    custom: bytes
    """The handler's own metadata fields: a serialized message of ``metadata_type``."""
    checkpoint: bytes
    """The ``Any`` of the state that a handler goes on from; empty for none."""
    batch: bytes
    """The batch's targets and states: a ``lro.v1.BatchCreateInstancesMetadata``; empty for none."""
    batch_error: bytes
    """The ``google.rpc.Status`` of the batch's first failure; empty for none."""
    error_code: int
    """The code of its error; 0 for none."""
    response_type: str
    """The full name of its response's message; empty for none."""
    operation: bytes
    """The ``google.longrunning.Operation`` that Get answers with, byte for byte."""

    @property
    def done(self) -> bool:
        """Whether the operation has its outcome; from then on nothing changes."""
        return JOB.is_terminal(self.state)

    @property
    def claimable(self) -> bool:
        """Whether it waits to be run, or to be undone; ``is_ready`` tells from when on it may."""
        return self.state in CLAIMABLE_STATES and not self.lease_time

    @property
    def is_to_undo(self) -> bool:
        """Whether an attempt has left behind what has to be undone, should it end now."""
        return bool(self.batch or (self.checkpoint and self.state == CANCELLING))

    def is_ready(self, now: int) -> bool:
        """Whether an attempt may begin."""
        return self.claimable and self.ready_time <= now and not self.is_due(now)

    def is_overdue(self, now: int) -> bool:
        """Whether its method's time limit is over."""
        return 0 < self.deadline_time <= now

    def is_due(self, now: int) -> bool:
        """Whether ``Elapse`` changes it: it is to be removed, or to expire and nobody has it."""
        if self.done:
            return 0 < self.expire_time <= now and not self.deleted
        is_seen_to = self.lease_time or (self.claimable and self.is_to_undo)
        return self.is_overdue(now) and not is_seen_to


CLAIMABLE_STATES = frozenset({QUEUED, CANCELLING})
"""The states in which a record without a lease waits for an attempt."""


class Event(Protocol):
    """Something that happens to an operation."""

    def apply(self, record: Record, now: int) -> Record:
        """Returns the record after the event; the very same one if nothing changes.

        Raises:
            LroError: If the event cannot happen to this record; nothing has changed.
        """
        ...


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
) -> Record:
    """Returns a new record, QUEUED and not yet stored.

    With ``exclusive`` no other operation may have the target meanwhile (S6). ``timeout`` is how
    long it may take from now on, in microseconds; 0 stands for any time.
    """
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
        retention=min(retention, _LAST_TIME),
        deadline_time=min(now + timeout, _LAST_TIME) if timeout else 0,
        create_time=now,
        start_time=0,
        update_time=now,
        end_time=0,
        expire_time=0,
        state=JOB.initial.number,
        attempt=0,
        failed_attempts=0,
        lease_time=0,
        ready_time=0,
        cancel_requested=False,
        pause_requested=False,
        deleted=False,
        progress_percent=0,
        status_detail="",
        custom=b"",
        checkpoint=b"",
        batch=b"",
        batch_error=b"",
        error_code=0,
        response_type="",
        operation=b"",
    )
    return _published(record, now)


@dataclass(frozen=True, slots=True)
class Claim:
    """A worker takes the operation: a new attempt begins."""

    lease: int
    """For how long the worker holds it without a heartbeat, in microseconds."""

    def apply(self, record: Record, now: int) -> Record:
        """See :class:`Event`."""
        if not record.is_ready(now):
            raise StaleAttemptError(
                f"{record.name} cannot be claimed now: it is {JOB.name_of(record.state)}"
                f" in attempt {record.attempt}",
                metadata={"operation": record.name},
            )
        return _published(
            record,
            now,
            path=() if record.state == CANCELLING else (PENDING, RUNNING),
            attempt=record.attempt + 1,
            lease_time=now + self.lease,
            ready_time=0,
            start_time=record.start_time or max(now, record.update_time),
        )


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """A worker says that it is alive, and holds the operation for another lease."""

    attempt: int
    lease: int
    """In microseconds."""

    def apply(self, record: Record, now: int) -> Record:
        """See :class:`Event`."""
        _fence(record, self.attempt)
        return record._replace(lease_time=now + self.lease)


@dataclass(frozen=True, slots=True)
class Report:
    """A handler tells how far it is; ``None`` leaves a value as it was."""

    attempt: int
    progress_percent: int | None = None
    status_detail: str | None = None
    custom: bytes | None = None

    def apply(self, record: Record, now: int) -> Record:
        """See :class:`Event`."""
        _fence(record, self.attempt)
        reported = self.told(record)
        return record if reported == record else _published(reported, now)

    def told(self, record: Record) -> Record:
        """Returns the record with these values, not yet published."""
        told: dict[str, Any] = {}
        if self.progress_percent is not None:
            percent = max(record.progress_percent, min(self.progress_percent, 100))
            told["progress_percent"] = percent
        if self.status_detail is not None:
            told["status_detail"] = self.status_detail
        if self.custom is not None:
            told["custom"] = self.custom
        return record._replace(**told) if told else record


@dataclass(frozen=True, slots=True)
class SaveBatch:
    """A batch has come further."""

    report: Report
    batch: bytes
    """The serialized ``lro.v1.BatchCreateInstancesMetadata``."""
    batch_error: bytes
    """The serialized ``google.rpc.Status`` of the first failure; empty for none."""

    def apply(self, record: Record, now: int) -> Record:
        """See :class:`Event`."""
        _fence(record, self.report.attempt)
        told = self.report.told(record)
        return _published(told, now, batch=self.batch, batch_error=self.batch_error)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A handler has come to a state that a later attempt can go on from."""

    report: Report
    checkpoint: bytes
    """The serialized ``Any`` that holds the state."""

    def apply(self, record: Record, now: int) -> Record:
        """See :class:`Event`."""
        _fence(record, self.report.attempt)
        told = self.report.told(record)
        return _published(told, now, checkpoint=self.checkpoint)


@dataclass(frozen=True, slots=True)
class Update:
    """A handler begins to change what it works on, or has done so. In CANCELLING it shows not."""

    report: Report
    updating: bool

    def apply(self, record: Record, now: int) -> Record:
        """See :class:`Event`."""
        _fence(record, self.report.attempt)
        state = UPDATING if self.updating else RUNNING
        path = () if record.state in (CANCELLING, state) else (state,)
        return _published(self.report.told(record), now, path=path)


@dataclass(frozen=True, slots=True)
class Succeed:
    """The handler has returned its response."""

    report: Report
    response: bytes
    """The serialized ``Any`` that holds the response."""
    partial: bool = False
    """Whether the handler's metadata tells of partial failures."""

    def apply(self, record: Record, now: int) -> Record:
        """See :class:`Event`."""
        _fence(record, self.report.attempt)
        partial = self.partial and record.state != CANCELLING
        return _published(
            self.report.told(record),
            now,
            operations_pb2.Operation(response=any_pb2.Any.FromString(self.response)),
            path=(PARTIALLY_SUCCEEDED if partial else SUCCEEDED,),
            progress_percent=100,
        )


@dataclass(frozen=True, slots=True)
class Fail:
    """The handler has failed. The code CANCELLED makes it a cancellation, whoever asked for it."""

    report: Report
    error: bytes
    """The serialized ``google.rpc.Status``."""

    def apply(self, record: Record, now: int) -> Record:
        """See :class:`Event`."""
        _fence(record, self.report.attempt)
        told = self.report.told(record)
        error = status_pb2.Status.FromString(self.error)
        return (
            _cancelled(told, now, error)
            if error.code == Code.CANCELLED
            else _failed(told, now, error)
        )


@dataclass(frozen=True, slots=True)
class Retry:
    """The handler has failed with an error that a later attempt may be spared.

    On the last attempt the operation fails with it.
    """

    report: Report
    error: bytes
    """The serialized ``google.rpc.Status``."""
    delay: int
    """For how long no attempt may begin, in microseconds; not beyond the method's time limit."""

    def apply(self, record: Record, now: int) -> Record:
        """See :class:`Event`."""
        _fence(record, self.report.attempt)
        failed = _failed_once(self.report.told(record))
        if failed.failed_attempts < failed.max_attempts:
            # What is overdue is undone, or expires, however long it was to wait.
            latest = failed.deadline_time or _LAST_TIME
            return _unheld(failed, now, ready_time=min(now + max(0, self.delay), latest))
        return _failed(failed, now, status_pb2.Status.FromString(self.error))


@dataclass(frozen=True, slots=True)
class Expire:
    """The method's time limit is over, and the handler has stopped or is given up."""

    report: Report

    def apply(self, record: Record, now: int) -> Record:
        """See :class:`Event`."""
        _fence(record, self.report.attempt)
        return _expired(self.report.told(record), now)


@dataclass(frozen=True, slots=True)
class Release:
    """A worker gives the operation back unharmed: it goes down, or the handler has paused."""

    report: Report

    def apply(self, record: Record, now: int) -> Record:
        """See :class:`Event`."""
        _fence(record, self.report.attempt)
        return _unheld(self.report.told(record), now)


@dataclass(frozen=True, slots=True)
class Lose:
    """A worker is gone, or stuck. Lost on the last attempt, the operation fails (R3)."""

    attempt: int
    """The attempt that was seen to be lost; another one has nothing to do with it."""
    proven: bool = False
    """Whether the worker is known to be gone, whatever is left of its lease."""
    stuck: bool = False
    """Whether the worker is there, but its handler makes no progress."""

    def apply(self, record: Record, now: int) -> Record:
        """See :class:`Event`."""
        _fence(record, self.attempt)
        if not self.proven and not self.stuck and record.lease_time > now:
            return record
        lost = _failed_once(record)
        if lost.failed_attempts < lost.max_attempts:
            return _unheld(lost, now)
        what = "made no progress" if self.stuck else "lost its worker"
        error = LroError(
            f"{lost.name} {what} in attempt {lost.attempt}"
            f" and has none of {lost.max_attempts} attempts left",
            code=Code.ABORTED,
            reason="NO_PROGRESS" if self.stuck else "WORKER_LOST",
            domain=LIBRARY_DOMAIN,
            metadata={"operation": lost.name, "attempts": str(lost.max_attempts)},
        )
        return _failed(lost, now, to_status(error))


@dataclass(frozen=True, slots=True)
class Cancel:
    """Someone asks to cancel the operation. A done one stays as it is (P8)."""

    def apply(self, record: Record, now: int) -> Record:
        """See :class:`Event`."""
        _check_visible(record)
        if record.done or record.cancel_requested:
            return record
        if not record.lease_time and not (record.batch or record.checkpoint):
            return _cancelled(record, now, cancelled_status())
        return _published(
            record,
            now,
            path=(CANCELLING,),
            cancel_requested=True,
            pause_requested=False,
            ready_time=0,
        )


@dataclass(frozen=True, slots=True)
class Pause:
    """Someone asks to pause the operation, which it does when its handler comes to where it can."""

    def apply(self, record: Record, now: int) -> Record:
        """See :class:`Event`."""
        _check_visible(record)
        if record.state == PAUSED or record.pause_requested:
            return record
        if record.done or record.state == CANCELLING:
            raise _illegal(record, "paused")
        if not record.pausable:
            raise IllegalTransitionError(
                f"{record.name} cannot be paused: the handler of {record.method} does not say that"
                " it can; mark it with pausable=True",
                metadata={"operation": record.name, "method": record.method},
            )
        if record.lease_time:
            return _published(record, now, pause_requested=True)
        return _published(record, now, path=(PAUSED,), ready_time=0)


@dataclass(frozen=True, slots=True)
class Resume:
    """Someone asks to go on with what was paused, or is asked to pause."""

    def apply(self, record: Record, now: int) -> Record:
        """See :class:`Event`."""
        _check_visible(record)
        if record.state == PAUSED:
            return _published(record, now, path=(QUEUED,))
        if record.pause_requested:
            return _published(record, now, pause_requested=False)
        raise _illegal(record, "resumed")


@dataclass(frozen=True, slots=True)
class Elapse:
    """Time has passed: what nobody holds may expire, and what was kept long enough goes (S29)."""

    def apply(self, record: Record, now: int) -> Record:
        """See :class:`Event`."""
        if not record.is_due(now):
            return record
        if record.done:
            return _removed(record)
        if record.is_to_undo:
            return _published(record, now, path=(QUEUED,))
        return _expired(record, now)


@dataclass(frozen=True, slots=True)
class Delete:
    """Someone is no longer interested. What is not done runs on, unseen (P7).

    So does what is paused, for nobody could resume it any more.
    """

    def apply(self, record: Record, now: int) -> Record:
        """See :class:`Event`."""
        _check_visible(record)
        removed = _removed(record)
        if record.state == PAUSED:
            return _published(removed, now, path=(QUEUED,))
        if record.pause_requested:
            return _published(removed, now, pause_requested=False)
        return removed


def cancelled_status() -> status_pb2.Status:
    """Returns the error of an operation that was cancelled (P8)."""
    error = LroError("the operation was cancelled", code=Code.CANCELLED, domain=LIBRARY_DOMAIN)
    return to_status(error)


def expired_status(record: Record) -> status_pb2.Status:
    """Returns the error of an operation whose method's time limit is over."""
    limit = (record.deadline_time - record.create_time) / 1_000_000
    error = LroError(
        f"{record.name} was not done within {limit:g} s, the time limit of {record.method}",
        code=Code.DEADLINE_EXCEEDED,
        reason="OPERATION_EXPIRED",
        domain=LIBRARY_DOMAIN,
        metadata={"operation": record.name, "method": record.method},
    )
    return to_status(error)


def not_found(name: str) -> OperationNotFoundError:
    """Returns the error for a name that no operation has."""
    return OperationNotFoundError(f"operation {name!r} not found", metadata={"name": name})


def _check_visible(record: Record) -> None:
    if record.deleted:
        raise not_found(record.name)


def _fence(record: Record, attempt: int) -> None:
    """Refuses a write of an attempt that does not hold the operation (R5)."""
    if record.attempt != attempt or not record.lease_time:
        raise StaleAttemptError(
            f"attempt {attempt} does not hold {record.name}: it is {JOB.name_of(record.state)}"
            f" in attempt {record.attempt}",
            metadata={"operation": record.name, "attempt": str(attempt)},
        )


def _illegal(record: Record, what: str) -> IllegalTransitionError:
    state = JOB.name_of(record.state)
    return IllegalTransitionError(
        f"{record.name} cannot be {what}: it is {state}",
        metadata={"operation": record.name, "state": state},
    )


def _removed(record: Record) -> Record:
    return record._replace(deleted=True, request_id="")


def _failed_once(record: Record) -> Record:
    return record._replace(failed_attempts=record.failed_attempts + 1)


def _unheld(record: Record, now: int, *, ready_time: int = 0) -> Record:
    """Takes the record from its worker: to be claimed again, or ended if nothing is to undo."""
    if record.state == CANCELLING:
        if record.is_to_undo:
            return _published(record, now, lease_time=0, ready_time=ready_time)
        return _cancelled(record, now, cancelled_status())
    if record.pause_requested:
        return _published(record, now, path=(PAUSED,), lease_time=0, pause_requested=False)
    return _published(record, now, path=(QUEUED,), lease_time=0, ready_time=ready_time)


def _cancelled(record: Record, now: int, error: status_pb2.Status) -> Record:
    path = (CANCELLED,) if record.state == CANCELLING else (CANCELLING, CANCELLED)
    result = operations_pb2.Operation(error=error)
    batch = _ended_batch(record, error)
    return _published(record, now, result, path=path, cancel_requested=True, batch=batch)


def _expired(record: Record, now: int) -> Record:
    error = expired_status(record)
    result = operations_pb2.Operation(error=error)
    path = (FAILED,) if record.state == CANCELLING else (EXPIRED,)
    return _published(record, now, result, path=path, batch=_ended_batch(record, error))


def _failed(record: Record, now: int, error: status_pb2.Status) -> Record:
    result = operations_pb2.Operation(error=error)
    return _published(record, now, result, path=(FAILED,), batch=_ended_batch(record, error))


def _ended_batch(record: Record, error: status_pb2.Status) -> bytes:
    """Returns the batch of an operation that ends with an error: no target is left as it stood."""
    if not record.batch:
        return b""
    states = BatchStates(record.batch)
    states.abandon(error)
    return states.serialized()


def _published(
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
            path = (RUNNING, *path)  # what comes while it is updating comes right after it
        JOB.check(record.state, *path)
        changes["state"] = path[-1]
    now = max(now, record.update_time)  # a clock that is set back must not be seen in a record
    changes["update_time"] = now
    if result is not None:
        changes.update(
            end_time=now,
            expire_time=min(now + record.retention, _LAST_TIME),
            lease_time=0,
            ready_time=0,
            pause_requested=False,
            exclusive_target="",
            error_code=result.error.code,
            response_type=result.response.type_url.rpartition("/")[2],
        )
    record = record._replace(**changes)
    operation = operations_pb2.Operation(name=record.name, done=result is not None)
    operation.metadata.type_url = metadata.TYPE_URL_PREFIX + record.metadata_type
    operation.metadata.value = _metadata(record)
    if result is not None:
        operation.MergeFrom(result)
    return record._replace(operation=operation.SerializeToString())


def _metadata(record: Record) -> bytes:
    """Returns the metadata message, serialized; as it was if its type has gone from the service."""
    try:
        kind = metadata.message_class(record.metadata_type)
    except ConfigurationError:
        return operations_pb2.Operation.FromString(record.operation).metadata.value
    message = kind.FromString(record.custom) if record.custom else kind()
    metadata.fill(message, record, clear=bool(record.custom))
    return message.SerializeToString()
