"""A server with a million stored operations in its file, beside the same server with a thousand.

Nearly all of them are done; a hundred are in the hands of a process that is gone. The files were
written by another process than the servers, so that nothing is at hand in memory beforehand.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from google.longrunning import operations_pb2, operations_pb2_grpc

from benchmarks.figure import Figure, Values
from benchmarks.filled import Filled, name_of
from benchmarks.jobs import PARENT
from lro.example.v1 import fleet_service_pb2_grpc
from lro_grpc import Operations, method

ROUNDS = 3
GETS = 1_000
LISTS = 300

LIFE_SECONDS = 300


@dataclass(frozen=True)
class Server:
    address: str
    start_seconds: float
    """From ``start`` to the first attempt at what was in the hands of the process that is gone."""


def measure(many: Filled, few: Filled, rounds: int = ROUNDS) -> list[Figure]:
    """Asks both servers in turn, call by call."""
    starts: tuple[list[float], list[float]] = ([], [])
    gets: tuple[list[float], list[float]] = ([], [])
    lists: tuple[list[float], list[float]] = ([], [])
    chance = random.Random(0)
    for _ in range(rounds):
        with contextlib.ExitStack() as stack:
            stubs = []
            for one, seconds in zip((many, few), starts, strict=True):
                server = stack.enter_context(_serving(one.file))
                seconds.append(server.start_seconds)
                channel = stack.enter_context(grpc.insecure_channel(server.address))
                stubs.append(operations_pb2_grpc.OperationsStub(channel))
            for _ in range(GETS):
                for one, stub, times in zip((many, few), stubs, gets, strict=True):
                    name = name_of(chance.randint(1, one.number))
                    request = operations_pb2.GetOperationRequest(name=name)
                    times.append(_milliseconds(stub.GetOperation, request))
            for _ in range(LISTS):
                for stub, times in zip(stubs, lists, strict=True):
                    page = operations_pb2.ListOperationsRequest(name=PARENT)
                    times.append(_milliseconds(stub.ListOperations, page))
    return [
        _figure(f"GetOperation of any of {many.number:,}, median", *gets, few.number),
        _figure(f"ListOperations, first page of {many.number:,}, median", *lists, few.number),
        Figure(
            what=f"start-up with {many.number:,}, to the first attempt",
            ours=starts[0],
            baseline=starts[1],
            unit="s",
            goal="≤ 2 s",
            meets=lambda seconds, _: seconds <= 2,
        ),
    ]


def _figure(what: str, of_many: Values, of_few: Values, few: int) -> Figure:
    return Figure(
        what=what,
        ours=of_many,
        baseline=of_few,
        unit="ms",
        goal=f"≤ 1.3 × with {few:,}",
        meets=lambda _, ratio: ratio <= 1.3,
    )


def _milliseconds(call: Callable[[Any], object], request: object) -> float:
    begin = time.perf_counter()
    call(request)
    return (time.perf_counter() - begin) * 1000


class Fleet(fleet_service_pb2_grpc.FleetServiceServicer):
    """Its handlers run until their process ends, and so are there to be taken over once more."""

    def __init__(self) -> None:
        self.has_begun = asyncio.Event()

    @method
    async def CreateInstance(self, request, op):
        del request, op
        self.has_begun.set()
        await asyncio.Event().wait()


@contextlib.contextmanager
def _serving(path: Path) -> Iterator[Server]:
    """Runs a server on a file while the context lasts."""
    command = [sys.executable, "-m", "benchmarks.million", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield Server(**json.loads(process.stdout.readline()))
        finally:
            process.terminate()


async def _serve(path: str) -> None:
    logging.getLogger("lro_grpc").setLevel(logging.ERROR)  # it warns of what was meant to be so
    fleet = Fleet()
    operations = Operations(f"sqlite:///{path}")
    server = grpc.aio.server()
    fleet_service_pb2_grpc.add_FleetServiceServicer_to_server(fleet, operations.attach(server))
    port = server.add_insecure_port("127.0.0.1:0")
    begin = time.perf_counter()
    await operations.start()
    await fleet.has_begun.wait()
    seconds = time.perf_counter() - begin
    await server.start()
    print(json.dumps({"address": f"127.0.0.1:{port}", "start_seconds": seconds}), flush=True)
    await asyncio.sleep(LIFE_SECONDS)


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1]))
