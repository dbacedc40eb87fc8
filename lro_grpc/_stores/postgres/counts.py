"""Counts operations in the database, on a connection of its own, one call at a time.

Those that are not done are counted in the indexes that have them, without a look at their rows as
far as the server knows from its last VACUUM which of them everybody sees: first what is ready,
method by method, then what is delayed, resting, and held by an attempt. So many entries are looked
at, and no more; where there are more, a number is a lower bound. Those that are done are counted
among the newest rows, as a list has them; and so is what a filter matches, whatever its state.

A statement that takes longer than a second is ended by the server. Each sees what was stored when
it began.
"""

from __future__ import annotations

from collections.abc import Sequence

from lro_grpc._operation.names import ANY_PARENT
from lro_grpc._runtime.turns import Turns
from lro_grpc._stores.postgres.connections import Session, Transaction
from lro_grpc._stores.postgres.failures import closed
from lro_grpc._stores.postgres.filter import condition
from lro_grpc._stores.postgres.rows import DELAYED, LEASED, READY, RESTING
from lro_grpc._stores.postgres.texts import text_from, text_of
from lro_grpc._stores.sql_filter import DONE, Condition
from lro_grpc._stores.store import LAST_SEQUENCE, Counts, Query
from lro_grpc._stores.tally import MOST_COMPARED, MOST_METHODS, Tally

_TIMEOUT = "SET LOCAL statement_timeout = '1s'"


class Counting:
    """Counts the operations of one store.

    Args:
        table: The name of the table.
        session: The connection.
    """

    def __init__(self, table: str, session: Session) -> None:
        self._table = table
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
        await self._turns.take()
        try:
            if self._closing:
                raise closed()
            tally = Tally()
            async with self._session.transaction() as transaction:
                await transaction.fetch(_TIMEOUT)
                if query.filter is None:
                    await self._count_ready(transaction, tally, query, most)
                    await self._count_delayed_and_resting(transaction, tally, query, most)
                    await self._count_leased(transaction, tally, query, most)
                earliest = await self._count_newest(
                    transaction, tally, query, query.examined(examined)
                )
            return tally.counts(most, earliest, is_filtered=query.filter is not None)
        finally:
            self._turns.give_back()

    async def _count_ready(self, on: Transaction, tally: Tally, query: Query, most: int) -> None:
        of_ready = f"FROM {self._table} WHERE phase = {READY}"
        rows = await on.fetch(
            f"WITH RECURSIVE found(method) AS ((SELECT method {of_ready} ORDER BY method, sequence"
            f" LIMIT 1) UNION ALL SELECT (SELECT method {of_ready} AND method > found.method"
            " ORDER BY method, sequence LIMIT 1) FROM found WHERE found.method IS NOT NULL)"
            f" SELECT method FROM found WHERE method IS NOT NULL LIMIT {MOST_METHODS}"
        )
        methods = [method for (method,) in rows]
        left = 5 * most
        # To name one method by >= and <= is to be given its entries in their order; see statements.
        entries = (
            f"(SELECT sequence, parent, state {of_ready} AND method >= $1 AND method <= $1"
            " ORDER BY method, sequence LIMIT $2) AS entry"
        )
        parent = _of_parent(query, 3)
        for number, method in enumerate(methods):
            # What methods before have not needed of their share is the others'.
            share = most + 1 if parent is _ANY else max(1, left // (len(methods) - number))
            values = (method, share, *parent.parameters)
            states = await on.fetch(
                f"SELECT state, count(*), {_counted(parent)} FROM {entries} GROUP BY state", *values
            )
            looked_at = sum(all_of_state for _, all_of_state, _ in states)
            left -= looked_at
            for state, _, of_parent in states:
                tally.add(text_from(method), state, of_parent, is_least=looked_at == share)
            oldest = await on.fetch(
                f"SELECT update_time, name, deleted FROM {self._table} WHERE sequence = ANY (ARRAY("
                f"SELECT sequence FROM {entries} WHERE {parent.sql} LIMIT {MOST_COMPARED}))"
                " ORDER BY update_time LIMIT 1",
                *values,
            )
            for since, name, hidden in oldest:
                tally.add_ready(text_from(method), since, text_from(name), hidden)

    async def _count_delayed_and_resting(
        self, on: Transaction, tally: Tally, query: Query, most: int
    ) -> None:
        for phase in (DELAYED, RESTING):
            entries = (
                f"(SELECT method, parent, state FROM {self._table} WHERE phase = {phase}"
                " ORDER BY method, parent, state LIMIT $1) AS entry"
            )
            await self._count_entries(on, tally, entries, query, most)

    async def _count_leased(self, on: Transaction, tally: Tally, query: Query, most: int) -> None:
        entries = (
            "(SELECT method, parent, state, name, deleted, CASE WHEN attempt_number = attempt"
            f" THEN attempt_start_time END AS since FROM {self._table} WHERE phase = {LEASED}"
            " ORDER BY sequence LIMIT $1) AS entry"
        )
        await self._count_entries(on, tally, entries, query, most)
        parent = _of_parent(query, 2)
        oldest = await on.fetch(
            f"SELECT since, name, deleted FROM {entries} WHERE since > 0 AND {parent.sql}"
            " ORDER BY since LIMIT 1",
            most + 1,
            *parent.parameters,
        )
        for since, name, hidden in oldest:
            tally.add_attempt(since, text_from(name), hidden)

    async def _count_entries(
        self, on: Transaction, tally: Tally, entries: str, query: Query, most: int
    ) -> None:
        parent = _of_parent(query, 2)
        groups = await on.fetch(
            f"SELECT method, state, count(*), {_counted(parent)} FROM {entries}"
            " GROUP BY method, state",
            most + 1,
            *parent.parameters,
        )
        is_least = sum(looked_at for _, _, looked_at, _ in groups) > most
        for method, state, _, of_parent in groups:
            tally.add(text_from(method), state, of_parent, is_least=is_least)

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
        values = (examined, LAST_SEQUENCE, *of_rows, *matching.parameters)
        groups = await on.fetch(
            f"SELECT method, state, count(*), {_counted(covered)},"
            f" {_counted(Condition(matches))}, min(create_time) FROM {newest}"
            " GROUP BY method, state",
            *values,
        )
        looked_at = 0
        for method, state, number, of_parent, matched, _ in groups:
            looked_at += number
            tally.examined += of_parent
            tally.add(text_from(method), state, matched)
        if query.filter is not None:
            await self._find_oldest(on, tally, f"FROM {newest} WHERE {matches}", values)
        if looked_at < examined:
            return 0
        earliest: int = min(created for *_, created in groups)
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
