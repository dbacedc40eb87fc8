"""Collects the changes of this process that others are to hear of, for the next notice.

Noted, and sent with the next notice:

* the end of an operation, its delete, and what its attempt follows: cancel, pause, resume;
* the method of an operation that has become ready, or whose attempt has ended and leaves a place of
  its key to another one, unless this process has room for that: the others would come too late.

All else that Get shows, such as progress, is for a Watch at another process: it is sent each 100 ms
at most. A heartbeat concerns nobody.

A queue holds each name once, however often it changes, and so many names at most. Beyond that it
forgets them, and asks the others to look at all that they follow.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

from lro_grpc._operation.record import Record
from lro_grpc._operation.states import PAUSED
from lro_grpc._stores.postgres.notice import MOST_HASHES, Notice, hash_of

_PROGRESS_SECONDS = 0.1

_MOST_NAMES = 10_000


class NoticeQueue:
    """The content of the notices to come; see the module.

    Args:
        sender: The hash of this process.
        has_room: Whether this process itself will claim what it has made ready, by method.
        wake: Called when there is something to send.
    """

    def __init__(
        self, sender: str, has_room: Callable[[str], bool], wake: Callable[[], None]
    ) -> None:
        self._sender = sender
        self._has_room = has_room
        self._wake = wake
        self._everything = False
        self._ready: dict[str, None] = {}
        """The methods of which one may begin, for which there may be room here."""
        self._methods: dict[str, None] = {}
        self._names: dict[str, None] = {}
        self._progress: dict[str, None] = {}
        """The names of operations with changes that can wait."""
        self._progress_at = 0.0
        """The time at which these are sent, by the clock of who takes them."""

    def note(self, before: Record | None, after: Record) -> None:
        """Takes a durable change that this process has made: a ``Listener`` of its store."""
        if (_is_ready(after) and not _is_ready(before)) or _leaves_place(before, after):
            self._ready[after.method] = None  # the engine may not have heard of it yet
        if before is None or before.done:
            pass  # nobody knows its name yet; or nobody waits for it any more
        elif _is_urgent(before, after):
            self._progress.pop(after.name, None)
            self._names[after.name] = None
        elif before.operation != after.operation and after.name not in self._names:
            self._progress[after.name] = None
        if len(self._names) + len(self._progress) > _MOST_NAMES:
            self._names.clear()
            self._progress.clear()
            self._everything = True
        if self._ready or self._names or self._progress or self._everything:
            self._wake()

    def due(self) -> float:
        """Returns the time of the next notice, which may be over; infinite for none."""
        self._leave_out_those_with_room()
        if self._everything or self._methods or self._names:
            return 0.0
        return self._progress_at if self._progress else math.inf

    def take(self, now: float) -> Notice:
        """Takes out what goes into one notice at a time; it may be nothing."""
        self._leave_out_those_with_room()
        if self._progress and now >= self._progress_at:
            self._progress_at = now + _PROGRESS_SECONDS
            self._names |= self._progress
            self._progress.clear()
        everything, self._everything = self._everything, False
        methods = _taken(self._methods, MOST_HASHES)
        names = _taken(self._names, MOST_HASHES - len(methods))
        return Notice(self._sender, everything, methods, names)

    def _leave_out_those_with_room(self) -> None:
        self._methods |= {one: None for one in self._ready if not self._has_room(one)}
        self._ready.clear()


def _is_ready(record: Record | None) -> bool:
    return record is not None and record.claimable and not record.scheduled_time


def _leaves_place(before: Record | None, after: Record) -> bool:
    """Returns whether another operation of its key may begin, for there may be a bound of these."""
    has_ended = before is not None and before.lease_expire_time and not after.lease_expire_time
    return bool(after.concurrency_key and has_ended)


def _is_urgent(before: Record, after: Record) -> bool:
    return (
        (after.done, after.deleted, after.cancel_requested, after.pause_requested)
        != (before.done, before.deleted, before.cancel_requested, before.pause_requested)
    ) or (before.state == PAUSED) != (after.state == PAUSED)


def _taken(waiting: dict[str, None], most: int) -> list[str]:
    taken = list(itertools.islice(waiting, most))
    for one in taken:
        del waiting[one]
    return [hash_of(one) for one in taken]
