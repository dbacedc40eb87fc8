"""Start to done of a handler that does nothing, on a store in Postgres, of one process and of two.

Beside it are what a program that uses the database by itself does in as many processes, and, if it
is installed, Procrastinate, a queue of tasks in Postgres. All are on one server, in turn.
"""

from __future__ import annotations

import asyncio
import importlib.util
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks import database, together
from benchmarks.figure import Figure
from benchmarks.start_to_done_process import RAW_TABLE

JOBS = 4_000
FEWER_JOBS = 500
"""For what is slow."""
ROUNDS = 3


@dataclass(frozen=True)
class Speed:
    rate: float
    """Jobs a second."""
    client: float
    """CPU microseconds of the processes for each job."""
    server: float
    """CPU microseconds of Postgres for each job."""


def measure(server: database.Database, rounds: int = ROUNDS) -> list[Figure]:
    """Runs all of them in turn, and takes the median of each."""
    ways: dict[str, Callable[[], Speed]] = {
        "raw, 1": lambda: _on_postgres(server, "raw", 1, JOBS, RAW_TABLE),
        "1": lambda: _on_postgres(server, "operations", 1, JOBS),
        "raw, 2": lambda: _on_postgres(server, "raw", 2, JOBS, RAW_TABLE),
        "2": lambda: _on_postgres(server, "operations", 2, JOBS),
        "SQLite": _on_sqlite,
    }
    if importlib.util.find_spec("procrastinate") is None:
        print("no figure beside Procrastinate: it is not installed (group `bench`)")
    else:
        ways["Procrastinate"] = lambda: _on_postgres(server, "procrastinate", 1, FEWER_JOBS)
    speeds: dict[str, list[Speed]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, speed in ways.items():
            speeds[way].append(speed())
    return _figures(speeds)


def _figures(speeds: dict[str, list[Speed]]) -> list[Figure]:
    figures = [
        _rates(speeds, "2", "raw, 2", "processes on Postgres, beside raw SKIP LOCKED", 2),
        _rates(speeds, "1", "raw, 1", "process on Postgres, beside raw SKIP LOCKED", 1.2),
        _rates(speeds, "1", "SQLite", "process on Postgres, beside SQLite", 0.7),
        _cpu(speeds, "Postgres' CPU", [each.server for each in speeds["1"]], "server", 120),
        _cpu(speeds, "its own CPU", [each.client for each in speeds["1"]], "client", 240),
    ]
    if "Procrastinate" in speeds:
        figures.append(_rates(speeds, "2", "Procrastinate", "processes, beside Procrastinate's", 8))
    return figures


def _rates(
    speeds: dict[str, list[Speed]], way: str, baseline: str, what: str, least: float
) -> Figure:
    return Figure(
        what=f"start to done, {way} {what}",
        ours=[each.rate for each in speeds[way]],
        baseline=[each.rate for each in speeds[baseline]],
        unit="jobs/s",
        goal=f"≥ {least} ×",
        meets=lambda _, ratio: ratio >= least,
        cpu={
            "the processes": tuple(
                [each.client for each in speeds[one]] for one in (way, baseline)
            ),
            "Postgres": tuple([each.server for each in speeds[one]] for one in (way, baseline)),
        },
    )


def _cpu(
    speeds: dict[str, list[Speed]], what: str, ours: Sequence[float], whose: str, most: float
) -> Figure:
    return Figure(
        what=f"start to done, 1 process on Postgres: {what} a job, beside raw SKIP LOCKED",
        ours=ours,
        baseline=[getattr(each, whose) for each in speeds["raw, 1"]],
        unit="µs",
        goal=f"≤ {most} µs",
        meets=lambda microseconds, _: microseconds <= most,
    )


def _on_postgres(
    server: database.Database, kind: str, processes: int, jobs: int, tables: str = ""
) -> Speed:
    with server.schema() as url:
        if tables:
            asyncio.run(database.execute(url, tables))
        each = (kind, url, jobs // processes, jobs)
        work = together.run("start_to_done_process", [each] * processes, server.cpu_seconds)
    return _speed(work, jobs)


def _on_sqlite() -> Speed:
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/operations.db"
        return _speed(
            together.run("start_to_done_process", [("operations", url, JOBS, JOBS)]), JOBS
        )


def _speed(work: together.Work, jobs: int) -> Speed:
    return Speed(
        rate=jobs / work.seconds,
        client=work.client_cpu * 1e6 / jobs,
        server=work.server_cpu * 1e6 / jobs,
    )
