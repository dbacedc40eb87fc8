"""One process with one server, ours or bare, whose operations end all at once on request.

It answers each line on its standard input with a line of JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Protocol

import grpc
import grpc.aio
from google.longrunning import operations_pb2, operations_pb2_grpc

from benchmarks.memory import resident
from lro.example.v1 import fleet_service_pb2, fleet_service_pb2_grpc
from lro_grpc import Operations, method
from lro_grpc._operation.record import Record
from lro_grpc._runtime.clock import SystemClock
from lro_grpc.stores import SqliteStore

CONCURRENCY = 100_000
"""More than there will ever be, so that each operation runs at once."""


class Server(Protocol):
    async def start(self) -> int:
        """Returns the port."""
        ...

    async def finish(self) -> int:
        """Ends every operation, and returns when the first was known to have ended."""
        ...


class Ours(fleet_service_pb2_grpc.FleetServiceServicer):
    """Our server, on a SQLite file; its handlers run until they may return."""

    def __init__(self, folder: str) -> None:
        self._store = SqliteStore(Path(folder, "operations.db"), SystemClock().now)
        self._may_return = asyncio.Event()
        self._first_end: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._store.subscribe(self._on_change)

    async def start(self) -> int:
        operations = Operations(self._store)
        self._server = grpc.aio.server()
        fleet_service_pb2_grpc.add_FleetServiceServicer_to_server(
            self, operations.attach(self._server)
        )
        port = self._server.add_insecure_port("127.0.0.1:0")
        await operations.start()
        await self._server.start()
        return port

    async def finish(self) -> int:
        self._may_return.set()
        return await self._first_end

    @method(concurrency=CONCURRENCY)
    async def CreateInstance(self, request, op):
        del request, op
        await self._may_return.wait()
        return fleet_service_pb2.Instance()

    def _on_change(self, _before: Record | None, record: Record) -> None:
        if record.done and not self._first_end.done():
            self._first_end.set_result(time.monotonic_ns())


class Bare(fleet_service_pb2_grpc.FleetServiceServicer, operations_pb2_grpc.OperationsServicer):
    """The least that can be written by hand: an operation and an Event for each name."""

    def __init__(self) -> None:
        self._operations: dict[str, operations_pb2.Operation] = {}
        self._ended: dict[str, asyncio.Event] = {}

    async def start(self) -> int:
        self._server = grpc.aio.server()
        fleet_service_pb2_grpc.add_FleetServiceServicer_to_server(self, self._server)
        operations_pb2_grpc.add_OperationsServicer_to_server(self, self._server)
        port = self._server.add_insecure_port("127.0.0.1:0")
        await self._server.start()
        return port

    async def finish(self) -> int:
        for operation in self._operations.values():
            operation.done = True
            operation.response.Pack(fleet_service_pb2.Instance())
        first_end = time.monotonic_ns()
        for ended in self._ended.values():
            ended.set()
        return first_end

    async def CreateInstance(self, request, context):
        del context
        operation = operations_pb2.Operation(
            name=f"{request.parent}/operations/op-{len(self._operations):026}"
        )
        self._operations[operation.name] = operation
        self._ended[operation.name] = asyncio.Event()
        return operation

    async def GetOperation(self, request, context):
        del context
        return self._operations[request.name]

    async def WaitOperation(self, request, context):
        del context
        await self._ended[request.name].wait()
        return self._operations[request.name]


async def _main(kind: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        server: Server = Ours(folder) if kind == "ours" else Bare()
        port = await server.start()
        while line := await asyncio.to_thread(sys.stdin.readline):
            print(json.dumps(await _answer(line.strip(), server, port)), flush=True)


async def _answer(line: str, server: Server, port: int) -> Any:
    if line == "port":
        return port
    if line == "memory":
        return resident()
    released = time.monotonic_ns()
    return {"released": released, "first_end": await server.finish()}


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1]))
