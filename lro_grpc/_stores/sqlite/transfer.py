"""Reads all that a SQLite file has, and writes a new one; see ``copy_store``."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import AsyncIterator, Collection, Iterator, Sequence
from pathlib import Path

from lro_grpc._errors import ConfigurationError
from lro_grpc._operation import completion, labels
from lro_grpc._operation.attempts import AttemptRecord
from lro_grpc._operation.completion import Completion
from lro_grpc._operation.record import Record
from lro_grpc._stores.sqlite.connection import connect, failed, in_use, unusable
from lro_grpc._stores.sqlite.damage import is_malformed
from lro_grpc._stores.sqlite.database_files import DatabaseFiles
from lro_grpc._stores.sqlite.new_file import new_file
from lro_grpc._stores.sqlite.schema import (
    ATTEMPT_COLUMNS,
    COLUMNS,
    COMPLETION_COLUMNS,
    check_ours,
    completion_of,
    prepare,
    record_of,
    signing_secret_of,
    upgrade,
)
from lro_grpc._stores.transfer import (
    MOST_BYTES,
    MOST_RECORDS,
    Export,
    Import,
    Numbered,
    Portion,
    damage,
    portion_of,
    with_attempts,
)

_NEXT = "SELECT sequence, name FROM operations WHERE sequence > ? ORDER BY sequence LIMIT ?"
_ROW = f"SELECT {COLUMNS} FROM operations WHERE sequence = ?"
_ATTEMPTS = f"SELECT {ATTEMPT_COLUMNS} FROM attempts WHERE operation = ?"
_PUT = (
    f"INSERT INTO operations (sequence, {COLUMNS})"
    f" VALUES (?, {', '.join('?' * len(Record._fields))}) ON CONFLICT DO NOTHING"
)
_PUT_ATTEMPT = (
    f"INSERT INTO attempts (operation, {ATTEMPT_COLUMNS})"
    f" VALUES (?, {', '.join('?' * len(AttemptRecord._fields))})"
)
_COMPLETIONS = f"SELECT rowid, {COMPLETION_COLUMNS} FROM outbox WHERE rowid > ? ORDER BY rowid"
_PUT_COMPLETION = (
    f"INSERT INTO outbox ({COMPLETION_COLUMNS})"
    f" VALUES ({', '.join('?' * len(Completion._fields))}) ON CONFLICT DO NOTHING"
)
_PUT_LABEL = "INSERT INTO labels (key, value, operation) VALUES (?, ?, ?)"


@contextlib.asynccontextmanager
async def exporting(path: Path) -> AsyncIterator[Export]:
    """Gives the content of a file, which is owned meanwhile as by a server.

    Raises:
        ConfigurationError: If it is no store, or another process has it open.
        UnavailableError: If SQLite cannot read it.
    """
    with _owned(path) as connection:
        try:
            check_ours(connection, path)
            prepare(connection, path)
            secret = signing_secret_of(connection)
            connection.execute("BEGIN")  # all of it as it is at one moment
            export = _SqliteExport(connection, path, secret)
        except sqlite3.Error as cause:
            raise unusable(path, cause) from cause
        yield export


@contextlib.asynccontextmanager
async def importing(path: Path, source: Export) -> AsyncIterator[Import]:
    """Gives a new file to write; it has its name at the end of the context.

    Raises:
        ConfigurationError: If there is such a file.
        OSError: If none can be made there.
        UnavailableError: If SQLite cannot write it.
    """
    try:
        with new_file(path) as connection:
            connection.execute("BEGIN")
            upgrade(connection, 0)
            connection.execute(
                "INSERT INTO secrets (name, value) VALUES ('page token', ?)",
                (source.signing_secret,),
            )
            connection.execute(
                "INSERT INTO sqlite_sequence (name, seq) VALUES ('operations', ?)",
                (source.last_sequence,),
            )
            yield _SqliteImport(connection, path)
            connection.execute("COMMIT")
    except sqlite3.Error as cause:
        raise failed(cause) from cause


class _SqliteExport:
    """The rows of a file."""

    def __init__(self, connection: sqlite3.Connection, path: Path, signing_secret: bytes) -> None:
        self.place = str(path)
        self.signing_secret = signing_secret
        (self.rows,) = connection.execute("SELECT count(*) FROM operations").fetchone()
        (self.last_sequence,) = connection.execute(
            "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'operations'"
        ).fetchone()
        self._connection = connection

    async def portions(self) -> AsyncIterator[Portion]:
        """Yields all rows, in the order of their sequence numbers."""
        last = 0
        try:
            while ids := self._connection.execute(_NEXT, (last, MOST_RECORDS)).fetchall():
                last, portion = self._portion(ids)
                yield portion
        except sqlite3.Error as cause:
            raise failed(cause) from cause

    async def completions(self) -> AsyncIterator[Sequence[Completion]]:
        """Yields the completions that were not told, some at a time."""
        last = 0
        try:
            while True:
                some: list[Completion] = []
                size = 0
                with contextlib.closing(self._connection.execute(_COMPLETIONS, (last,))) as rows:
                    for last, *row in rows:  # noqa: B007 - the next round goes on behind it
                        if completion.is_sound(row):
                            some.append(completion_of(row))
                            size += some[-1].size
                        if size >= MOST_BYTES or len(some) >= MOST_RECORDS:
                            break
                if not some:
                    return
                yield some
        except sqlite3.Error as cause:
            raise failed(cause) from cause

    def _portion(self, ids: Sequence[tuple[int, object]]) -> tuple[int, Portion]:
        """Returns the rows of some sequence numbers, up to one of them, and that one."""
        rows: list[Numbered] = []
        unreadable: list[str] = []
        size, last = 0, 0
        for last, name in ids:
            try:
                row = self._connection.execute(_ROW, (last,)).fetchone()
            except sqlite3.DatabaseError as cause:
                if not is_malformed(cause):
                    raise
                unreadable.append(damage(name, f"its row cannot be read ({cause})"))
                continue
            attempts = self._connection.execute(_ATTEMPTS, (last,)).fetchall()
            rows.append(with_attempts(Numbered(last, record_of(row)), attempts))
            for values in (row, *attempts):
                size += sum(len(value) for value in values if isinstance(value, (bytes, str)))
            if size >= MOST_BYTES:
                break
        return last, portion_of(rows, unreadable)


class _SqliteImport:
    """The rows of a new file."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self.place = str(path)
        self._connection = connection

    async def put(self, records: Sequence[Numbered]) -> Collection[int]:
        """Writes records, and returns the sequence numbers of those that are there now."""
        stored = []
        for sequence, record, attempts, _ in records:
            if self._connection.execute(_PUT, (sequence, *record)).rowcount:
                stored.append(sequence)
                rows = [(sequence, *attempt) for attempt in attempts]
                self._connection.executemany(_PUT_ATTEMPT, rows)
                labelled = [(*label, sequence) for label in labels.unpacked(record.labels)]
                self._connection.executemany(_PUT_LABEL, labelled)
        return stored

    async def put_completions(self, completions: Sequence[Completion]) -> None:
        """Writes completions."""
        self._connection.executemany(_PUT_COMPLETION, completions)


@contextlib.contextmanager
def _owned(path: Path) -> Iterator[sqlite3.Connection]:
    """Gives a connection to a file that is there, and that no server can open meanwhile."""
    file = path.resolve()
    if not file.is_file():
        raise ConfigurationError(f"there is no file {path}; give that of a SQLite store")
    files = DatabaseFiles(file)
    try:
        files.acquire()
    except BlockingIOError as cause:
        raise in_use(path) from cause
    except OSError as cause:
        raise unusable(path, cause) from cause
    try:
        with contextlib.closing(connect(file)) as connection:
            yield connection
    finally:
        files.release()
