"""The history of an operation's attempts: pure rules of what is told of each, and kept.

The six ``attempt_*`` fields of a record and its ``worker`` tell of one attempt, the latest that a
release with these fields knows of. What they told of the attempt before is **superseded** when they
begin to tell of another one: the store writes it to a table then, in the same commit. So an
operation that succeeds at once has no row there.

Releases before these fields claim without them. An attempt of theirs has no row, and none of it is
known but its number: ``attempts_of`` fills it in, and never gives it another attempt's worker.

Kept are the first attempt and the latest ``MOST_LATEST``. A row never changes once it is written.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from lro_grpc._operation.publication import LAST_TIME
from lro_grpc._operation.record import Record

_ERROR_INFO = error_details_pb2.ErrorInfo.DESCRIPTOR.full_name

MOST_LATEST = 49
"""The latest attempts that are kept; beside them is the first one."""

MOST_ERROR_BYTES = 4096
"""The most bytes of an attempt's error."""

_MOST_NUMBER = 2**31 - 1
_MOST_MESSAGE = 1000
"""The most characters of its message, if all of it is too much: they have 4,000 bytes at most."""


class AttemptRecord(NamedTuple):
    """One attempt at an operation, as far as it is known."""

    number: int
    """Its number; from 1."""
    worker: str = ""
    """The process that ran it; empty for unknown."""
    start_time: int = 0
    """The time at which it began; 0 for unknown."""
    end_time: int = 0
    """The time at which it ended; 0 while it runs, and for unknown."""
    outcome: int = 0
    """An ``lro.v1.OperationAttempt.Outcome``; 0 while it runs, and for unknown."""
    error: bytes = b""
    """The ``google.rpc.Status`` with which it ended; empty for none."""

    @property
    def oldest_kept(self) -> int:
        """The lowest number that is kept beside 1 once this attempt is superseded."""
        return self.number + 2 - MOST_LATEST


def begun(record: Record, now: int, worker: str) -> dict[str, Any]:
    """Returns the changes of a record whose next attempt begins."""
    return {
        "worker": worker,
        "attempt_number": record.attempt + 1,
        "attempt_start_time": max(now, record.update_time),
        "attempt_end_time": 0,
        "attempt_outcome": 0,
        "attempt_error": b"",
    }


def ended(record: Record, now: int, outcome: int, error: bytes = b"") -> dict[str, Any]:
    """Returns the changes of a record whose attempt ends.

    Args:
        record: The record; its fields may tell of an earlier attempt than the one that ends.
        now: The time.
        outcome: An ``lro.v1.OperationAttempt.Outcome``.
        error: The serialized ``google.rpc.Status`` with which it ended; empty for none.
    """
    changes = {
        "attempt_end_time": max(now, record.update_time),
        "attempt_outcome": outcome,
        "attempt_error": cut_error(error),
    }
    if record.attempt_number != record.attempt:
        changes.update(worker="", attempt_number=record.attempt, attempt_start_time=0)
    return changes


def cut_error(error: bytes) -> bytes:
    """Returns an error with its code, its message and its ErrorInfo, in few bytes."""
    if not error:
        return b""
    status = status_pb2.Status.FromString(error)
    kept = status_pb2.Status(code=status.code, message=status.message)
    kept.details.extend([one for one in status.details if one.TypeName() == _ERROR_INFO][:1])
    if kept.ByteSize() > MOST_ERROR_BYTES and len(kept.message) > _MOST_MESSAGE:
        kept.message = f"{kept.message[: _MOST_MESSAGE - 3]}..."
    if kept.ByteSize() > MOST_ERROR_BYTES:
        del kept.details[:]
    return kept.SerializeToString()


def superseded(before: Record, after: Record) -> AttemptRecord | None:
    """Returns the attempt of which the fields of a record told before an event, and do no more.

    Args:
        before: The record before the event.
        after: The record after it; one event is all that lies between.
    """
    if after.attempt_number == before.attempt_number or not before.attempt_number:
        return None
    return _latest(before)


def attempts_of(record: Record, earlier: Iterable[AttemptRecord]) -> Sequence[AttemptRecord]:
    """Returns the attempts of an operation that are kept, by their numbers.

    Args:
        record: The operation.
        earlier: The rows of superseded attempts. Of those that the record does not know yet, as
            when they were written a moment after it was read, none is used.
    """
    known = {one.number: one for one in earlier}
    if record.attempt_number:
        known[record.attempt_number] = _latest(record)
    latest = range(max(2, record.attempt + 1 - MOST_LATEST), record.attempt + 1)
    numbers = (1, *latest) if record.attempt else ()
    return [known.get(number) or AttemptRecord(number) for number in numbers]


def is_sound(values: Sequence[object]) -> bool:
    """Returns whether values that were read are those of an ``AttemptRecord``."""
    number, worker, start_time, end_time, outcome, error = values
    if type(worker) is not str or type(error) is not bytes:
        return False
    for one, most in (
        *((one, _MOST_NUMBER) for one in (number, outcome)),
        *((one, LAST_TIME) for one in (start_time, end_time)),
    ):
        if type(one) is not int or not 0 <= one <= most:
            return False
    try:
        status_pb2.Status.FromString(error)
    except DecodeError:
        return False
    return True


def _latest(record: Record) -> AttemptRecord:
    return AttemptRecord(
        record.attempt_number,
        record.worker,
        record.attempt_start_time,
        record.attempt_end_time,
        record.attempt_outcome,
        record.attempt_error,
    )
