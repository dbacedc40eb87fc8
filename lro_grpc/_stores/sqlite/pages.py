"""Finds the operations of a page: their rows in a thread, and then what has changed meanwhile.

A page is served in the order of creation, newest first, which the sequence numbers of the rows
are; or in that of names, which have an index. It looks at no more than so many rows, whether or
not it is full by then, and at fewer if the filter reads much of each (``Effort``). If all that it
lists have a label, it looks only at what has that: a table has this in the order of creation, too.
SQL asks the filter as far as it can (``filter``), and the rest of it is asked of the rows that are
left. All that may take a second, of one caller's filter: so it is done in a thread, with a
connection of its own, while the event loop goes on (``page_threads``). A page that nobody waits for
any more ends at the next row.

The rows of a page are of one moment, for they are read in one transaction. When the event loop gets
them, that moment has passed; and they may be ahead of what was announced. So some operations are
looked at once more, as their records at hand are in one step of the loop, which win (``recent``):

* Those whose rows match, if they have **changed since the page began**, or their commit is under
  way: such a one is served as its record is, and only if that matches.
* Those whose rows do not match, if their **commit is under way**: the row may be ahead of a record
  that matches, and that is served.

No others can differ, for a row is as its record unless a commit has touched it. A record that is no
longer at hand cannot win: then its row is served, which is of a moment within the call. So is the
whole page: of an operation that came to match only after it began, nothing need be on it.

The records that the step has taken do not change: so the filter is asked of them in the thread.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple, Union

from lro_grpc._errors import OperationDamagedError
from lro_grpc._operation import integrity, names
from lro_grpc._operation.record import FIELDS, Record
from lro_grpc._stores.page import (
    MOST_PAGE_BYTES,
    Effort,
    Listed,
    page_of,
    position_of,
    sequence_before,
)
from lro_grpc._stores.page_threads import PageThreads, while_wanted
from lro_grpc._stores.sql_filter import NOT_ASKED, Condition, condition_of
from lro_grpc._stores.sqlite.connection import closed, fetch, unavailable
from lro_grpc._stores.sqlite.damage import SqliteDamage
from lro_grpc._stores.sqlite.filter import condition
from lro_grpc._stores.sqlite.recent import RecentRecords
from lro_grpc._stores.sqlite.schema import COLUMNS
from lro_grpc._stores.store import Order, Page, Query

_BEYOND_TEXTS = b""
"""In SQLite's order all texts come before this, and behind it what is no text, and no name."""


_ASKED = ", ".join(f"x'' AS {name}" if name in NOT_ASKED else name for name in FIELDS)
"""The columns of a record, of which those are empty that no filter looks at."""

_Values = tuple[Union[str, int, bytes], ...]  # noqa: UP007 - is evaluated


class _Scope(NamedTuple):
    """The rows that a page may look at."""

    table: str
    """The table that has them, in the order of an index."""
    where: str
    """The condition on them."""
    parameters: _Values
    """The values of its question marks."""
    key: str
    """The column of their order."""
    up_to: str
    """The condition on the rows up to one with a key."""
    end: int | bytes
    """A key behind those of all rows."""
    order: str
    """An order that needs no sorting."""
    joined: str = ""
    """The operations, where the table is another one."""
    is_every: bool = False
    """Whether they are those of all operations, so that a key tells how many there are."""


class _Found(NamedTuple):
    """The rows of a page that match."""

    rows: list[tuple[str, Listed]]
    """Of each operation its name, and what the page has of it."""
    damaged: list[tuple[bytes, str]]
    """Of each row that was set aside its position, and its name."""
    rest: bytes = b""
    """The position behind the last row that was looked at; empty if all were."""


class Pages:
    """The pages of one file.

    Args:
        connection: A connection to read from, on the event loop.
        of_quick: Another one, for the thread of pages that SQL decides.
        of_slow: Another one, for the thread of those whose filter is asked of each row.
        recent: The records at hand.
        damage: The rows that are set aside.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        of_quick: sqlite3.Connection,
        of_slow: sqlite3.Connection,
        recent: RecentRecords,
        damage: SqliteDamage,
    ) -> None:
        self._connection = connection
        self._of_quick = of_quick
        self._of_slow = of_slow
        self._recent = recent
        self._damage = damage
        self._closing = False
        self._threads = PageThreads("lro-sqlite-pages")

    async def close(self) -> None:
        """Waits for the rows that are being looked at, and ends the threads."""
        self._closing = True
        await self._threads.close()

    async def page(
        self, query: Query, *, position: bytes, size: int, examined: int, records: bool
    ) -> Page:
        """Returns a page of what a query asks for.

        Args:
            query: The query.
            position: The position behind which the page begins; empty for the first.
            size: The number of operations at most.
            examined: The number of rows to look at, at most.
            records: Whether the page is to have the records, too.

        Raises:
            UnavailableError: If the store is closed, or SQLite fails.
        """
        if self._closing:
            raise closed()
        matching = condition_of(query, condition)
        find = partial(
            self._find,
            query,
            matching,
            position=position,
            size=size,
            examined=examined,
            records=records,
        )
        try:
            with self._recent.changes() as changed:
                found = await self._threads.run(find, slow=not matching.exact)
                at_hand = self._at_hand(found, changed)
            ask = partial(_that_match, query, at_hand)
            if query.filter is None or not at_hand:
                matched = ask(threading.Event())
            elif self._closing:
                raise closed()
            else:
                matched = await self._threads.run(ask, slow=not matching.exact)
            served = self._as_announced(query, position, found, at_hand, matched, records=records)
        except sqlite3.Error as cause:
            raise unavailable(cause) from cause
        page = page_of(served, size, found.rest)
        # To find whether there is a next page, rows of it may have been looked at.
        unreachable = [
            name for at, name in found.damaged if _is_between(query, b"", at, page.position)
        ]
        return replace(page, unreachable=unreachable)

    def _find(
        self,
        query: Query,
        matching: Condition,
        unwanted: threading.Event,
        *,
        position: bytes,
        size: int,
        examined: int,
        records: bool,
    ) -> _Found:
        """Returns the rows that match, as they were at one moment; in the thread."""
        connection = self._of_quick if matching.exact else self._of_slow
        connection.execute("BEGIN")
        try:
            scope = _scope(connection, query, position, examined)
            rest = _rest(connection, query, scope, examined)
            exact = matching.exact and not records
            columns = "name, operation" if exact else COLUMNS if records else _ASKED
            rows = connection.execute(
                f"SELECT sequence, {columns} FROM {scope.table} {scope.joined}"
                f" WHERE {scope.where} AND {scope.up_to} AND {matching.sql} {scope.order}",
                (*scope.parameters, scope.end if rest is None else rest, *matching.parameters),
            )
            with contextlib.closing(rows):
                damaged: list[tuple[bytes, str]] = []
                effort = Effort(query)
                wanted = while_wanted(rows, unwanted)
                matched = self._matched(
                    query, wanted, damaged, effort, exact=exact, records=records
                )
                found = _taken(matched, damaged, size)
                last = b"" if rest is None else _position(query, rest, rest)  # it is one of the two
                return found if found.rest else found._replace(rest=effort.ended_at or last)
        finally:
            connection.execute("ROLLBACK")

    def _matched(
        self,
        query: Query,
        rows: Iterable[tuple[Any, ...]],
        damaged: list[tuple[bytes, str]],
        effort: Effort,
        *,
        exact: bool,
        records: bool,
    ) -> Iterator[tuple[str, Listed]]:
        """Yields the rows that a query asks for; adds those that are damaged to ``damaged``."""
        for sequence, name, *row in rows:
            at = _position(query, sequence, name)
            try:
                if exact:
                    yield name, Listed(at, self._damage.served(name, row[0]))
                    continue
                record = self._damage.record([name, *row], integrity.fault_in_types)
                effort.spend(record, at)
                if query.matches(record):
                    operation = self._damage.served(name, record.operation)
                    yield name, Listed(at, operation, record if records else None)
            except OperationDamagedError:
                damaged.append((at, str(name)))
            if effort.ended_at:
                return

    def _at_hand(self, found: _Found, changed: Collection[str]) -> Mapping[str, Record]:
        """Returns the records at hand that rows may differ from; see the module."""
        committing = self._recent.committing
        touched = [name for name, _ in found.rows if name in changed and name not in committing]
        records = ((name, self._recent.get(name)) for name in (*touched, *committing))
        return {name: record for name, record in records if record is not None}

    def _as_announced(
        self,
        query: Query,
        position: bytes,
        found: _Found,
        at_hand: Mapping[str, Record],
        matched: Collection[str],
        *,
        records: bool,
    ) -> list[Listed]:
        """Returns the operations of a page as they were announced; see the module."""

        def listed(at: bytes, record: Record) -> Listed:
            return Listed(at, record.operation, record if records else None)

        served = []
        for name, of_row in found.rows:
            if name not in at_hand:
                served.append(of_row)
            elif name in matched:
                served.append(listed(of_row.position, at_hand[name]))
        of_rows = {name for name, _ in found.rows}
        for sequence, name in self._sequences([one for one in matched if one not in of_rows]):
            at = _position(query, sequence, name)
            if _is_between(query, position, at, found.rest):
                served.append(listed(at, at_hand[name]))
        newest_first = query.order is Order.NEWEST_FIRST
        return sorted(served, key=lambda one: one.position, reverse=newest_first)

    def _sequences(self, names: Collection[str]) -> list[tuple[int, str]]:
        if not names:
            return []
        marks = ", ".join("?" * len(names))
        statement = f"SELECT sequence, name FROM operations WHERE name IN ({marks})"
        return fetch(self._connection, statement, *names)


def _rest(connection: sqlite3.Connection, query: Query, scope: _Scope, examined: int) -> Any:
    """Returns the key of the last row that a page looks at; None if it looks at all."""

    def fetch(statement: str, parameters: _Values) -> list[tuple[Any, ...]]:
        return connection.execute(statement, parameters).fetchall()

    rows = f"FROM {scope.table} WHERE {scope.where}"
    if scope.is_every:
        newest = fetch(f"SELECT sequence {rows} {scope.order} LIMIT 1", scope.parameters)
        rest = newest[0][0] - examined + 1 if newest else 0
        return rest if fetch(f"SELECT sequence {rows} LIMIT 1", (rest,)) else None
    if query.filter or query.has_wildcard:
        ends = f"SELECT {scope.key} {rows} {scope.order} LIMIT 2 OFFSET {examined - 1}"
        last = fetch(ends, scope.parameters)
        return last[0][0] if len(last) == 2 else None
    return None  # all that is looked at is on the page


def _that_match(
    query: Query, records: Mapping[str, Record], unwanted: threading.Event
) -> Collection[str]:
    """Returns the names of the records that a query asks for; in the thread."""
    return {
        name for name, record in while_wanted(records.items(), unwanted) if query.matches(record)
    }


def _taken(
    matched: Iterable[tuple[str, Listed]], damaged: list[tuple[bytes, str]], size: int
) -> _Found:
    """Returns as many rows as a page has room for, and one more by which it is known to be full."""
    rows = []
    taken = 0
    for name, listed in matched:
        rows.append((name, listed))
        taken += listed.size
        if len(rows) > size or (taken > MOST_PAGE_BYTES and len(rows) > 1):
            return _Found(rows, damaged, listed.position)
    return _Found(rows, damaged)


def _scope(connection: sqlite3.Connection, query: Query, position: bytes, examined: int) -> _Scope:
    """Returns the rows that a page may look at."""
    if query.order is Order.BY_NAME:
        return _by_name(query, position)
    before = sequence_before(position)
    order = "ORDER BY sequence DESC"
    if query.labels:
        label = _rarest(connection, query.labels, before, examined)
        return _Scope(
            # The column has another name here, for operations have one of that name.
            table="(SELECT key, value, operation AS labelled FROM labels)",
            where="key = ? AND value = ? AND labelled < ?",
            parameters=(*label, before),
            key="labelled",
            up_to="labelled >= ?",
            end=0,
            order="ORDER BY labelled DESC",
            joined="CROSS JOIN operations NOT INDEXED ON sequence = labelled",
        )
    if query.has_wildcard:
        table, where = "operations NOT INDEXED", "sequence < ?"
        return _Scope(table, where, (before,), "sequence", "sequence >= ?", 0, order, is_every=True)
    where = "parent = ? AND NOT deleted AND sequence < ?"
    parameters = (query.parent, before)
    return _Scope("operations", where, parameters, "sequence", "sequence >= ?", 0, order)


def _by_name(query: Query, position: bytes) -> _Scope:
    after, first = position.decode(), names.operation_name(query.parent, "")
    where = "name > ? AND name < ?"
    parameters: _Values = (after, _BEYOND_TEXTS)
    if not query.has_wildcard:
        where += " AND parent = ? AND NOT deleted"
        parameters = (after or first, f"{first[:-1]}0", query.parent)  # 0 comes after /
    table = "operations INDEXED BY operations_names"
    return _Scope(table, where, parameters, "name", "name <= ?", _BEYOND_TEXTS, "ORDER BY name")


def _rarest(
    connection: sqlite3.Connection,
    candidates: Sequence[tuple[str, str]],
    before: int,
    examined: int,
) -> tuple[str, str]:
    """Returns the label that the fewest operations have, as far as a page would look at them."""
    if len(candidates) == 1:
        return candidates[0]
    rows = "FROM labels WHERE key = ? AND value = ? AND operation < ?"
    count = f"SELECT count(*) FROM (SELECT 1 {rows} LIMIT ?)"

    def number(label: tuple[str, str]) -> Any:
        return connection.execute(count, (*label, before, examined)).fetchone()[0]

    return min(candidates, key=number)


def _position(query: Query, sequence: int, name: object) -> bytes:
    return position_of(query.order, sequence, str(name))


def _is_between(query: Query, before: bytes, at: bytes, rest: bytes) -> bool:
    """Whether a position is on the page that begins behind one, and looks as far as another."""
    if query.order is Order.BY_NAME:
        return before < at and (not rest or at <= rest)
    return rest <= at and (not before or at < before)
