"""Fair queues: claims behind a million operations of a full key, and the cost of keys.

``fair.py [NUMBER]`` takes another number than a million.
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
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import lro_grpc
from benchmarks import database
from benchmarks.figure import Figure
from lro.example.v1 import fleet_service_pb2
from lro_grpc._conformance.cases import Cases
from lro_grpc._operation.events import Claim, Release, Report
from lro_grpc._runtime.clock import SystemClock
from lro_grpc._stores.postgres.rows import COLUMNS
from lro_grpc._stores.postgres.store import PostgresStore
from lro_grpc._stores.store import Claimed, Store
from lro_grpc.stores import SqliteStore

FEW = 1_000
MANY = 1_000_000
CLAIMS = 41

JOBS = 4_000
AT_A_TIME = 250
ROUNDS = 7
KEYS = (1, 100, JOBS)

_LEASE = 3_600_000_000
_FULL, _DELAYED = "behind those of a full key", "behind those that are delayed"


def measure(server: database.Database, many: int = MANY) -> list[Figure]:
    """Claims behind few and behind many, and starts operations with keys and without."""
    figures = []
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as schemas:
        files = [Path(folder, f"{number}.db") for number in (FEW, many)]
        urls = [schemas.enter_context(server.schema()) for _ in files]
        for number, file, url in zip((FEW, many), files, urls, strict=True):
            asyncio.run(_fill(SqliteStore(file, SystemClock().now)))
            _copy_in_sqlite(file, number)
            asyncio.run(_fill(PostgresStore(url)))
            asyncio.run(_copy_in_postgres(url, number))
        sqlite = [SqliteStore(file, SystemClock().now) for file in files]
        figures += asyncio.run(_claims("SQLite", *sqlite, many))
        figures += asyncio.run(_claims("Postgres", *map(PostgresStore, urls), many))
        numbers = itertools.count()
        figures += _starts(
            "SQLite",
            lambda: SqliteStore(Path(folder, f"{next(numbers)}.db"), SystemClock().now),
            time.process_time,
        )
    with contextlib.ExitStack() as schemas:
        figures += _starts(
            "Postgres and its client",
            lambda: PostgresStore(schemas.enter_context(server.schema())),
            lambda: time.process_time() + server.cpu_seconds(),
        )
    return figures


async def _claims(where: str, few: Store, many: Store, number: int) -> Sequence[Figure]:
    """Claims, in turn, behind few and behind many, what is ready; and gives it back."""
    times: dict[str, tuple[list[float], list[float]]] = {_FULL: ([], []), _DELAYED: ([], [])}
    for store in (few, many):
        await store.open()
    for _ in range(CLAIMS):
        for what, taken in times.items():
            for store, of_store in zip((few, many), taken, strict=True):
                of_store.append(await _one_claim(store, what))
    for store in (few, many):
        await store.close()
    return [
        Figure(
            what=f"claim {what} in {where}: {number:,} of them beside {FEW:,}, median",
            ours=statistics.median(behind_many),
            baseline=statistics.median(behind_few),
            unit="ms",
            goal="≤ 2 ×",
            meets=lambda _, ratio: ratio <= 2,
        )
        for what, (behind_few, behind_many) in times.items()
    ]


async def _one_claim(store: Store, what: str) -> float:
    claim = Claim(_LEASE)
    take: Callable[[], Awaitable[Sequence[Claimed]]]
    if what == _FULL:

        async def take() -> Sequence[Claimed]:
            return (await store.claim_by_key(Cases.METHOD, 16, 1, claim)).claimed
    else:

        async def take() -> Sequence[Claimed]:
            return await store.claim({Cases.METHOD: 16}, claim)

    begin = time.perf_counter()
    claimed = await take()
    taken = (time.perf_counter() - begin) * 1000
    (one,) = claimed
    await store.apply(one.before.name, Release(Report(one.before.attempt + 1)))
    return taken


async def _fill(store: Store) -> None:
    """Stores what is copied; a key that is full; and what is ready: with a key, and without."""
    await store.open()
    make = Cases().record
    now = store.now()
    later = now + 24 * _LEASE
    for made in (
        make("full-held", concurrency_key="a", now=now),
        make("full", concurrency_key="a", now=now),
        make("delayed", concurrency_key="b", now=now, schedule_time=later),
        make("plain-delayed", now=now, schedule_time=later),
        make("keyed", concurrency_key="b", now=now + 1),
        make("plain", now=now + 1, priority=-1),
    ):
        await store.create(made)
    await store.apply(f"{Cases.PARENT}/operations/full-held", Claim(_LEASE))
    await store.close()


def _copies(table: str, many: int, more: str = "") -> str:
    """Returns the statement that makes copies of what is full, and of what is delayed."""
    of_row = ", ".join("name || i" if one == "name" else one for one in COLUMNS)
    named = ", ".join(f"'{Cases.PARENT}/operations/{one}'" for one in ("full", "delayed"))
    return (
        f"INSERT INTO {table} ({more}{', '.join(COLUMNS)}) WITH RECURSIVE n(i) AS (SELECT 1"
        f" UNION ALL SELECT i + 1 FROM n WHERE i < {many}) SELECT {more}{of_row}"
        f" FROM {table}, n WHERE name IN ({named})"
    )


def _copy_in_sqlite(path: Path, many: int) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute(_copies("operations", many))


async def _copy_in_postgres(url: str, many: int) -> None:
    connection = await database.connect(url)
    async with database.without_indexes(connection):
        await connection.execute(_copies("lro_operations", many, "version, phase, "))
    await connection.execute("VACUUM ANALYZE lro_operations")
    await connection.close()


def _starts(where: str, make: Callable[[], Store], cpu: Callable[[], float]) -> list[Figure]:
    """Takes operations from start to done: with a number of keys, and with none."""
    taken: dict[int, list[float]] = {number: [] for number in (0, *KEYS)}
    for _ in range(ROUNDS):
        for number, of_number in taken.items():
            of_number.append(asyncio.run(_microseconds(make(), number, cpu)))
    none = statistics.median(taken[0])
    return [
        Figure(
            what=f"CPU of start to done with {number:,} keys, {where}, beside none, median",
            ours=statistics.median(taken[number]),
            baseline=none,
            unit="µs",
            goal="≤ 1.18 ×",
            meets=lambda _, ratio: ratio <= 1.18,
        )
        for number in KEYS
    ]


async def _microseconds(store: Store, keys: int, cpu: Callable[[], float]) -> float:
    async def nothing(request: object, op: object) -> fleet_service_pb2.Instance:
        del request, op
        return fleet_service_pb2.Instance()

    operations = lro_grpc.Operations(store, limits=lro_grpc.Limits(queue=JOBS))
    method = "/lro.example.v1.FleetService/CreateInstance"
    key = itertools.cycle([f"tenants/{number}" for number in range(keys)] or [""])
    operations.add_method(
        method,
        nothing,
        request=fleet_service_pb2.CreateInstanceRequest,
        response=fleet_service_pb2.Instance,
        prepare=lambda request, context: lro_grpc.Prepared(concurrency_key=next(key)),
        options=lro_grpc.MethodOptions(concurrency_per_key=AT_A_TIME),
    )
    await operations.start()
    room = asyncio.Semaphore(AT_A_TIME)
    store.subscribe(lambda _, record: room.release() if record.done else None)
    calls = operations.local()
    request = fleet_service_pb2.CreateInstanceRequest(parent=Cases.PARENT).SerializeToString()
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


if __name__ == "__main__":
    with database.running() as postgres:
        for figure in measure(postgres, int(sys.argv[1]) if sys.argv[1:] else MANY):
            print(figure.row(), flush=True)
