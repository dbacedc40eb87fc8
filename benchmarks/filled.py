"""Stores that are full of operations, in a SQLite file and in Postgres, for parts to share.

A few operations are made as a server makes them, and then their rows are copied in SQL, each under
a name of its own. Nearly all are done; a hundred are in the hands of a process that is gone; a
hundredth waits. They have labels, and a hundredth is under another parent.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from google.protobuf import empty_pb2

from benchmarks import database
from benchmarks.jobs import METHOD, PARENT
from lro.example.v1 import fleet_service_pb2
from lro_grpc._anys import packed_bytes
from lro_grpc._operation.events import Claim, Report, Succeed
from lro_grpc._operation.metadata import DEFAULT_TYPE
from lro_grpc._operation.publication import create
from lro_grpc._operation.record import Record
from lro_grpc._runtime.clock import SystemClock
from lro_grpc._stores.postgres.rows import COLUMNS
from lro_grpc._stores.postgres.store import PostgresStore
from lro_grpc._stores.store import Store
from lro_grpc.stores import SqliteStore

MANY, FEW = 1_000_000, 1_000
HELD = 100

OTHER_PARENT = "projects/q/locations/l"
"""As long as the parent, for names are put in the place of each other."""
WAITING = "/benchmark.v1.Waiting/Run"
"""The methods of what waits are this one and a digit from 0 to 3."""
KEYED = "/benchmark.v1.Keyed/Run"
"""The method of what waits in a backlog."""
FULL_KEY, OTHER_KEY = "a", "b"

LEASE = 3_600_000_000
RESPONSE = packed_bytes(empty_pb2.Empty())

_REQUEST = fleet_service_pb2.CreateInstanceRequest(parent=PARENT, instance_id="x" * 180)
_IS_OTHER = "i % 100 = 99"
_LABELS = {
    "env": "CASE WHEN i % 10 = 0 THEN 'dev' ELSE 'prod' END",
    "run": "CASE WHEN i = 123 THEN 'only' END",
    "tenant": "'t' || (i % 1000)",
}
"""The SQL for the labels of the operation number ``i``; NULL for one that it has not."""


@dataclass(frozen=True)
class Filled:
    """Two stores with the same operations."""

    number: int
    """Of their operations, the backlog aside."""
    file: Path
    url: str
    waiting: int
    """Those that wait, whatever for."""
    backlog: int = 0
    """Those that were added to wait, beside that number."""

    @property
    def in_all(self) -> int:
        """Its operations, the backlog among them."""
        return self.number + self.backlog

    def sqlite(self) -> SqliteStore:
        return SqliteStore(self.file, SystemClock().now)

    def postgres(self) -> PostgresStore:
        return PostgresStore(self.url)


def name_of(number: int, parent: str = "") -> str:
    """Returns the name of the operation of a number, from 1 on: they are in no order."""
    chosen = parent or (OTHER_PARENT if number % 100 == 99 else PARENT)
    mixed = number * _FACTOR % 2**32
    letters = "".join(_LETTERS[mixed // 32**place % 32] for place in range(3))
    return f"{chosen}/operations/op-{letters}{_FILLING}{10**10 + mixed}"


_LETTERS = "abcdefghijklmnopqrstuvwxyz234567"
"""The first three letters of an id are mixed, so that a name says nothing of its row's place."""
_FILLING = "a" * 12
_FACTOR = 2_654_435_761
_MIXED = f"CAST(i AS bigint) * {_FACTOR} % {2**32}"
_ID = (
    "'op-' || "
    + " || ".join(
        f"substr('{_LETTERS}', CAST(1 + {_MIXED} / {32**place} % 32 AS int), 1)"
        for place in range(3)
    )
    + f" || '{_FILLING}' || CAST({10**10} + {_MIXED} AS text)"
)


def fill(file: Path, url: str, number: int, *, held: int = HELD, labels: bool = True) -> Filled:
    """Fills two empty stores.

    Args:
        file: That of SQLite.
        url: That of Postgres, with its schema.
        number: How many operations there are to be.
        held: How many of them are in the hands of a process that is gone.
        labels: Whether they can be found by labels.
    """
    filled = Filled(number, file, url, waiting=number // 100)
    copies = [
        _Copies("done", number - held - filled.waiting, {"method": f"'{WAITING}' || (i % 4)"}),
        *([_Copies("held", held)] if held else []),
        _Copies("waiting", filled.waiting, {"method": f"'{WAITING}' || (i % 4)"}),
    ]
    kinds = [each.template for each in copies]
    _copy(filled, copies, 1, lambda store: _make_templates(store, kinds), labels)
    return filled


def add_backlog(filled: Filled) -> Filled:
    """Adds as many as there are: half wait behind a full key, and half are delayed.

    Besides, one operation with another key is ready, and one without a key: what is claimed.
    """
    half = filled.number // 2
    copies = [_Copies("full", half), _Copies("delayed", half)]
    _copy(filled, copies, filled.number + 1, _make_backlog, labels=False)
    return replace(filled, waiting=filled.waiting + 2 * half, backlog=2 * half)


@dataclass(frozen=True)
class _Copies:
    template: str
    number: int
    values: Mapping[str, str] | None = None
    """The SQL for columns of the operation number ``i``."""


def _template(kind: str) -> str:
    """Returns the id of what is copied, as long as those of copies."""
    return f"op-{kind:0<26}"


def _name_of_template(kind: str) -> str:
    return f"{PARENT}/operations/{_template(kind)}"


def _record(kind: str, **values: object) -> Record:
    chosen = {
        "parent": PARENT,
        "operation_id": _template(kind),
        "method": METHOD,
        "request": _REQUEST.SerializeToString(),
        "metadata_type": DEFAULT_TYPE.DESCRIPTOR.full_name,
        "now": SystemClock().now(),
    }
    return create(**(chosen | values))


async def _make_templates(store: Store, kinds: Sequence[str]) -> None:
    for kind in kinds:
        record = await store.create(_record(kind, method=METHOD if kind == "held" else WAITING))
        if kind != "waiting":
            await store.apply(record.name, Claim(15_000_000, worker="host:1"))
        if kind == "done":
            await store.apply(record.name, Succeed(Report(1), RESPONSE))


async def _make_backlog(store: Store) -> None:
    now = store.now()
    later = now + 24 * LEASE
    for made in (
        _record("taken", method=KEYED, concurrency_key=FULL_KEY, now=now),
        _record("full", method=KEYED, concurrency_key=FULL_KEY, now=now),
        _record("delayed", method=KEYED, concurrency_key=OTHER_KEY, now=now, schedule_time=later),
        _record("keyed", method=KEYED, concurrency_key=OTHER_KEY, now=now + 1),
        _record("plain", method=KEYED, now=now + 1, priority=-1),
    ):
        await store.create(made)
    await store.apply(_name_of_template("taken"), Claim(LEASE))


def _copy(
    filled: Filled,
    copies: Sequence[_Copies],
    first: int,
    make: Callable[[Store], Awaitable[None]],
    labels: bool,
) -> None:
    async def make_in(store: Store) -> None:
        await store.open()
        await make(store)
        await store.close()

    def in_sqlite() -> None:
        asyncio.run(make_in(filled.sqlite()))
        _copy_in_sqlite(filled.file, copies, first, labels)

    def in_postgres() -> None:
        asyncio.run(make_in(filled.postgres()))
        asyncio.run(_copy_in_postgres(filled.url, copies, first, labels))

    with ThreadPoolExecutor() as pool:
        for ended in [pool.submit(in_sqlite), pool.submit(in_postgres)]:
            ended.result()


def _copy_in_sqlite(file: Path, copies: Sequence[_Copies], first: int, labels: bool) -> None:
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as connection:
        for setting in ("journal_mode = OFF", "synchronous = OFF", "cache_size = -500000"):
            connection.execute(f"PRAGMA {setting}")
        connection.execute("BEGIN")
        # Those in which new rows lie anywhere are quicker made in the end.
        indexes = connection.execute(
            "SELECT name, sql FROM sqlite_schema"
            " WHERE name IN ('operations_names', 'operations_ids')"
        ).fetchall()
        (before,) = connection.execute("SELECT max(sequence) FROM operations").fetchone()
        templates = [_name_of_template(each.template) for each in copies]
        rows = [
            connection.execute("SELECT sequence FROM operations WHERE name = ?", (name,)).fetchone()
            for name in templates
        ]
        for name, _ in indexes:
            connection.execute(f"DROP INDEX {name}")
        for statement, (sequence,) in zip(
            _statements("operations", copies, first, _RENAMED_IN_SQLITE), rows, strict=True
        ):
            connection.execute(statement, (sequence,))
        for _, definition in indexes:
            connection.execute(definition)
        for statement in _of_labels("labels", "operations", before) if labels else ():
            connection.execute(statement)
        connection.execute("COMMIT")
        connection.execute("PRAGMA journal_mode = WAL")


async def _copy_in_postgres(url: str, copies: Sequence[_Copies], first: int, labels: bool) -> None:
    connection = await database.connect(url)
    find = "SELECT sequence FROM lro_operations WHERE name = $1"
    rows = [await connection.fetchval(find, _name_of_template(each.template)) for each in copies]
    async with database.without_indexes(connection):
        before = await connection.fetchval("SELECT max(sequence) FROM lro_operations")
        for statement, sequence in zip(
            _statements("lro_operations", copies, first, _RENAMED_IN_POSTGRES, "version, phase, "),
            rows,
            strict=True,
        ):
            await connection.execute(statement.replace("?", str(sequence)))
    for statement in _of_labels("lro_labels", "lro_operations", before) if labels else ():
        await connection.execute(statement)
    await connection.execute("VACUUM ANALYZE lro_operations")
    await connection.execute("VACUUM ANALYZE lro_labels")
    await connection.close()


# The name is the first field of the bytes: it stands behind its tag and its length.
_RENAMED_IN_SQLITE = (
    "CAST(substr(operation, 1, 2) || {name} || substr(operation, 3 + length(name)) AS blob)"
)
_RENAMED_IN_POSTGRES = (
    "substr(operation, 1, 2) || convert_to({name}, 'UTF8') || substr(operation, 3 + length(name))"
)


def _statements(
    table: str, copies: Sequence[_Copies], first: int, renamed: str, more: str = ""
) -> Iterator[str]:
    """Yields the statements that copy rows, in the order of their numbers.

    Each has a place for the row's ``sequence``.
    """
    parent = f"CASE WHEN {_IS_OTHER} THEN '{OTHER_PARENT}' ELSE '{PARENT}' END"
    name = f"({parent} || '/operations/' || {_ID})"
    label = " || ".join(
        f"coalesce('{key}=' || {value} || ',', '')" for key, value in _LABELS.items()
    )
    for each in copies:
        values = {
            "name": name,
            "parent": parent,
            "operation": renamed.format(name=name),
            "labels": f"',' || {label}" if each.values else "labels",
            **(each.values or {}),
        }
        of_row = ", ".join(values.get(column, column) for column in COLUMNS)
        yield (
            f"INSERT INTO {table} ({more}{', '.join(COLUMNS)}) WITH RECURSIVE n(i) AS"
            f" (SELECT {first} UNION ALL SELECT i + 1 FROM n WHERE i < {first + each.number - 1})"
            f" SELECT {more}{of_row} FROM n, {table} WHERE sequence = ?"
        )
        first += each.number


def _of_labels(table: str, operations: str, before: int) -> Iterator[str]:
    """Yields the statements that give the copies their labels, each in the order of its index."""
    for key, value in _LABELS.items():
        yield (
            f"INSERT INTO {table} (key, value, operation) SELECT '{key}', {value}, sequence FROM"
            f" (SELECT sequence, sequence - {before} AS i FROM {operations}"
            f" WHERE sequence > {before} AND labels <> '') AS o WHERE {value} IS NOT NULL"
            " ORDER BY 2, 3"
        )
