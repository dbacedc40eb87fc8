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
from pathlib import Path

import lro_grpc
from benchmarks.figure import Figure
from lro.example.v1 import fleet_service_pb2
from lro_grpc._runtime.clock import SystemClock
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

    store = SqliteStore(path, SystemClock().now)
    operations = lro_grpc.Operations(store, limits=lro_grpc.Limits(queue=JOBS))
    method = "/lro.example.v1.FleetService/CreateInstance"
    operations.add_method(
        method,
        nothing,
        request=fleet_service_pb2.CreateInstanceRequest,
        response=fleet_service_pb2.Instance,
    )
    await operations.start()
    done = asyncio.Semaphore(AT_A_TIME)
    store.subscribe(lambda _, record: done.release() if record.done else None)
    calls = operations.local()
    request = fleet_service_pb2.CreateInstanceRequest(parent="projects/p/locations/l")
    rate = await _rate(done, lambda: calls.call(method, request.SerializeToString(), None))
    await operations.stop(lambda: asyncio.sleep(0))
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
