"""Four processes that claim from one backlog, beside four that try names that they have read."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Sequence

from google.protobuf import empty_pb2

from benchmarks import database, together
from benchmarks.figure import Figure
from lro_grpc._anys import packed_bytes
from lro_grpc._operation import names
from lro_grpc._operation.events import Claim, Report, Succeed
from lro_grpc._operation.metadata import DEFAULT_TYPE
from lro_grpc._operation.publication import create
from lro_grpc._operation.record import Record
from lro_grpc._runtime.clock import SystemClock
from lro_grpc._stores.postgres.store import PostgresStore

CLAIMERS = 4
BACKLOG = 4_000
AT_A_TIME = 50
ROUNDS = 3

METHOD = "/benchmark.v1.Backlog/Run"
LEASE = 15_000_000
RESPONSE = packed_bytes(empty_pb2.Empty())


def measure(server: database.Database, rounds: int = ROUNDS) -> list[Figure]:
    """Has both kinds empty a backlog in turn, and takes the median of each."""
    ours, by_name = [], []
    for _ in range(rounds):
        ours.append(_empty(server, "claim"))
        by_name.append(_empty(server, "name"))
    return [
        Figure(
            what=f"{CLAIMERS} processes empty a backlog, beside trying names",
            ours=[BACKLOG / work.seconds for work in ours],
            baseline=[BACKLOG / work.seconds for work in by_name],
            unit="jobs/s",
            goal="≥ 1.5 ×",
            meets=lambda _, ratio: ratio >= 1.5,
            cpu={
                "the processes": (
                    [work.client_cpu * 1e6 / BACKLOG for work in ours],
                    [work.client_cpu * 1e6 / BACKLOG for work in by_name],
                ),
                "Postgres": (
                    [work.server_cpu * 1e6 / BACKLOG for work in ours],
                    [work.server_cpu * 1e6 / BACKLOG for work in by_name],
                ),
            },
        ),
        Figure(
            what=f"{CLAIMERS} processes on a backlog: operations tried per claim",
            ours=list(map(_tries, ours)),
            baseline=list(map(_tries, by_name)),
            unit="",
            goal="≤ 1.05",
            meets=lambda tries, _: tries <= 1.05,
        ),
        Figure(
            what=f"{CLAIMERS} processes on a backlog: the smallest share, of the largest",
            ours=list(map(_evenness, ours)),
            baseline=list(map(_evenness, by_name)),
            unit="",
            goal="≥ 0.7",
            meets=lambda evenness, _: evenness >= 0.7,
        ),
    ]


def _tries(work: together.Work) -> float:
    return sum(each["tried"] for each in work.figures) / BACKLOG


def _evenness(work: together.Work) -> float:
    shares = [each["got"] for each in work.figures]
    assert sum(shares) == BACKLOG, shares
    return min(shares) / max(shares)


def _empty(server: database.Database, how: str) -> together.Work:
    with server.schema() as url:
        asyncio.run(_fill(url))
        return together.run("shared_claims", [(how, url)] * CLAIMERS, server.cpu_seconds)


async def _fill(url: str) -> None:
    store = PostgresStore(url)
    await store.open()
    await asyncio.gather(*(store.create(new_record()) for _ in range(BACKLOG)))
    await store.close()
    await database.execute(url, "ANALYZE lro_operations")


def new_record() -> Record:
    """Returns the record of a new operation."""
    now = SystemClock().now()
    return create(
        parent="projects/p/locations/l",
        operation_id=names.new_id(now, os.urandom),
        method=METHOD,
        request=b"x" * 50,
        metadata_type=DEFAULT_TYPE.DESCRIPTOR.full_name,
        now=now,
    )


async def _work_off(how: str, url: str) -> None:
    """Claims and finishes operations until none is left."""
    store = PostgresStore(url)
    await store.open()
    part = together.Part()
    part.begin()
    got = tried = 0
    last = time.monotonic()
    while await store.claimable({METHOD: 1}):
        claims = _claim if how == "claim" else _try_names
        number, mine = await claims(store)
        tried += number
        got += len(mine)
        if mine:
            await store.apply_all([(one.name, _SUCCEED) for one in mine])
            last = time.monotonic()
    part.end(last, got=got, tried=tried)
    await store.close()


async def _claim(store: PostgresStore) -> tuple[int, Sequence[Record]]:
    claimed = await store.claim({METHOD: AT_A_TIME}, Claim(LEASE))
    return len(claimed), [one.outcome for one in claimed if isinstance(one.outcome, Record)]


async def _try_names(store: PostgresStore) -> tuple[int, Sequence[Record]]:
    found = await store.claimable({METHOD: AT_A_TIME})
    outcomes = await store.apply_all([(name, Claim(LEASE)) for name in found])
    return len(found), [one for one in outcomes if isinstance(one, Record)]


_SUCCEED = Succeed(Report(1), RESPONSE)

if __name__ == "__main__":
    asyncio.run(_work_off(*sys.argv[1:]))
