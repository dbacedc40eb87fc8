"""The CPU time of an operation from start to done, with something and without it, in turn."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import lro_grpc
from benchmarks import database, jobs
from lro_grpc._runtime.clock import SystemClock
from lro_grpc._stores.postgres.store import PostgresStore
from lro_grpc._stores.store import Store
from lro_grpc.stores import SqliteStore

JOBS = 2_000
ROUNDS = 5

_Name = TypeVar("_Name", int, str)


@dataclass(frozen=True)
class Way:
    """One way to serve the method of the operations."""

    prepare: Callable[..., lro_grpc.Prepared]
    options: lro_grpc.MethodOptions | None = None


def measure(
    server: database.Database, ways: Mapping[_Name, Way], rounds: int = ROUNDS, number: int = JOBS
) -> dict[str, dict[_Name, list[float]]]:
    """Returns the microseconds of each round, by the store and the way.

    Those on Postgres are of the database, too.
    """
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        files = (Path(folder, f"{count}.db") for count in itertools.count())
        stores: dict[str, tuple[Callable[[], Store], Callable[[], float]]] = {
            "SQLite": (lambda: SqliteStore(next(files), SystemClock().now), time.process_time),
            "Postgres and its client": (
                lambda: PostgresStore(stack.enter_context(server.schema())),
                lambda: time.process_time() + server.cpu_seconds(),
            ),
        }
        taken: dict[str, dict[_Name, list[float]]] = {
            where: {way: [] for way in ways} for where in stores
        }
        for _ in range(rounds):
            for where, (make, cpu) in stores.items():
                for name, way in ways.items():
                    taken[where][name].append(asyncio.run(_microseconds(make(), way, cpu, number)))
        return taken


async def _microseconds(store: Store, way: Way, cpu: Callable[[], float], number: int) -> float:
    async with jobs.operations(store, way.prepare, way.options) as run:
        begin = cpu()
        await run(number)
        return (cpu() - begin) / number * 1e6
