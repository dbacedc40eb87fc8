"""Builds the SQLite database of an instance from a caller's schema, and copies it."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from google.rpc import error_details_pb2

from lro.example.v1 import fleet_service_pb2
from lro_grpc import Code, LroError, StopReason

_ROWS_A_STEP = 10_000
_PAGES_A_STEP = 64
_PAGE_BYTES = 4096
_INSTRUCTIONS_A_CHECK = 10_000
"""A running statement checks this often whether it has to stop: some thousand times a second."""


class Work(Protocol):
    """The part of ``lro_grpc.OperationContext`` that work on a database needs."""

    @property
    def id(self) -> str:
        """The same in every attempt at this work, and different for any other work."""
        ...

    @property
    def attempt(self) -> int:
        """Counts the attempts at this work, from 1."""
        ...

    @property
    def stop_reason(self) -> StopReason | None:
        """The reason why the work has to stop; None while it may go on."""
        ...

    def raise_if_stopped(self) -> None:
        """Unwinds if the work has to stop."""
        ...

    def progress(self, percent: float | None = None, detail: str | None = None) -> None:
        """Reports the progress of the work."""
        ...


def build(path: Path, instance: fleet_service_pb2.Instance, *, max_bytes: int, work: Work) -> None:
    """Makes a database by a schema, and fills its first table.

    Args:
        path: The file, which does not exist yet. After an error, it is of no use.
        instance: The instance, with its name, schema and number of rows.
        max_bytes: The largest size that the database may grow to.
        work: The work, whose progress is the number of rows so far.

    Raises:
        LroError: INVALID_ARGUMENT for a broken schema or one without a table to fill,
            FAILED_PRECONDITION for a table that refuses the rows, RESOURCE_EXHAUSTED for too large
            a database.
    """
    with _opened(path) as connection:
        connection.execute(f"PRAGMA max_page_count = {max(1, max_bytes // _PAGE_BYTES)}")
        # From here on, a stranger's SQL runs: triggers and checks run with the rows, too.
        connection.set_authorizer(_authorize)
        connection.set_progress_handler(lambda: work.stop_reason is not None, _INSTRUCTIONS_A_CHECK)
        with _refusing(instance, work, Code.INVALID_ARGUMENT, "INVALID_SCHEMA"):
            work.progress(0, "running the schema")
            if "\0" in instance.schema_sql:  # Python 3.10 would leave out the text after it
                raise sqlite3.ProgrammingError("schema_sql has a null character")
            connection.executescript(instance.schema_sql)
            connection.commit()
        if instance.seed_rows:
            with _refusing(instance, work, Code.FAILED_PRECONDITION, "ROWS_REFUSED"):
                _seed(connection, instance, work)


def copy(source: Path, target: Path, work: Work) -> None:
    """Copies a database as it is at one moment, though it may be written to meanwhile.

    Args:
        source: The database.
        target: The copy, which does not exist yet.
        work: The work, whose progress is the number of pages so far.
    """

    def report(status: int, remaining: int, total: int) -> None:
        del status
        work.raise_if_stopped()
        copied = total - remaining
        work.progress(100 * copied / max(1, total), f"copied {copied:,} of {total:,} pages")

    address = f"{source.absolute().as_uri()}?mode=rw"  # the default mode makes a missing file
    with (
        contextlib.closing(sqlite3.connect(address, uri=True)) as original,
        _opened(target) as duplicate,
    ):
        original.backup(duplicate, pages=_PAGES_A_STEP, progress=report)


def make_private(path: Path) -> None:
    """Makes an empty file that its owner alone may read, whatever the umask."""
    path.touch(mode=0o600)


def out_of_room(name: str) -> LroError:
    """Returns the error for a resource that does not fit into the fleet's quota."""
    message = f"there is no room for {name} in the fleet's quota; delete instances to make some"
    violation = error_details_pb2.QuotaFailure.Violation(subject="fleet", description=message)
    return LroError(
        message,
        code=Code.RESOURCE_EXHAUSTED,
        reason="QUOTA_EXCEEDED",
        metadata={"name": name},
        details=[error_details_pb2.QuotaFailure(violations=[violation])],
    )


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    """Opens a database that is discarded unless it gets complete: it needs no journal on disk."""
    make_private(path)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = MEMORY")
        connection.execute("PRAGMA synchronous = OFF")
        yield connection


_HARMLESS_PRAGMAS = ("application_id", "encoding", "foreign_keys", "table_xinfo", "user_version")


def _authorize(
    action: int, first: str | None, second: str | None, database: str | None, trigger: str | None
) -> int:
    """Keeps a stranger's SQL inside its own file; see ``sqlite3_set_authorizer``."""
    del database, trigger
    refused = (
        action in (sqlite3.SQLITE_ATTACH, sqlite3.SQLITE_DETACH)  # VACUUM (INTO) attaches, too
        or (action == sqlite3.SQLITE_FUNCTION and second == "load_extension")
        or (action == sqlite3.SQLITE_PRAGMA and second and first not in _HARMLESS_PRAGMAS)
    )
    return sqlite3.SQLITE_DENY if refused else sqlite3.SQLITE_OK


@contextlib.contextmanager
def _refusing(
    instance: fleet_service_pb2.Instance, work: Work, code: Code, reason: str
) -> Iterator[None]:
    """Turns SQLite's errors into the operation's."""
    try:
        yield
    except sqlite3.Error as cause:
        work.raise_if_stopped()  # then the statement was not wrong, but interrupted
        sqlite_text = str(cause)
        if sqlite_text == "database or disk is full":
            raise out_of_room(instance.name) from cause
        hint = "correct schema_sql and create it again"
        if "authoriz" in sqlite_text:
            hint = "leave out ATTACH, VACUUM, load_extension and PRAGMAs that set anything but " + (
                ", ".join(_HARMLESS_PRAGMAS)
            )
        raise LroError(
            f'SQLite says "{sqlite_text}" while it builds {instance.name}; {hint}',
            code=code,
            reason=reason,
            metadata={"instance": instance.name, "sqlite": sqlite_text},
        ) from cause


def _seed(connection: sqlite3.Connection, instance: fleet_service_pb2.Instance, work: Work) -> None:
    """Fills the schema's first table."""
    table = connection.execute(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%'"
        " ESCAPE '\\' ORDER BY rowid LIMIT 1"
    ).fetchone()
    if table is None:
        raise LroError(
            f"the schema of {instance.name} has no table to put {instance.seed_rows:,} rows into;"
            " add one, or leave seed_rows at 0",
            code=Code.INVALID_ARGUMENT,
            reason="NO_TABLE",
            metadata={"instance": instance.name},
        )
    columns = connection.execute(
        "SELECT name, type FROM pragma_table_xinfo(?) WHERE hidden = 0", table
    ).fetchall()
    into = _quoted(table[0])
    names = ", ".join(_quoted(name) for name, _ in columns)
    placeholders = ", ".join("?" for _ in columns)
    insert = f"INSERT INTO {into} ({names}) VALUES ({placeholders})"  # noqa: S608 - the names are quoted
    make_values = [_value_maker(*column) for column in columns]
    (existing,) = connection.execute(f"SELECT count(*) FROM {into}").fetchone()  # noqa: S608
    for begin in range(0, instance.seed_rows, _ROWS_A_STEP):
        work.raise_if_stopped()
        end = min(begin + _ROWS_A_STEP, instance.seed_rows)
        numbers = range(existing + begin + 1, existing + end + 1)
        with connection:
            connection.executemany(insert, ([make(n) for make in make_values] for n in numbers))
        share = 100 * end / instance.seed_rows
        work.progress(share, f"inserted {end:,} of {instance.seed_rows:,} rows")


def _value_maker(name: str, declared: str) -> Callable[[int], object]:
    """Returns a function that makes the n-th value of a column: of its affinity, and unique.

    The order of the rules is SQLite's own (datatype3.html, section 3.1).
    """
    declared = declared.upper()
    if "INT" in declared:
        return int
    if any(word in declared for word in ("CHAR", "CLOB", "TEXT")):
        return lambda number: f"{name} {number}"
    if not declared or "BLOB" in declared:
        return lambda number: number.to_bytes(8, "big")
    if any(word in declared for word in ("REAL", "FLOA", "DOUB")):
        return lambda number: number + 0.5
    return int


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
