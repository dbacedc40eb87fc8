"""One process with one server, ours or bare, whose operations take 20 ms; and what holds it up.

``tails_server.py KIND FOLDER`` answers each line on its standard input with a line of JSON.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import time
from collections.abc import Callable
from typing import Any

import grpc
import grpc.aio
from google.longrunning import operations_pb2, operations_pb2_grpc

from benchmarks import cpu
from benchmarks.moments import Moments
from lro.example.v1 import fleet_service_pb2, fleet_service_pb2_grpc
from lro_grpc import Limits, Operations, method
from lro_grpc._runtime import garbage
from lro_grpc._stores.sqlite.writer import Writer

WORK_SECONDS = 0.02
_MANY = 100_000


class Ours(fleet_service_pb2_grpc.FleetServiceServicer):
    """Its instances carry, as their size, the moment at which they were done."""

    @method(concurrency=_MANY)
    async def CreateInstance(self, request, op):
        del request, op
        await asyncio.sleep(WORK_SECONDS)
        return fleet_service_pb2.Instance(size_bytes=time.monotonic_ns())


class Bare(fleet_service_pb2_grpc.FleetServiceServicer, operations_pb2_grpc.OperationsServicer):
    """The least that can be written by hand: a task for each name, and nothing is stored."""

    def __init__(self) -> None:
        self._tasks: dict[str, asyncio.Task[operations_pb2.Operation]] = {}
        self._numbers = itertools.count()

    async def CreateInstance(self, request, context):
        del context
        name = f"{request.parent}/operations/op-{next(self._numbers):026}"
        self._tasks[name] = asyncio.create_task(self._run(name))
        return operations_pb2.Operation(name=name)

    async def GetOperation(self, request, context):
        del context
        task = self._tasks[request.name]
        return task.result() if task.done() else operations_pb2.Operation(name=request.name)

    async def WaitOperation(self, request, context):
        del context
        return await asyncio.shield(self._tasks[request.name])

    async def _run(self, name: str) -> operations_pb2.Operation:
        await asyncio.sleep(WORK_SECONDS)
        operation = operations_pb2.Operation(name=name, done=True)
        operation.response.Pack(fleet_service_pb2.Instance(size_bytes=time.monotonic_ns()))
        return operation


def _timed(commit: Callable[[Writer], None], moments: list[Moments]) -> Callable[[Writer], None]:
    """Returns a commit that notes how long the disk took."""

    def timed(writer: Writer) -> None:
        begin = time.monotonic_ns()
        commit(writer)
        moments[-1].spans["commit"].append((begin, time.monotonic_ns()))

    return timed


async def _main(kind: str, folder: str) -> None:
    moments = [Moments()]
    server = grpc.aio.server()
    if kind == "ours":
        Writer._commit_to_disk = _timed(Writer._commit_to_disk, moments)
        operations = Operations(f"sqlite:///{folder}/operations.db", limits=Limits(queue=_MANY))
        fleet_service_pb2_grpc.add_FleetServiceServicer_to_server(Ours(), operations.attach(server))
        moments[0].spans["commit"] = []
        await operations.start()
    else:
        bare = Bare()
        fleet_service_pb2_grpc.add_FleetServiceServicer_to_server(bare, server)
        operations_pb2_grpc.add_OperationsServicer_to_server(bare, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    garbage.search_less()  # as `lro serve` does
    _answer(port)
    while await asyncio.to_thread(sys.stdin.readline):
        moments.append(Moments())
        moments[-1].spans["commit"] = []
        before = cpu.own()
        with moments[-1].noted():
            _answer("noting")
            await asyncio.to_thread(sys.stdin.readline)
        noted = moments[-1]
        _answer({"spans": noted.spans, "switches": noted.switches, "cpu": cpu.own() - before})


def _answer(what: Any) -> None:
    print(json.dumps(what), flush=True)


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))
