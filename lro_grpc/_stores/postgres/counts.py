"""Counts operations in the database, on a connection of its own, one call at a time.

Those that are not done are counted in the indexes that have them, by phase and method. An entry of
these tells all that is to be known, but whether its row is there for all to see: of a page that has
changed since the last VACUUM the server looks at the row itself, which may take ten times as long.
So entries are looked at in rounds, of each method some, and then twice as many, until all have been
looked at, or are as many as are told, or a tenth of a second is over. Where there are more, a
number is a lower bound; the methods of which few wait have been counted by then.

Those that are done are counted among the newest rows, as a list has them, and in such rounds, too;
and so is what a filter matches, whatever its state.

A statement that takes longer than a second is ended by the server. Each sees what was stored when
it began.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence

from lro_grpc._operation.names import ANY_PARENT
from lro_grpc._runtime.turns import Turns
from lro_grpc._stores.page import LAST_SEQUENCE
from lro_grpc._stores.postgres.connections import Session, Transaction
from lro_grpc._stores.postgres.failures import closed
from lro_grpc._stores.postgres.filter import condition
from lro_grpc._stores.postgres.rows import DELAYED, LEASED, READY, RESTING
from lro_grpc._stores.postgres.statements import Statements
from lro_grpc._stores.postgres.texts import text_from, text_of
from lro_grpc._stores.sql_filter import DONE, Condition
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

_TIMEOUT = "SET LOCAL statement_timeout = '1s'"


_PHASES = (READY, DELAYED, RESTING)
"""The phases of operations that no attempt holds, and that are not done."""


class Counting:
    """Counts the operations of one store.

    Args:
        statements: Those of its tables.
        session: The connection.
    """

    def __init__(self, statements: Statements, session: Session) -> None:
        self._table = statements.table
        self._pending = statements.pending_completions
        self._session = session
        self._turns = Turns(1)
        self._closing = False

    async def close(self) -> None:
        """Closes the connection, when the counts under way have ended."""
        self._closing = True
        await self._turns.take()
        await self._session.close()
        self._turns.give_back()

    async def counts(self, query: Query, most: int, examined: int) -> Counts:
        """Returns the numbers of a query whose filter SQL can decide; see ``Store.counts``.

        Raises:
            UnavailableError: If the store is closed, or the database does not answer.
        """
        tally = Tally()
        async with self._transaction() as transaction:
            if query.filter is None:
                await self._count_entries(transaction, tally, query, most)
                await self._count_leased(transaction, tally, query, most)
            earliest = await self._count_newest(transaction, tally, query, query.examined(examined))
        return tally.counts(most, earliest, is_filtered=query.filter is not None)

    async def pending_completions(self, most: int) -> int:
        """Returns how many completions wait to be told; see ``Store.pending_completions``.

        Raises:
            UnavailableError: If the store is closed, or the database does not answer.
        """
        async with self._transaction() as transaction:
            ((number,),) = await transaction.fetch(self._pending, most)
        return int(number)

    @contextlib.asynccontextmanager
    async def _transaction(self) -> AsyncIterator[Transaction]:
        """Begins a transaction, when that of another call has ended."""
        await self._turns.take()
        try:
            if self._closing:
                raise closed()
            async with self._session.transaction() as transaction:
                await transaction.fetch(_TIMEOUT)
                yield transaction
        finally:
            self._turns.give_back()

    async def _count_entries(self, on: Transaction, tally: Tally, query: Query, most: int) -> None:
        """Counts what no attempt holds, and is not done."""
        entries = [
            Entries(phase, method)
            for phase in _PHASES
            for (method,) in await on.fetch(self._methods(phase))
        ]
        size, left, rounds = FIRST_ROUND, entries, Rounds(asyncio.get_running_loop().time)
        while left and rounds.may_go_on():
            for phase in _PHASES:
                await self._look_at(on, [one for one in left if one.phase == phase], query, size)
            left = [one for one in left if one.may_have_more(most)]
            size *= 2
        for one in entries:
            tally.add_entries(one)
        ready = {one.method: one.first for one in entries if one.phase == READY and one.first}
        await self._find_oldest_ready(on, tally, query, ready)

    def _methods(self, phase: int) -> str:
        """Returns the statement for the methods that a phase has, one by one."""
        rows = f"FROM {self._table} WHERE phase = {phase}"
        order = "ORDER BY method, sequence LIMIT 1"
        return (
            f"WITH RECURSIVE found(method) AS ((SELECT method {rows} {order}) UNION ALL"
            f" SELECT (SELECT method {rows} AND method > found.method {order}) FROM found"
            " WHERE found.method IS NOT NULL)"
            f" SELECT method FROM found WHERE method IS NOT NULL LIMIT {MOST_METHODS}"
        )

    async def _look_at(
        self, on: Transaction, entries: Sequence[Entries], query: Query, size: int
    ) -> None:
        """Counts so many more entries of each method of a phase."""
        if not entries:
            return
        parent = _of_parent(query, 4)
        found = await on.fetch(
            f"SELECT m.number, e.* FROM unnest($1::text[], $2::int8[]) WITH ORDINALITY"
            " AS m(method, last, number) CROSS JOIN LATERAL (SELECT state, count(*),"
            f" {_counted(parent)}, min(sequence) FILTER (WHERE {parent.sql}), max(sequence)"
            f" FROM (SELECT sequence, parent, state FROM {self._table}"
            f" WHERE phase = {entries[0].phase} AND (method, sequence) > (m.method, m.last)"
            " AND method <= m.method ORDER BY method, sequence LIMIT $3) AS entry"
            " GROUP BY state) AS e",
            [one.method for one in entries],
            [one.last for one in entries],
            size,
            *parent.parameters,
        )
        looked_at = [0] * len(entries)
        for number, state, of_state, of_parent, first, last in found:
            looked_at[number - 1] += of_state
            one = entries[number - 1]
            one.add(text_from(one.method), state, of_parent, first, last)
        for one, entries_of_round in zip(entries, looked_at, strict=True):
            one.end_round(entries_of_round, size)

    async def _find_oldest_ready(
        self, on: Transaction, tally: Tally, query: Query, first: Mapping[str, int]
    ) -> None:
        """Takes the oldest operation of each method, of its first one and those behind it."""
        parent = _of_parent(query, 3)
        rows = await on.fetch(
            "SELECT m.method, o.* FROM unnest($1::text[], $2::int8[]) AS m(method, first)"
            " CROSS JOIN LATERAL (SELECT update_time, name, deleted FROM"
            f" (SELECT parent, update_time, name, deleted FROM {self._table}"
            f" WHERE phase = {READY} AND (method, sequence) >= (m.method, m.first)"
            f" AND method <= m.method ORDER BY method, sequence LIMIT {MOST_COMPARED}) AS next"
            f" WHERE {parent.sql} ORDER BY update_time LIMIT 1) AS o",
            [*first],
            [*first.values()],
            *parent.parameters,
        )
        for method, since, name, hidden in rows:
            tally.add_ready(text_from(method), since, text_from(name), hidden)

    async def _count_leased(self, on: Transaction, tally: Tally, query: Query, most: int) -> None:
        """Counts what attempts hold, of which the rows are looked at."""
        most = min(most, MOST_LEASED)
        held = (
            f"(SELECT * FROM {self._table} WHERE phase = {LEASED} ORDER BY sequence LIMIT $1)"
            " AS held"
        )
        parent = _of_parent(query, 2)
        groups = await on.fetch(
            f"SELECT method, state, count(*), {_counted(parent)} FROM {held}"
            " GROUP BY method, state",
            most + 1,
            *parent.parameters,
        )
        is_lower_bound = sum(looked_at for _, _, looked_at, _ in groups) > most
        for method, state, _, of_parent in groups:
            tally.add(text_from(method), state, of_parent, is_lower_bound=is_lower_bound)
        oldest = await on.fetch(
            f"SELECT attempt_start_time, name, deleted FROM {held} WHERE {parent.sql}"
            " AND attempt_number = attempt AND attempt_start_time > 0"
            " ORDER BY attempt_start_time LIMIT 1",
            most + 1,
            *parent.parameters,
        )
        for since, name, hidden in oldest:
            tally.add_attempt(since, text_from(name), hidden)

    async def _count_newest(
        self, on: Transaction, tally: Tally, query: Query, examined: int
    ) -> int:
        """Counts among the newest rows: what is done, or what a filter matches.

        Returns:
            The creation of the oldest row that was looked at; 0 if all were.
        """
        if query.has_wildcard:
            covered = _of_parent(query, 3)
            rows, of_rows = "sequence < $2 ORDER BY sequence DESC", covered.parameters
            covered = Condition(f"NOT deleted AND {covered.sql}")
        else:
            # As pages have it: the planner goes by the order of the parent's own rows.
            rows = (
                "(parent, sequence) < ($3, $2) AND parent >= $3 AND NOT deleted"
                " ORDER BY parent DESC, sequence DESC"
            )
            covered, of_rows = _ANY, (text_of(query.parent),)
        matching = Condition(DONE)
        if query.filter is not None:
            matching = condition(query.filter.expression, first=3 + len(of_rows))
        newest = f"(SELECT * FROM {self._table} WHERE {rows} LIMIT $1) AS newest"
        matches = f"{covered.sql} AND {matching.sql}"
        statement = (
            f"SELECT method, state, count(*), {_counted(covered)}, {_counted(Condition(matches))},"
            f" min(sequence), min(create_time) FROM {newest} GROUP BY method, state"
        )
        size, before, earliest, rounds = (
            FIRST_ROUND,
            LAST_SEQUENCE,
            0,
            Rounds(asyncio.get_running_loop().time),
        )
        while examined > 0 and rounds.may_go_on():
            size = min(size, examined)
            values = (size, before, *of_rows, *matching.parameters)
            groups = await on.fetch(statement, *values)
            for method, state, _, of_parent, matched, *_ in groups:
                tally.examined += of_parent
                tally.add(text_from(method), state, matched)
            if query.filter is not None:
                await self._find_oldest(on, tally, f"FROM {newest} WHERE {matches}", values)
            looked_at = sum(group[2] for group in groups)
            if looked_at < size:
                return 0
            before = min(group[5] for group in groups)
            earliest = min(group[6] for group in groups)
            examined -= looked_at
            size *= 2
        return earliest

    async def _find_oldest(
        self, on: Transaction, tally: Tally, rows: str, values: Sequence[object]
    ) -> None:
        """Takes the oldest operations of rows that a filter matches."""
        ready = await on.fetch(
            f"SELECT DISTINCT ON (method) method, update_time, name, deleted {rows}"
            f" AND phase = {READY} ORDER BY method, update_time",
            *values,
        )
        for method, since, name, hidden in ready:
            tally.add_ready(text_from(method), since, text_from(name), hidden)
        attempts = await on.fetch(
            f"SELECT attempt_start_time, name, deleted {rows} AND phase = {LEASED}"
            " AND attempt_number = attempt AND attempt_start_time > 0"
            " ORDER BY attempt_start_time LIMIT 1",
            *values,
        )
        for since, name, hidden in attempts:
            tally.add_attempt(since, text_from(name), hidden)


_ANY = Condition("TRUE")


def _counted(parent: Condition) -> str:
    return f"count(*) FILTER (WHERE {parent.sql})"


def _of_parent(query: Query, first: int) -> Condition:
    """Returns the condition that a parent is the one, or one of those, that a query means.

    Args:
        query: The query.
        first: The number of its first parameter.
    """
    if query.parent == ANY_PARENT:
        return _ANY
    if not query.has_wildcard:
        return Condition(f"parent = ${first}", (text_of(query.parent),))
    # A % stands for slashes, too: but of these there are no more than in the pattern.
    segments = text_of(query.parent).split("/")
    pattern = "/".join("_%" if one == "-" else _escaped(one) for one in segments)
    slashes = "length(parent) - length(replace(parent, '/', ''))"
    return Condition(
        f"({slashes} = ${first}::int4 AND parent LIKE ${first + 1})", (len(segments) - 1, pattern)
    )


def _escaped(text: str) -> str:
    for special in ("\\", "%", "_"):
        text = text.replace(special, f"\\{special}")
    return text
