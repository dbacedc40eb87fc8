"""Connections to the database: how they are opened and used.

After an error of a call its connection is dropped, for nobody knows what is still on its way
(``failures``); the next call opens another one. It stays if the server has answered that a value,
or a page of its own, cannot be read or stored, unless a transaction is under way.

**Every wait has an end on this side.** A server that is cut off sends nothing, no error either: so
each statement has its time limit here, as has each attempt to connect, and to close.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any

import asyncpg  # type: ignore[import-untyped]

from lro_grpc._errors import LroError
from lro_grpc._runtime.turns import Turns
from lro_grpc._stores.postgres.failures import (
    DamagedPageError,
    RefusedError,
    UnstorableError,
    closed,
    error_of_call,
    unavailable,
)
from lro_grpc._stores.postgres.options import Options

Row = Sequence[Any]
"""A row of an answer."""

_CLOSE_SECONDS = 2.0

_BEGIN = "BEGIN; SET LOCAL idle_in_transaction_session_timeout = '3s'"
"""The server ends a transaction, with its locks, of a process that stands still or was cut off.

One that lives sends its next statement within milliseconds. Set for the transaction alone, it
passes a pooler, too.
"""

_SETTINGS = {
    # The server drops a connection that takes nothing for so long of what it sends.
    "tcp_user_timeout": "10s",
    # A role or a database may come to say otherwise at any time: each connection has its own.
    "synchronous_commit": "on",
    "default_transaction_isolation": "read committed",
    # A statement is planned once for a connection: to do so for its values costs more than to carry
    # it out. A plan for an empty table stays until the server analyzes it, when the table may be
    # large: so each is made as for a large one, by the index that has the rows in order.
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "enable_sort": "off",
}
"""The settings of each connection, but behind a pooler, which refuses them."""


class Session:
    """One connection, opened when it is needed; one caller at a time may use it.

    Args:
        options: Where to.
    """

    def __init__(self, options: Options) -> None:
        self._options = options
        self._connection: Any = None

    async def connect(self) -> None:
        """Opens the connection, so that the first call need not wait for it.

        Raises:
            UnavailableError: If that fails.
        """
        async with self._connected():
            pass

    async def fetch(self, statement: str, *arguments: object) -> Sequence[Row]:
        """Returns the rows of a statement, which is a transaction of its own.

        Raises:
            RefusedError: If it is about the arguments.
            UnavailableError: If there is no answer; the statement may have been carried out.
        """
        async with self._connected() as connection:
            timeout = self._options.statement_timeout
            rows: Sequence[Row] = await connection.fetch(statement, *arguments, timeout=timeout)
            return rows

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """Begins a transaction, and commits it at its end; an error rolls it back.

        Raises:
            UnavailableError: If there is no answer; it may have been committed.
        """
        async with self._connected() as connection:
            timeout = self._options.statement_timeout
            await connection.execute(_BEGIN, timeout=timeout)
            yield Transaction(connection, timeout)
            await connection.execute("COMMIT", timeout=timeout)

    async def close(self) -> None:
        """Closes the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(Exception):  # then it is dropped
                await connection.close(timeout=_CLOSE_SECONDS)

    def drop(self) -> None:
        """Lets go of the connection at once, whatever is on its way."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(Exception):  # as when its event loop has ended
                connection.terminate()

    @contextlib.asynccontextmanager
    async def _connected(self) -> AsyncIterator[Any]:
        try:
            if self._connection is None or self._connection.is_closed():
                self._connection = await connect(self._options)
            yield self._connection
        except (LroError, RefusedError):
            self.drop()  # with the transaction that is not to be
            raise
        except Exception as error:
            told = error_of_call(error)
            if self._is_broken_by(told):
                self.drop()
            raise told from error
        except BaseException:
            self.drop()
            raise

    def _is_broken_by(self, error: Exception) -> bool:
        """Returns whether a call that has failed may have left something on its way."""
        answered = isinstance(error, (DamagedPageError, UnstorableError))
        return not answered or self._connection is None or self._connection.is_in_transaction()


class Transaction:
    """A transaction that has begun."""

    def __init__(self, connection: Any, timeout: float) -> None:
        self._connection = connection
        self._timeout = timeout

    async def fetch(self, statement: str, *arguments: object) -> Sequence[Row]:
        """Returns the rows of a statement."""
        rows: Sequence[Row] = await self._connection.fetch(
            statement, *arguments, timeout=self._timeout
        )
        return rows


class Pool:
    """A few sessions, one of which each call has to itself while it lasts.

    Args:
        sessions: The sessions.
        timeout: The most seconds that a call waits for one.
    """

    def __init__(self, sessions: Sequence[Session], timeout: float) -> None:
        self._sessions = sessions
        self._free = list(sessions)
        self._turns = Turns(len(sessions))
        self._timeout = timeout
        self._closing = False
        self._calls: set[asyncio.Task[Sequence[Row]]] = set()

    async def fetch(self, statement: str, *arguments: object) -> Sequence[Row]:
        """Returns the rows of a statement; see :meth:`Session.fetch`.

        A caller that is cancelled leaves the statement to its end: to break it off would cost the
        connection.
        """
        if self._closing:
            raise closed()
        call = asyncio.create_task(self._fetch(statement, arguments))
        self._calls.add(call)
        call.add_done_callback(self._ended)
        return await asyncio.shield(call)

    async def close(self) -> None:
        """Closes all of them, when the calls under way have ended."""
        self._closing = True
        if self._calls:
            await asyncio.wait(self._calls)
        for session in self._sessions:
            await session.close()

    async def _fetch(self, statement: str, arguments: Sequence[object]) -> Sequence[Row]:
        try:
            is_free = self._turns.is_free  # and not on its way to one who has waited
            await asyncio.wait_for(self._turns.take(), None if is_free else self._timeout)
        except asyncio.TimeoutError as cause:
            raise unavailable("all its connections are busy") from cause
        session = self._free.pop()
        try:
            return await session.fetch(statement, *arguments)
        finally:
            self._free.append(session)
            self._turns.give_back()

    def _ended(self, call: asyncio.Task[Sequence[Row]]) -> None:
        self._calls.discard(call)
        if not call.cancelled():
            call.exception()  # whoever is still there gets it, too


async def connect(options: Options) -> Any:
    """Opens a connection of the driver."""
    settings = {} if options.pgbouncer else dict(_SETTINGS)
    if "application_name=" not in options.url:
        settings["application_name"] = "lro-grpc"
    has_target = "target_session_attrs=" in options.url
    return await asyncpg.connect(
        options.url,
        timeout=options.connect_timeout,
        statement_cache_size=0 if options.pgbouncer else 100,
        target_session_attrs=None if has_target or options.pgbouncer else "primary",
        server_settings=settings,
    )
