"""Labels: pages of those of a million operations that have one, and the cost of two at a start.

``labels.py [NUMBER]`` takes another number than a million.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import lro_grpc
from benchmarks import database
from benchmarks.counts import make_templates
from benchmarks.figure import Figure
from lro.example.v1 import fleet_service_pb2
from lro_grpc._filtering.parser import parse
from lro_grpc._runtime.clock import SystemClock
from lro_grpc._stores.postgres.rows import COLUMNS
from lro_grpc._stores.postgres.store import PostgresStore
from lro_grpc._stores.store import Query, Store
from lro_grpc.stores import SqliteStore

MANY = 1_000_000
PAGE = 51
CALLS = 15

JOBS = 4_000
AT_A_TIME = 250
ROUNDS = 7

_PARENT, _OTHER = "projects/p/locations/l", "projects/q/locations/l"
_LABELS = (
    "',env=' || CASE WHEN i % 10 = 0 THEN 'dev' ELSE 'prod' END"
    " || ',run=' || CASE WHEN i = 1234 THEN 'only' ELSE 'r' END || ',tenant=t' || (i % 1000) || ','"
)
"""The SQL for the labels of the operation number ``i``."""

_ELSEWHERE = "a label that 90 % have, all under another parent"
"""The worst: 10,000 operations are looked at, and none of them is listed."""

QUERIES = {
    "no filter": Query(_PARENT),
    "a label that one has": Query(_PARENT, parse("labels.run = only")),
    "a label that 0.1 % have": Query(_PARENT, parse("labels.tenant = t7")),
    "a label that 90 % have": Query(_PARENT, parse("labels.env = prod")),
    "a label that none has": Query(_PARENT, parse("labels.run = none")),
    "two labels, of 90 % and of 0.1 %": Query(
        _PARENT, parse("labels.env = prod labels.tenant = t7")
    ),
    _ELSEWHERE: Query(_OTHER, parse("labels.env = prod")),
}


def measure(server: database.Database, many: int = MANY) -> list[Figure]:
    """Asks for pages of what has a label, and starts operations with labels and without."""
    figures = []
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "many.db")
        asyncio.run(_fill(SqliteStore(file, SystemClock().now)))
        _copy_in_sqlite(file, many)
        figures += asyncio.run(_pages("SQLite", SqliteStore(file, SystemClock().now), many))
        numbers = itertools.count()
        figures += _starts(
            "SQLite",
            lambda: SqliteStore(Path(folder, f"{next(numbers)}.db"), SystemClock().now),
            time.process_time,
        )
    with server.schema() as url:
        asyncio.run(_fill(PostgresStore(url)))
        asyncio.run(_copy_in_postgres(url, many))
        figures += asyncio.run(_pages("Postgres", PostgresStore(url), many))
    with contextlib.ExitStack() as schemas:
        figures += _starts(
            "Postgres and its client",
            lambda: PostgresStore(schemas.enter_context(server.schema())),
            lambda: time.process_time() + server.cpu_seconds(),
        )
    return figures


async def _pages(where: str, store: Store, many: int) -> list[Figure]:
    await store.open()
    times: dict[str, list[float]] = {what: [] for what in QUERIES}
    for _ in range(CALLS):
        for what, query in QUERIES.items():
            begin = time.perf_counter()
            await store.page(query, position=b"", size=PAGE)
            times[what].append((time.perf_counter() - begin) * 1000)
    await store.close()
    baseline = statistics.median(times.pop("no filter"))
    return [_figure(where, what, taken, baseline, many) for what, taken in times.items()]


def _figure(where: str, what: str, taken: list[float], baseline: float, many: int) -> Figure:
    most = 50 if what == _ELSEWHERE else 5
    return Figure(
        what=f"page of {PAGE} of {many:,} in {where}, {what}, beside no filter, median",
        ours=statistics.median(taken),
        baseline=baseline,
        unit="ms",
        goal=f"≤ {most} ms",
        meets=lambda milliseconds, _: milliseconds <= most,
    )


def _starts(where: str, make: Callable[[], Store], cpu: Callable[[], float]) -> list[Figure]:
    """Takes operations from start to done: some with two labels, and as many with none."""
    rounds = []
    for _ in range(ROUNDS):
        with_two = asyncio.run(_microseconds(make(), {"env": "prod", "tenant": "t1234567"}, cpu))
        rounds.append((with_two, asyncio.run(_microseconds(make(), {}, cpu))))
    return [
        Figure(
            what=f"CPU of start to done with two labels, {where}, beside none, median",
            ours=statistics.median(ours for ours, _ in rounds),
            baseline=statistics.median(none for _, none in rounds),
            unit="µs",
            goal="≤ 1.06 ×",
            meets=lambda _, ratio: ratio <= 1.06,
        )
    ]


async def _microseconds(store: Store, labels: dict[str, str], cpu: Callable[[], float]) -> float:
    async def nothing(request: object, op: object) -> fleet_service_pb2.Instance:
        del request, op
        return fleet_service_pb2.Instance()

    operations = lro_grpc.Operations(store, limits=lro_grpc.Limits(queue=JOBS))
    method = "/lro.example.v1.FleetService/CreateInstance"
    operations.add_method(
        method,
        nothing,
        request=fleet_service_pb2.CreateInstanceRequest,
        response=fleet_service_pb2.Instance,
        prepare=lambda request, context: lro_grpc.Prepared(labels=labels),
    )
    await operations.start()
    room = asyncio.Semaphore(AT_A_TIME)
    store.subscribe(lambda _, record: room.release() if record.done else None)
    calls = operations.local()
    request = fleet_service_pb2.CreateInstanceRequest(parent=_PARENT).SerializeToString()
    began = cpu()
    starts = set()
    for _ in range(JOBS):
        await room.acquire()
        starts.add(task := asyncio.create_task(calls.call(method, request, None)))
        task.add_done_callback(starts.discard)
    for _ in range(AT_A_TIME):
        await room.acquire()
    taken = cpu() - began
    await operations.stop(lambda: asyncio.sleep(0))
    return taken / JOBS * 1_000_000


async def _fill(store: Store) -> None:
    await store.open()
    await make_templates(store)
    await store.close()


def _copies(table: str, many: int, more: str = "") -> str:
    """Returns the statement that makes copies of an operation that is done."""
    values = {
        "name": f"'{_PARENT}/operations/op-' || i",
        "parent": f"'{_PARENT}'",
        "labels": _LABELS,
    }
    of_row = ", ".join(values.get(column, column) for column in COLUMNS)
    return (
        f"INSERT INTO {table} ({more}{', '.join(COLUMNS)}) WITH RECURSIVE n(i) AS (SELECT 1"
        f" UNION ALL SELECT i + 1 FROM n WHERE i < {many}) SELECT {more}{of_row}"
        f" FROM {table}, n WHERE name = 'templates/operations/done'"
    )


def _labels(table: str, operations: str) -> Iterator[str]:
    """Yields the statements that give the copies their labels, each in the order of its index."""
    values = {
        "env": "CASE WHEN i % 10 = 0 THEN 'dev' ELSE 'prod' END",
        "run": "CASE WHEN i = 1234 THEN 'only' ELSE 'r' END",
        "tenant": "'t' || (i % 1000)",
    }
    number = f"CAST(substr(name, {len(_PARENT) + 16}) AS integer) AS i"
    for key, value in values.items():
        yield (
            f"INSERT INTO {table} (key, value, operation) SELECT '{key}', {value}, sequence FROM"
            f" (SELECT sequence, {number} FROM {operations} WHERE parent = '{_PARENT}') AS o"
            " ORDER BY 2, 3"
        )


def _copy_in_sqlite(path: Path, many: int) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute(_copies("operations", many))
        before = _bytes_in(connection)
        for statement in _labels("labels", "operations"):
            connection.execute(statement)
        _print_size("SQLite", _bytes_in(connection) - before, many)


def _bytes_in(connection: sqlite3.Connection) -> int:
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    (size,) = connection.execute("PRAGMA page_size").fetchone()
    return int(pages * size)


async def _copy_in_postgres(url: str, many: int) -> None:
    connection = await database.connect(url)
    async with database.without_indexes(connection):
        await connection.execute(_copies("lro_operations", many, "version, phase, "))
    for statement in _labels("lro_labels", "lro_operations"):
        await connection.execute(statement)
    await connection.execute("VACUUM ANALYZE lro_operations")
    await connection.execute("VACUUM ANALYZE lro_labels")
    size = await connection.fetchval("SELECT pg_total_relation_size('lro_labels')")
    _print_size("Postgres", size, many)
    await connection.close()


def _print_size(where: str, size: int, many: int) -> None:
    print(f"a label takes {size / many / 3:.0f} bytes of its table in {where}", flush=True)


if __name__ == "__main__":
    with database.running() as postgres:
        for figure in measure(postgres, int(sys.argv[1]) if sys.argv[1:] else MANY):
            print(figure.row(), flush=True)
