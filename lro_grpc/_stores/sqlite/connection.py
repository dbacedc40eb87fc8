"""Connections to the file, with SQLite's errors as the store's."""

from __future__ import annotations

import ctypes
import sqlite3
from pathlib import Path
from typing import Any

from lro_grpc._errors import ConfigurationError, UnavailableError
from lro_grpc._stores.sqlite.damage import is_malformed, text_of

_BUSY_SECONDS = 0.1
"""The longest time that another program's lock on the file may hold up the event loop."""

LOG_BYTES = 4 << 20
"""About what a log has when SQLite writes it back. It is cut back to this after a long reader, such
as a backup, has let it grow."""


def connect(file: Path) -> sqlite3.Connection:
    """Opens a connection, on which a commit is on the disk when it returns (R1).

    Any thread may use it, one at a time. It changes nothing in the file.
    """
    connection = sqlite3.connect(
        file, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )
    connection.text_factory = text_of
    try:
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA journal_size_limit = {LOG_BYTES}")
    except BaseException:
        connection.close()
        raise
    return connection


def abandon(connection: sqlite3.Connection) -> None:
    """Keeps a connection from ever being closed, even when Python ends.

    To close it would touch files that are another's: in a child process those of its parent.
    """
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))


def fetch(
    connection: sqlite3.Connection, query: str, *parameters: str | int | bytes
) -> list[tuple[Any, ...]]:
    """Returns the rows of a query.

    Raises:
        UnavailableError: If SQLite cannot answer.
    """
    try:
        return connection.execute(query, parameters).fetchall()
    except sqlite3.Error as cause:
        raise unavailable(cause) from cause


def closed() -> UnavailableError:
    """Returns the error for a call on a store that is closed."""
    return UnavailableError("the store is closed", reason="STORE_UNAVAILABLE")


def in_use(path: Path) -> ConfigurationError:
    """Returns the error for a file that another process has open as a store."""
    return ConfigurationError(
        f"{path} is in use by another process; a SQLite store serves one server:"
        " stop the other one, or give this one another file",
        reason="STORE_IN_USE",
        metadata={"path": str(path)},
    )


def unusable(path: Path, cause: Exception) -> ConfigurationError:
    """Returns the error for a file that cannot be opened as a store."""
    return ConfigurationError(
        f"{path} cannot be opened as a SQLite store: {cause};"
        " give a file in an existing, writable folder, made by this package or not yet there",
        reason="STORE_UNUSABLE",
        metadata={"path": str(path)},
    )


def is_busy(error: sqlite3.Error) -> bool:
    """Returns whether an error says that another connection has the lock that is needed."""
    return "database is locked" in str(error)  # Python 3.10 has no code in it


def unavailable(cause: sqlite3.Error) -> UnavailableError:
    """Returns the error for a call that SQLite has failed, without its words."""
    if is_malformed(cause):
        why = "its file is damaged"
    elif is_busy(cause):
        why = "another program holds its file"
    else:
        why = "its file cannot be read or written for now"
    error = UnavailableError(f"the store cannot answer: {why}", reason="STORE_UNAVAILABLE")
    error.__cause__ = cause
    return error


def failed(cause: sqlite3.Error) -> UnavailableError:
    """Returns the same error for an operator, or for the log: in SQLite's words."""
    what_to_do = "; the file is damaged, restore it from a backup" if is_malformed(cause) else ""
    return UnavailableError(
        f"the store cannot answer: {cause}{what_to_do}", reason="STORE_UNAVAILABLE"
    )
