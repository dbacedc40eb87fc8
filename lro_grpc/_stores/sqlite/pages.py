"""Finds the operations of a page: in the file, and as the records at hand are.

A page is served in the order of creation, newest first, which the sequence numbers of the rows
are. It looks at no more than so many rows: ``rest`` is the number at which it stops, whether or not
the page is full. SQL asks the filter as far as it can (``filter``). Rows may be ahead of the
records at hand, which win (``recent``): a row that matches is served only if its record does, and
records whose commit is under way are looked at whatever their rows say.
"""

from __future__ import annotations

import contextlib
import re
import sqlite3
from collections.abc import Iterable, Iterator
from typing import Any

from lro_grpc._filtering.expression import And, Compare, Like
from lro_grpc._stores.sqlite.connection import fetch, unavailable
from lro_grpc._stores.sqlite.filter import Condition, condition
from lro_grpc._stores.sqlite.recent import RecentRecords
from lro_grpc._stores.sqlite.schema import COLUMNS, record_of
from lro_grpc._stores.store import Page, Query, page_of

# The rows that a page looks at, in an order that needs no sorting.
_OF_PARENT = "FROM operations WHERE parent = ? AND NOT deleted AND sequence < ?"
_OF_ALL = "FROM operations NOT INDEXED WHERE sequence < ?"
_NEWEST_FIRST = "ORDER BY sequence DESC"

_WILDCARD = re.compile("(?<![^/])-(?![^/])")
"""A segment of a parent that stands for any segment."""


class Pages:
    """The pages of one file.

    Args:
        connection: A connection to read from.
        recent: The records at hand.
    """

    def __init__(self, connection: sqlite3.Connection, recent: RecentRecords) -> None:
        self._connection = connection
        self._recent = recent

    def page(self, query: Query, *, before: int, size: int, examined: int) -> Page:
        """Returns a page of what a query asks for.

        Args:
            query: The query.
            before: The sequence number below which the page begins.
            size: The number of operations at most.
            examined: The number of rows to look at, at most.
        """
        rest = self._rest(query, before, examined)
        scope, parameters = _scope(query, before)
        matching = self._with_committing(query, _matching(query))
        columns = "sequence, name, operation" if matching.exact else f"sequence, {COLUMNS}"
        statement = f"SELECT {columns} {scope} AND sequence >= ? AND {matching.sql} {_NEWEST_FIRST}"
        try:
            rows = self._connection.execute(statement, (*parameters, rest, *matching.parameters))
            with contextlib.closing(rows):
                return page_of(self._served(query, rows, exact=matching.exact), size, rest)
        except sqlite3.Error as cause:
            raise unavailable(cause) from cause

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

    def _with_committing(self, query: Query, matching: Condition) -> Condition:
        """Adds the operations that match as they are at hand, though their rows may not."""
        records = (self._recent.get(name) for name in self._recent.committing)
        names = [one.name for one in records if one is not None and query.matches(one)]
        if not names:
            return matching
        marks = ", ".join("?" * len(names))
        return Condition(
            f"({matching.sql} OR name IN ({marks}))",
            (*matching.parameters, *names),
            matching.exact,
        )

    def _served(
        self, query: Query, rows: Iterable[tuple[Any, ...]], *, exact: bool
    ) -> Iterator[tuple[int, bytes]]:
        """Yields the bytes that Get answers with, of each row that the query asks for."""
        for sequence, name, *row in rows:
            record = self._recent.get(name)
            if record is None and not exact:
                record = record_of([name, *row])
            if record is None:
                yield sequence, row[0]
            elif query.matches(record):
                yield sequence, record.operation

    def _fetch(self, statement: str, *parameters: str | int | bytes) -> list[tuple[Any, ...]]:
        return fetch(self._connection, statement, *parameters)


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
