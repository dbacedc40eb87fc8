"""GetOperation of ``lro serve --workers 2`` on Postgres, beside ``--workers 1``.

The calls come over connections of their own, which the kernel spreads over the workers. One worker
takes a whole core: what a second one adds depends on what the database, the caller and it find
left. So beside the rate there is the CPU time that the workers take for a call; two take more, for
each has fewer calls at a time that it can answer by one read of the database.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import grpc
from server_process import free_port

from benchmarks import database, get_operation, h2load
from benchmarks.figure import Figure, shown
from lro.example.v1 import fleet_service_pb2, fleet_service_pb2_grpc

CONNECTIONS = 50
CALLS = 10_000
ROUNDS = 3


def measure(server: database.Database, rounds: int = ROUNDS) -> list[Figure]:
    """Serves one store by both in turn."""
    two, one = [], []
    databases: tuple[list[float], list[float]] = ([], [])
    with server.schema() as url:
        for _ in range(rounds):
            for loads, taken, workers in zip((two, one), databases, (2, 1), strict=True):
                load, database_cpu = _run(server, url, workers)
                loads.append(load)
                taken.append(database_cpu)
    return [
        Figure(
            what="GetOperation on Postgres, 2 workers beside 1",
            ours=[load.rate for load in two],
            baseline=[load.rate for load in one],
            unit="calls/s",
            goal=f"(shown; of {os.cpu_count()} cores)",
            meets=shown,
            cpu={
                "workers": ([load.server for load in two], [load.server for load in one]),
                "client": ([load.client for load in two], [load.client for load in one]),
                "database": databases,
            },
        ),
        Figure(
            what="GetOperation on Postgres, CPU a call of the busier worker, beside the other",
            ours=[max(load.servers) for load in two],
            baseline=[min(load.servers) for load in two],
            unit="µs",
            goal="(shown)",
            meets=shown,
        ),
    ]


def _run(server: database.Database, url: str, workers: int) -> tuple[h2load.Load, float]:
    """Returns the calls, and the CPU microseconds of the database for each."""
    with _serving(url, workers) as (address, processes):
        name = _start(address)
        get_operation.load(address, name, CALLS // 10, processes, CONNECTIONS)
        before = server.cpu_seconds()
        load = get_operation.load(address, name, CALLS, processes, CONNECTIONS)
        return load, (server.cpu_seconds() - before) * 1e6 / CALLS


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
