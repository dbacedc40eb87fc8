"""From the death of a process by SIGKILL to the next attempt at what it ran, in another process.

The baseline is the longest time that the lease and the sweep leave: the owner may have renewed its
lease just before, and each sweep comes up to a fifth later.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta

from benchmarks import database
from benchmarks.figure import Figure
from lro.example.v1 import fleet_service_pb2
from lro_grpc import Operations

LEASE_SECONDS = 3.0
SWEEP_SECONDS = 1.0
ROUNDS = 3

_METHOD = "/lro.example.v1.FleetService/CreateInstance"


def measure(server: database.Database, rounds: int = ROUNDS) -> list[Figure]:
    times = [_takeover(server) for _ in range(rounds)]
    return [
        Figure(
            what="kill -9 of a process to the next attempt in another, median",
            ours=times,
            baseline=LEASE_SECONDS + 1.2 * SWEEP_SECONDS,
            unit="s",
            goal="≤ 0.5 s more than lease + sweep",
            meets=lambda seconds, _: seconds <= LEASE_SECONDS + 1.2 * SWEEP_SECONDS + 0.5,
        )
    ]


def _takeover(server: database.Database) -> float:
    with server.schema() as url, _serving(url, "starts") as first:
        _attempt_begins(first, 1)
        with _serving(url, "joins") as other:
            assert other.stdout.readline() == "ready\n"
            first.kill()
            killed = time.monotonic()
            return _attempt_begins(other, 2) - killed


def _attempt_begins(process: subprocess.Popen[str], number: int) -> float:
    """Returns when an attempt has begun, by ``time.monotonic``."""
    word, attempt, moment = process.stdout.readline().split()
    assert (word, int(attempt)) == ("attempt", number)
    return float(moment)


@contextlib.contextmanager
def _serving(url: str, how: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "benchmarks.shared_takeover", url, how]
    with subprocess.Popen(command, stdout=subprocess.PIPE, encoding="utf-8") as process:
        try:
            yield process
        finally:
            process.kill()


async def _serve(url: str, how: str) -> None:
    """Serves until it is killed, and tells of each attempt."""

    async def run(request: object, op: object) -> fleet_service_pb2.Instance:
        print("attempt", op.attempt, time.monotonic(), flush=True)
        await asyncio.Event().wait()
        return fleet_service_pb2.Instance()

    operations = Operations(
        url, lease=timedelta(seconds=LEASE_SECONDS), sweep=timedelta(seconds=SWEEP_SECONDS)
    )
    operations.add_method(
        _METHOD,
        run,
        request=fleet_service_pb2.CreateInstanceRequest,
        response=fleet_service_pb2.Instance,
    )
    await operations.start()
    if how == "starts":
        request = fleet_service_pb2.CreateInstanceRequest(parent="projects/p/locations/l")
        await operations.local().call(_METHOD, request.SerializeToString(), None)
    else:
        print("ready", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve(*sys.argv[1:]))
