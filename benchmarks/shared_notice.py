"""From the end of an operation in one process to another process that follows it in Postgres.

Each is measured with notices, and with none that arrive: then a process looks by itself. Also what
notices cost whoever commits meanwhile: beside them, bare INSERTs go on as they do without.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from postgres_server import with_options

from benchmarks import database, together
from benchmarks.figure import Figure
from benchmarks.shared_claims import LEASE, RESPONSE, new_record
from lro_grpc._operation.events import Claim, Report, Succeed
from lro_grpc._operation.record import Record
from lro_grpc._stores.postgres.notices import _NOTIFY
from lro_grpc._stores.postgres.store import PostgresStore

OPERATIONS = 400
RATE = 200
"""Ends a second."""
ROUNDS = 3

CONNECTIONS = 32
INSERTS = 6_000
NOTICES = 200
"""A second."""

_TABLE = "CREATE TABLE raw (id bigserial PRIMARY KEY, body bytea)"


def measure(server: database.Database, rounds: int = ROUNDS) -> list[Figure]:
    """Measures with notices and without in turn, and takes the median of each."""
    hearing, deaf = [], []
    alone, beside = [], []
    for _ in range(rounds):
        hearing.append(_times(server, "hears"))
        deaf.append(_times(server, "deaf"))
        alone.append(_commits(server, "none"))
        beside.append(_commits(server, "notices"))
    return [
        _figure("median", 0.5, hearing, deaf, 7),
        _figure("p99", 0.99, hearing, deaf, 25),
        Figure(
            what="end to known in another process, every notice lost: the last",
            ours=[times[-1] for times in deaf],
            baseline=[times[-1] for times in hearing],
            unit="ms",
            goal="≤ 1,500 ms; the baseline hears",
            meets=lambda milliseconds, _: milliseconds <= 1500,
        ),
        Figure(
            what=f"commits of {CONNECTIONS} connections beside {NOTICES} notices a second",
            ours=[INSERTS / work.seconds for work in beside],
            baseline=[INSERTS / work.seconds for work in alone],
            unit="commits/s",
            goal="≥ 0.9 × without",
            meets=lambda _, ratio: ratio >= 0.9,
            cpu={
                "the process": (
                    [work.client_cpu * 1e6 / INSERTS for work in beside],
                    [work.client_cpu * 1e6 / INSERTS for work in alone],
                ),
                "Postgres": (
                    [work.server_cpu * 1e6 / INSERTS for work in beside],
                    [work.server_cpu * 1e6 / INSERTS for work in alone],
                ),
            },
        ),
    ]


def _figure(
    what: str, share: float, hearing: list[list[float]], deaf: list[list[float]], most: float
) -> Figure:
    def of(rounds: list[list[float]]) -> list[float]:
        return [times[int(share * len(times))] for times in rounds]

    return Figure(
        what=f"end to known in another process, {RATE} a second, {what}",
        ours=of(hearing),
        baseline=of(deaf),
        unit="ms",
        goal=f"≤ {most} ms; the baseline hears no notice",
        meets=lambda milliseconds, _: milliseconds <= most,
    )


def _times(server: database.Database, how: str) -> list[float]:
    """Returns the milliseconds from each end to the process that follows, the shortest first."""
    with server.schema() as url, TemporaryDirectory() as folder:
        if how == "deaf":
            url = with_options(url, pgbouncer="1")  # which has no LISTEN that works
        known = Path(folder, "names")
        known.write_text(json.dumps(asyncio.run(_claimed(url))))
        work = together.run("shared_notice", [("ends", url, known), ("follows", url, known)])
    ended, heard = (each["times"] for each in work.figures)
    return sorted(max(0.0, heard[name] - ended[name]) * 1000 for name in ended)


async def _claimed(url: str) -> list[str]:
    """Makes operations that an attempt holds, and returns their names."""
    store = PostgresStore(url)
    await store.open()
    records = [new_record() for _ in range(OPERATIONS)]
    await asyncio.gather(*map(store.create, records))
    await store.apply_all([(one.name, Claim(100 * LEASE)) for one in records])
    await store.close()
    return [one.name for one in records]


async def _end_all(url: str, known: str) -> None:
    store = PostgresStore(url)
    await store.open()
    names = json.loads(Path(known).read_text())
    ended = {}

    async def end(name: str) -> None:
        await store.apply(name, Succeed(Report(1), RESPONSE))
        ended[name] = time.monotonic()

    part = together.Part()
    part.begin()
    begin = time.monotonic()
    ends = []
    for number, name in enumerate(names):
        await asyncio.sleep(begin + number / RATE - time.monotonic())
        ends.append(asyncio.create_task(end(name)))
    await asyncio.gather(*ends)
    # This thread goes on, for the last notice may be on its way.
    await asyncio.to_thread(part.end, max(ended.values()), times=ended)
    await store.close()


async def _follow_all(url: str, known: str) -> None:
    store = PostgresStore(url)
    await store.open()
    heard: dict[str, float] = {}
    left = set(json.loads(Path(known).read_text()))
    all_heard = asyncio.Event()

    def hear(record: Record | None) -> None:
        assert record is not None
        if record.done and record.name in left:
            heard[record.name] = time.monotonic()
            left.discard(record.name)
            if not left:
                all_heard.set()

    for name in tuple(left):
        store.follow(name, hear)
    await asyncio.sleep(2)  # until it hears, and has looked at all once
    part = together.Part()
    part.begin()
    await all_heard.wait()
    part.end(time.monotonic(), times=heard)
    await store.close()


def _commits(server: database.Database, beside: str) -> together.Work:
    """Makes commits beside notices, or beside none."""
    with server.schema() as url:
        asyncio.run(database.execute(url, _TABLE))
        return together.run("shared_notice", [("commits", url, beside)], server.cpu_seconds)


async def _commit(url: str, beside: str) -> None:
    connections = [await database.connect(url) for _ in range(CONNECTIONS)]
    notifying = await database.connect(url)
    left = iter(range(INSERTS))

    async def insert(connection) -> None:
        for _ in left:
            await connection.execute("INSERT INTO raw (body) VALUES ($1)", b"x" * 200)

    async def notify() -> None:
        while beside == "notices":
            await notifying.execute(_NOTIFY, "benchmark", "x" * 500)
            await asyncio.sleep(1 / NOTICES)

    part = together.Part()
    part.begin()
    notices = asyncio.create_task(notify())
    await asyncio.gather(*map(insert, connections))
    part.end(time.monotonic())
    notices.cancel()
    await asyncio.wait([notices])
    for connection in (*connections, notifying):
        await connection.close()


KINDS = {"ends": _end_all, "follows": _follow_all, "commits": _commit}

if __name__ == "__main__":
    kind, *arguments = sys.argv[1:]
    asyncio.run(KINDS[kind](*arguments))
