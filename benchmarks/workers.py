"""GetOperation of ``lro serve --workers 2`` on Postgres, beside ``--workers 1``.

The calls come over connections of their own, which the kernel spreads over the workers. One worker
takes a whole core: what a second one adds depends on what the database, the caller and it find
left. So beside the rate there is the CPU time that the workers take for a call; two take more, for
each has fewer calls at a time that it can answer by one read of the database.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import grpc
from server_process import free_port

from benchmarks import database, get_operation
from benchmarks.figure import Figure
from lro.example.v1 import fleet_service_pb2, fleet_service_pb2_grpc

CONNECTIONS = 50
CALLS = 10_000
ROUNDS = 5


class Run(NamedTuple):
    """The calls to one server."""

    rate: float
    """Calls a second."""
    cpu: Sequence[float]
    """CPU microseconds of each worker for each call."""


def measure(server: database.Database, rounds: int = ROUNDS) -> list[Figure]:
    """Serves one store by both in turn, and takes the median of each."""
    with server.schema() as url:
        runs = [(_run(url, 2), _run(url, 1)) for _ in range(rounds)]
    return [
        Figure(
            what="GetOperation on Postgres, 2 workers beside 1",
            ours=statistics.median(two.rate for two, _ in runs),
            baseline=statistics.median(one.rate for _, one in runs),
            unit="calls/s",
            goal=f"(shown; of {os.cpu_count()} cores)",
            meets=lambda *_: True,
        ),
        Figure(
            what="GetOperation on Postgres, CPU of 2 workers a call, beside 1",
            ours=statistics.median(sum(two.cpu) for two, _ in runs),
            baseline=statistics.median(sum(one.cpu) for _, one in runs),
            unit="µs",
            goal="(shown)",
            meets=lambda *_: True,
        ),
        Figure(
            what="GetOperation on Postgres, CPU a call of the busier worker, beside the other",
            ours=statistics.median(max(two.cpu) for two, _ in runs),
            baseline=statistics.median(min(two.cpu) for two, _ in runs),
            unit="µs",
            goal="(shown)",
            meets=lambda *_: True,
        ),
    ]


def _run(url: str, workers: int) -> Run:
    with _serving(url, workers) as (address, processes):
        name = _start(address)
        get_operation.rate(address, name, CALLS // 10, CONNECTIONS)
        before = [database.cpu_seconds_of(one) for one in processes]
        rate = get_operation.rate(address, name, CALLS, CONNECTIONS)
        after = [database.cpu_seconds_of(one) for one in processes]
    return Run(
        rate, [(end - begin) * 1e6 / CALLS for begin, end in zip(before, after, strict=True)]
    )


def _start(address: str) -> str:
    """Starts an operation, and returns its name."""
    request = fleet_service_pb2.CreateInstanceRequest(
        parent="projects/p/locations/l", instance_id="i", instance=fleet_service_pb2.Instance()
    )
    with grpc.insecure_channel(address) as channel:
        return fleet_service_pb2_grpc.FleetServiceStub(channel).CreateInstance(request).name


@contextlib.contextmanager
def _serving(url: str, workers: int) -> Iterator[tuple[str, Sequence[int]]]:
    """Runs the command while the context lasts; gives the address, and the workers' processes."""
    address = f"127.0.0.1:{free_port()}"
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "lro_grpc._cli", "serve", "--store", url]
        options = ["--listen", address, "--workers", str(workers), "--data", folder]
        with subprocess.Popen(
            [*command, *options], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ) as process:
            try:
                # The last line of what it prints once all of them serve.
                assert any(line.startswith("try") for line in process.stdout), "it does not serve"
                children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
                yield address, [int(child) for child in children.split()] or [process.pid]
            finally:
                process.terminate()
                process.stdout.close()
