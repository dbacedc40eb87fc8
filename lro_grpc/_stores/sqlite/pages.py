"""Finds the operations of a page: their rows in a thread, and then what has changed meanwhile.

A page is served in the order of creation, newest first, which the sequence numbers of the rows
are. It looks at no more than so many rows, whether or not it is full by then. SQL asks the filter
as far as it can (``filter``), and the rest of it is asked of the rows that are left. All that may
take half a second, of one caller's filter: so it is done in a thread, with a connection of its own,
while the event loop goes on. There is one thread for all pages of a file.

The rows of a page are of one moment, for they are read in one transaction. When the event loop gets
them, that moment has passed; and they may be ahead of what was announced. So some operations are
looked at once more, in one step of the loop, as their records at hand are, which win (``recent``):

* Those whose rows match, if they have **changed since the page began**, or their commit is under
  way: such a one is served as its record is, and only if that matches.
* Those whose rows do not match, if their **commit is under way**: the row may be ahead of a record
  that matches, and that is served.

No others can differ, for a row is as its record unless a commit has touched it. A record that is no
longer at hand cannot win: then its row is served, which is of a moment within the call. So is the
whole page: of an operation that came to match only after it began, nothing need be on it.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import sqlite3
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, NamedTuple

from lro_grpc._errors import OperationDamagedError
from lro_grpc._filtering.expression import And, Compare, Like
from lro_grpc._operation import integrity
from lro_grpc._stores.sqlite.connection import closed, fetch, unavailable
from lro_grpc._stores.sqlite.damage import Damage
from lro_grpc._stores.sqlite.filter import Condition, condition
from lro_grpc._stores.sqlite.recent import RecentRecords
from lro_grpc._stores.sqlite.schema import COLUMNS
from lro_grpc._stores.store import MAX_PAGE_BYTES, Page, Query, page_of

# The rows that a page looks at, in an order that needs no sorting.
_OF_PARENT = "FROM operations WHERE parent = ? AND NOT deleted AND sequence < ?"
_OF_ALL = "FROM operations NOT INDEXED WHERE sequence < ?"
_NEWEST_FIRST = "ORDER BY sequence DESC"

_WILDCARD = re.compile("(?<![^/])-(?![^/])")
"""A segment of a parent that stands for any segment."""


class _Found(NamedTuple):
    """The rows of a page that match."""

    rows: list[tuple[int, str, bytes]]
    """Of each operation its sequence number, its name, and the bytes that Get answers with."""
    damaged: list[tuple[int, str]]
    """Of each row that was set aside its sequence number, and its name."""
    rest: int
    """The sequence number below which no row was looked at; 0 if all were."""


class Pages:
    """The pages of one file.

    Args:
        connection: A connection to read from, on the event loop.
        of_thread: Another one, for the thread.
        recent: The records at hand.
        damage: The rows that are set aside.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        of_thread: sqlite3.Connection,
        recent: RecentRecords,
        damage: Damage,
    ) -> None:
        self._connection = connection
        self._of_thread = of_thread
        self._recent = recent
        self._damage = damage
        self._closing = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="lro-sqlite-pages")

    def close(self) -> None:
        """Waits for the page under way, and ends the thread."""
        self._closing = True
        self._thread.shutdown(cancel_futures=True)

    async def page(self, query: Query, *, before: int, size: int, examined: int) -> Page:
        """Returns a page of what a query asks for.

        Args:
            query: The query.
            before: The sequence number below which the page begins.
            size: The number of operations at most.
            examined: The number of rows to look at, at most.

        Raises:
            UnavailableError: If the store is closed, or SQLite fails.
        """
        if self._closing:
            raise closed()
        loop = asyncio.get_running_loop()
        try:
            with self._recent.changes() as changed:
                found = await loop.run_in_executor(
                    self._thread, self._find, query, before, size, examined
                )
                served = self._as_announced(query, before, found, changed)
        except sqlite3.Error as cause:
            raise unavailable(cause) from cause
        page = page_of(served, size, found.rest)
        # To find whether there is a next page, rows of it may have been looked at.
        next_before = int.from_bytes(page.position, "big")
        unreachable = [name for sequence, name in found.damaged if sequence >= next_before]
        return replace(page, unreachable=unreachable)

    def _find(self, query: Query, before: int, size: int, examined: int) -> _Found:
        """Returns the rows that match, as they were at one moment; in the thread."""
        connection = self._of_thread
        connection.execute("BEGIN")
        try:
            rest = self._rest(query, before, examined)
            matching = _matching(query)
            columns = "sequence, name, operation" if matching.exact else f"sequence, {COLUMNS}"
            scope, parameters = _scope(query, before)
            rows = connection.execute(
                f"SELECT {columns} {scope} AND sequence >= ? AND {matching.sql} {_NEWEST_FIRST}",
                (*parameters, rest, *matching.parameters),
            )
            with contextlib.closing(rows):
                damaged: list[tuple[int, str]] = []
                matched = self._matched(query, rows, damaged, exact=matching.exact)
                return _taken(matched, damaged, size, rest)
        finally:
            connection.execute("ROLLBACK")

    def _rest(self, query: Query, before: int, examined: int) -> int:
        """Returns the lowest sequence number that a page looks at; 0 if it looks at all."""
        if query.has_wildcard:
            newest = self._fetch(f"SELECT sequence {_OF_ALL} {_NEWEST_FIRST} LIMIT 1", before)
            rest = newest[0][0] - examined + 1 if newest else 0
            return rest if self._fetch(f"SELECT sequence {_OF_ALL} LIMIT 1", rest) else 0
        if query.filter:
            ends = f"SELECT sequence {_OF_PARENT} {_NEWEST_FIRST} LIMIT 2 OFFSET ?"
            last = self._fetch(ends, query.parent, before, examined - 1)
            return last[0][0] if len(last) == 2 else 0
        return 0  # all that is looked at is on the page

    def _fetch(self, statement: str, *parameters: str | int | bytes) -> list[tuple[Any, ...]]:
        return self._of_thread.execute(statement, parameters).fetchall()

    def _matched(
        self,
        query: Query,
        rows: Iterable[tuple[Any, ...]],
        damaged: list[tuple[int, str]],
        *,
        exact: bool,
    ) -> Iterator[tuple[int, str, bytes]]:
        """Yields the rows that a query asks for; adds those that are damaged to ``damaged``."""
        for sequence, name, *row in rows:
            try:
                if exact:
                    yield sequence, name, self._damage.served(name, row[0])
                    continue
                record = self._damage.record([name, *row], integrity.fault_in_types)
                if query.matches(record):
                    yield sequence, name, self._damage.served(name, record.operation)
            except OperationDamagedError:
                damaged.append((sequence, str(name)))

    def _as_announced(
        self, query: Query, before: int, found: _Found, changed: Collection[str]
    ) -> list[tuple[int, bytes]]:
        """Returns the operations of a page as they were announced; see the module."""
        committing = self._recent.committing
        served = []
        for sequence, name, operation in found.rows:
            touched = name in changed or name in committing
            record = self._recent.get(name) if touched else None
            if record is None:
                served.append((sequence, operation))
            elif query.matches(record):
                served.append((sequence, record.operation))
        of_rows = {name for _, name, _ in found.rows}
        at_hand = (self._recent.get(name) for name in committing if name not in of_rows)
        missing = {
            record.name: record.operation
            for record in at_hand
            if record is not None and query.matches(record)
        }
        for sequence, name in self._sequences(missing):
            if found.rest <= sequence < before:
                served.append((sequence, missing[name]))
        return sorted(served, reverse=True)

    def _sequences(self, names: Collection[str]) -> list[tuple[int, str]]:
        if not names:
            return []
        marks = ", ".join("?" * len(names))
        statement = f"SELECT sequence, name FROM operations WHERE name IN ({marks})"
        return fetch(self._connection, statement, *names)


def _taken(
    matched: Iterable[tuple[int, str, bytes]],
    damaged: list[tuple[int, str]],
    size: int,
    rest: int,
) -> _Found:
    """Returns as many rows as a page has room for, and one more by which it is known to be full."""
    rows = []
    taken = 0
    for row in matched:
        rows.append(row)
        taken += len(row[2])
        if len(rows) > size or (taken > MAX_PAGE_BYTES and len(rows) > 1):
            return _Found(rows, damaged, row[0])
    return _Found(rows, damaged, rest)


def _scope(query: Query, before: int) -> tuple[str, tuple[str | int, ...]]:
    """Returns the rows that a page looks at, and the parameters of that."""
    if query.has_wildcard:
        return _OF_ALL, (before,)
    return _OF_PARENT, (query.parent, before)


def _matching(query: Query) -> Condition:
    """Returns the condition on these rows."""
    filter_ = query.filter.expression if query.filter else And(())
    if not query.has_wildcard:
        return condition(filter_)
    parent = Like("parent", tuple(_WILDCARD.split(query.parent)))
    # Unlike a wildcard, the gap between the parts of a text may hold slashes: hence not exact.
    return condition(And((parent, Compare("deleted", "=", 0), filter_)))._replace(exact=False)
