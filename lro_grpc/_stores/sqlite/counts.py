"""Counts operations in a file, in a thread, on a connection that only reads.

Those that are not done are counted in the indexes that have them, without a look at their rows.
Entries are looked at in rounds, of each index and method some, and then twice as many, until all
have been looked at, or are as many as are told, or a tenth of a second is over. Where there are
more, a number is a lower bound; the methods of which few wait have been counted by then. Only what
is delayed is in no order of methods. Of what attempts hold so many rows are looked at, and no more.

Those that are done are counted among the newest rows, as a list has them, in such rounds, too, for
a row may have megabytes before its state. What a filter matches is counted there, whatever its
state.

All numbers of an answer are of one moment.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

from lro_grpc._operation.names import ANY_PARENT
from lro_grpc._operation.states import JOB
from lro_grpc._runtime.threads import close_behind
from lro_grpc._stores.page import LAST_SEQUENCE
from lro_grpc._stores.sql_filter import DONE, Condition
from lro_grpc._stores.sqlite.connection import closed, unavailable
from lro_grpc._stores.sqlite.filter import condition
from lro_grpc._stores.sqlite.schema import DELAYED, KEYED, NEXT, PAUSED_ROW, RANKED, READY
from lro_grpc._stores.store import Counts, Query
from lro_grpc._stores.tally import (
    FIRST_ROUND,
    MOST_COMPARED,
    MOST_LEASED,
    MOST_METHODS,
    Entries,
    Rounds,
    Tally,
)

T = TypeVar("T")


class _Index(NamedTuple):
    """An index of operations that are not done, and that no attempt holds."""

    rows: str
    """Its entries, each of which tells all there is to count."""
    has_methods: bool = True
    """Whether those of a method follow each other."""


_READY = _Index(f"operations INDEXED BY operations_ready WHERE {NEXT}")
_RANKED = _Index(f"operations INDEXED BY operations_ranked WHERE {RANKED}")
_KEYED = _Index(f"operations INDEXED BY operations_by_key WHERE {KEYED}")
_PAUSED = _Index(f"operations INDEXED BY operations_paused WHERE {PAUSED_ROW}")
_DELAYED = _Index(f"operations INDEXED BY operations_delayed WHERE {DELAYED}", has_methods=False)
_INDEXES = (_READY, _RANKED, _KEYED, _PAUSED, _DELAYED)

_STATES = sorted(state for state in JOB.states if not JOB.is_terminal(state))
# One column for each state: to group entries by it would sort them.
_OF_STATES = ", ".join(
    f"count(CASE WHEN is_covered AND state = {state} THEN 1 END)" for state in _STATES
)

_NEXT_READY = f"SELECT sequence FROM {_READY.rows} AND method = ? AND sequence >= ?"
_NEXT_RANKED = f"SELECT sequence FROM {_RANKED.rows} AND method = ?"
# SQLite would look for a pair of both columns by the first one alone: at all entries of a method.
_NEXT_OF_KEYS = (
    "WITH RECURSIVE ring(key) AS (SELECT '' UNION ALL SELECT (SELECT min(concurrency_key)"
    f" FROM {_KEYED.rows} AND method = ?1 AND concurrency_key > ring.key) FROM ring"
    f" WHERE key IS NOT NULL) SELECT (SELECT sequence FROM {_KEYED.rows} AND method = ?1"
    " AND concurrency_key = key ORDER BY queue_order, sequence LIMIT 1) FROM ring WHERE key <> ''"
)
"""Of each key the operation that is next."""
_LEASED_ROWS = (
    "SELECT method, parent, state, name, deleted,"
    " CASE WHEN attempt_number = attempt THEN attempt_start_time END AS since"
    " FROM operations INDEXED BY operations_leased WHERE lease_expire_time <> 0 LIMIT ?"
)


# What is given up is due after all that waits, but where its operation is soon to be forgotten.
_PENDING = (
    "SELECT count(*) FROM (SELECT given_up FROM outbox INDEXED BY outbox_due ORDER BY next_time"
    " LIMIT ?) WHERE NOT given_up"
)


class Counting:
    """Counts the operations of one file.

    Args:
        connection: A connection of its own, for the thread.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._closing = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="lro-sqlite-counts")

    async def close(self) -> None:
        """Waits for the counts under way, and ends the thread."""
        self._closing = True
        await close_behind(self._thread)

    async def counts(self, query: Query, most: int, examined: int) -> Counts:
        """Returns the numbers of a query whose filter SQL can decide; see ``Store.counts``.

        Raises:
            UnavailableError: If the store is closed, or SQLite fails.
        """
        return await self._in_thread(self._count, query, most, examined)

    async def pending_completions(self, most: int) -> int:
        """Returns how many completions wait to be told; see ``Store.pending_completions``.

        Raises:
            UnavailableError: If the store is closed, or SQLite fails.
        """
        ((number,),) = await self._in_thread(self._fetch, _PENDING, most)
        return int(number)

    async def _in_thread(self, call: Callable[..., T], *arguments: Any) -> T:
        if self._closing:
            raise closed()
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._thread, call, *arguments)
        except sqlite3.Error as cause:
            raise unavailable(cause) from cause

    def _count(self, query: Query, most: int, examined: int) -> Counts:
        tally = Tally()
        parent = _of_parent(query)
        self._connection.execute("BEGIN")
        try:
            if query.filter is None:
                self._count_entries(tally, parent, most)
                self._count_leased(tally, parent, min(most, MOST_LEASED))
            earliest = self._count_newest(tally, query, parent, query.examined(examined))
        finally:
            self._connection.execute("ROLLBACK")
        return tally.counts(most, earliest, is_filtered=query.filter is not None)

    def _count_entries(self, tally: Tally, parent: Condition, most: int) -> None:
        """Counts what no attempt holds, and is not done."""
        entries = [
            Entries(phase, method)
            for phase, index in enumerate(_INDEXES)
            for method in (self._methods(index) if index.has_methods else [""])
        ]
        size, left, rounds = FIRST_ROUND, entries, Rounds(time.monotonic)
        while left and rounds.may_go_on():
            for one in left:
                self._look_at(one, parent, size)
            left = [one for one in left if one.may_have_more(most)]
            size *= 2
        for one in entries:
            tally.add_entries(one)
            self._find_oldest_ready(tally, one, parent)

    def _methods(self, index: _Index) -> Iterator[Any]:
        """Yields the methods that an index has, one by one."""
        methods = (
            f"WITH RECURSIVE found(method) AS (SELECT min(method) FROM {index.rows} UNION ALL"
            f" SELECT (SELECT min(method) FROM {index.rows} AND method > found.method)"
            f" FROM found WHERE method IS NOT NULL LIMIT {MOST_METHODS})"
            " SELECT method FROM found WHERE method IS NOT NULL"
        )
        for (method,) in self._fetch(methods):
            yield method

    def _look_at(self, one: Entries, parent: Condition, size: int) -> None:
        """Counts so many more entries, behind those that were looked at."""
        index = _INDEXES[one.phase]
        of_method, group = ("AND method = ?", "") if index.has_methods else ("", "GROUP BY method")
        groups = self._fetch(
            "SELECT method, count(*), min(CASE WHEN is_covered THEN sequence END),"
            f" {_OF_STATES} FROM (SELECT method, sequence, state, {parent.sql} AS is_covered"
            f" FROM {index.rows} {of_method} LIMIT ? OFFSET ?) {group}",
            *parent.parameters,
            *([one.method] if index.has_methods else []),
            size,
            one.looked_at,
        )
        for method, _, first, *numbers in groups:
            for state, number in zip(_STATES, numbers, strict=True):
                one.add(method, state, number, first)
        one.end_round(sum(looked_at for _, looked_at, *_ in groups), size)

    def _find_oldest_ready(self, tally: Tally, one: Entries, parent: Condition) -> None:
        """Takes the oldest of those that are next of a method, if these are ready."""
        following = _following(one)
        if following is not None:
            oldest = (
                "SELECT update_time, name, deleted FROM operations WHERE sequence IN"
                f" ({following.sql} LIMIT {MOST_COMPARED}) AND {parent.sql}"
                " ORDER BY update_time LIMIT 1"
            )
            for row in self._fetch(oldest, *following.parameters, *parent.parameters):
                if type(one.method) is str:  # else it is of a damaged row
                    tally.add_ready(one.method, *row)

    def _count_leased(self, tally: Tally, parent: Condition, most: int) -> None:
        """Counts what attempts hold, of which the rows are looked at."""
        groups = self._fetch(
            f"SELECT method, state, count(*), count(CASE WHEN {parent.sql} THEN 1 END)"
            f" FROM ({_LEASED_ROWS}) GROUP BY method, state",
            *parent.parameters, most + 1,
        )  # fmt: skip
        is_lower_bound = sum(looked_at for *_, looked_at, _ in groups) > most
        for method, state, _, of_parent in groups:
            tally.add(method, state, of_parent, is_lower_bound=is_lower_bound)
        oldest = (
            f"SELECT min(since), name, deleted FROM ({_LEASED_ROWS})"
            f" WHERE {parent.sql} AND since > 0"
        )
        for row in self._fetch(oldest, most + 1, *parent.parameters):
            tally.add_attempt(*row)

    def _count_newest(self, tally: Tally, query: Query, parent: Condition, examined: int) -> int:
        """Counts among the newest rows: what is done, or what a filter matches.

        Returns:
            The creation of the oldest row that was looked at; 0 if all were.
        """
        newest = _newest(query, parent)
        size, before, earliest, rounds = FIRST_ROUND, LAST_SEQUENCE, 0, Rounds(time.monotonic)
        while examined > 0 and rounds.may_go_on():
            size = min(size, examined)
            groups = self._fetch(
                "SELECT method, state, count(*), sum(is_covered), sum(is_matching), min(sequence),"
                " min(create_time) FROM (SELECT method, state, sequence, create_time,"
                f" ({newest.covered}) AS is_covered, ({newest.matching}) AS is_matching"
                f" {newest.rows} ORDER BY sequence DESC LIMIT ?) GROUP BY method, state",
                *newest.of_covered, *newest.of_matching, *newest.of_rows, before, size,
            )  # fmt: skip
            looked_at = 0
            for method, state, number, covered, matching, *_ in groups:
                looked_at += number
                tally.examined += covered
                tally.add(method, state, matching)
            first = min((group[5] for group in groups), default=0)
            if query.filter is not None:
                self._find_oldest(tally, newest, before, first)
            if looked_at < size:
                return 0
            before, examined = first, examined - looked_at
            created = (group[6] for group in groups if type(group[6]) is int)
            earliest = min(created, default=earliest)
            size *= 2
        return earliest

    def _find_oldest(self, tally: Tally, newest: _Newest, before: int, first: int) -> None:
        """Takes the oldest operations of a portion of rows that a filter matches."""
        rows = f"{newest.rows} AND sequence >= ? AND {newest.matching}"
        values = (*newest.of_rows, before, first, *newest.of_matching)
        ready = f"SELECT method, min(update_time), name, deleted {rows} AND {READY}"
        for method, since, name, hidden in self._fetch(f"{ready} GROUP BY method", *values):
            tally.add_ready(method, since, name, hidden)
        held = "lease_expire_time <> 0 AND attempt_number = attempt AND attempt_start_time > 0"
        oldest = f"SELECT min(attempt_start_time), name, deleted {rows} AND {held}"
        for row in self._fetch(oldest, *values):
            tally.add_attempt(*row)

    def _fetch(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        return self._connection.execute(statement, parameters).fetchall()


class _Newest(NamedTuple):
    """The newest rows, among which operations are counted, and the values of question marks."""

    rows: str
    """Those before a sequence number."""
    of_rows: tuple[Any, ...]
    covered: str
    """The condition on those that are the parent's."""
    of_covered: tuple[Any, ...]
    matching: str
    """The condition on those that count."""
    of_matching: tuple[Any, ...]


def _newest(query: Query, parent: Condition) -> _Newest:
    if query.has_wildcard:
        rows = Condition("NOT INDEXED WHERE")
        covered = Condition(f"NOT deleted AND {parent.sql}", parent.parameters)
    else:
        listed = "INDEXED BY operations_listed WHERE parent = ? AND NOT deleted AND"
        rows, covered = Condition(listed, parent.parameters), _ANY
    matching = Condition(DONE) if query.filter is None else condition(query.filter.expression)
    return _Newest(
        f"FROM operations {rows.sql} sequence < ?",
        rows.parameters,
        covered.sql,
        covered.parameters,
        f"{covered.sql} AND {matching.sql}",
        (*covered.parameters, *matching.parameters),
    )


_ANY = Condition("TRUE")


def _following(one: Entries) -> Condition | None:
    """Returns the statement for those that are next of a method; None where none are ready."""
    index = _INDEXES[one.phase]
    if index is _READY and one.first:
        return Condition(_NEXT_READY, (one.method, one.first))
    if index is _RANKED:
        return Condition(_NEXT_RANKED, (one.method,))
    if index is _KEYED:
        return Condition(_NEXT_OF_KEYS, (one.method,))
    return None


def _of_parent(query: Query) -> Condition:
    """Returns the condition that a parent is the one, or one of those, that a query means."""
    if query.parent == ANY_PARENT:
        return _ANY
    if not query.has_wildcard:
        return Condition("parent = ?", (query.parent,))
    # A star of GLOB stands for slashes, too: but of these there are no more than in the pattern.
    segments = query.parent.split("/")
    pattern = "/".join("?*" if one == "-" else one.replace("*", "[*]") for one in segments)
    slashes = "length(parent) - length(replace(parent, '/', ''))"
    return Condition(f"({slashes} = ? AND parent GLOB ?)", (len(segments) - 1, pattern))
