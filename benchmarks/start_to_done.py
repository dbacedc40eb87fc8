"""Start to done of a handler that does nothing, beside the bare writes that it takes.

Both in this process, on a SQLite file with ``synchronous=FULL``, as many at a time.
"""

from __future__ import annotations

import asyncio
import os
import queue
import sqlite3
import statistics
import tempfile
import threading
import time
from datetime import timedelta
from pathlib import Path

from benchmarks.figure import Figure
from lro.example.v1 import fleet_service_pb2
from lro_grpc._operation import names
from lro_grpc._operation.metadata import DEFAULT_TYPE
from lro_grpc._operation.size import OPERATION_BYTES
from lro_grpc._runtime.clock import SystemClock
from lro_grpc._server.decorator import MethodOptions
from lro_grpc._server.guarded_store import GuardedStore
from lro_grpc._server.limits import Queues
from lro_grpc._server.rpc.call import Call, Waiters
from lro_grpc._server.services.start import Starter
from lro_grpc.engines import Handler, InProcess, Workbench
from lro_grpc.stores import SqliteStore

JOBS = 15_000
AT_A_TIME = 250
ROUNDS = 7


def measure() -> list[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        rounds = [
            (
                asyncio.run(_ours(Path(folder, f"ours-{number}.db"))),
                asyncio.run(_bare(Path(folder, f"bare-{number}.db"))),
            )
            for number in range(ROUNDS)
        ]
    return [
        Figure(
            what="start to done",
            ours=statistics.median(ours for ours, _ in rounds),
            baseline=statistics.median(bare for _, bare in rounds),
            unit="jobs/s",
            goal="≥ 5,000/s and ≥ 0.25 × the bare group commit",
            meets=lambda rate, ratio: rate >= 5000 and ratio >= 0.25,
        )
    ]


async def _ours(path: Path) -> float:
    async def nothing(request: object, op: object) -> fleet_service_pb2.Instance:
        del request, op
        return fleet_service_pb2.Instance()

    handler = Handler(
        method="/lro.example.v1.FleetService/CreateInstance",
        run=nothing,
        request=fleet_service_pb2.CreateInstanceRequest,
        response=fleet_service_pb2.Instance,
        metadata=DEFAULT_TYPE,
        error_domain="benchmark",
    )
    clock = SystemClock()
    store = SqliteStore(path, clock.now)
    await store.open()
    lease, sweep = timedelta(seconds=15), timedelta(seconds=5)
    workbench = Workbench(store, {handler.method: handler}, clock, lease=lease, sweep=sweep)
    engine = InProcess(workbench)
    await engine.start()
    done = asyncio.Semaphore(AT_A_TIME)
    store.subscribe(lambda _, record: done.release() if record.done else None)
    queues = Queues(store, JOBS)
    await queues.load(handler.method)
    starter = Starter(
        handler,
        None,
        MethodOptions(),
        timedelta(days=30),
        GuardedStore(store),
        queues,
        OPERATION_BYTES,
        clock,
        lambda: names.new_id(os.urandom),
    )
    call = Call(None, handler.method, Waiters(0))
    request = fleet_service_pb2.CreateInstanceRequest(parent="projects/p/locations/l")
    rate = await _rate(done, lambda: starter.start(request.SerializeToString(), call))
    await engine.stop(timedelta(seconds=1))
    await store.close()
    return rate


async def _bare(path: Path) -> float:
    """An insert and two updates for each job, each awaited, all that wait committed together."""
    loop = asyncio.get_running_loop()
    work: queue.SimpleQueue = queue.SimpleQueue()
    writer = threading.Thread(target=_write, args=(path, work, loop))
    writer.start()
    done = asyncio.Semaphore(AT_A_TIME)

    async def write(statement: str, *arguments: object) -> None:
        written = loop.create_future()
        work.put((statement, arguments, written))
        await written

    async def job() -> None:
        name = os.urandom(16).hex()
        await write("INSERT INTO jobs VALUES (?, ?, ?)", name, "queued", b"x" * 200)
        await write("UPDATE jobs SET state = ? WHERE name = ?", "running", name)
        await write("UPDATE jobs SET state = ? WHERE name = ?", "done", name)
        done.release()

    rate = await _rate(done, job)
    work.put(None)
    writer.join()
    return rate


def _write(path: Path, work: queue.SimpleQueue, loop: asyncio.AbstractEventLoop) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("CREATE TABLE jobs (name TEXT PRIMARY KEY, state TEXT, body BLOB)")
    item = work.get()
    while item is not None:
        items = [item]
        while not work.empty() and len(items) < 1000:
            items.append(work.get())
        item = None if items[-1] is None else ...
        items = [one for one in items if one is not None]
        connection.execute("BEGIN")
        for statement, arguments, _ in items:
            connection.execute(statement, arguments)
        connection.execute("COMMIT")
        loop.call_soon_threadsafe(lambda ended=items: [one[2].set_result(None) for one in ended])
        if item is not None:
            item = work.get()
    connection.close()


async def _rate(done: asyncio.Semaphore, start) -> float:
    """Starts all jobs, some at a time, and returns how many ended in a second."""
    began = time.perf_counter()
    starts = set()
    for _ in range(JOBS):
        await done.acquire()
        task = asyncio.create_task(start())
        starts.add(task)
        task.add_done_callback(starts.discard)
    for _ in range(AT_A_TIME):
        await done.acquire()
    return JOBS / (time.perf_counter() - began)
