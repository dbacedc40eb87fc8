"""Fair queues: claims behind half a million operations of a full key, and the cost of keys."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Sequence

from benchmarks import database, with_and_without
from benchmarks.figure import Figure
from benchmarks.filled import KEYED, LEASE, Filled
from benchmarks.jobs import AT_A_TIME
from lro_grpc import MethodOptions, Prepared
from lro_grpc._operation.events import Claim, Release, Report
from lro_grpc._stores.store import Claimed, Store

CLAIMS = 41
KEYS = (1, 100, with_and_without.JOBS)

_FULL, _DELAYED = "behind those of a full key", "behind those that are delayed"


def measure(server: database.Database, many: Filled, few: Filled) -> list[Figure]:
    """Claims behind few and behind many, and starts operations with keys and without."""
    return [
        *asyncio.run(_claims("SQLite", many.sqlite(), few.sqlite(), many, few)),
        *asyncio.run(_claims("Postgres", many.postgres(), few.postgres(), many, few)),
        *_starts(server),
    ]


async def _claims(
    where: str, behind_many: Store, behind_few: Store, many: Filled, few: Filled
) -> Sequence[Figure]:
    """Claims, in turn, behind many and behind few, what is ready; and gives it back."""
    stores = (behind_many, behind_few)
    times: dict[str, tuple[list[float], list[float]]] = {_FULL: ([], []), _DELAYED: ([], [])}
    for store in stores:
        await store.open()
    for _ in range(CLAIMS):
        for what, taken in times.items():
            for store, of_store in zip(stores, taken, strict=True):
                of_store.append(await _one_claim(store, what))
    for store in stores:
        await store.close()
    return [
        Figure(
            what=f"claim {what} in {where}: {many.backlog // 2:,} of them beside"
            f" {few.backlog // 2:,}, median",
            ours=of_many,
            baseline=of_few,
            unit="ms",
            goal="≤ 2 ×",
            meets=lambda _, ratio: ratio <= 2,
        )
        for what, (of_many, of_few) in times.items()
    ]


async def _one_claim(store: Store, what: str) -> float:
    claim = Claim(LEASE)
    take: Callable[[], Awaitable[Sequence[Claimed]]]
    if what == _FULL:

        async def take() -> Sequence[Claimed]:
            return (await store.claim_by_key(KEYED, 16, 1, claim)).claimed
    else:

        async def take() -> Sequence[Claimed]:
            return await store.claim({KEYED: 16}, claim)

    begin = time.perf_counter()
    claimed = await take()
    taken = (time.perf_counter() - begin) * 1000
    (one,) = claimed
    await store.apply(one.before.name, Release(Report(one.before.attempt + 1)))
    return taken


def _starts(server: database.Database) -> Sequence[Figure]:
    """Takes operations from start to done: with a number of keys, and with none."""
    ways = {number: _way(number) for number in (0, *KEYS)}
    return [
        Figure(
            what=f"CPU of start to done with {number:,} keys, {where}, beside none, median",
            ours=taken[number],
            baseline=taken[0],
            unit="µs",
            goal="≤ 1.18 ×",
            meets=lambda _, ratio: ratio <= 1.18,
        )
        for where, taken in with_and_without.measure(server, ways).items()
        for number in KEYS
    ]


def _way(keys: int) -> with_and_without.Way:
    key = itertools.cycle([f"tenants/{number}" for number in range(keys)] or [""])
    return with_and_without.Way(
        lambda *_: Prepared(concurrency_key=next(key)),
        MethodOptions(concurrency_per_key=AT_A_TIME),
    )
