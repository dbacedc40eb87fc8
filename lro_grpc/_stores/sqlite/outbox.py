"""The completions of a file that are taken, and by whom: this process, which alone has the file.

To take one writes nothing. Its lease is in memory, and ends with the process: whoever opens the
file next knows that the process before is gone, and has all that is left due at once.

Those of the latest commits are at hand, and taken from there. The file is read for what the process
before has left, for what there was no room for, and for what is due again; and it is known when
that can be at the earliest.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from collections import deque
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from lro_grpc._errors import cut
from lro_grpc._operation.completion import Completion, Settlement, is_sound, taken
from lro_grpc._operation.publication import LAST_TIME
from lro_grpc._runtime.repeated_lines import RepeatedLines
from lro_grpc._stores.damage import MOST_SET_ASIDE
from lro_grpc._stores.sqlite.connection import unavailable
from lro_grpc._stores.sqlite.schema import completion_of
from lro_grpc._stores.store import Now

MOST_BYTES = 8 * 1024 * 1024
"""The bytes of completions that may be at hand; and at which no more are read at once."""

MOST_AT_HAND = 1000
"""The completions that may be at hand: a look at the file goes past each of them."""

_BUT_EVENT = f"SELECT {', '.join(Completion._fields[:-1])}, x'' FROM outbox"
_DUE = f"{_BUT_EVENT} WHERE next_time <= ? ORDER BY next_time"
_NEXT_TIME = "SELECT min(next_time) FROM outbox WHERE next_time > ?"
_ONE = f"{_BUT_EVENT} WHERE name = ? AND create_time = ?"
_EVENT = "SELECT event FROM outbox WHERE name = ? AND create_time = ?"
"""Asked of each that is taken, for an event may be large, and a look goes past many others."""


class _Lease(NamedTuple):
    """The lease of a completion that was taken."""

    attempt_count: int
    until: int


class Outbox:
    """Takes completions, and knows who has them; see the module.

    Args:
        connection: Reads the file.
        now: Returns the time in microseconds since 1970 UTC.
        lines: Logs what is damaged.
    """

    def __init__(self, connection: sqlite3.Connection, now: Now, lines: RepeatedLines) -> None:
        self._connection = connection
        self._now = now
        self._lines = lines
        self._damaged: set[object] = set()
        """The keys of damaged rows that the log has named."""
        self._new: deque[Completion] = deque()
        self._new_bytes = 0
        self._leases: dict[tuple[str, int], _Lease] = {}
        self._look_time = 0
        """The time before which the file has nothing that is due and not at hand."""

    def keep(self, completions: Collection[Completion]) -> None:
        """Takes note of the completions of a durable commit."""
        for one in completions:
            self._new.append(one)
            self._new_bytes += one.size
        if self._new_bytes > MOST_BYTES or len(self._new) > MOST_AT_HAND:
            # All are in the file, too, and in their order.
            self._new.clear()
            self._new_bytes = self._look_time = 0

    def take(self, limit: int, lease: int) -> Sequence[Completion]:
        """Takes completions that are due; see :meth:`lro_grpc.stores.Store.take_completions`.

        Raises:
            UnavailableError: If SQLite cannot read them.
        """
        now = self._now()
        some: list[Completion] = []
        if now >= self._look_time:
            try:
                some += self._read(limit, now)
            except sqlite3.Error as cause:
                raise unavailable(cause) from cause
        while self._new and len(some) < limit:
            one = self._new.popleft()
            self._new_bytes -= one.size
            some.append(one)
        some = [taken(one, now, lease) for one in some]
        for one in some:
            self._leases[one.key] = _Lease(one.attempt_count, one.next_time)
            self._look_time = min(self._look_time, one.next_time)
        return some

    def _read(self, limit: int, now: int) -> Sequence[Completion]:
        """Returns what is due in the file, and neither leased nor at hand."""
        some: list[Completion] = []
        size = 0
        at_hand = {one.key for one in self._new}
        with contextlib.closing(self._connection.execute(_DUE, (now,))) as due:
            for row in due:
                if not is_sound(row):
                    self._say_damaged(row)
                    continue
                one = self._with_lease(completion_of(row))
                if one.next_time > now or one.key in at_hand:
                    continue
                ((event,),) = self._connection.execute(_EVENT, one.key).fetchall()
                one = one._replace(event=event)
                if not is_sound(one):
                    self._say_damaged(one)
                    continue
                some.append(one)
                size += one.size
                if size >= MOST_BYTES or len(some) == limit:
                    return some
        ((later,),) = self._connection.execute(_NEXT_TIME, (now,)).fetchall()
        leases = (lease.until for lease in self._leases.values())
        # A time that is damaged may be a text, which comes after all numbers.
        self._look_time = min((later if type(later) is int else LAST_TIME, *leases))
        return some

    def _say_damaged(self, row: Sequence[object]) -> None:
        """Says once that a row is damaged: each look at the file finds it again."""
        name, create_time, *_ = row
        if (name, create_time) in self._damaged or len(self._damaged) == MOST_SET_ASIDE:
            return
        self._damaged.add((name, create_time))
        named = cut(repr(name))  # of a damaged row, which may have anything in its place
        text = f"the completion of {named} is damaged, and nobody will be told of that operation"
        self._lines.say(logging.ERROR, text, kind="completion", extra={"operation": str(name)})

    def still_ours(self, settlements: Sequence[Settlement]) -> Sequence[Settlement]:
        """Returns the settlements of what nobody has taken since, and of what was told."""
        return [one for one in settlements if one[1] is None or self._is_ours(one[0])]

    def settled(self, settlements: Sequence[Settlement]) -> None:
        """Takes note of settlements that are durable."""
        for before, after in settlements:
            self._leases.pop(before.key, None)
            if after is not None:
                self._look_time = min(self._look_time, after.next_time)

    def read(self, name: str, create_time: int) -> Completion | None:
        """Returns a completion; see :meth:`lro_grpc.stores.Store.read_completion`.

        Raises:
            UnavailableError: If SQLite cannot read it.
        """
        try:
            rows: list[Any] = self._connection.execute(_ONE, (name, create_time)).fetchall()
        except sqlite3.Error as cause:
            raise unavailable(cause) from cause
        return next((self._with_lease(completion_of(row)) for row in rows if is_sound(row)), None)

    def _with_lease(self, completion: Completion) -> Completion:
        """Returns a completion of the file as whoever has taken it has it."""
        lease = self._leases.get(completion.key)
        if lease is None:
            return completion
        return completion._replace(attempt_count=lease.attempt_count, next_time=lease.until)

    def _is_ours(self, completion: Completion) -> bool:
        """Whether nobody has taken a completion since it was taken as this one."""
        lease = self._leases.get(completion.key)
        return lease is not None and lease.attempt_count == completion.attempt_count
