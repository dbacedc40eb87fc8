"""Events: all that can happen to an operation, each a pure transition of its record.

``event.apply(record, now)`` returns the next record, the very same record if nothing changes, or
raises an error. Nothing here reads a clock or does I/O: the store calls it with its latest record
and its time, and keeps the result. An event may be applied more than once, to several versions of
the record, before a store keeps one result. Times are microseconds since 1970 UTC.

Three parties make events:

* An attempt: ``Claim`` begins it and counts ``record.attempt``, the fencing token, up. Each of its
  later events carries that number, and is refused with a ``StaleAttemptError`` unless the number is
  still the record's and the lease has not been taken from it (R5). It carries the operation's
  ``create_time``, too: the name of one that is gone may be another's by now. ``Heartbeat``,
  ``Report``, ``SaveBatch``, ``Checkpoint`` and ``SetUpdating`` keep the lease; the others end the
  attempt.
* A caller: ``Cancel``, ``Pause``, ``Resume`` and ``Delete``. While an attempt holds the operation
  they leave a request in the record, which the attempt follows. ``Terminate`` asks no attempt.
* Time: ``LeaseLost`` ends an attempt whose worker is gone or stuck; ``TimePassed`` makes ready,
  expires or removes an operation that no attempt holds.

An attempt that ends without an outcome leaves the operation in one of four ways (``_unheld``):

=====================  ==========================================================
state, requests        next state
=====================  ==========================================================
CANCELLING, to undo    CANCELLING: the next attempt undoes
CANCELLING, else       CANCELLED
pause requested        PAUSED
otherwise              QUEUED, not before ``scheduled_time``
=====================  ==========================================================
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from google.longrunning import operations_pb2
from google.rpc import status_pb2

from lro.v1.operation_description_pb2 import OperationAttempt
from lro_grpc._errors import (
    LIBRARY_DOMAIN,
    Code,
    IllegalTransitionError,
    LroError,
    StaleAttemptError,
    UnexpectedError,
    UnservedError,
    from_status,
    to_status,
)
from lro_grpc._operation import attempts
from lro_grpc._operation.batch_states import BatchStates
from lro_grpc._operation.fit import Served, misfit
from lro_grpc._operation.publication import LAST_TIME, Outcome, not_found, published
from lro_grpc._operation.record import Record
from lro_grpc._operation.states import (
    CANCELLED,
    CANCELLING,
    EXPIRED,
    FAILED,
    JOB,
    PARTIALLY_SUCCEEDED,
    PAUSED,
    PENDING,
    QUEUED,
    RUNNING,
    SUCCEEDED,
    UPDATING,
)

_TERMINATED = "OPERATION_TERMINATED"


class Event(Protocol):
    """One thing that can happen to an operation."""

    def apply(self, record: Record, now: int) -> Record:
        """Returns the record after the event; the very same one if nothing changes.

        Raises:
            LroError: If the event is refused; nothing has changed.
        """
        ...


def apply_safely(event: Event, record: Record, now: int) -> Record | LroError:
    """Returns the record after an event, or the error with which it is refused.

    Whatever else an event raises, by a bug, refuses it, too: as the cause of an
    ``UnexpectedError``. So a store may apply many events, and none touches the others.
    """
    try:
        return event.apply(record, now)
    except LroError as error:
        return error
    except Exception as cause:  # noqa: BLE001 - a bug in one event must not touch the others
        failed = UnexpectedError(f"{type(event).__name__} on {record.name} has failed by a bug")
        failed.__cause__ = cause
        return failed


@dataclass(frozen=True, slots=True)
class Claim:
    """A worker takes the operation: a new attempt begins. An overdue one expires instead."""

    lease: int
    """The time that the worker holds it without a heartbeat, in microseconds."""
    served: Served | None = field(default=None, repr=False, compare=False)
    """All that the worker serves; None if what it claims is sure to fit."""
    waited_for: int = 0
    """The ``scheduled_time`` that has come by the worker's monotonic clock; 0 for none. A pause is
    over when that says so, for a time of day can be set back."""
    worker: str = ""
    """The worker's name; empty for unknown."""

    def apply(self, record: Record, now: int) -> Record:
        """See :class:`Event`."""
        if not record.done and record.has_expired(now):
            return TimePassed().apply(record, now)
        if not (record.is_ready or record.has_rested(now, self.waited_for)):
            raise StaleAttemptError(
                f"{record.name} cannot be claimed now: it is {JOB.spoken(record.state)}"
                f" in attempt {record.attempt}",
                metadata={"operation": record.name},
            )
        if self.served is not None:
            why = misfit(record, self.served)
            if why:
                raise UnservedError(
                    f"{record.name} cannot be gone on with: {why}",
                    metadata={"operation": record.name, "method": record.method},
                )
        adopted = self.served and self.served[record.method].metadata_class.DESCRIPTOR.full_name
        return published(
            record,
            max(now, record.scheduled_time),
            {
                "attempt": record.attempt + 1,
                "lease_expire_time": now + self.lease,
                "scheduled_time": 0,
                "start_time": record.start_time or max(now, record.update_time),
                "metadata_type": adopted or record.metadata_type,
                **attempts.begun(record, now, self.worker),
            },
            path=() if record.state == CANCELLING else (PENDING, RUNNING),
        )


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """A living worker renews its lease."""

    attempt: int
    lease: int
    """In microseconds."""
    create_time: int = 0
    """That of the operation; 0 for whichever has the name."""

    def apply(self, record: Record, now: int) -> Record:
        """See :class:`Event`."""
        _fence(record, self)
        return record._replace(lease_expire_time=now + self.lease)


@dataclass(frozen=True, slots=True)
class Report:
    """A handler reports its progress; ``None`` leaves a value as it was."""

    attempt: int
    progress_percent: int | None = None
    status_detail: str | None = None
    handler_metadata: bytes | None = None
    create_time: int = 0
    """That of the operation; 0 for whichever has the name."""

    def apply(self, record: Record, now: int) -> Record:
        """See :class:`Event`."""
        _fence(record, self)
        merged = self.merged(record)
        return record if merged == record else published(merged, now)

    def merged(self, record: Record) -> Record:
        """Returns the record with these values, not yet published."""
        fields: dict[str, Any] = {}
        if self.progress_percent is not None:
            percent = max(record.progress_percent, min(self.progress_percent, 100))
            fields["progress_percent"] = percent
        if self.status_detail is not None:
            fields["status_detail"] = self.status_detail
        if self.handler_metadata is not None:
            fields["handler_metadata"] = self.handler_metadata
        return record._replace(**fields) if fields else record


@dataclass(frozen=True, slots=True)
class SaveBatch:
    """Targets of a batch have changed their states."""

    report: Report
    batch: bytes
    """The serialized ``lro.v1.BatchCreateInstancesMetadata``."""
    batch_error: bytes
    """The serialized ``google.rpc.Status`` of the first failure; empty for none."""

    def apply(self, record: Record, now: int) -> Record:
        """See :class:`Event`."""
        _fence(record, self.report)
        merged = self.report.merged(record)
        first = record.batch_error or self.batch_error  # it stays, whatever fails later
        return published(merged, now, {"batch": self.batch, "batch_error": first})


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A handler saves a state from which a later attempt can resume."""

    report: Report
    checkpoint: bytes
    """The serialized ``Any`` that holds the state."""

    def apply(self, record: Record, now: int) -> Record:
        """See :class:`Event`."""
        _fence(record, self.report)
        return published(self.report.merged(record), now, {"checkpoint": self.checkpoint})


@dataclass(frozen=True, slots=True)
class SetUpdating:
    """A handler begins to change its target, or has done so; in CANCELLING the state stays."""

    report: Report
    updating: bool

    def apply(self, record: Record, now: int) -> Record:
        """See :class:`Event`."""
        _fence(record, self.report)
        state = UPDATING if self.updating else RUNNING
        path = () if record.state in (CANCELLING, state) else (state,)
        return published(self.report.merged(record), now, path=path)


@dataclass(frozen=True, slots=True)
class Succeed:
    """The handler has returned its response."""

    report: Report
    response: bytes
    """The serialized ``Any`` that holds the response."""
    partial: bool = False
    """Whether the handler's metadata lists partial failures."""

    def apply(self, record: Record, now: int) -> Record:
        """See :class:`Event`."""
        _fence(record, self.report)
        partial = self.partial and record.state != CANCELLING
        return published(
            self.report.merged(record),
            now,
            {
                "progress_percent": 100,
                **attempts.ended(record, now, OperationAttempt.SUCCEEDED),
            },
            Outcome.success(self.response),
            path=(PARTIALLY_SUCCEEDED if partial else SUCCEEDED,),
        )


@dataclass(frozen=True, slots=True)
class Fail:
    """The handler has failed. With the code CANCELLED the operation is cancelled, asked or not."""

    report: Report
    error: bytes
    """The serialized ``google.rpc.Status``."""

    def apply(self, record: Record, now: int) -> Record:
        """See :class:`Event`."""
        _fence(record, self.report)
        return _failed_or_cancelled(self.report.merged(record), now, self.error)


@dataclass(frozen=True, slots=True)
class RetryLater:
    """The handler has failed, and a later attempt may succeed.

    On the last attempt the operation fails.
    """

    report: Report
    error: bytes
    """The serialized ``google.rpc.Status``."""
    delay: int
    """The pause before the next attempt, in microseconds; cut at the method's time limit."""

    def apply(self, record: Record, now: int) -> Record:
        """See :class:`Event`."""
        _fence(record, self.report)
        failed = _failed_once(self.report.merged(record))
        if failed.failed_attempts < failed.max_attempts:
            # At its deadline the operation is undone, or expires: a longer pause must not hide it.
            latest = failed.deadline_time or LAST_TIME
            scheduled_time = min(now + self.delay, latest) if self.delay > 0 else 0
            ending = attempts.ended(record, now, OperationAttempt.RETRIED, self.error)
            return _unheld(failed, now, scheduled_time=scheduled_time, **ending)
        return _failed_or_cancelled(failed, now, self.error)


@dataclass(frozen=True, slots=True)
class Expire:
    """The method's time limit is over, and the handler has stopped or is given up on."""

    report: Report

    def apply(self, record: Record, now: int) -> Record:
        """See :class:`Event`."""
        _fence(record, self.report)
        ending = attempts.ended(record, now, OperationAttempt.EXPIRED)
        return _expired(self.report.merged(record), now, **ending)


@dataclass(frozen=True, slots=True)
class Release:
    """A worker gives the operation back: it shuts down, or the handler has paused."""

    report: Report
    outcome: int = OperationAttempt.RELEASED
    """The way in which the attempt has ended: RELEASED, PAUSED, CANCELLED or EXPIRED."""

    def apply(self, record: Record, now: int) -> Record:
        """See :class:`Event`."""
        _fence(record, self.report)
        ending = attempts.ended(record, now, self.outcome)
        return _unheld(self.report.merged(record), now, **ending)


@dataclass(frozen=True, slots=True)
class LeaseLost:
    """A worker is gone, or its handler stuck. On the last attempt the operation fails (R3)."""

    attempt: int
    """The lost attempt; a later one keeps its lease."""
    proven: bool = False
    """Whether the worker is known to be gone, though its lease may not be over."""
    stuck: bool = False
    """Whether the worker lives, and its handler makes no progress."""
    create_time: int = 0
    """That of the operation; 0 for whichever has the name."""

    def apply(self, record: Record, now: int) -> Record:
        """See :class:`Event`."""
        _fence(record, self)
        if not self.proven and not self.stuck and record.lease_expire_time > now:
            return record
        lost = _failed_once(record)
        outcome = OperationAttempt.STUCK if self.stuck else OperationAttempt.LOST
        ending = attempts.ended(record, now, outcome)
        if lost.failed_attempts < lost.max_attempts:
            return _unheld(lost, now, **ending)
        what = "made no progress" if self.stuck else "lost its worker"
        error = LroError(
            f"{lost.name} {what} in attempt {lost.attempt}"
            f" and has none of {lost.max_attempts} attempts left",
            code=Code.ABORTED,
            reason="NO_PROGRESS" if self.stuck else "WORKER_LOST",
            domain=LIBRARY_DOMAIN,
            metadata={"operation": lost.name, "attempts": str(lost.max_attempts)},
        )
        return _failed(lost, now, to_status(error), **ending)


@dataclass(frozen=True, slots=True)
class Cancel:
    """A caller cancels the operation. A done one stays as it is (P8)."""

    served: Served | None = field(default=None, repr=False, compare=False)
    """All that any process serves, so that no attempt undoes what is not among it: that ends at
    once. None if other processes may serve more."""

    def apply(self, record: Record, now: int) -> Record:
        """See :class:`Event`."""
        _check_visible(record)
        if record.done:
            return record
        if not record.lease_expire_time and _is_unserved(record, self.served):
            return _cancelled(record, now, _not_undone(record, cancelled_status()))
        if record.cancel_requested:
            return record
        if not record.lease_expire_time and not record.has_remains:
            return _cancelled(record, now, cancelled_status())
        return published(
            record,
            now,
            {"cancel_requested": True, "pause_requested": False, "scheduled_time": 0},
            path=(CANCELLING,),
        )


@dataclass(frozen=True, slots=True)
class Pause:
    """A caller pauses the operation: at once, or when the handler that runs reaches a pause."""

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
                " it can; give the method pausable=True",
                metadata={"operation": record.name, "method": record.method},
            )
        if record.lease_expire_time:
            return published(record, now, {"pause_requested": True})
        return published(record, now, {"scheduled_time": 0}, path=(PAUSED,))


@dataclass(frozen=True, slots=True)
class Resume:
    """A caller resumes a paused operation, or takes the request to pause back."""

    def apply(self, record: Record, now: int) -> Record:
        """See :class:`Event`."""
        _check_visible(record)
        if record.state == PAUSED:
            return _resumed(record, now)
        if record.pause_requested:
            return published(record, now, {"pause_requested": False})
        raise _illegal(record, "resumed")


@dataclass(frozen=True, slots=True)
class Terminate:
    """An operator ends the operation by force. Its attempt is fenced off, and nothing is undone."""

    reason: str
    """The operator's own words."""
    operator: str = ""
    """The operator; empty for unknown."""

    def apply(self, record: Record, now: int) -> Record:
        """See :class:`Event`."""
        _check_visible(record)
        if not record.done:
            is_held = record.lease_expire_time
            ending = attempts.ended(record, now, OperationAttempt.TERMINATED) if is_held else {}
            ending["operator"] = self.operator or record.operator
            return _failed(record, now, to_status(_terminated(record, self.reason)), **ending)
        if _is_terminated(record):
            return record
        raise _illegal(record, "terminated")


@dataclass(frozen=True, slots=True)
class TimePassed:
    """Expires an operation that no attempt holds, and removes one after its retention (S29)."""

    served: Served | None = field(default=None, repr=False, compare=False)
    """As for :class:`Cancel`."""
    waited_for: int = 0
    """As for :class:`Claim`."""

    def apply(self, record: Record, now: int) -> Record:
        """See :class:`Event`."""
        if record.done:
            return _removed(record) if record.has_expired(now) else record
        is_unserved = record.is_overdue(now) and _is_unserved(record, self.served)
        if not record.has_expired(now, is_unserved=is_unserved):
            return _rested(record) if record.has_rested(now, self.waited_for) else record
        if not record.is_to_undo:
            return _expired(record, now)
        if is_unserved:
            return _expired(record, now, _not_undone(record, expired_status(record)))
        return published(record, now, path=(QUEUED,))


@dataclass(frozen=True, slots=True)
class Delete:
    """A caller deletes the operation. One that is not done runs on, hidden (P7).

    Until it ends, its ``request_id`` is taken: the same request must not run beside it (R2).
    A paused one is queued again, for no caller could resume it any more.
    """

    def apply(self, record: Record, now: int) -> Record:
        """See :class:`Event`."""
        _check_visible(record)
        removed = _removed(record)
        if record.state == PAUSED:
            return _resumed(removed, now)
        if record.pause_requested:
            return published(removed, now, {"pause_requested": False})
        return removed


def cancelled_status() -> status_pb2.Status:
    """Returns the error of an operation that was cancelled (P8)."""
    error = LroError("the operation was cancelled", code=Code.CANCELLED, domain=LIBRARY_DOMAIN)
    return to_status(error)


def expired_status(record: Record) -> status_pb2.Status:
    """Returns the error of an operation whose method's time limit is over."""
    begin = record.delayed_until or record.create_time
    limit = (record.deadline_time - begin) / 1_000_000
    error = LroError(
        f"{record.name} was not done within {limit:g} s, the time limit of {record.method}",
        code=Code.DEADLINE_EXCEEDED,
        reason="OPERATION_EXPIRED",
        domain=LIBRARY_DOMAIN,
        metadata={"operation": record.name, "method": record.method},
    )
    return to_status(error)


def _is_unserved(record: Record, served: Served | None) -> bool:
    return served is not None and misfit(record, served) != ""


def _not_undone(record: Record, error: status_pb2.Status) -> status_pb2.Status:
    """Returns an error which says that the work of former attempts was left as it was."""
    if record.has_remains:
        error.message += "; what was done of it is left, for no server serves it that could undo it"
    return error


def _check_visible(record: Record) -> None:
    if record.deleted:
        raise not_found(record.name)


def _fence(record: Record, event: Heartbeat | Report | LeaseLost) -> None:
    """Refuses a write of an attempt that does not hold the operation (R5)."""
    attempt = event.attempt
    if event.create_time not in (0, record.create_time):
        raise StaleAttemptError(
            f"attempt {attempt} is of a former operation {record.name}, which is gone",
            metadata={"operation": record.name, "attempt": str(attempt)},
        )
    if record.attempt != attempt or not record.lease_expire_time:
        raise StaleAttemptError(
            f"attempt {attempt} does not hold {record.name}: it is {JOB.spoken(record.state)}"
            f" in attempt {record.attempt}",
            metadata={"operation": record.name, "attempt": str(attempt)},
        )


def _illegal(record: Record, what: str) -> IllegalTransitionError:
    return IllegalTransitionError(
        f"{record.name} cannot be {what}: it is {JOB.spoken(record.state)}",
        metadata={"operation": record.name, "state": JOB.name_of(record.state)},
    )


def _terminated(record: Record, reason: str) -> LroError:
    return LroError(
        f"{record.name} was terminated, and nothing of it undone: {reason}",
        code=Code.ABORTED,
        reason=_TERMINATED,
        domain=LIBRARY_DOMAIN,
        metadata={"operation": record.name},
    )


def _is_terminated(record: Record) -> bool:
    if record.error_code != Code.ABORTED:
        return False
    error = from_status(operations_pb2.Operation.FromString(record.operation).error)
    return (error.reason, error.domain) == (_TERMINATED, LIBRARY_DOMAIN)


def _resumed(record: Record, now: int) -> Record:
    """Queues a paused record again; one whose time has not come waits for that, as before."""
    return published(record, now, {"scheduled_time": record.rest_of_delay(now)}, path=(QUEUED,))


def _rested(record: Record) -> Record:
    """Makes a delayed record ready; from then on, and not from its failure, it has waited."""
    return published(record, record.scheduled_time, {"scheduled_time": 0})


def _removed(record: Record) -> Record:
    return record._replace(deleted=True)


def _failed_once(record: Record) -> Record:
    return record._replace(failed_attempts=record.failed_attempts + 1)


def _unheld(record: Record, now: int, *, scheduled_time: int = 0, **ending: Any) -> Record:
    """Takes the record from its worker, as the table at the top says."""
    if record.state == CANCELLING and not record.is_to_undo:
        return _cancelled(record, now, cancelled_status(), **ending)
    if record.state != CANCELLING and record.pause_requested:
        ending |= {"pause_requested": False, "lease_expire_time": 0}
        return published(record, now, ending, path=(PAUSED,))
    path = () if record.state == CANCELLING else (QUEUED,)
    ending |= {"scheduled_time": scheduled_time, "lease_expire_time": 0}
    return published(record, now, ending, path=path)


def _failed_or_cancelled(record: Record, now: int, error: bytes) -> Record:
    """Ends the record with a handler's error: CANCELLED if that is its code, else FAILED (P8)."""
    status = status_pb2.Status.FromString(error)
    is_cancelled = status.code == Code.CANCELLED
    outcome = OperationAttempt.CANCELLED if is_cancelled else OperationAttempt.FAILED
    ending = attempts.ended(record, now, outcome, error)
    return (_cancelled if is_cancelled else _failed)(record, now, status, **ending)


def _cancelled(record: Record, now: int, error: status_pb2.Status, **ending: Any) -> Record:
    path = (CANCELLED,) if record.state == CANCELLING else (CANCELLING, CANCELLED)
    ending["cancel_requested"] = True
    return _ended_with(record, now, error, path, **ending)


def _expired(
    record: Record, now: int, error: status_pb2.Status | None = None, **ending: Any
) -> Record:
    path = (FAILED,) if record.state == CANCELLING else (EXPIRED,)
    return _ended_with(record, now, error or expired_status(record), path, **ending)


def _failed(record: Record, now: int, error: status_pb2.Status, **ending: Any) -> Record:
    return _ended_with(record, now, error, (FAILED,), **ending)


def _ended_with(
    record: Record, now: int, error: status_pb2.Status, path: tuple[int, ...], **ending: Any
) -> Record:
    """Ends the record with an error, and the attempt that holds it, as ``ending`` says."""
    ending["batch"] = _ended_batch(record, error)
    return published(record, now, ending, Outcome.failure(error), path=path)


def _ended_batch(record: Record, error: status_pb2.Status) -> bytes:
    """Returns the batch of an operation that ends with an error: each target has ended, too."""
    if not record.batch:
        return b""
    states = BatchStates(record.batch)
    states.abandon(error)
    return states.serialized()
