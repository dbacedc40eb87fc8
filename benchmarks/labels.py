"""Labels: pages of those of a million operations that have one, and the cost of two at a start."""

from __future__ import annotations

import asyncio
import time

from benchmarks import database, with_and_without
from benchmarks.figure import Figure
from benchmarks.filled import Filled
from benchmarks.jobs import PARENT
from lro_grpc import Prepared
from lro_grpc._filtering.parser import parse
from lro_grpc._stores.store import Query, Store

PAGE = 51
CALLS = 15

_ELSEWHERE = "a label that 90 % have, all under another parent"
"""The worst: many operations are looked at, and few of them, or none, are listed."""

QUERIES = {
    "no filter": Query(PARENT),
    "a label that one has": Query(PARENT, parse("labels.run = only")),
    "a label that 0.1 % have": Query(PARENT, parse("labels.tenant = t7")),
    "a label that 90 % have": Query(PARENT, parse("labels.env = prod")),
    "a label that none has": Query(PARENT, parse("labels.run = none")),
    "two labels, of 90 % and of 0.1 %": Query(
        PARENT, parse("labels.env = prod labels.tenant = t7")
    ),
    _ELSEWHERE: Query("projects/none/locations/l", parse("labels.env = prod")),
}


def measure(server: database.Database, many: Filled) -> list[Figure]:
    """Asks for pages of what has a label, and starts operations with labels and without."""
    two = Prepared(labels={"env": "prod", "tenant": "t1234567"})
    none = Prepared()
    ways = {
        "two": with_and_without.Way(lambda *_: two),
        "none": with_and_without.Way(lambda *_: none),
    }
    return [
        *asyncio.run(_pages("SQLite", many.sqlite(), many.number)),
        *asyncio.run(_pages("Postgres", many.postgres(), many.number)),
        *(
            Figure(
                what=f"CPU of start to done with two labels, {where}, beside none, median",
                ours=taken["two"],
                baseline=taken["none"],
                unit="µs",
                goal="≤ 1.06 ×",
                meets=lambda _, ratio: ratio <= 1.06,
            )
            for where, taken in with_and_without.measure(server, ways).items()
        ),
    ]


async def _pages(where: str, store: Store, many: int) -> list[Figure]:
    await store.open()
    times: dict[str, list[float]] = {what: [] for what in QUERIES}
    for _ in range(CALLS):
        for what, query in QUERIES.items():
            begin = time.perf_counter()
            await store.page(query, position=b"", size=PAGE)
            times[what].append((time.perf_counter() - begin) * 1000)
    await store.close()
    baseline = times.pop("no filter")
    return [_figure(where, what, taken, baseline, many) for what, taken in times.items()]


def _figure(where: str, what: str, taken: list[float], baseline: list[float], many: int) -> Figure:
    most = 50 if what == _ELSEWHERE else 5
    return Figure(
        what=f"page of {PAGE} of {many:,} in {where}, {what}, beside no filter, median",
        ours=taken,
        baseline=baseline,
        unit="ms",
        goal=f"≤ {most} ms",
        meets=lambda milliseconds, _: milliseconds <= most,
    )
