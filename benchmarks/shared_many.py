"""A store in Postgres with many operations, beside one with a thousand: ``shared_many.py NUMBER``.

Most of them are done, and a sixth wait, of a method of their own. The calls go to both in turn,
from one process, without a server between.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from functools import partial

from benchmarks import database
from benchmarks.figure import Figure
from benchmarks.shared_claims import LEASE, METHOD, RESPONSE, new_record
from lro_grpc._operation.events import Claim, Heartbeat, Report, Succeed
from lro_grpc._operation.record import Record
from lro_grpc._stores.postgres.rows import COLUMNS
from lro_grpc._stores.postgres.store import PostgresStore
from lro_grpc._stores.store import Query

MANY = 100_000
FEW = 1_000
READY = 500

CALLS = 300
CLAIMED = 50
BEATS = 5

_PARENT = "projects/p/locations/l"
_WAITING = "/benchmark.v1.Waiting/Run"
"""The method of which many operations wait."""


def measure(server: database.Database, number: int = MANY) -> list[Figure]:
    """Fills two stores, and asks both in turn."""
    with server.schema() as large, server.schema() as small:
        return asyncio.run(_measure(large, small, number))


async def _measure(large: str, small: str, number: int) -> list[Figure]:
    await _fill(large, number)
    await _fill(small, FEW)
    many, few = PostgresStore(large), PostgresStore(small)
    await many.open()
    await few.open()
    chance = random.Random(0)

    async def get(store: PostgresStore) -> None:
        of = number if store is many else FEW
        await store.operation(_name(chance.randint(2, of)))

    async def first_page(store: PostgresStore) -> None:
        await store.page(Query(_PARENT), position=b"", size=50)

    async def claim(store: PostgresStore, method: str = METHOD) -> None:
        assert len(await store.claim({method: CLAIMED}, Claim(LEASE))) == CLAIMED

    figures = [
        await _beside(f"Get of any of {number:,} in Postgres", get, CALLS, many, few),
        await _beside(f"first page of {number:,} in Postgres", first_page, CALLS, many, few),
        await _beside(
            f"claim of {CLAIMED}, of {number:,} in Postgres", claim, READY // CLAIMED, many, few
        ),
        await _beside(
            f"claim of {CLAIMED} of many that wait, of {number:,} in Postgres",
            partial(claim, method=_WAITING),
            READY // CLAIMED,
            many,
            few,
        ),
    ]
    shares = [await _hot_share(store, url) for store, url in ((many, large), (few, small))]
    await many.close()
    await few.close()
    return [
        *figures,
        Figure(
            what=f"heartbeats among {number:,} that touch no index (HOT)",
            ours=shares[0] * 100,
            baseline=shares[1] * 100,
            unit="%",
            goal="≥ 80 %",
            meets=lambda percent, _: percent >= 80,
        ),
    ]


async def _beside(
    what: str,
    call: Callable[[PostgresStore], Awaitable[None]],
    calls: int,
    many: PostgresStore,
    few: PostgresStore,
) -> Figure:
    times: dict[PostgresStore, list[float]] = {many: [], few: []}
    for _ in range(calls):
        for store, taken in times.items():
            begin = time.perf_counter()
            await call(store)
            taken.append((time.perf_counter() - begin) * 1000)
    return Figure(
        what=f"{what}, median",
        ours=statistics.median(times[many]),
        baseline=statistics.median(times[few]),
        unit="ms",
        goal=f"≤ 1.3 × with {FEW:,}",
        meets=lambda _, ratio: ratio <= 1.3,
    )


async def _hot_share(store: PostgresStore, url: str) -> float:
    """Renews the leases that the claims have given, and returns how many touched no index."""
    held = await store.leased()
    beats = [(one.name, Heartbeat(one.attempt, LEASE)) for one in held]

    async def updates() -> tuple[int, int]:
        """Returns the numbers of updates so far, and of those that touched no index."""
        await asyncio.sleep(2)
        await store.apply_all(beats[:1])  # the server counts up a connection's at its next change
        connection = await database.connect(url)
        counts = await connection.fetchrow(
            "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables"
            " WHERE relid = 'lro_operations'::regclass"
        )
        await connection.close()
        return tuple(counts)

    before = await updates()
    for _ in range(BEATS):
        await store.apply_all(beats)
    after = await updates()
    made, hot = (now - then for now, then in zip(after, before, strict=True))
    assert made >= BEATS * len(beats), (made, len(beats))
    return hot / made


def _name(number: int) -> str:
    digits = str(number).rjust(26, "0")
    return f"{_PARENT}/operations/op-{digits.translate(_LETTERS)}"


_LETTERS = str.maketrans("0123456789", "abcdefghij")


async def _fill(url: str, number: int) -> None:
    """Makes one operation that is done, and one that waits, and many copies of their rows."""
    store = PostgresStore(url)
    await store.open()
    done = await store.create(_renamed(new_record(), _name(1)))
    await store.apply(done.name, Claim(LEASE))
    await store.apply(done.name, Succeed(Report(1), RESPONSE))
    await _copy(url, done.name, 2, number)
    waiting = _renamed(new_record()._replace(method=_WAITING), _name(number + 1))
    await store.create(waiting)
    await _copy(url, waiting.name, number + 2, number + max(READY, number // 5))
    await asyncio.gather(*(store.create(new_record()) for _ in range(READY)))
    await store.close()
    await database.execute(url, "VACUUM ANALYZE lro_operations")


async def _copy(url: str, name: str, first: int, last: int) -> None:
    """Makes copies of the row of an operation, with the names of these numbers."""
    old = "convert_to(name, 'UTF8')"
    new = (
        f"'{_PARENT}/operations/op-'"
        " || translate(lpad(number::text, 26, '0'), '0123456789', 'abcdefghij')"
    )
    others = {
        "name": new,
        "operation": f"overlay(operation PLACING convert_to({new}, 'UTF8')"
        f" FROM position({old} IN operation))",
    }
    values = ", ".join(others.get(column, column) for column in COLUMNS)
    await database.execute(
        url,
        f"INSERT INTO lro_operations (version, phase, {', '.join(COLUMNS)})"
        f" SELECT version, phase, {values}"
        f" FROM lro_operations, generate_series({first}, {last}) number WHERE name = '{name}'",
    )


def _renamed(record: Record, name: str) -> Record:
    """Returns a record under another name, which is as long as its own."""
    operation = record.operation.replace(record.name.encode(), name.encode())
    return record._replace(name=name, operation=operation)


if __name__ == "__main__":
    with database.running() as postgres:
        for figure in measure(postgres, int(sys.argv[1])):
            print(figure.row())
