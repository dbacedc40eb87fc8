"""Reads all that a Postgres database has, and fills an empty one; see ``copy_store``.

Nothing in a database tells whether servers have it open. So two things keep them away:

* **They are listened for.** Each process of a store notifies the others once a second. Whoever is
  heard has to be stopped first. A process that has no direct connection for notices is not heard.
* **They are locked out.** A lock holds up whatever one of them would change in the source, and
  whatever it would ask of the destination, its start included: one that starts meanwhile finds the
  copy, and the copied secret, as soon as the copy is complete.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import replace

from lro_grpc._errors import ConfigurationError, UnavailableError
from lro_grpc._operation.completion import Completion
from lro_grpc._stores.postgres.connections import Session, Transaction, connect
from lro_grpc._stores.postgres.content import Content
from lro_grpc._stores.postgres.failures import RefusedError, failed, unusable
from lro_grpc._stores.postgres.notice import channel_of, decoded
from lro_grpc._stores.postgres.options import Options, parse
from lro_grpc._stores.postgres.rows import (
    ATTEMPT_COLUMNS,
    ATTEMPT_TYPES,
    COLUMNS,
    COMPLETION_COLUMNS,
    COMPLETION_TYPES,
    TYPES,
    arrays_of,
    arrays_of_attempts,
    arrays_of_completions,
)
from lro_grpc._stores.postgres.schema import PreparedSchema, is_prepared, prepare
from lro_grpc._stores.postgres.statements import labelled, new_values, prefix_of
from lro_grpc._stores.transfer import (
    Export,
    Import,
    Numbered,
    Portion,
)

_LISTENING_SECONDS = 3.0
"""A process notifies each second, and is heard in this time even if it is busy."""

_STATEMENT_SECONDS = 60.0
"""The time for a portion to be read or written; nobody waits for it."""

_LOCK_SECONDS = 5
"""The time for what is under way in a table to end."""


@contextlib.asynccontextmanager
async def exporting(url: str) -> AsyncIterator[Export]:
    """Gives the content of a database, in which nothing can be changed meanwhile.

    Raises:
        ConfigurationError: If it is no store, or one of its servers was heard.
        UnavailableError: If it does not answer.
    """
    given = parse(url)
    if not await is_prepared(given):
        raise ConfigurationError(
            f"{given.place} has no tables of a store; give the database and the schema= of one"
        )
    options, prepared = await _opened(given)
    statements = _Statements(prepared.schema)
    reading = Session(options)
    try:
        async with _locked(options, statements.lock_changes) as locking:
            ((rows, last_sequence),) = await locking.fetch(statements.extent)
            content = Content(reading, prepared.schema)
            yield _PostgresExport(
                options.place, prepared.secret, rows, last_sequence, content, locking
            )
    finally:
        await reading.close()


@contextlib.asynccontextmanager
async def importing(url: str, source: Export) -> AsyncIterator[Import]:
    """Gives a database to fill, which no server can open meanwhile.

    Raises:
        ConfigurationError: If it has operations, or one of its servers was heard.
        UnavailableError: If it does not answer, or has no room.
    """
    options, prepared = await _opened(parse(url))
    if prepared.secret == source.signing_secret:
        raise ConfigurationError(
            f"{options.place} is a copy of {source.place} already, or the same store;"
            " nothing was copied"
        )
    statements = _Statements(prepared.schema)
    async with _locked(options, statements.lock_all) as transaction:
        if await transaction.fetch(statements.any):
            raise ConfigurationError(
                f"{options.place} has operations; give a database without any, or a new schema="
            )
        await transaction.fetch(statements.set_secret, source.signing_secret)
        if source.last_sequence:
            await transaction.fetch(statements.set_sequence, source.last_sequence)
        yield _PostgresImport(options.place, transaction, statements)
        await transaction.fetch(statements.analyze)


class _Statements:
    """The texts of statements.

    Args:
        schema: The schema of the tables.
    """

    def __init__(self, schema: str) -> None:
        prefix = prefix_of(schema)
        table = f"{prefix}lro_operations"
        attempts = f"{prefix}lro_attempts"
        columns = ", ".join(COLUMNS)
        columns_of_attempts = ", ".join(ATTEMPT_COLUMNS)
        arrays = ", ".join(f"${number}::{TYPES[name]}[]" for number, name in enumerate(COLUMNS, 4))
        literal = table.replace("'", "''")
        sequence = f"pg_get_serial_sequence('{literal}', 'sequence')::regclass"

        outbox = f"{prefix}lro_outbox"
        self.lock_changes = f"LOCK TABLE {table}, {outbox} IN SHARE ROW EXCLUSIVE MODE"
        self.lock_all = (
            f"LOCK TABLE {prefix}lro_schema, {prefix}lro_secrets, {table}, {outbox}"
            " IN ACCESS EXCLUSIVE MODE"
        )
        self.extent = (
            f"SELECT count(*), greatest(coalesce(max(sequence), 0),"
            f" coalesce(pg_sequence_last_value({sequence}), 0)) FROM {table}"
        )
        arrays_of_attempts = (
            f"${number}::{type_}[]" for number, type_ in enumerate(ATTEMPT_TYPES.values(), 2)
        )
        self.put_attempts = (
            f"INSERT INTO {attempts} (operation, {columns_of_attempts})"
            f" SELECT * FROM unnest($1::int8[], {', '.join(arrays_of_attempts)})"
        )
        arrays_of_completions = (
            f"${number}::{type_}[]" for number, type_ in enumerate(COMPLETION_TYPES.values(), 1)
        )
        self.put_completions = (
            f"INSERT INTO {outbox} ({', '.join(COMPLETION_COLUMNS)})"
            f" SELECT * FROM unnest({', '.join(arrays_of_completions)}) ON CONFLICT DO NOTHING"
        )
        self.any = f"SELECT FROM {table} LIMIT 1"
        self.set_secret = f"UPDATE {prefix}lro_secrets SET value = $1 WHERE name = 'page token'"
        self.set_sequence = f"SELECT setval({sequence}, greatest($1, nextval({sequence})))"
        put = (
            f"INSERT INTO {table} (sequence, version, phase, {columns}) OVERRIDING SYSTEM VALUE"
            f" SELECT sequence, version, phase, {new_values(4)}"
            f" FROM unnest($1::int8[], $2::int8[], $3::int2[], {arrays})"
            f" AS v(sequence, version, phase, {columns})"
            " ON CONFLICT DO NOTHING RETURNING sequence"
        )
        self.put = labelled(f"{prefix}lro_labels", put, "sequence")
        self.analyze = f"ANALYZE {table}, {prefix}lro_labels"


class _PostgresExport:
    """The rows of a database: read on one connection, while another one has the lock."""

    def __init__(
        self,
        place: str,
        signing_secret: bytes,
        rows: int,
        last_sequence: int,
        content: Content,
        locking: Transaction,
    ) -> None:
        self.place = place
        self.signing_secret = signing_secret
        self.rows = rows
        self.last_sequence = last_sequence
        self._content = content
        self._locking = locking

    async def portions(self) -> AsyncIterator[Portion]:
        """Yields all rows, in the order of their sequence numbers."""
        async for portion in self._content.portions():
            yield portion
        await self._locking.fetch("SELECT")  # fails if the lock was lost on the way

    def completions(self) -> AsyncIterator[Sequence[Completion]]:
        """Yields the completions that were not told, some at a time."""
        return self._content.completions()


class _PostgresImport:
    """The rows of a database that is filled."""

    def __init__(self, place: str, transaction: Transaction, statements: _Statements) -> None:
        self.place = place
        self._transaction = transaction
        self._statements = statements

    async def put(self, records: Sequence[Numbered]) -> Collection[int]:
        """Writes records, and returns the sequence numbers of those that are there now."""
        if not records:
            return ()
        sequences = [one.sequence for one in records]
        columns = arrays_of([one.record for one in records])
        rows = await self._transaction.fetch(self._statements.put, sequences, *columns)
        stored = {sequence for (sequence,) in rows}
        attempts = [
            (one.sequence, attempt)
            for one in records
            if one.sequence in stored
            for attempt in one.attempts
        ]
        if attempts:
            await self._transaction.fetch(
                self._statements.put_attempts, *arrays_of_attempts(attempts)
            )
        return stored

    async def put_completions(self, completions: Sequence[Completion]) -> None:
        """Writes completions."""
        await self._transaction.fetch(
            self._statements.put_completions, *arrays_of_completions(completions)
        )


async def _opened(options: Options) -> tuple[Options, PreparedSchema]:
    """Returns a database whose tables are up to date, and of which no server is heard."""
    prepared = await prepare(options)
    await _check_silence(options, prepared.schema)
    patient = max(options.statement_timeout, _STATEMENT_SECONDS)
    return replace(options, statement_timeout=patient), prepared


async def _check_silence(options: Options, schema: str) -> None:
    """Checks that none of the processes that have a store open is heard.

    Raises:
        ConfigurationError: If one is, or if nothing can be heard.
    """
    direct = options.of_notices()
    if direct is None:
        return
    heard = asyncio.Event()

    def on_notice(_connection: object, _pid: int, _channel: str, payload: str) -> None:
        if decoded(payload) is not None:
            heard.set()

    timeout = direct.statement_timeout
    try:
        connection = await connect(direct)
        try:
            await asyncio.wait_for(connection.add_listener(channel_of(schema), on_notice), timeout)
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(heard.wait(), _LISTENING_SECONDS)
            await connection.execute("SELECT", timeout=timeout)  # fails if it was lost meanwhile
        finally:
            connection.terminate()
    except Exception as error:
        raise unusable(direct, error) from error
    if not heard.is_set():
        return
    raise ConfigurationError(
        f"{options.place} is in use: a process that has it open was heard; stop all of them",
        reason="STORE_IN_USE",
        metadata={"place": options.place},
    )


@contextlib.asynccontextmanager
async def _locked(options: Options, lock: str) -> AsyncIterator[Transaction]:
    """Begins a transaction that has a lock, and commits it at its end; an error rolls it back."""
    session = Session(options)
    try:
        async with session.transaction() as transaction:
            try:
                await transaction.fetch("SET LOCAL idle_in_transaction_session_timeout = 0")
                await transaction.fetch(f"SET LOCAL lock_timeout = '{_LOCK_SECONDS}s'")
                await transaction.fetch(lock)
            except Exception as error:
                raise unusable(options, error) from error
            yield transaction
    except (RefusedError, UnavailableError) as error:
        shown = failed(options, error)
        if shown is error:
            raise
        raise shown from error
    finally:
        await session.close()
