"""Upkeep of a database: check, backup, vacuum, whether or not a server has it open.

All three go through SQLite, so that they see what is in the log alone, and keep out of the way of
the server's commits: a check and a backup read the database as it was when they began, and hold
nobody up; a vacuum is one commit, for which the server's own wait.
"""

from __future__ import annotations

import contextlib
import re
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from lro_grpc._errors import ConfigurationError
from lro_grpc._operation import completion, integrity, labels
from lro_grpc._operation.attempts import AttemptRecord, is_sound
from lro_grpc._stores.sqlite.damage import text_of
from lro_grpc._stores.sqlite.database_files import check_alone
from lro_grpc._stores.sqlite.new_file import new_file
from lro_grpc._stores.sqlite.schema import (
    COLUMNS,
    COMPLETION_COLUMNS,
    check_ours,
    is_prepared,
    record_of,
)

_ATTEMPTS = (
    f"SELECT a.operation, name, {', '.join(f'a.{name}' for name in AttemptRecord._fields)}"
    " FROM attempts AS a LEFT JOIN operations ON sequence = a.operation"
    " ORDER BY a.operation, a.number"
)

_COMPLETIONS = f"SELECT {COMPLETION_COLUMNS} FROM outbox ORDER BY rowid"

_NO_LABELS = (
    "SELECT l.key, l.value, l.operation FROM labels AS l LEFT JOIN operations"
    " ON sequence = l.operation WHERE sequence IS NULL"
    " OR instr(labels, ',' || l.key || '=' || l.value || ',') = 0"
)
_HAS_LABEL = (
    "SELECT 1 FROM labels WHERE key = ? AND value = ?"
    " AND operation = (SELECT sequence FROM operations WHERE name = ?)"
)

_BUSY_SECONDS = 60
"""The time to wait for a gap between the commits of a busy server."""

_PAGES_A_STEP = 1000
"""Of a backup, which Ctrl-C may end between two steps."""


class Sizes(NamedTuple):
    """The bytes that a database and its log had, and have."""

    before: int
    after: int


def check(path: Path) -> Iterator[str]:
    """Yields what is damaged: first in the structure of the database, then in single operations.

    Those are the operations that a server would set aside, the attempts that it tells nothing of
    but their numbers, and the completions that it tells nobody of.

    Raises:
        ConfigurationError: If there is no such database, or it is not this package's.
        sqlite3.Error: If SQLite cannot read it for another reason.
    """
    with _opened(path) as connection:
        try:
            check_ours(connection, path)
            connection.execute("BEGIN")  # all of it as it is at one moment
            yield from _damaged_structure(connection)
            for row in connection.execute(f"SELECT {COLUMNS} FROM operations ORDER BY sequence"):
                record = record_of(row)
                fault = integrity.fault_in(record)
                if fault:
                    yield f"operation {row[0]!r}: {fault}"
                    continue
                for label in labels.unpacked(record.labels):
                    if not connection.execute(_HAS_LABEL, (*label, record.name)).fetchone():
                        yield f"operation {row[0]!r}: no list has it by its label {label}"
            for operation, name, *attempt in connection.execute(_ATTEMPTS):
                if name is None:
                    yield f"attempt {attempt[0]!r}: its operation is {operation!r}, which is none"
                elif not is_sound(attempt):
                    yield f"operation {name!r}: the row of its attempt {attempt[0]!r} is none"
            for row in connection.execute(_COMPLETIONS):
                if not completion.is_sound(row):
                    yield f"operation {row[0]!r}: the row of its completion is none"
            for *label, operation in connection.execute(_NO_LABELS):
                yield f"label {tuple(label)}: operation {operation!r} does not have it"
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError as error:  # it is damaged where it has to be read first
            yield str(error)


def back_up(path: Path, destination: Path) -> int:
    """Copies a database as it is now, and returns the copy's size in bytes.

    The copy is a file of its own, on the disk when this returns; there is none after an error.

    Raises:
        ConfigurationError: If there is no such database, or it is not this package's, or the
            destination is there already.
        sqlite3.Error: If SQLite fails.
        OSError: If the copy cannot be made where it is to be.
    """
    with _opened(path) as source, new_file(destination) as copy:
        check_ours(source, path)
        source.execute("BEGIN")
        source.execute("SELECT count(*) FROM sqlite_schema").fetchone()  # from now on it stays
        source.backup(copy, pages=_PAGES_A_STEP)
    return destination.stat().st_size


def is_ready(path: Path) -> bool:
    """Returns whether a store opens a database as it is; if not, it is empty or not there.

    Raises:
        ConfigurationError: If it is not this package's, or its tables would be changed first.
        sqlite3.Error: If SQLite fails.
    """
    if not path.exists():
        return False
    with _opened(path) as connection:
        return is_prepared(connection, path)


def vacuum(path: Path) -> Sizes:
    """Gives the space of removed operations back to the file system.

    Raises:
        ConfigurationError: If there is no such database, or it is not this package's.
        sqlite3.Error: If SQLite fails; then the database is as it was.
    """
    with _opened(path) as connection:
        check_ours(connection, path)
        before = _size(path)
        connection.execute("VACUUM")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        return Sizes(before, _size(path))


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    """Opens a database that is there, under the name that its log goes by."""
    file = path.resolve()
    if not file.is_file():
        raise ConfigurationError(f"there is no file {path}; give that of a SQLite store")
    check_alone(file, file.stat())
    connection = sqlite3.connect(
        f"{file.as_uri()}?mode=rw", uri=True, timeout=_BUSY_SECONDS, isolation_level=None
    )
    connection.text_factory = text_of
    with contextlib.closing(connection):
        yield connection


def _damaged_structure(connection: sqlite3.Connection) -> Iterator[str]:
    trees = dict(connection.execute("SELECT rootpage, type || ' ' || name FROM sqlite_schema"))
    try:
        yield from _integrity(connection, "PRAGMA integrity_check", trees)
    except sqlite3.DatabaseError as error:
        yield str(error)  # SQLite has given up; where, each table says for itself
        for table in [name.removeprefix("table ") for name in trees.values() if "table " in name]:
            try:
                yield from _integrity(connection, f"PRAGMA integrity_check({table})", trees)
            except sqlite3.DatabaseError as inner:
                yield f"table {table}, or an index of it: {inner}"


def _integrity(
    connection: sqlite3.Connection, statement: str, trees: Mapping[int, str]
) -> Iterator[str]:
    for (text,) in connection.execute(statement):
        for line in text.splitlines():
            tree = re.match(r"Tree (\d+)", line)
            where = trees.get(int(tree[1])) if tree else None
            if line != "ok" and not line.startswith("***"):
                yield f"{where}: {line}" if where else line


def _size(path: Path) -> int:
    log = path.with_name(f"{path.name}-wal")
    return path.stat().st_size + (log.stat().st_size if log.exists() else 0)
