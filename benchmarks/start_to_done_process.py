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

AT_A_TIME = 250
"""The operations that a process has under way."""

CONNECTIONS = 16
"""Those of all processes, for a job that uses the database by itself."""

LOOK_SECONDS = 0.2
STILL_SECONDS = 1.0

_METHOD = "/lro.example.v1.FleetService/CreateInstance"


class Ends:
    """The ends of operations that this process makes, whichever process has started them."""

    def __init__(self) -> None:
        self.number = 0
        self.last = 0.0
        self.room = asyncio.Semaphore(AT_A_TIME)

    def note(self, _: Record | None, record: Record) -> None:
        """Takes a change of this process; an end has another operation started."""
        if record.done:
            self.number += 1
            self.last = time.monotonic()
            self.room.release()

    async def keep_room(self) -> None:
        """Has an operation started when none ends: others may have ended all of this process."""
        while True:
            before = self.number
            await asyncio.sleep(STILL_SECONDS)
            if self.number == before:
                self.room.release()


async def operations(url: str, jobs: int, total: int) -> None:
    """Starts operations, and serves until those of all processes have ended.

    Another process may end what this one has started, and this one hears nothing of it: so all
    that have ended are counted in the database.
    """

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
    ends = Ends()
    served.store.subscribe(ends.note)
    calls = served.local()
    request = fleet_service_pb2.CreateInstanceRequest(parent="projects/p/locations/l")
    body = request.SerializeToString()
    async with _counting(url, ends) as ended:
        part = Part()
        part.begin()
        keeping = asyncio.create_task(ends.keep_room())
        starts = set()
        for _ in range(jobs):
            await ends.room.acquire()
            task = asyncio.create_task(calls.call(_METHOD, body, None))
            starts.add(task)
            task.add_done_callback(starts.discard)
        while await ended() < total:  # noqa: ASYNC110 - other processes end some of them
            await asyncio.sleep(LOOK_SECONDS)
        part.end(ends.last)
        keeping.cancel()
    await served.stop(lambda: asyncio.sleep(0))


@contextlib.asynccontextmanager
async def _counting(url: str, ends: Ends):
    """Gives what counts the operations of all processes that have ended."""
    if not url.startswith("postgresql:"):

        async def of_this_process() -> int:
            return ends.number

        yield of_this_process
        return
    connection = await database.connect(url)

    async def in_database() -> int:
        count = f"SELECT count(*) FROM lro_operations WHERE phase = {DONE}"
        return await connection.fetchval(count)

    yield in_database
    await connection.close()


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
