"""Counts of a million operations, of which few or half wait, beside those of a thousand.

Meanwhile the event loop goes on: the longest time for which it stood still is measured, too. Of the
table in Postgres a tenth has just changed, and was not vacuumed since.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence

from benchmarks import database
from benchmarks.figure import Figure
from benchmarks.filled import OTHER_PARENT, Filled
from benchmarks.jobs import PARENT
from lro_grpc._filtering.parser import parse
from lro_grpc._stores.store import Query, Store

CALLS = 11

QUERIES = {
    "all": Query("-"),
    "a parent": Query(PARENT),
    "a small parent": Query(OTHER_PARENT),
    "parents": Query("projects/-/locations/l"),
    "a filter": Query(PARENT, parse("state = QUEUED OR done = true")),
}


def measure(many: Filled, few: Filled) -> list[Figure]:
    """Asks a store with many operations and one with few in turn."""
    for one in (many, few):
        asyncio.run(_change(one))
    return [
        *asyncio.run(_measure("SQLite", [many.sqlite(), few.sqlite()], many)),
        *asyncio.run(_measure("Postgres", [many.postgres(), few.postgres()], many)),
    ]


async def _change(filled: Filled) -> None:
    """Changes a tenth of the rows in Postgres, which keeps what they were until a vacuum."""
    table = "lro_operations"
    await database.execute(
        filled.url,
        f"ALTER TABLE {table} SET (autovacuum_enabled = off);"
        f"UPDATE {table} SET version = version + 1 WHERE sequence % 10 = 0",
    )


async def _measure(where: str, stores: Sequence[Store], filled: Filled) -> list[Figure]:
    async with contextlib.AsyncExitStack() as open_stores:
        for store in stores:
            await store.open()
            open_stores.push_async_callback(store.close)
        figures = []
        longest = 0.0
        for what, query in QUERIES.items():
            times: list[list[float]] = [[], []]
            for _ in range(CALLS):
                for store, taken in zip(stores, times, strict=True):
                    async with _watched_loop() as lag:
                        begin = time.perf_counter()
                        await store.counts(query)
                        taken.append((time.perf_counter() - begin) * 1000)
                    longest = max(longest, *lag)
            figures.append(
                Figure(
                    what=f"counts of {what} in {where}, {filled.waiting:,} of"
                    f" {filled.in_all:,} wait, median",
                    ours=times[0],
                    baseline=times[1],
                    unit="ms",
                    goal="≤ 200 ms",
                    meets=lambda milliseconds, _: milliseconds <= 200,
                )
            )
        async with _watched_loop() as idle:
            await asyncio.sleep(1)
        figures.append(
            Figure(
                what=f"the loop stands still meanwhile at most, {where}, beside a second of rest",
                ours=longest,
                baseline=max(idle),
                unit="ms",
                goal="≤ 50 ms",
                meets=lambda milliseconds, _: milliseconds <= 50,
            )
        )
        return figures


@contextlib.asynccontextmanager
async def _watched_loop() -> AsyncIterator[list[float]]:
    """Notes for how many milliseconds the loop stands still, each time, while the context lasts."""
    lags = [0.0]

    async def look() -> None:
        while True:
            begin = time.perf_counter()
            await asyncio.sleep(0.001)
            lags.append((time.perf_counter() - begin) * 1000 - 1)

    looking = asyncio.create_task(look())
    try:
        await asyncio.sleep(0)
        yield lags
    finally:
        looking.cancel()
