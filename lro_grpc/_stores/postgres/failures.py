"""The errors of calls to the database: what counts as an outage, and who is told what of it.

**Every exception of a call is an outage**, unless it is known to be about what the call has sent.
A driver in trouble raises what it likes: errors of the server, of the network, of its own state,
and time limits. After each the caller gets UNAVAILABLE.

The caller, who may be a stranger, gets a plain sentence. The driver's own words are for the log,
and for an operator who opens the database.
"""

from __future__ import annotations

import asyncio
import ssl

import asyncpg  # type: ignore[import-untyped]

from lro_grpc._errors import ConfigurationError, LroError, UnavailableError, UnexpectedError
from lro_grpc._stores.postgres.options import Options

_CALL_ERRORS = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncio.TimeoutError,
    OSError,
)
"""The errors that calls of the driver raise."""

_OF_STANDBY = (asyncpg.TargetServerAttributeNotMatched, asyncpg.ReadOnlySQLTransactionError)
"""The errors of a server that takes no writes: as it is connected to, and later."""


class RefusedError(Exception):
    """The server, or the driver, refuses what one call has sent: another call may succeed.

    Its text is theirs, and for the log alone: it may quote what other callers have sent.
    """

    public = "its database has refused the call"
    """The sentence that the caller is told."""


class UnstorableError(RefusedError):
    """A value that Postgres cannot store."""

    public = "its database cannot take a value of the call"


class DamagedPageError(RefusedError):
    """A page of a table, or of an index, that the server cannot read."""

    public = "its database cannot read a part of what it has stored"


def unavailable(why: str) -> UnavailableError:
    """Returns the error for a call that the database has not answered."""
    return UnavailableError(f"the store cannot answer: {why}", reason="STORE_UNAVAILABLE")


def error_of_call(error: Exception) -> Exception:
    """Returns the error for the caller of a call that has raised."""
    is_of_driver = isinstance(error, (asyncpg.PostgresError, asyncpg.InterfaceError))
    if is_of_driver and isinstance(error, (ValueError, asyncpg.DataError)):
        return UnstorableError(said(error))
    if isinstance(error, (asyncpg.DataCorruptedError, asyncpg.IndexCorruptedError)):
        return DamagedPageError(said(error))
    if isinstance(error, asyncpg.DeadlockDetectedError):
        return RefusedError(said(error))
    if isinstance(error, (asyncio.TimeoutError, asyncpg.QueryCanceledError)):
        return unavailable("its database has not answered in time")
    if isinstance(error, OSError):
        return unavailable("there is no connection to its database")
    if isinstance(error, _OF_STANDBY):
        return unavailable("its database takes no writes for now, as a standby does")
    if isinstance(error, (asyncpg.ConnectionDoesNotExistError, asyncpg.InternalClientError)):
        return unavailable("the connection to its database was lost")
    return unavailable(f"its database has raised {type(error).__name__}")


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
    if isinstance(error.__cause__, _CALL_ERRORS):
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
    if isinstance(error, _OF_STANDBY):
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
        return (
            "grant its role USAGE on the schema, and CREATE unless its owner makes the tables by"
            " lro db migrate"
        )
    if "for database" in told:  # the schema is missing, and cannot be made
        return "make the schema for its role, or grant it CREATE on the database"
    return "run it as the owner of the tables"
