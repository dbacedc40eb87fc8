"""Counts of a million operations, of which few or half wait, beside those of a thousand.

Meanwhile the event loop goes on: the longest time for which it stood still is measured, too. Of the
table in Postgres a tenth has just changed, and was not vacuumed since. ``counts.py [NUMBER]``.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks import database
from benchmarks.figure import Figure
from benchmarks.shared_claims import LEASE, RESPONSE
from lro_grpc._filtering.parser import parse
from lro_grpc._operation.events import Claim, Report, Succeed
from lro_grpc._operation.metadata import DEFAULT_TYPE
from lro_grpc._operation.publication import create
from lro_grpc._operation.record import Record
from lro_grpc._runtime.clock import SystemClock
from lro_grpc._stores.postgres.rows import COLUMNS
from lro_grpc._stores.postgres.store import PostgresStore
from lro_grpc._stores.store import Query, Store
from lro_grpc.stores import SqliteStore

MANY, FEW = 1_000_000, 1_000
RUNNING = 100
CALLS = 15

_PARENT, _OTHER = "projects/p/locations/l", "projects/q/locations/l"
_REQUEST = b"\n\x16projects/p/locations/l" + b"x" * 200

QUERIES = {
    "all": Query("-"),
    "a parent": Query(_PARENT),
    "a small parent": Query(_OTHER),
    "parents": Query("projects/-/locations/l"),
    "a filter": Query(_PARENT, parse("state = QUEUED OR done = true")),
}

Fill = Callable[[str, "Mixture"], None]


@dataclass(frozen=True)
class Mixture:
    """The operations of a store: of four methods, and a hundredth under another parent."""

    number: int
    waiting: int

    def value_of(self, column: str) -> str:
        """Returns the SQL for a column of the operation number ``i``."""
        parent = f"CASE WHEN i % 100 = 99 THEN '{_OTHER}' ELSE '{_PARENT}' END"
        return {
            "name": f"{parent} || '/operations/op-' || i",
            "parent": parent,
            "method": "'/benchmark.v1.Counts/Run' || i % 4",
        }.get(column, column)

    def parts(self) -> Iterator[tuple[str, int, int]]:
        """Yields the id of a template, and the numbers of the first and the last of its copies."""
        done = self.number - self.waiting - RUNNING
        yield "done", 1, done
        yield "running", done + 1, done + RUNNING
        yield "waiting", done + RUNNING + 1, self.number


def measure(server: database.Database, many: int = MANY) -> list[Figure]:
    """Asks a store with many operations and one with few in turn."""
    figures = []
    for waiting in (many // 100, many // 2):
        mixtures = [Mixture(many, waiting), Mixture(FEW, FEW // 100)]
        with tempfile.TemporaryDirectory() as folder:
            files = [Path(folder, f"{number}.db") for number in range(2)]
            for file, mixture in zip(files, mixtures, strict=True):
                _fill_sqlite(file, mixture)
            clock = SystemClock()
            stores = [SqliteStore(file, clock.now) for file in files]
            figures += asyncio.run(_measure("SQLite", stores, mixtures[0]))
        with server.schema() as large, server.schema() as small:
            for url, mixture in zip((large, small), mixtures, strict=True):
                asyncio.run(_fill_postgres(url, mixture))
            shared = [PostgresStore(url) for url in (large, small)]
            figures += asyncio.run(_measure("Postgres", shared, mixtures[0]))
    return figures


async def _measure(where: str, stores: list[Store], mixture: Mixture) -> list[Figure]:
    async with contextlib.AsyncExitStack() as open_stores:
        for store in stores:
            await store.open()
            open_stores.push_async_callback(store.close)
        figures = []
        longest = 0.0
        for what, query in QUERIES.items():
            times: list[list[float]] = [[], []]
            for _ in range(CALLS):
                for store, taken in zip(stores, times, strict=True):
                    async with _watched_loop() as lag:
                        begin = time.perf_counter()
                        await store.counts(query)
                        taken.append((time.perf_counter() - begin) * 1000)
                    longest = max(longest, *lag)
            figures.append(
                Figure(
                    what=f"counts of {what} in {where}, {mixture.waiting:,} of"
                    f" {mixture.number:,} wait, median",
                    ours=statistics.median(times[0]),
                    baseline=statistics.median(times[1]),
                    unit="ms",
                    goal="≤ 200 ms",
                    meets=lambda milliseconds, _: milliseconds <= 200,
                )
            )
        async with _watched_loop() as idle:
            await asyncio.sleep(1)
        figures.append(
            Figure(
                what=f"the loop stands still meanwhile at most, {where}, beside a second of rest",
                ours=longest,
                baseline=max(idle),
                unit="ms",
                goal="≤ 50 ms",
                meets=lambda milliseconds, _: milliseconds <= 50,
            )
        )
        return figures


@contextlib.asynccontextmanager
async def _watched_loop() -> AsyncIterator[list[float]]:
    """Notes for how many milliseconds the loop stands still, each time, while the context lasts."""
    lags = [0.0]

    async def look() -> None:
        while True:
            begin = time.perf_counter()
            await asyncio.sleep(0.001)
            lags.append((time.perf_counter() - begin) * 1000 - 1)

    looking = asyncio.create_task(look())
    try:
        await asyncio.sleep(0)
        yield lags
    finally:
        looking.cancel()


async def make_templates(store: Store) -> None:
    """Stores an operation of each kind, to be copied."""
    for kind in ("done", "running", "waiting"):
        record = await store.create(_record(kind))
        if kind != "waiting":
            await store.apply(record.name, Claim(LEASE, worker="host:1"))
        if kind == "done":
            await store.apply(record.name, Succeed(Report(1), RESPONSE))


def _record(operation_id: str) -> Record:
    return create(
        parent="templates",
        operation_id=operation_id,
        method="/benchmark.v1.Counts/Run",
        request=_REQUEST,
        metadata_type=DEFAULT_TYPE.DESCRIPTOR.full_name,
        now=SystemClock().now(),
    )


def _copied(mixture: Mixture, table: str, more: str = "") -> Iterator[str]:
    """Yields the statements that make copies of the templates' rows, of a series named n(i)."""
    names = ", ".join(COLUMNS)
    values = ", ".join(mixture.value_of(column) for column in COLUMNS)
    for template, first, last in mixture.parts():
        yield (
            f"INSERT INTO {table} ({more}{names}) WITH RECURSIVE n(i) AS (SELECT {first} UNION ALL"
            f" SELECT i + 1 FROM n WHERE i < {last}) SELECT {more}{values} FROM {table}, n"
            f" WHERE name = 'templates/operations/{template}'"
        )


def _fill_sqlite(path: Path, mixture: Mixture) -> None:
    async def make() -> None:
        store = SqliteStore(path, SystemClock().now)
        await store.open()
        await make_templates(store)
        await store.close()

    asyncio.run(make())
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA synchronous = OFF")
        for statement in _copied(mixture, "operations"):
            connection.execute(statement)


async def _fill_postgres(url: str, mixture: Mixture) -> None:
    store = PostgresStore(url)
    await store.open()
    await make_templates(store)
    await store.close()
    connection = await database.connect(url)
    table = "lro_operations"
    async with database.without_indexes(connection):
        for statement in _copied(mixture, table, "version, phase, "):
            await connection.execute(statement)
    await connection.execute(f"ALTER TABLE {table} SET (autovacuum_enabled = off)")
    await connection.execute(f"VACUUM ANALYZE {table}")
    await connection.execute(f"UPDATE {table} SET version = version + 1 WHERE sequence % 10 = 0")
    await connection.close()


if __name__ == "__main__":
    with database.running() as postgres:
        for figure in measure(postgres, int(sys.argv[1]) if sys.argv[1:] else MANY):
            print(figure.row(), flush=True)
