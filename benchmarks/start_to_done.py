"""Start to done of a handler that does nothing, beside the bare writes that it takes.

Each in a process of its own, on a SQLite file with ``synchronous=FULL``, as many at a time:
``start_to_done.py ours FILE JOBS``, or ``bare``.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import sqlite3
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path

from benchmarks import jobs, together
from benchmarks.figure import Figure
from lro_grpc._runtime.clock import SystemClock
from lro_grpc.stores import SqliteStore

JOBS = 10_000
WARM_UP = 1_000
ROUNDS = 5


def measure(rounds: int = ROUNDS, number: int = JOBS) -> list[Figure]:
    """Runs both in turn."""
    ours, bare = [], []
    for _ in range(rounds):
        ours.append(_work("ours", number))
        bare.append(_work("bare", number))
    return [
        Figure(
            what="start to done",
            ours=[number / work.seconds for work in ours],
            baseline=[number / work.seconds for work in bare],
            unit="jobs/s",
            goal="≥ 5,000/s and ≥ 0.25 × the bare group commit",
            meets=lambda rate, ratio: rate >= 5000 and ratio >= 0.25,
            cpu={
                "the process": (
                    [work.client_cpu * 1e6 / number for work in ours],
                    [work.client_cpu * 1e6 / number for work in bare],
                )
            },
        )
    ]


def _work(kind: str, number: int) -> together.Work:
    with tempfile.TemporaryDirectory() as folder:
        return together.run("start_to_done", [(kind, f"{folder}/jobs.db", number)])


async def _run(kind: str, path: Path, number: int) -> None:
    """Runs jobs, after a few that warm up."""
    ours = jobs.operations(SqliteStore(path, SystemClock().now))
    async with ours if kind == "ours" else _bare(path) as run:
        await run(WARM_UP)
        part = together.Part()
        part.begin()
        await run(number)
        part.end(time.monotonic())


@contextlib.asynccontextmanager
async def _bare(path: Path) -> AsyncIterator[jobs.Run]:
    """An insert and two updates for each job, each awaited, all that wait committed together."""
    loop = asyncio.get_running_loop()
    work: queue.SimpleQueue = queue.SimpleQueue()
    writer = threading.Thread(target=_write, args=(path, work, loop))
    writer.start()
    room = asyncio.Semaphore(jobs.AT_A_TIME)

    async def write(statement: str, *arguments: object) -> None:
        written = loop.create_future()
        work.put((statement, arguments, written))
        await written

    async def job() -> None:
        name = os.urandom(16).hex()
        await write("INSERT INTO jobs VALUES (?, ?, ?)", name, "queued", b"x" * 200)
        await write("UPDATE jobs SET state = ? WHERE name = ?", "running", name)
        await write("UPDATE jobs SET state = ? WHERE name = ?", "done", name)
        room.release()

    yield lambda number: jobs.each(number, room, job)
    work.put(None)
    writer.join()


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


if __name__ == "__main__":
    which, file, how_many = sys.argv[1:]
    asyncio.run(_run(which, Path(file), int(how_many)))
