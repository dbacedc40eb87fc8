"""The schema of the file: its tables, with a column for each field of a record.

Rows of ``attempts`` are those of superseded attempts; they go with the row of their operation. So
do those of ``labels``, by which a page finds the operations that have one: the table has no index
of operations, and so is told which labels end. Rows of ``outbox`` are completions, and stay when
their operation goes.
"""

from __future__ import annotations

import itertools
import operator
import os
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lro_grpc._errors import ConfigurationError
from lro_grpc._operation.attempts import AttemptRecord
from lro_grpc._operation.completion import Completion
from lro_grpc._operation.record import CLAIMABLE_STATES, FIELDS, Record
from lro_grpc._operation.states import PAUSED

COLUMNS = ", ".join(Record._fields)
ATTEMPT_COLUMNS = ", ".join(AttemptRecord._fields)
COMPLETION_COLUMNS = ", ".join(Completion._fields)
STATES = ", ".join(str(state) for state in sorted(CLAIMABLE_STATES))
READY = f"lease_expire_time = 0 AND state IN ({STATES}) AND scheduled_time = 0"
NEXT = f"{READY} AND queue_order = 0"
"""The condition on those that are ready whose turn is that of their start."""
RANKED = f"{READY} AND queue_order <> 0 AND concurrency_key = ''"
"""The condition on the others without a key that are ready: of a priority, or delayed once."""
KEYED = f"{READY} AND concurrency_key <> ''"
"""The condition on those with a key that are ready; each has a ``queue_order``."""
HELD_BY_KEY = "lease_expire_time <> 0 AND concurrency_key <> ''"
"""The condition on those with a key that attempts hold."""
DELAYED = "scheduled_time <> 0"
PAUSED_ROW = f"state = {PAUSED}"
OPERATION_ID = (
    "substr(name, length(parent) + CASE parent WHEN '' THEN 12 ELSE 13 END)"  # after operations/
)

_VERSION = 14
"""Of the schema; the file's ``user_version``."""

_OLDEST_VERSION = 5
"""The lowest one that is upgraded. Those below were written before the first release."""

_AFFINITIES = {str: "TEXT", bytes: "BLOB", int: "INTEGER", bool: "INTEGER"}
_DEFINITIONS = ", ".join(
    f"{field.name} {_AFFINITIES[field.type]} NOT NULL" for field in FIELDS.values()
)
_BOOLS = tuple(field.name for field in FIELDS.values() if field.type is bool)
_BOUND_AS: Mapping[type, Callable[[Any], Any]] = {bytes: bytearray().__add__, bool: int}
"""Makes of values of some types those that are bound; and refuses what is of no such type."""

# They end with what is counted: SQLite would look at the row for each, by their conditions, too.
_FORMER_READY_INDEXES = (
    "CREATE INDEX operations_ready ON operations (method, sequence)",
    f"CREATE INDEX operations_delayed ON operations (scheduled_time) WHERE {DELAYED}",
)
"""In their place until a later upgrade makes them anew: those columns may still be missing."""
_READY_INDEXES = (
    "CREATE INDEX operations_ready ON operations (method, sequence, parent, state,"
    f" lease_expire_time, scheduled_time, queue_order) WHERE {NEXT}",
    "CREATE INDEX operations_delayed ON operations"
    f" (scheduled_time, method, parent, state, attempt, caller) WHERE {DELAYED}",
)
_KEYED_INDEXES = (
    "CREATE INDEX operations_ranked ON operations (method, queue_order, sequence, parent, state,"
    f" lease_expire_time, scheduled_time, concurrency_key) WHERE {RANKED}",
    "CREATE INDEX operations_by_key ON operations (method, concurrency_key, queue_order, sequence,"
    f" parent, state, lease_expire_time, scheduled_time) WHERE {KEYED}",
    "CREATE INDEX operations_held_by_key ON operations"
    f" (method, concurrency_key, lease_expire_time) WHERE {HELD_BY_KEY}",
)
_PAUSED_INDEX = (
    f"CREATE INDEX operations_paused ON operations (state, method, parent) WHERE {PAUSED_ROW}"
)
_ATTEMPTS = (
    "CREATE TABLE attempts (operation INTEGER NOT NULL, number INTEGER NOT NULL,"
    " worker TEXT NOT NULL, start_time INTEGER NOT NULL, end_time INTEGER NOT NULL,"
    " outcome INTEGER NOT NULL, error BLOB NOT NULL, PRIMARY KEY (operation, number))"
    " WITHOUT ROWID",
    "CREATE TRIGGER attempts_end AFTER DELETE ON operations"
    " BEGIN DELETE FROM attempts WHERE operation = old.sequence; END",
)

_OUTBOX = (
    # What may be large is the last column, so that the others are read without it.
    "CREATE TABLE outbox (name TEXT NOT NULL, create_time INTEGER NOT NULL,"
    " end_time INTEGER NOT NULL, expire_time INTEGER NOT NULL, next_time INTEGER NOT NULL,"
    " attempt_count INTEGER NOT NULL, given_up INTEGER NOT NULL, error BLOB NOT NULL,"
    " event BLOB NOT NULL, PRIMARY KEY (name, create_time))",
    "CREATE INDEX outbox_due ON outbox (next_time)",
)

_LABELS = (
    "CREATE TABLE labels (key TEXT NOT NULL, value TEXT NOT NULL, operation INTEGER NOT NULL,"
    " PRIMARY KEY (key, value, operation)) WITHOUT ROWID"
)

_RERUNS_INDEX = (
    "CREATE INDEX operations_reruns ON operations (source_operation, sequence)"
    " WHERE source_operation <> ''"
)

_SCHEMA: Sequence[str] = (
    "CREATE TABLE secrets (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID",
    f"CREATE TABLE operations (sequence INTEGER PRIMARY KEY AUTOINCREMENT, {_DEFINITIONS})",
    "CREATE UNIQUE INDEX operations_names ON operations (name)",
    "CREATE INDEX operations_listed ON operations (parent, sequence) WHERE NOT deleted",
    "CREATE UNIQUE INDEX operations_requests ON operations (method, request_id, caller, parent)"
    " WHERE request_id <> ''",
    *_READY_INDEXES,
    *_KEYED_INDEXES,
    _PAUSED_INDEX,
    "CREATE INDEX operations_leased ON operations (lease_expire_time) WHERE lease_expire_time <> 0",
    "CREATE UNIQUE INDEX operations_exclusive ON operations (exclusive_target)"
    " WHERE exclusive_target <> ''",
    "CREATE INDEX operations_expiring ON operations (expire_time) WHERE expire_time <> 0",
    "CREATE INDEX operations_overdue ON operations (deadline_time)"
    " WHERE deadline_time <> 0 AND lease_expire_time = 0 AND end_time = 0",
    f"CREATE INDEX operations_ids ON operations ({OPERATION_ID}) WHERE NOT deleted",
    _RERUNS_INDEX,
    *_ATTEMPTS,
    *_OUTBOX,
    _LABELS,
)


_UPGRADES: Mapping[int, Sequence[str]] = {
    5: ("DROP INDEX operations_claimable", *_FORMER_READY_INDEXES),
    6: (
        "ALTER TABLE operations ADD COLUMN source_operation TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE operations ADD COLUMN operator TEXT NOT NULL DEFAULT ''",
        _RERUNS_INDEX,
    ),
    7: (
        "ALTER TABLE operations ADD COLUMN worker TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE operations ADD COLUMN attempt_number INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE operations ADD COLUMN attempt_start_time INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE operations ADD COLUMN attempt_end_time INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE operations ADD COLUMN attempt_outcome INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE operations ADD COLUMN attempt_error BLOB NOT NULL DEFAULT x''",
        *_ATTEMPTS,
    ),
    8: ("ALTER TABLE operations ADD COLUMN notify INTEGER NOT NULL DEFAULT 0", *_OUTBOX),
    9: (_PAUSED_INDEX,),
    10: ("ALTER TABLE operations ADD COLUMN labels TEXT NOT NULL DEFAULT ''", _LABELS),
    11: ("ALTER TABLE operations ADD COLUMN delayed_until INTEGER NOT NULL DEFAULT 0",),
    12: (
        "ALTER TABLE operations ADD COLUMN priority INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE operations ADD COLUMN queue_order INTEGER NOT NULL DEFAULT 0",
        "DROP INDEX operations_ready",
        "DROP INDEX operations_delayed",
        *_READY_INDEXES,
    ),
    13: (
        "ALTER TABLE operations ADD COLUMN concurrency_key TEXT NOT NULL DEFAULT ''",
        "DROP INDEX IF EXISTS operations_ranked",
        *_KEYED_INDEXES,
    ),
}
"""The statements that make the next version's tables of those of each version."""


def version_of(connection: sqlite3.Connection, path: Path) -> int:
    """Returns the version of a file's tables; 0 for a new file, which has none.

    Raises:
        ConfigurationError: If it is of another version than this release's, or another program's.
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if version > _VERSION:
        raise ConfigurationError(
            f"{path} has schema version {version}, and this release knows {_VERSION};"
            " open it with the release that wrote it, or a newer one",
            reason="STORE_TOO_NEW",
            metadata={"path": str(path), "version": str(version)},
        )
    if tables and not version:
        raise ConfigurationError(
            f"{path} is a database that this package has not made; give another file",
            reason="STORE_FOREIGN",
            metadata={"path": str(path)},
        )
    if 0 < version < _OLDEST_VERSION:
        raise ConfigurationError(
            f"{path} has schema version {version}, which was in use before the first release, and"
            f" this release knows {_OLDEST_VERSION} and above; finish its operations with what"
            " wrote it, or give another file",
            reason="STORE_TOO_OLD",
            metadata={"path": str(path), "version": str(version)},
        )
    return int(version)


def check_ours(connection: sqlite3.Connection, path: Path) -> None:
    """Checks that a file has the tables of a store.

    Raises:
        ConfigurationError: If it has none, those of another version, or another program's.
    """
    if not version_of(connection, path):
        raise ConfigurationError(f"{path} is empty; give the file of a SQLite store")


def is_prepared(connection: sqlite3.Connection, path: Path) -> bool:
    """Returns whether a file has tables; those are of the present version.

    Raises:
        ConfigurationError: If they are of another version, or another program's.
    """
    version = version_of(connection, path)
    if 0 < version < _VERSION:
        raise ConfigurationError(
            f"{path} has schema version {version}, and not {_VERSION}; start a server of this"
            " release on it, which brings it up to date",
            metadata={"path": str(path), "version": str(version)},
        )
    return version > 0


def prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Makes the tables of a new file, and brings those of an old one to the present version.

    Raises:
        ConfigurationError: If it is of another version, or another program's.
    """
    version = version_of(connection, path)
    connection.execute("PRAGMA journal_mode = WAL")  # readers go on while another one commits
    if version < _VERSION:
        with connection:  # commits at its end; an error rolls back
            connection.execute("BEGIN IMMEDIATE")
            upgrade(connection, version)


def upgrade(connection: sqlite3.Connection, version: int) -> None:
    """Brings tables to the present version, in the transaction that the caller has begun.

    Args:
        connection: The connection.
        version: Their version; 0 if there are none.
    """
    steps = [_UPGRADES[one] for one in range(version, _VERSION)] if version else [_SCHEMA]
    for statement in itertools.chain(*steps):
        connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {_VERSION}")


def signing_secret_of(connection: sqlite3.Connection) -> bytes:
    """Returns the store's secret, made when the file is new."""
    statement = "INSERT OR IGNORE INTO secrets (name, value) VALUES ('page token', ?)"
    connection.execute(statement, (os.urandom(32),))
    (value,) = connection.execute("SELECT value FROM secrets WHERE name = 'page token'").fetchone()
    return bytes(value)


def completion_of(row: Sequence[Any]) -> Completion:
    """Returns the completion of a row of ``COMPLETION_COLUMNS``."""
    completion = Completion._make(row)
    return completion._replace(given_up=bool(completion.given_up))


def record_of(row: Sequence[Any]) -> Record:
    """Returns the record of a row of ``COLUMNS``."""
    record = Record._make(row)
    flags: dict[str, Any] = {name: bool(getattr(record, name)) for name in _BOOLS}
    return record._replace(**flags)


def binder(columns: Sequence[str]) -> Callable[[Record], Sequence[object]]:
    """Returns a function of a record that returns what to bind for some columns of its row.

    Of a value that is not exactly an int, a text or a bytearray, Python's module looks whether
    somebody has registered an adapter of its type. For a row, that takes longer than to store it.
    """
    take = operator.itemgetter(*map(Record._fields.index, columns))
    types = enumerate(FIELDS[column].type for column in columns)
    bound_as = [(at, _BOUND_AS[type_]) for at, type_ in types if type_ in _BOUND_AS]

    def bind(record: Record) -> Sequence[object]:
        values = [*take(record)]
        for at, convert in bound_as:
            values[at] = convert(values[at])
        return values

    return bind
