"""The completion of an operation, kept until it is told: pure rules of what is told, and when.

An operation whose record says ``notify`` leaves a **completion** behind: the store writes it to the
outbox in the commit that ends the operation, and so neither is ever there without the other. It is
a copy. Whatever becomes of the operation after that, a Delete or the end of its retention, what is
told of it stays.

Whoever tells it **takes** it first, which counts an attempt and puts the next one off for the time
of a lease. Then it is **settled**: removed once it was told, or changed for another attempt, unless
somebody else has taken it meanwhile. A process that dies in between settles nothing, and the
completion is due again when the lease is over: it is told at least once, and perhaps twice.

One whose attempts fail for a day is given up. It is kept to be described, for as long as its
operation would have been.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

from lro.v1.completion_event_pb2 import CompletionEvent
from lro_grpc._operation import labels
from lro_grpc._operation.publication import LAST_TIME
from lro_grpc._operation.record import Record

_SECOND = 1_000_000

LEASE = 60 * _SECOND
"""The time for which a completion that was taken is left to whoever has taken it."""

PATIENCE = 24 * 3600 * _SECOND
"""The time after its operation's end in which a completion is told, or else given up."""

_FIRST_PAUSE = 1 * _SECOND
_LONGEST_PAUSE = 3600 * _SECOND
_MOST_DOUBLED = 12
"""The pauses that double: the one after these is the longest."""


class Completion(NamedTuple):
    """A copy of all that is told of an operation that is done, and the state of the telling."""

    name: str
    """The operation's name."""
    create_time: int
    """The operation's: another one may have its name later."""
    end_time: int
    """The operation's."""
    expire_time: int
    """The operation's: the end of the time for which one that is given up is kept."""
    next_time: int
    """The time from which it is due."""
    attempt_count: int = 0
    """The attempts to tell it that have begun."""
    given_up: bool = False
    """Whether no other attempt is made."""
    error: bytes = b""
    """The ``google.rpc.Status`` with which the latest attempt failed; empty for none."""
    event: bytes = b""
    """The serialized ``lro.v1.CompletionEvent``."""

    @property
    def key(self) -> tuple[str, int]:
        """That which no two completions have in common."""
        return self.name, self.create_time

    @property
    def id(self) -> str:
        """The id of what is told: the same at each attempt, and of no other operation."""
        return hashlib.sha256(f"{self.name}\n{self.create_time}".encode()).hexdigest()

    @property
    def size(self) -> int:
        """The bytes of all that may be large in it."""
        return len(self.event) + len(self.error)


Settlement = tuple[Completion, Completion | None]
"""A completion as it is known, and as it is to be; None to remove it."""


def completed(before: Record | None, after: Record) -> Completion | None:
    """Returns the completion that a change of a record leaves behind; None for none."""
    if not after.notify or not after.done or (before is not None and before.done):
        return None
    return Completion(
        name=after.name,
        create_time=after.create_time,
        end_time=after.end_time,
        expire_time=after.expire_time,
        next_time=after.end_time,
        event=_event_of(after).SerializeToString(),
    )


def taken(completion: Completion, now: int, lease: int) -> Completion:
    """Returns a due completion as whoever takes it has it."""
    return completion._replace(
        attempt_count=completion.attempt_count + 1, next_time=min(now + lease, LAST_TIME)
    )


def put_back(completion: Completion, next_time: int) -> Completion:
    """Returns a completion that was taken, and that nobody has begun to tell."""
    return completion._replace(attempt_count=completion.attempt_count - 1, next_time=next_time)


def failed(
    completion: Completion,
    error: bytes,
    now: int,
    random: Callable[[], float],
    *,
    pause: int | None = None,
) -> Completion:
    """Returns a completion that could not be told: it is due again, or given up.

    Args:
        completion: The completion, as it was taken.
        error: The serialized ``google.rpc.Status`` of the attempt.
        now: The time.
        random: Gives numbers uniform in [0, 1), as ``random.random`` does.
        pause: The least time to the next attempt, as the receiver asks for it; None for any.
    """
    doubled = _FIRST_PAUSE << min(completion.attempt_count - 1, _MOST_DOUBLED)
    longest = min(doubled, _LONGEST_PAUSE)
    own = int(longest * (0.5 + random() / 2))
    wait = max(own, min(pause or 0, _LONGEST_PAUSE))
    if now - completion.end_time >= PATIENCE:
        return given_up(completion, error)
    return completion._replace(next_time=now + wait, error=error)


def given_up(completion: Completion, error: bytes) -> Completion:
    """Returns a completion that no other attempt is made to tell."""
    return completion._replace(given_up=True, error=error, next_time=completion.expire_time)


def is_sound(values: Sequence[object]) -> bool:
    """Returns whether values that were read are those of a ``Completion``."""
    name, create_time, end_time, expire_time, next_time, attempt_count, given_up, *texts = values
    numbers = (create_time, end_time, expire_time, next_time, attempt_count, given_up)
    return (
        type(name) is str
        and all(isinstance(one, int) and 0 <= one <= LAST_TIME for one in numbers)
        and all(type(one) is bytes for one in texts)
    )


def _event_of(record: Record) -> CompletionEvent:
    event = CompletionEvent(
        name=record.name,
        method=record.method.removeprefix("/"),
        caller=record.caller,
        labels=dict(labels.unpacked(record.labels)) if record.labels else None,
        state=record.state,  # type: ignore[arg-type]
        code=record.error_code,  # type: ignore[arg-type]
    )
    for time, value in (
        (event.create_time, record.create_time),
        (event.start_time, record.start_time),
        (event.end_time, record.end_time),
    ):
        if value:  # FromMicroseconds takes as long as all the rest
            time.seconds, micros = divmod(value, _SECOND)
            time.nanos = micros * 1000
    event.operation.ParseFromString(record.operation)
    return event
