"""One process that takes jobs from their start to their end, in one of several ways.

``start_to_done_process.py KIND URL JOBS ALL``: JOBS are its own, and ALL those of all processes.

==============  ============================================================================
kind            a job
==============  ============================================================================
operations      an operation of a handler that does nothing, on a store in Postgres or SQLite
raw             an INSERT, a claim by SKIP LOCKED and an UPDATE by asyncpg, each a commit
procrastinate   a task of Procrastinate that does nothing
==============  ============================================================================
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
import time
from collections.abc import Awaitable, Callable

import lro_grpc
from benchmarks import database
from benchmarks.together import Part
from lro.example.v1 import fleet_service_pb2
from lro_grpc._operation.record import Record
from lro_grpc._stores.postgres.options import parse
from lro_grpc._stores.postgres.rows import DONE
from lro_grpc._stores.store import Store

AT_A_TIME = 250
"""The operations that a process has under way."""

CONNECTIONS = 16
"""Those of all processes, for a job that uses the database by itself."""

LOOK_SECONDS = 0.2

_METHOD = "/lro.example.v1.FleetService/CreateInstance"


class InFlight:
    """The operations that this process has started and that have not ended: so many at a time.

    Another process may end what this one has started, and this one hears nothing of it. So when
    it hears of no end for a moment, those that have ended are counted in the database.

    Args:
        parent: The parent of these operations, and of no others.
        count: Counts the operations with a parent, or with any, that have ended.
    """

    def __init__(self, parent: str, count: Callable[[str], Awaitable[int]]) -> None:
        self.room = asyncio.Semaphore(AT_A_TIME)
        self.last = 0.0
        """When this process ended an operation of whichever process."""
        self._parent = parent
        self._count = count
        self._ended = 0

    def note(self, _: Record | None, record: Record) -> None:
        """Takes a change of this process."""
        if record.done:
            self.last = time.monotonic()
            if record.parent == self._parent:
                self._end(1)

    async def follow_others(self) -> None:
        """Looks for what other processes have ended, until it is cancelled."""
        while True:
            before = self._ended
            await asyncio.sleep(LOOK_SECONDS)
            if self._ended == before:
                self._end(await self._count(self._parent) - self._ended)

    def _end(self, number: int) -> None:
        self._ended += number
        for _ in range(number):
            self.room.release()


async def operations(url: str, jobs: int, total: int) -> None:
    """Starts operations, and serves until those of all processes have ended."""

    async def nothing(request: object, op: object) -> fleet_service_pb2.Instance:
        del request, op
        return fleet_service_pb2.Instance()

    served = lro_grpc.Operations(url, limits=lro_grpc.Limits(queue=10 * total))
    served.add_method(
        _METHOD,
        nothing,
        request=fleet_service_pb2.CreateInstanceRequest,
        response=fleet_service_pb2.Instance,
    )
    await served.start()
    parent = f"projects/p{os.getpid()}/locations/l"
    body = fleet_service_pb2.CreateInstanceRequest(parent=parent).SerializeToString()
    calls = served.local()
    async with _counting(url, served.store) as count:
        in_flight = InFlight(parent, count)
        served.store.subscribe(in_flight.note)
        part = Part()
        part.begin()
        following = asyncio.create_task(in_flight.follow_others())
        starts = set()
        for _ in range(jobs):
            await in_flight.room.acquire()
            task = asyncio.create_task(calls.call(_METHOD, body, None))
            starts.add(task)
            task.add_done_callback(starts.discard)
        while await count("") < total:  # noqa: ASYNC110 - other processes end some of them
            await asyncio.sleep(LOOK_SECONDS)
        part.end(in_flight.last)
        following.cancel()
    await served.stop(lambda: asyncio.sleep(0))


@contextlib.asynccontextmanager
async def _counting(url: str, store: Store):
    """Gives what counts the operations with a parent, or with any, that have ended."""
    if not url.startswith("postgresql:"):
        ended: list[str] = []  # by this process, for there is no other one
        store.subscribe(lambda _, record: ended.append(record.parent) if record.done else None)

        async def here(parent: str) -> int:
            return ended.count(parent) if parent else len(ended)

        yield here
        return
    async with database.pool(url, 2) as pool:

        async def in_database(parent: str) -> int:
            whose = "parent = $1 OR $1 = ''"
            count = f"SELECT count(*) FROM lro_operations WHERE phase = {DONE} AND ({whose})"
            return await pool.fetchval(count, parent)

        yield in_database


RAW_TABLE = (
    "CREATE TABLE raw (id bigserial PRIMARY KEY, name text UNIQUE, state int2,"
    " attempt int DEFAULT 0, lease timestamptz, body bytea);"
    "CREATE INDEX ON raw (id) WHERE state = 0"
)
_INSERT = "INSERT INTO raw (name, state, body) VALUES ($1, 0, $2)"
_CLAIM = (
    "UPDATE raw SET state = 1, lease = now() + interval '15 s', attempt = attempt + 1"
    " WHERE id = (SELECT id FROM raw WHERE state = 0 ORDER BY id FOR UPDATE SKIP LOCKED LIMIT 1)"
    " RETURNING id, attempt"
)
_FINISH = "UPDATE raw SET state = 2 WHERE id = $1 AND attempt = $2"


async def raw(url: str, jobs: int, total: int) -> None:
    """Makes rows, and takes as many to their end, each on a connection of a pool."""

    left = iter(range(jobs))

    async def some_jobs() -> None:
        for _ in left:
            async with pool.acquire() as connection:
                await connection.execute(_INSERT, os.urandom(16).hex(), b"x" * 200)
                claimed = None
                while claimed is None:  # others may hold all that are there, for a moment
                    claimed = await connection.fetchrow(_CLAIM)
                await connection.execute(_FINISH, *claimed)

    number = CONNECTIONS * jobs // total
    async with database.pool(url, number) as pool:
        part = Part()
        part.begin()
        await asyncio.gather(*(some_jobs() for _ in range(number)))
        part.end(time.monotonic())


async def procrastinate(url: str, jobs: int, total: int) -> None:
    """Defers tasks, and works them off."""
    import procrastinate

    logging.disable(logging.CRITICAL)
    options = parse(url)
    app = procrastinate.App(
        connector=procrastinate.PsycopgConnector(
            conninfo=options.url,
            kwargs={"options": f"-c search_path={options.schema}"},
            min_size=4,
            max_size=CONNECTIONS,
        )
    )
    left, ended, all_ended = iter(range(jobs)), iter(range(jobs, -1, -1)), asyncio.Event()

    @app.task(queue="jobs")
    async def nothing() -> None:
        if next(ended) == 1:
            all_ended.set()

    async def defer() -> None:
        for _ in left:
            await nothing.defer_async()

    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        part = Part()
        part.begin()
        working = asyncio.create_task(
            app.run_worker_async(
                queues=["jobs"], concurrency=CONNECTIONS, install_signal_handlers=False
            )
        )
        await asyncio.gather(*(defer() for _ in range(CONNECTIONS)))
        await all_ended.wait()
        part.end(time.monotonic())
        working.cancel()
        await asyncio.wait([working])


KINDS: dict[str, Callable[[str, int, int], Awaitable[None]]] = {
    "operations": operations,
    "raw": raw,
    "procrastinate": procrastinate,
}

if __name__ == "__main__":
    kind, url, jobs, total = sys.argv[1:]
    asyncio.run(KINDS[kind](url, int(jobs), int(total)))
