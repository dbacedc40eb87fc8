"""Connections to the database: how they are opened and used, and what counts as an outage.

**Every exception of a call is an outage**, unless it is known to be about what the call has sent.
A driver in trouble raises what it likes: errors of the server, of the network, of its own state,
and time limits. After each the connection is dropped, for nobody knows what is still on its way,
and the caller gets UNAVAILABLE; the next call opens another one.

**Every wait has an end on this side.** A server that is cut off sends nothing, no error either: so
each statement has its time limit here, as has each attempt to connect, and to close.

This module has all that the driver leaves untyped.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Sequence
from typing import Any

import asyncpg  # type: ignore[import-untyped]

from lro_grpc._errors import ConfigurationError, LroError, UnavailableError, UnexpectedError
from lro_grpc._runtime.turns import Turns
from lro_grpc._stores.postgres.options import Options

Row = Sequence[Any]
"""A row of an answer."""

_OF_CALLS = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncio.TimeoutError,
    OSError,
)
"""The errors that calls of the driver raise."""

_CLOSE_SECONDS = 2.0

_BEGIN = "BEGIN; SET LOCAL idle_in_transaction_session_timeout = '3s'"
"""The server ends a transaction, with its locks, of a process that stands still or was cut off.

One that lives sends its next statement within milliseconds. Set for the transaction alone, it
passes a pooler, too.
"""

_TCP_USER_TIMEOUT = "10s"
"""The time after which the server drops a connection that takes nothing of what it sends."""


class RefusedError(Exception):
    """The server, or the driver, refuses what one call has sent: another call may succeed.

    Its text is theirs, and for the log alone: it may quote what other callers have sent.
    """

    public = "its database has refused the call"
    """What the caller is told."""


class UnstorableError(RefusedError):
    """A value that Postgres cannot store."""

    public = "its database cannot take a value of the call"


class DamagedPageError(RefusedError):
    """A page of a table, or of an index, that the server cannot read."""

    public = "its database cannot read a part of what it has stored"


class Session:
    """One connection, opened when it is needed; one caller at a time may use it.

    Args:
        options: Where to.
        settings: More settings of the server for it.
    """

    def __init__(self, options: Options, **settings: str) -> None:
        self._options = options
        self._settings = settings
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
                self._connection = await connect(self._options, **self._settings)
            yield self._connection
        except (LroError, RefusedError):
            self.drop()  # with the transaction that is not to be
            raise
        except Exception as error:
            self.drop()
            raise _public(error) from error
        except BaseException:
            self.drop()
            raise


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


async def connect(options: Options, **settings: str) -> Any:
    """Opens a connection of the driver."""
    if not options.pgbouncer:
        settings = {"tcp_user_timeout": _TCP_USER_TIMEOUT, **settings}
    has_name = "application_name=" in options.url
    name = {} if has_name else {"application_name": "lro-grpc"}
    has_target = "target_session_attrs=" in options.url
    return await asyncpg.connect(
        options.url,
        timeout=options.connect_timeout,
        statement_cache_size=0 if options.pgbouncer else 100,
        target_session_attrs=None if has_target or options.pgbouncer else "primary",
        server_settings={**name, **settings},
    )


def unavailable(why: str) -> UnavailableError:
    """Returns the error for a call that the database has not answered."""
    return UnavailableError(f"the store cannot answer: {why}", reason="STORE_UNAVAILABLE")


def refused(error: RefusedError) -> LroError:
    """Returns the error for the caller of a write that is refused."""
    public: LroError
    if isinstance(error, UnstorableError):
        public = UnexpectedError("a record has a value that the store cannot take")
    else:
        public = unavailable(error.public)
    public.__cause__ = error
    return public


def in_full(error: LroError) -> str:
    """Returns what the log says of an error: more than its message, which strangers may get."""
    cause = error.__cause__
    return f"{error.message} ({said(cause)})" if cause is not None else error.message


def said(error: BaseException) -> str:
    """Returns what an error says, on one line; the driver adds details of the statement to it."""
    if isinstance(error, asyncio.TimeoutError):
        return "no answer in time"
    text = str(error.args[0]) if error.args and isinstance(error.args[0], str) else str(error)
    if "idle-in-transaction timeout" in text:
        return "the server ended a transaction in which this process stood still"
    if text.startswith("cannot switch to state"):  # the server has begun to say why
        return "the server had ended the connection, as when it stops, or this process stood still"
    return (text.splitlines() or [""])[0] or type(error).__name__


def closed() -> UnavailableError:
    """Returns the error for a call on a store that is closed."""
    return UnavailableError("the store is closed", reason="STORE_UNAVAILABLE")


def unusable(options: Options, error: Exception) -> ConfigurationError:
    """Returns the error for a database that cannot be opened: one sentence on what to do."""
    return ConfigurationError(
        f"{options.place} cannot be opened as a store: {_reason(error)}",
        reason="STORE_UNUSABLE",
        metadata={"place": options.place},
    )


def failed(options: Options, error: Exception) -> Exception:
    """Returns the error for an operator, who may learn which database has failed, and of what.

    Another error than that of a call to a database is returned as it is.
    """
    if isinstance(error.__cause__, asyncpg.InsufficientPrivilegeError):
        return unusable(options, error)
    if isinstance(error.__cause__, _OF_CALLS):
        return UnavailableError(
            f"{options.place} has failed: {_reason(error)}", reason="STORE_UNAVAILABLE"
        )
    return error


def _reason(error: Exception) -> str:
    cause = error.__cause__
    if isinstance(error, (UnavailableError, RefusedError)) and isinstance(cause, Exception):
        return _reason(cause)
    told = said(error)
    if isinstance(error, asyncpg.InvalidAuthorizationSpecificationError):
        return f"{told}; give the user and the password of a role that may log in"
    if isinstance(error, asyncpg.InvalidCatalogNameError):
        return f"{told}; create it, or give the name of another one"
    if isinstance(error, asyncpg.InsufficientPrivilegeError):
        return f"{told}; {_advice_on_rights(told)}"
    if isinstance(error, asyncpg.LockNotAvailableError):
        return f"{told}; another transaction has its tables: try again when that has ended"
    if isinstance(error, asyncpg.TooManyConnectionsError):
        return f"{told}; allow more of them, or have fewer servers: each needs several"
    if isinstance(error, asyncpg.TargetServerAttributeNotMatched):
        return "it is a standby, which takes no writes; give the address of the primary"
    if isinstance(error, ssl.SSLError):
        return f"TLS fails ({told}); correct sslrootcert, sslcert or sslkey"
    if isinstance(error, ConnectionError) and "rejected SSL upgrade" in told:
        return f"it has no TLS ({told}); turn it on there, or give another sslmode"
    if isinstance(error, (OSError, asyncio.TimeoutError)):
        return f"no Postgres server answers ({told}); start it, or correct the address"
    return told


def _advice_on_rights(told: str) -> str:
    if "for schema" in told:
        return "grant its role CREATE and USAGE on the schema, or have its owner open it"
    if "for database" in told:  # the schema is missing, and cannot be made
        return "make the schema for its role, or grant it CREATE on the database"
    return "run it as the owner of the tables"


def _public(error: Exception) -> Exception:
    """Returns the error for the caller of a call that has raised."""
    is_of_driver = isinstance(error, (asyncpg.PostgresError, asyncpg.InterfaceError))
    if is_of_driver and isinstance(error, (ValueError, asyncpg.DataError)):
        return UnstorableError(said(error))
    if isinstance(error, (asyncpg.DataCorruptedError, asyncpg.IndexCorruptedError)):
        return DamagedPageError(said(error))
    if isinstance(error, asyncpg.DeadlockDetectedError):
        return RefusedError(said(error))
    if isinstance(error, asyncio.TimeoutError):
        return unavailable("its database has not answered in time")
    if isinstance(error, OSError):
        return unavailable("there is no connection to its database")
    if isinstance(error, (asyncpg.ConnectionDoesNotExistError, asyncpg.InternalClientError)):
        return unavailable("the connection to its database was lost")
    return unavailable(f"its database has raised {type(error).__name__}")
