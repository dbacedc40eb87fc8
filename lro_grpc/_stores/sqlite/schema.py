"""The tables of the file: how they came to be, and what a row is."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from google.longrunning import operations_pb2

from lro_grpc._errors import ConfigurationError
from lro_grpc._operation.publication import DEFAULT_RETENTION
from lro_grpc._operation.record import CLAIMABLE_STATES, Record

COLUMNS = ", ".join(Record._fields)
STATES = ", ".join(str(state) for state in sorted(CLAIMABLE_STATES))
CLAIMABLE = f"lease_time = 0 AND state IN ({STATES})"
OPERATION_ID = (
    "substr(name, length(parent) + CASE parent WHEN '' THEN 12 ELSE 13 END)"  # after operations/
)

_MIGRATIONS = (
    f"""
    CREATE TABLE secrets (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
    CREATE TABLE operations (
        sequence INTEGER PRIMARY KEY AUTOINCREMENT,
        name TEXT NOT NULL UNIQUE,
        parent TEXT NOT NULL,
        method TEXT NOT NULL,
        request BLOB NOT NULL,
        request_id TEXT NOT NULL,
        fingerprint BLOB NOT NULL,
        metadata_type TEXT NOT NULL,
        target TEXT NOT NULL,
        verb TEXT NOT NULL,
        api_version TEXT NOT NULL,
        max_attempts INTEGER NOT NULL,
        create_time INTEGER NOT NULL,
        start_time INTEGER NOT NULL,
        update_time INTEGER NOT NULL,
        end_time INTEGER NOT NULL,
        state INTEGER NOT NULL,
        attempt INTEGER NOT NULL,
        losses INTEGER NOT NULL,
        lease_time INTEGER NOT NULL,
        cancel_requested INTEGER NOT NULL,
        deleted INTEGER NOT NULL,
        progress_percent INTEGER NOT NULL,
        status_detail TEXT NOT NULL,
        custom BLOB NOT NULL,
        batch BLOB NOT NULL,
        batch_error BLOB NOT NULL,
        operation BLOB NOT NULL
    );
    CREATE INDEX operations_listed ON operations (parent, sequence) WHERE NOT deleted;
    CREATE UNIQUE INDEX operations_requests ON operations (method, request_id, parent)
        WHERE request_id <> '';
    CREATE INDEX operations_claimable ON operations (method, sequence) WHERE {CLAIMABLE};
    CREATE INDEX operations_held ON operations (lease_time) WHERE lease_time <> 0;
    """,
    f"""
    ALTER TABLE operations RENAME COLUMN losses TO failed_attempts;
    ALTER TABLE operations ADD COLUMN caller TEXT NOT NULL DEFAULT '';
    ALTER TABLE operations ADD COLUMN trace_context TEXT NOT NULL DEFAULT '';
    ALTER TABLE operations ADD COLUMN pausable INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE operations ADD COLUMN exclusive_target TEXT NOT NULL DEFAULT '';
    ALTER TABLE operations ADD COLUMN retention INTEGER NOT NULL DEFAULT {DEFAULT_RETENTION};
    ALTER TABLE operations ADD COLUMN deadline_time INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE operations ADD COLUMN expire_time INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE operations ADD COLUMN ready_time INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE operations ADD COLUMN pause_requested INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE operations ADD COLUMN checkpoint BLOB NOT NULL DEFAULT x'';
    ALTER TABLE operations ADD COLUMN error_code INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE operations ADD COLUMN response_type TEXT NOT NULL DEFAULT '';
    UPDATE operations SET
        expire_time = end_time + retention,
        error_code = error_code_of(operation),
        response_type = response_type_of(operation)
        WHERE end_time <> 0;
    CREATE UNIQUE INDEX operations_exclusive ON operations (exclusive_target)
        WHERE exclusive_target <> '';
    CREATE INDEX operations_expiring ON operations (expire_time) WHERE expire_time <> 0;
    CREATE INDEX operations_overdue ON operations (deadline_time)
        WHERE deadline_time <> 0 AND lease_time = 0 AND end_time = 0;
    """,
    f"CREATE INDEX operations_ids ON operations ({OPERATION_ID}) WHERE NOT deleted",
)
"""The scripts that bring a file from each version to the next; ``user_version`` counts them."""


def migrate(connection: sqlite3.Connection, path: Path) -> None:
    """Brings a file to the present version.

    Raises:
        ConfigurationError: If it is of a later version, or another program's.
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > len(_MIGRATIONS):
        raise ConfigurationError(
            f"{path} has schema version {version}, and this release knows {len(_MIGRATIONS)};"
            " open it with the release that wrote it, or a newer one",
            reason="STORE_TOO_NEW",
            metadata={"path": str(path), "version": str(version)},
        )
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if tables and not version:
        raise ConfigurationError(
            f"{path} is a database that this package has not made; give another file",
            reason="STORE_FOREIGN",
            metadata={"path": str(path)},
        )
    connection.create_function("error_code_of", 1, _error_code)
    connection.create_function("response_type_of", 1, _response_type)
    for number, script in enumerate(_MIGRATIONS[version:], start=version + 1):
        with transaction(connection):
            for statement in script.split(";"):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {number}")
            connection.execute("COMMIT")


def _error_code(operation: bytes) -> int:
    return operations_pb2.Operation.FromString(operation).error.code


def _response_type(operation: bytes) -> str:
    type_url = operations_pb2.Operation.FromString(operation).response.type_url
    return type_url.rpartition("/")[2]


def key_of(connection: sqlite3.Connection) -> bytes:
    """Returns the store's secret, made when the file is new."""
    statement = "INSERT OR IGNORE INTO secrets (name, value) VALUES ('page token', ?)"
    connection.execute(statement, (os.urandom(32),))
    (value,) = connection.execute("SELECT value FROM secrets WHERE name = 'page token'").fetchone()
    return bytes(value)


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Surrounds a transaction, which the caller commits; an exception rolls it back."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def record_of(row: Sequence[Any]) -> Record:
    """Returns the record of a row of ``COLUMNS``."""
    record = Record._make(row)
    return record._replace(
        pausable=bool(record.pausable),
        cancel_requested=bool(record.cancel_requested),
        pause_requested=bool(record.pause_requested),
        deleted=bool(record.deleted),
    )
