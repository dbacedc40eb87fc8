"""Upkeep of a database: looks for damage in what its tables have, beside servers that go on.

All is read in one transaction, which changes nothing, as it was at one moment. It holds up nobody,
but what is removed meanwhile keeps its space until it has ended.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import replace

from lro_grpc._errors import UnavailableError
from lro_grpc._stores.postgres.connections import Row, Session, Transaction
from lro_grpc._stores.postgres.content import Content
from lro_grpc._stores.postgres.failures import (
    DamagedPageError,
    RefusedError,
    error_of_call,
    failed,
)
from lro_grpc._stores.postgres.options import Options, parse
from lro_grpc._stores.postgres.schema import schema_as_it_is
from lro_grpc._stores.postgres.statements import prefix_of

_STATEMENT_SECONDS = 60.0
"""The time for a portion to be read; nobody waits for it."""

_IDLE_SECONDS = 300
"""The time for which nobody may take what was found, as behind a pager: it keeps the snapshot."""

_MOST_ROWS = 1000
"""The rows of attempts, or of labels, that are read at a time."""


async def check(url: str) -> AsyncGenerator[str, None]:
    """Yields a sentence on each thing that is damaged.

    Operations that a server would set aside, attempts that are none, and labels of operations that
    do not have them. Memory is bounded, whatever the tables have. Indexes are not looked at.

    Args:
        url: The URL of a store, which servers may have open.

    Raises:
        ConfigurationError: If it is no store, or not one of this release.
        UnavailableError: If it does not answer.
    """
    options = parse(url)
    schema = await schema_as_it_is(options)
    async with _snapshot(options) as snapshot:
        async for portion in Content(snapshot, schema).portions():
            for damage in (*portion.damaged, *portion.lost):
                yield damage
        async for orphan in _orphans(snapshot, schema):
            yield orphan
        async for label in _foreign_labels(snapshot, schema):
            yield label


class _Snapshot:
    """A transaction that a page which cannot be read does not end."""

    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    async def fetch(self, statement: str, *arguments: object) -> Sequence[Row]:
        """Returns the rows of a statement.

        Raises:
            DamagedPageError: If it meets such a page.
        """
        await self._transaction.fetch("SAVEPOINT portion")
        try:
            rows = await self._transaction.fetch(statement, *arguments)
        except Exception as error:
            told = error_of_call(error)
            if not isinstance(told, DamagedPageError):
                raise
            await self._transaction.fetch("ROLLBACK TO SAVEPOINT portion")
            raise told from error
        await self._transaction.fetch("RELEASE SAVEPOINT portion")
        return rows


@contextlib.asynccontextmanager
async def _snapshot(options: Options) -> AsyncIterator[_Snapshot]:
    patient = max(options.statement_timeout, _STATEMENT_SECONDS)
    session = Session(replace(options, statement_timeout=patient))
    try:
        async with session.transaction() as transaction:
            await transaction.fetch("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            await transaction.fetch(
                f"SET LOCAL idle_in_transaction_session_timeout = '{_IDLE_SECONDS}s'"
            )
            yield _Snapshot(transaction)
    except (RefusedError, UnavailableError) as error:
        shown = failed(options, error)
        if shown is error:
            raise
        raise shown from error
    finally:
        await session.close()


async def _orphans(snapshot: _Snapshot, schema: str) -> AsyncIterator[str]:
    """Yields attempts whose operation is none, in the order of their key."""
    prefix = prefix_of(schema)
    statement = (
        f"SELECT a.operation, a.number, EXISTS (SELECT FROM {prefix}lro_operations AS o"
        f" WHERE o.sequence = a.operation) FROM {prefix}lro_attempts AS a"
        " WHERE (a.operation, a.number) > ($1, $2) ORDER BY a.operation, a.number LIMIT $3"
    )
    last: tuple[int, int] = (-(2**63), 0)
    while True:
        try:
            rows = await snapshot.fetch(statement, *last, _MOST_ROWS)
        except DamagedPageError as error:
            yield f"attempts from {last[1]} of {last[0]} on: they cannot be read ({error})"
            return
        for operation, number, is_there in rows:
            if not is_there:
                yield f"attempt {number}: its operation is {operation}, which is none"
        if len(rows) < _MOST_ROWS:
            return
        last = (rows[-1][0], rows[-1][1])


async def _foreign_labels(snapshot: _Snapshot, schema: str) -> AsyncIterator[str]:
    """Yields labels whose operation does not have them, in the order of their key."""
    prefix = prefix_of(schema)
    statement = (
        f"SELECT l.key, l.value, l.operation, EXISTS (SELECT FROM {prefix}lro_operations AS o"
        " WHERE o.sequence = l.operation"
        " AND strpos(o.labels, ',' || l.key || '=' || l.value || ',') > 0)"
        f" FROM {prefix}lro_labels AS l WHERE (l.key, l.value, l.operation) > ($1, $2, $3)"
        " ORDER BY l.key, l.value, l.operation LIMIT $4"
    )
    last: tuple[str, str, int] = ("", "", 0)
    while True:
        try:
            rows = await snapshot.fetch(statement, *last, _MOST_ROWS)
        except DamagedPageError as error:
            yield f"labels from {last} on: they cannot be read ({error})"
            return
        for key, value, operation, has_it in rows:
            if not has_it:
                yield f"label {(key, value)}: operation {operation} does not have it"
        if len(rows) < _MOST_ROWS:
            return
        key, value, operation, _ = rows[-1]
        last = (key, value, operation)
