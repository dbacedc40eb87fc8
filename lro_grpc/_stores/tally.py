"""Sums operations up by their methods and states: what all stores make of what they have read."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, field

from lro_grpc._operation.names import ANY_PARENT
from lro_grpc._operation.record import Record
from lro_grpc._operation.states import JOB
from lro_grpc._runtime.threads import run_in_thread
from lro_grpc._stores.store import Count, Counts, Oldest, Page, Query

MOST_COMPARED = 100
"""The operations that are next of a method, of which that is told which has waited the longest."""

MOST_METHODS = 1000
"""The most methods whose operations are counted while they are not done."""

MOST_LEASED = 20_000
"""The most operations that attempts hold of which the rows are looked at."""

FIRST_ROUND = 1_000
"""The entries, or the rows, of the first of several rounds; each next one has twice as many."""

_ROUNDS_SECONDS = 0.1
"""The time for all rounds of one kind."""

_PAGES_SECONDS = 0.5
"""The time after which no more pages are read."""

_PAGE = 500
"""The operations that are examined at a time."""


class Tally:
    """The numbers of operations, as far as they have been counted.

    Of a damaged row, whose method is no text, or whose state is none, nothing is counted.
    """

    def __init__(self) -> None:
        self.examined = 0
        """The number of the parent's operations that were examined."""
        self._numbers: Counter[tuple[str, int]] = Counter()
        self._lower_bounds: set[tuple[str, int]] = set()
        self._ready: dict[str, Oldest] = {}
        self._attempt: Oldest | None = None

    def add(
        self, method: object, state: object, number: int, *, is_lower_bound: bool = False
    ) -> None:
        """Counts more operations.

        Args:
            method: Their method.
            state: Their state.
            number: Their number; none is nothing.
            is_lower_bound: Whether there may be more.
        """
        if number and type(method) is str and type(state) is int and state in JOB.states:
            self._numbers[method, state] += number
            if is_lower_bound:
                self._lower_bounds.add((method, state))

    def add_entries(self, entries: Entries) -> None:
        """Counts those entries that were looked at."""
        for (method, state), number in entries.numbers.items():
            self.add(method, state, number, is_lower_bound=not entries.are_all)

    def add_ready(self, method: str, since: object, name: object, hidden: object) -> None:
        """Takes an operation that is ready, and the time since when."""
        one = _oldest(since, name, hidden)
        if one is not None:
            self._ready[method] = min(one, self._ready.get(method, one))

    def add_attempt(self, since: object, name: object, hidden: object) -> None:
        """Takes an operation that an attempt holds, and the time at which that began."""
        one = _oldest(since, name, hidden)
        if one is not None:
            self._attempt = min(one, self._attempt or one)

    def add_record(self, record: Record) -> None:
        """Counts one operation, with all that is known of it."""
        self.add(record.method, record.state, 1)
        if record.is_ready:
            self.add_ready(record.method, record.update_time, record.name, record.deleted)
        if record.lease_expire_time and record.attempt_number == record.attempt:
            self.add_attempt(record.attempt_start_time, record.name, record.deleted)

    def counts(self, most: int, earliest_examined: int, *, is_filtered: bool = False) -> Counts:
        """Returns the numbers.

        Args:
            most: The most to tell of a method and a state while operations are not done.
            earliest_examined: The creation of the oldest one that was examined; 0 if all were.
            is_filtered: Whether those that are not done were counted among these, too.
        """

        def told() -> Iterator[Count]:
            for (method, state), number in sorted(self._numbers.items()):
                if is_filtered or JOB.is_terminal(state):
                    yield Count(method, state, number, earliest_examined > 0)
                else:
                    is_lower_bound = number > most or (method, state) in self._lower_bounds
                    yield Count(method, state, min(number, most), is_lower_bound)

        return Counts(tuple(told()), self._ready, self._attempt, self.examined, earliest_examined)


def _oldest(since: object, name: object, hidden: object) -> Oldest | None:
    """Returns an operation and its time, if they are some; 0 is none."""
    if type(since) is int and since > 0 and type(name) is str:
        return Oldest(since, "" if hidden else name)
    return None


class Rounds:
    """Rounds in which a store counts, each of twice as much as the one before.

    Args:
        clock: Returns seconds since some fixed moment.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._begin = self._last = clock()
        self._begun = 0

    def may_go_on(self) -> bool:
        """Returns whether there is time for the next round, by what the one before has taken.

        That of the first one tells nothing: it may have been planned, or read from a disk, anew.
        """
        now = self._clock()
        round_seconds, self._last = now - self._last, now
        self._begun += 1
        next_seconds = 2 * round_seconds if self._begun > 2 else 0
        return now - self._begin + next_seconds <= _ROUNDS_SECONDS


@dataclass
class Entries:
    """The entries of one method in an index of what is not done, as far as they were looked at."""

    phase: int
    """The index, where there are several."""
    method: str
    """As its column has it; empty for the entries of all methods."""
    numbers: Counter[tuple[object, object]] = field(default_factory=Counter)
    """The numbers of those that are of the parent, by their methods and states."""
    first: int = 0
    """The sequence number of the first one that is; 0 for none."""
    last: int = 0
    """That of the last one of all, where a store goes on behind it."""
    looked_at: int = 0
    """Their number, whatever their parent."""
    are_all: bool = False
    """Whether there are no more."""

    def may_have_more(self, most: int) -> bool:
        """Returns whether another round is to look at more of them."""
        return not self.are_all and self.numbers.total() <= most

    def add(
        self, method: object, state: object, number: int, first: int | None, last: int = 0
    ) -> None:
        """Takes those of one method and state that a round has found.

        Args:
            method: The method.
            state: The state.
            number: How many are of the parent.
            first: The sequence number of the first one that is; None for none.
            last: That of the last one of all.
        """
        self.numbers[method, state] += number
        if first is not None:
            self.first = min(self.first or first, first)
        self.last = max(self.last, last)

    def end_round(self, looked_at: int, size: int) -> None:
        """Notes how many entries a round has looked at, of so many that it would have."""
        self.looked_at += looked_at
        self.are_all = looked_at < size


async def counts_by_pages(
    page: Callable[..., Awaitable[Page]], query: Query, examined: int
) -> Counts:
    """Returns the numbers of those that a filter matches, among the newest of a parent.

    They are read as pages are, and matched in a thread: a filter may take long.

    Args:
        page: Returns a page; see ``Store.page``.
        query: Which operations.
        examined: The most records to look at.
    """
    loop = asyncio.get_running_loop()
    tally = Tally()
    left = query.examined(examined)
    end = loop.time() + _PAGES_SECONDS
    looked_at = Query(ANY_PARENT if query.has_wildcard else query.parent)
    position, earliest = b"", 0
    while True:
        size = min(left, _PAGE)
        some = await page(looked_at, position=position, size=size, examined=size, records=True)
        await run_in_thread("lro-counts", _add_matching, tally, query, some.records)
        for record in some.records[-1:]:
            earliest = record.create_time
        left -= max(len(some.records), 1)
        position = some.position
        if not position or left <= 0 or loop.time() >= end:
            break
    return tally.counts(0, earliest if position else 0, is_filtered=True)


def _add_matching(tally: Tally, query: Query, records: Iterable[Record]) -> None:
    for record in records:
        tally.examined += query.covers(record)
        if query.matches(record):
            tally.add_record(record)
