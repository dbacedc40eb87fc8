"""One process with two servers: ours, and one written by hand around a dictionary."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import importlib.util
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass

import grpc
import grpc.aio
from google.longrunning import operations_pb2, operations_pb2_grpc

from benchmarks.needed import NeededError
from lro.example.v1 import fleet_service_pb2, fleet_service_pb2_grpc
from lro.v1 import operation_metadata_pb2
from lro_grpc import Operations, method
from lro_grpc._runtime import garbage

WORK_SECONDS = 0.02
LIFE_SECONDS = 600


@dataclass(frozen=True)
class Server:
    ours: str
    """The address of our server."""
    by_hand: str
    """The address of the one around a dictionary."""
    name: str
    """A done operation, which both have."""
    pid: int
    """The process."""


class Fleet(fleet_service_pb2_grpc.FleetServiceServicer):
    """Its instances carry, as their size, the moment at which they were done."""

    @method
    async def CreateInstance(self, request, op):
        del request, op
        await asyncio.sleep(WORK_SECONDS)
        return fleet_service_pb2.Instance(size_bytes=time.monotonic_ns())


class ByHand(operations_pb2_grpc.OperationsServicer):
    """The service that a team writes today: a dictionary, and a Wait that does the work itself."""

    def __init__(self, operations: dict[str, operations_pb2.Operation]) -> None:
        self._operations = operations

    async def GetOperation(self, request, context):
        operation = self._operations.get(request.name)
        if operation is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such operation")
        return operation

    async def WaitOperation(self, request, context):
        del context
        await asyncio.sleep(WORK_SECONDS)
        operation = operations_pb2.Operation(name=request.name, done=True)
        operation.response.Pack(fleet_service_pb2.Instance(size_bytes=time.monotonic_ns()))
        return operation


@contextlib.contextmanager
def serving(loop: str = "asyncio") -> Iterator[Server]:
    """Runs the process while the context lasts.

    Args:
        loop: The package of its event loop.
    """
    if importlib.util.find_spec(loop) is None:
        raise NeededError(f"{loop}: see the extra `speed`")
    command = [sys.executable, "-m", "benchmarks.server", loop]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            yield Server(**json.loads(process.stdout.readline()), pid=process.pid)
        finally:
            process.terminate()


@contextlib.contextmanager
def operations_of_a_fleet(server: grpc.aio.Server) -> Iterator[Operations]:
    """Attaches operations in a file to a server, and adds a fleet."""
    with tempfile.TemporaryDirectory() as folder:
        operations = Operations(f"sqlite:///{folder}/operations.db")
        registrar = operations.attach(server)
        fleet_service_pb2_grpc.add_FleetServiceServicer_to_server(Fleet(), registrar)
        yield operations


async def _main() -> None:
    ours = grpc.aio.server()
    with operations_of_a_fleet(ours) as operations:
        port = ours.add_insecure_port("127.0.0.1:0")
        await operations.start()
        await ours.start()
        done = await done_operation(port)
        by_hand = grpc.aio.server()
        operations_pb2_grpc.add_OperationsServicer_to_server(ByHand({done.name: done}), by_hand)
        other_port = by_hand.add_insecure_port("127.0.0.1:0")
        await by_hand.start()
        addresses = {"ours": f"127.0.0.1:{port}", "by_hand": f"127.0.0.1:{other_port}"}
        garbage.search_less()  # as `lro serve` does
        print(json.dumps({**addresses, "name": done.name}), flush=True)
        await asyncio.sleep(LIFE_SECONDS)


async def done_operation(port: int) -> operations_pb2.Operation:
    """Starts an operation at a server, and returns it when it is done."""
    metadata = operation_metadata_pb2.OperationMetadata
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        operation = await fleet_service_pb2_grpc.FleetServiceStub(channel).CreateInstance(
            fleet_service_pb2.CreateInstanceRequest(parent="projects/p/locations/l")
        )
        waiting = operations_pb2.WaitOperationRequest(name=operation.name)
        operation = await operations_pb2_grpc.OperationsStub(channel).WaitOperation(waiting)
    assert operation.done, operation.metadata.Unpack(metadata())
    return operation


if __name__ == "__main__":
    importlib.import_module(sys.argv[1]).run(_main())
