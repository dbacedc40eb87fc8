"""GetOperation of ``lro serve --workers 2`` on Postgres, beside ``--workers 1``.

The calls come from one process, over connections of their own, which the kernel spreads over the
workers. On a machine with few cores that process takes a good part of them: the figure tells it.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

import grpc
import grpc.aio
from google.longrunning import operations_pb2, operations_pb2_grpc

from benchmarks import database, together
from benchmarks.figure import Figure
from lro.example.v1 import fleet_service_pb2, fleet_service_pb2_grpc
from tests.postgres.postgres_process import free_port

CONNECTIONS = 16
AT_A_TIME = 100
CALLS = 5_000
ROUNDS = 5

_READY_SECONDS = 30


def measure(server: database.Database, rounds: int = ROUNDS) -> list[Figure]:
    """Serves one store by both in turn, and takes the median of each."""
    with server.schema() as url:
        runs = [(_run(url, 2), _run(url, 1)) for _ in range(rounds)]
    cores = os.cpu_count() or 1
    shares = [work.client_cpu / work.seconds / cores for work, _ in runs]
    return [
        Figure(
            what="GetOperation on Postgres, 2 workers beside 1",
            ours=statistics.median(CALLS / two.seconds for two, _ in runs),
            baseline=statistics.median(CALLS / one.seconds for _, one in runs),
            unit="calls/s",
            goal=f"(shown; the calls took {statistics.median(shares):.0%} of {cores} cores)",
            meets=lambda *_: True,
        )
    ]


def _run(url: str, workers: int) -> together.Work:
    with _serving(url, workers) as port:
        return together.run("workers", [(port, _start(port))])


def _start(port: int) -> str:
    """Starts an operation, and returns its name."""
    request = fleet_service_pb2.CreateInstanceRequest(
        parent="projects/p/locations/l", instance_id="i", instance=fleet_service_pb2.Instance()
    )
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        return fleet_service_pb2_grpc.FleetServiceStub(channel).CreateInstance(request).name


@contextlib.contextmanager
def _serving(url: str, workers: int) -> Iterator[int]:
    """Runs the command while the context lasts."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "lro_grpc._cli", "serve", "--store", url]
        options = ["--listen", f"127.0.0.1:{port}", "--workers", str(workers), "--data", folder]
        with subprocess.Popen(
            [*command, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process:
            try:
                with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
                    grpc.channel_ready_future(channel).result(_READY_SECONDS)
                time.sleep(workers)  # the first one listens; the others come after it
                yield port
            finally:
                process.terminate()


async def _call(port: str, name: str) -> None:
    """Makes the calls, so many at a time, over all the connections."""
    channels = [
        grpc.aio.insecure_channel(
            f"127.0.0.1:{port}", options=[("grpc.use_local_subchannel_pool", 1)]
        )
        for _ in range(CONNECTIONS)
    ]
    for channel in channels:
        await channel.channel_ready()
    stubs = itertools.cycle(map(operations_pb2_grpc.OperationsStub, channels))
    request = operations_pb2.GetOperationRequest(name=name)
    left = iter(range(CALLS))

    async def some_calls() -> None:
        for _ in left:
            await next(stubs).GetOperation(request)

    part = together.Part()
    part.begin()
    await asyncio.gather(*(some_calls() for _ in range(AT_A_TIME)))
    part.end(time.monotonic())
    for channel in channels:
        await channel.close()


if __name__ == "__main__":
    asyncio.run(_call(*sys.argv[1:]))
