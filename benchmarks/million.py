"""A server with a million stored operations, beside the same server with a thousand.

Nearly all of them are done; a hundred are in the hands of a process that is gone. The files were
written by another process than the servers, so that nothing is at hand in memory beforehand.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from google.longrunning import operations_pb2, operations_pb2_grpc

from benchmarks.figure import Figure
from lro.example.v1 import fleet_service_pb2, fleet_service_pb2_grpc
from lro_grpc import Operations, _anys, method
from lro_grpc._operation import names
from lro_grpc._operation.events import Claim, Report, Succeed
from lro_grpc._operation.metadata import DEFAULT_TYPE
from lro_grpc._operation.publication import create
from lro_grpc._operation.record import Record
from lro_grpc._runtime.clock import SystemClock
from lro_grpc.stores import SqliteStore

MANY = 1_000_000
FEW = 1_000
HELD = 100

ROUNDS = 3
GETS = 2_000
LISTS = 750

LIFE_SECONDS = 300

_PARENT = "projects/p/locations/l"

Times = list[tuple[float, float]]
"""Milliseconds that a call took with many operations, and then with few."""


@dataclass(frozen=True)
class Server:
    address: str
    start_seconds: float
    """From ``start`` to the first attempt at what was in the hands of the process that is gone."""


def measure() -> list[Figure]:
    """Asks both servers in turn, call by call, and takes the median of each."""
    with tempfile.TemporaryDirectory() as folder:
        many, few = Path(folder, "many.db"), Path(folder, "few.db")
        names_of_many, names_of_few = _build(many, MANY), _build(few, FEW)
        starts, gets, lists = [], [], []
        for _ in range(ROUNDS):
            with _serving(many) as large, _serving(few) as small:
                starts.append((large.start_seconds, small.start_seconds))
                more_gets, more_lists = _calls(large, names_of_many, small, names_of_few)
                gets += more_gets
                lists += more_lists
    return [
        _figure(f"GetOperation of any of {MANY:,}, median", gets),
        _figure(f"ListOperations, first page of {MANY:,}, median", lists),
        Figure(
            what=f"start-up with {MANY:,}, to the first attempt",
            ours=statistics.median(many for many, _ in starts),
            baseline=statistics.median(few for _, few in starts),
            unit="s",
            goal="≤ 2 s",
            meets=lambda seconds, _: seconds <= 2,
        ),
    ]


def _figure(what: str, times: Times) -> Figure:
    return Figure(
        what=what,
        ours=statistics.median(many for many, _ in times),
        baseline=statistics.median(few for _, few in times),
        unit="ms",
        goal=f"≤ 1.3 × with {FEW:,}",
        meets=lambda _, ratio: ratio <= 1.3,
    )


def _calls(
    large: Server, names_of_many: Sequence[str], small: Server, names_of_few: Sequence[str]
) -> tuple[Times, Times]:
    """Returns the times of Gets, of names all over, and of Lists."""
    chance = random.Random(0)

    def get(stub: operations_pb2_grpc.OperationsStub, known: Sequence[str]) -> float:
        request = operations_pb2.GetOperationRequest(name=chance.choice(known))
        return _milliseconds(stub.GetOperation, request)

    def first_page(stub: operations_pb2_grpc.OperationsStub) -> float:
        return _milliseconds(
            stub.ListOperations, operations_pb2.ListOperationsRequest(name=_PARENT)
        )

    with (
        grpc.insecure_channel(large.address) as to_large,
        grpc.insecure_channel(small.address) as to_small,
    ):
        of_many = operations_pb2_grpc.OperationsStub(to_large)
        of_few = operations_pb2_grpc.OperationsStub(to_small)
        gets = [(get(of_many, names_of_many), get(of_few, names_of_few)) for _ in range(GETS)]
        lists = [(first_page(of_many), first_page(of_few)) for _ in range(LISTS)]
    return gets, lists


def _milliseconds(call: Callable[[Any], object], request: object) -> float:
    begin = time.perf_counter()
    call(request)
    return (time.perf_counter() - begin) * 1000


def _build(path: Path, number: int) -> Sequence[str]:
    """Makes a store's file with operations in it, and returns their names."""
    asyncio.run(_make_tables(path))
    clock = SystemClock()
    held = create(
        parent=_PARENT,
        operation_id=names.new_id(os.urandom),
        method="/lro.example.v1.FleetService/CreateInstance",
        request=fleet_service_pb2.CreateInstanceRequest(parent=_PARENT).SerializeToString(),
        metadata_type=DEFAULT_TYPE.DESCRIPTOR.full_name,
        now=clock.now(),
    )
    held = Claim(lease=15_000_000).apply(held, clock.now())
    response = _anys.packed_bytes(fleet_service_pb2.Instance(name=f"{_PARENT}/instances/i"))
    done = Succeed(Report(attempt=1), response).apply(held, clock.now())
    # In their order, so that the index of names, which are random, is quickly made.
    known = sorted(names.operation_name(_PARENT, names.new_id(os.urandom)) for _ in range(number))
    records = (
        _renamed(done if index % (number // HELD) else held, name)
        for index, name in enumerate(known)
    )
    columns, marks = ", ".join(Record._fields), ", ".join("?" * len(Record._fields))
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.executemany(f"INSERT INTO operations ({columns}) VALUES ({marks})", records)
    return known


async def _make_tables(path: Path) -> None:
    store = SqliteStore(path, SystemClock().now)
    await store.open()
    await store.close()


def _renamed(record: Record, name: str) -> Record:
    """Returns a record under another name, which is as long as its own."""
    operation = record.operation.replace(record.name.encode(), name.encode())
    return record._replace(name=name, operation=operation)


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
