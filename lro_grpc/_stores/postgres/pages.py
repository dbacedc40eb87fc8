"""Finds the operations of a page: a few rows at a time, until the page is full.

A page is served in the order of creation, newest first, which the sequence numbers of the rows are;
or in that of names, which have an index. It looks at no more than so many rows, whether or not it
is full by then, and at fewer if the filter reads much of each (``Effort``). If all that it lists
have a label, it looks only at what has that: a table has this in the order of creation, too. SQL
asks the filter as far as it can, and the rest of it is asked of the rows that are left: in a
thread, for a filter may take long (``page_threads``).

Rows come in portions that are bounded in bytes as well as in number. Each is of a moment of its own
within the call, and goes on behind the last row of the one before: so what comes and goes meanwhile
shifts none.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import takewhile
from typing import NamedTuple, Union

from lro_grpc._errors import OperationDamagedError
from lro_grpc._operation import integrity, names
from lro_grpc._stores.damage import Damage
from lro_grpc._stores.page import (
    MOST_PAGE_BYTES,
    Effort,
    Listed,
    page_of,
    position_of,
    sequence_before,
)
from lro_grpc._stores.page_threads import PageThreads, while_wanted
from lro_grpc._stores.postgres.connections import Row
from lro_grpc._stores.postgres.failures import closed
from lro_grpc._stores.postgres.filter import condition
from lro_grpc._stores.postgres.portions import MORE, Ask, read_portion
from lro_grpc._stores.postgres.rows import COLUMNS, bounded, record_from
from lro_grpc._stores.postgres.table import Fetching
from lro_grpc._stores.postgres.texts import text_from, text_of
from lro_grpc._stores.sql_filter import NOT_ASKED, Condition, condition_of
from lro_grpc._stores.store import Order, Page, Query

_MOST_ROWS = 500
"""The most rows in a portion."""

_LAST_NAME = "\U0010ffff"
"""A text behind all names."""

_Key = Union[int, str]  # noqa: UP007 - is evaluated


class _Scope(NamedTuple):
    """The rows that a page may look at."""

    rows: str
    """As it stands behind the columns of a ``SELECT``; ``$1`` is the key that they are behind."""
    parameters: tuple[_Key, ...]
    """The values of its parameters."""
    key: str
    """The column of their order."""
    up_to: str
    """The comparison of a key with that of the last row."""
    end: _Key
    """A key behind those of all rows."""
    order: str
    joined: str = ""
    """The operations, where these rows are others."""
    is_every: bool = False
    """Whether they are those of all operations, so that a key tells how many there are."""


@dataclass
class _Found:
    """The operations of a page, as far as it has been read."""

    listed: list[Listed]
    damaged: list[tuple[bytes, str]]
    """Of each row that was set aside its position, and its name."""
    effort: Effort
    taken: int = 0
    """The bytes of the operations."""

    def add(self, listed: Listed) -> None:
        """Adds an operation."""
        self.listed.append(listed)
        self.taken += listed.size

    def is_over(self, size: int) -> bool:
        """Whether there is one operation more than a page has room for, or effort for no other."""
        too_large = self.taken > MOST_PAGE_BYTES and len(self.listed) > 1
        return len(self.listed) > size or too_large or bool(self.effort.ended_at)


class Pages:
    """The pages of one store; see the module.

    Args:
        table: The name of the table.
        labels: The name of the table of labels.
        on: What carries the statements out.
        damage: The rows that are set aside.
    """

    def __init__(self, table: str, labels: str, on: Fetching, damage: Damage) -> None:
        self._table = table
        self._labels = labels
        self._on = on
        self._damage = damage
        self._closing = False
        self._threads = PageThreads("lro-postgres-pages")

    async def close(self) -> None:
        """Waits for the rows that are being looked at, and ends the threads."""
        self._closing = True
        await self._threads.close()

    async def page(
        self, query: Query, *, position: bytes, size: int, examined: int, records: bool
    ) -> Page:
        """Returns a page of what a query asks for; see ``Store.page``."""
        if self._closing:
            raise closed()
        scope = await self._scope(query, position, examined)
        rest = await self._rest(query, scope, examined)
        last = scope.end if rest is None else rest
        found = _Found([], [], Effort(query))
        matching = condition_of(query, partial(condition, first=len(scope.parameters) + 5))
        is_shown = matching.exact and not records
        columns = ("name", "operation") if is_shown else COLUMNS
        left_out = () if records else NOT_ASKED
        number = most = _MOST_ROWS if not matching.exact else min(_MOST_ROWS, size + 1)
        take = partial(_take, query, found=found, size=size, damage=self._damage, records=records)
        while not found.is_over(size):
            ask = self._asking(scope, examined, last, matching, columns, left_out)
            rows, number, error = await read_portion(ask, number, _is_whole, MOST_PAGE_BYTES)
            if error is not None:
                if not rows:
                    raise error
                ((sequence, column, *_),) = rows
                name = text_from(column)
                self._damage.found(name, "its row cannot be read", error)
                found.damaged.append((position_of(query.order, sequence, column), name))
            elif rows:
                rows = list(takewhile(_is_whole, rows))
                if self._closing:
                    raise closed()
                await self._threads.run(partial(take, rows), slow=not matching.exact)
            else:
                break
            key = rows[-1][0] if query.order is Order.NEWEST_FIRST else rows[-1][1]
            scope = scope._replace(parameters=(key, *scope.parameters[1:]))
            number = min(most, MORE * number)
        end = b"" if rest is None else _position(query, rest)
        page = page_of(found.listed, size, found.effort.ended_at or end)
        # To find whether there is a next page, rows of it may have been looked at.
        unreachable = [name for at, name in found.damaged if _is_up_to(query, at, page.position)]
        return replace(page, unreachable=unreachable)

    async def _scope(self, query: Query, position: bytes, examined: int) -> _Scope:
        """Returns the rows that a page may look at."""
        if not query.labels:
            return _scope(self._table, query, position)
        before = sequence_before(position)
        label = await self._rarest(query.labels, before, examined)
        # The column has another name here, for operations have one of that name.
        table = f"(SELECT key, value, operation AS labelled FROM {self._labels}) AS l"
        of_label = _of_label("labelled", "$2", "$3", "$1")
        return _Scope(
            rows=f"FROM {table} WHERE {of_label}",
            parameters=(before, *label),
            key="labelled",
            up_to=">=",
            end=0,
            order="ORDER BY key DESC, value DESC, labelled DESC",
            joined=f"CROSS JOIN LATERAL"
            f" (SELECT * FROM {self._table} WHERE sequence = labelled LIMIT 1) AS operations",
        )

    async def _rarest(
        self, candidates: Sequence[tuple[str, str]], before: int, examined: int
    ) -> tuple[str, str]:
        """Returns the label that the fewest operations have, as far as a page would look."""
        if len(candidates) == 1:
            return candidates[0]
        of_label = _of_label("operation", "c.key", "c.value", "$3")
        rows = await self._on.fetch(
            "SELECT c.key, c.value, (SELECT count(*) FROM"
            f" (SELECT FROM {self._labels} AS l WHERE {of_label}"
            " ORDER BY l.key DESC, l.value DESC, operation DESC LIMIT $4) AS counted)"
            " FROM unnest($1::text[], $2::text[]) AS c(key, value)",
            *zip(*candidates, strict=True),
            before,
            examined,
        )
        key, value, _ = min(rows, key=lambda row: row[2])
        return key, value

    async def _rest(self, query: Query, scope: _Scope, examined: int) -> _Key | None:
        """Returns the key of the last row that a page looks at; None if it looks at all."""
        if scope.is_every:
            newest = await self._keys(scope, "LIMIT 1")
            rest = newest[0][0] - examined + 1 if newest else 0
            older = scope._replace(parameters=(rest, *scope.parameters[1:]))
            return rest if await self._keys(older, "LIMIT 1") else None
        if query.filter or query.has_wildcard:
            # A parameter: for a number that it knows, the planner would find and sort all rows.
            number = len(scope.parameters) + 1
            ends = await self._keys(scope, f"LIMIT 2 OFFSET ${number}", examined - 1)
            key: _Key | None = ends[0][0] if len(ends) == 2 else None
            return key
        return None  # all that is looked at is on the page

    async def _keys(self, scope: _Scope, limit: str, *parameters: int) -> Sequence[Row]:
        statement = f"SELECT {scope.key} {scope.rows} {scope.order} {limit}"
        return await self._on.fetch(statement, *scope.parameters, *parameters)

    def _asking(
        self,
        scope: _Scope,
        examined: int,
        last: _Key,
        matching: Condition,
        columns: Sequence[str],
        left_out: Collection[str],
    ) -> Ask:
        """Returns what asks for the next rows that match, if SQL can tell.

        A row is its sequence number, and columns.
        """
        number = len(scope.parameters) + 1
        # The innermost query alone finds rows, in the order of an index. Its limit is a parameter:
        # for a number that it knows, the planner would find and sort them all.
        looked = f"SELECT * {scope.rows} {scope.order} LIMIT ${number}"
        shown = bounded(columns, f"${number + 3}", left_out=left_out)
        statement = (
            f"SELECT sequence, {shown} FROM ({looked}) AS looked {scope.joined}"
            f" WHERE {scope.key} {scope.up_to} ${number + 1} AND {matching.sql}"
            f" {scope.order} LIMIT ${number + 2}"
        )
        return lambda most, bytes_: self._on.fetch(
            statement, *scope.parameters, examined, last, most, bytes_, *matching.parameters
        )


def _take(
    query: Query,
    rows: Sequence[Row],
    unwanted: threading.Event,
    *,
    found: _Found,
    size: int,
    damage: Damage,
    records: bool,
) -> None:
    """Takes the rows that a query asks for; in the thread."""
    for sequence, *row in while_wanted(rows, unwanted):
        name = text_from(row[0])
        at = position_of(query.order, sequence, row[0])
        record = record_from(row) if len(row) == len(COLUMNS) else None
        try:
            if record is None:
                found.add(Listed(at, damage.served(name, row[1])))
            else:
                damage.checked(record, integrity.fault_in_types)
                found.effort.spend(record, at)
                if query.matches(record):
                    operation = damage.served(name, record.operation)
                    found.add(Listed(at, operation, record if records else None))
        except OperationDamagedError:
            found.damaged.append((at, name))
        if found.is_over(size):
            return


def _is_whole(row: Row) -> bool:
    return row[-1] is not None  # its operation is the last column, and one of those that are large


def _scope(table: str, query: Query, position: bytes) -> _Scope:
    """Returns the rows that a page may look at."""
    parameters: tuple[_Key, ...]
    if query.order is Order.BY_NAME:
        after, first = position.decode(), names.operation_name(query.parent, "")
        rows = f"FROM {table} WHERE name > $1"
        if query.has_wildcard:
            parameters = (after,)
        else:
            # The || keeps it from being looked up in an index, which has no order of names.
            rows += " AND name < $2 AND parent || '' = $3 AND NOT deleted"
            begin = text_of(first)
            beyond = f"{begin[:-1]}0"  # 0 comes after /
            parameters = (after or begin, beyond, text_of(query.parent))
        return _Scope(rows, parameters, "name", "<=", _LAST_NAME, "ORDER BY name")
    before = sequence_before(position)
    if query.has_wildcard:
        rows, order = f"FROM {table} WHERE sequence < $1", "ORDER BY sequence DESC"
        return _Scope(rows, (before,), "sequence", ">=", 0, order, is_every=True)
    # No parent = $2: the planner would go through the rows of all, where the parent has many.
    rows = f"FROM {table} WHERE (parent, sequence) < ($2, $1) AND parent >= $2 AND NOT deleted"
    order = "ORDER BY parent DESC, sequence DESC"
    return _Scope(rows, (before, text_of(query.parent)), "sequence", ">=", 0, order)


def _of_label(operation: str, key: str, value: str, before: str) -> str:
    """Returns the condition on the rows of a label before one, in the order of their index.

    For ``key =`` the planner would take them for few, and sort all of them.
    """
    return (
        f"(l.key, l.value, {operation}) < ({key}, {value}, {before})"
        f" AND (l.key, l.value) >= ({key}, {value})"
    )


def _position(query: Query, key: _Key) -> bytes:
    if isinstance(key, str):
        return position_of(query.order, 0, key)
    return position_of(query.order, key, "")


def _is_up_to(query: Query, at: bytes, rest: bytes) -> bool:
    """Whether a position is on the page that looks as far as another one."""
    if query.order is Order.BY_NAME:
        return not rest or at <= rest
    return rest <= at
