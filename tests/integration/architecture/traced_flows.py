"""Prints as JSON the files that the three flows of ARCHITECTURE.md go through, call by call.

It is a process of its own: the threads of a client are traced from the beginning.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import grpc
import grpc.aio

import lro_grpc
from lro.example.v1 import fleet_service_pb2 as fleet
from lro.example.v1 import fleet_service_pb2_grpc as fleet_grpc
from lro_grpc.http import gateway

PACKAGE = Path(lro_grpc.__file__).parent
REQUEST = fleet.CreateInstanceRequest(parent="projects/p/locations/global", instance_id="i")


class Trace:
    """The calls of the package's functions, in all threads that begin from now on."""

    def __init__(self) -> None:
        self.flows: dict[str, list[str]] = {}
        self._calls: list[str] | None = None
        threading.setprofile(self._note)
        sys.setprofile(self._note)

    @contextmanager
    def flow(self, name: str) -> Iterator[None]:
        self._calls = self.flows[name] = []
        yield
        self.end()

    def end(self) -> None:
        self._calls = None

    def _note(self, frame: FrameType, event: str, argument: object) -> None:
        del argument
        calls, path = self._calls, Path(frame.f_code.co_filename)
        if event == "call" and calls is not None and path.is_relative_to(PACKAGE):
            file = str(path.relative_to(PACKAGE.parent))
            if calls[-1:] != [file]:
                calls.append(file)


class Fleet(fleet_grpc.FleetServiceServicer):
    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        self.began, self.may_end = threading.Event(), threading.Event()

    @lro_grpc.method
    async def CreateInstance(self, request: Any, op: Any) -> fleet.Instance:
        self._trace.end()
        self.began.set()
        await asyncio.to_thread(self.may_end.wait)
        return fleet.Instance(name="i")

    @CreateInstance.prepare
    async def prepare_create_instance(self, request: Any, context: Any) -> lro_grpc.Prepared:
        return lro_grpc.Prepared(target=f"{request.parent}/instances/{request.instance_id}")


async def main(folder: str) -> None:
    trace = Trace()
    service = Fleet(trace)
    server = grpc.aio.server()
    operations = lro_grpc.Operations(store=f"sqlite:///{folder}/operations.db")
    fleet_grpc.add_FleetServiceServicer_to_server(service, operations.attach(server))
    port = server.add_insecure_port("127.0.0.1:0")
    await operations.start()
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        with trace.flow("A start, until its handler runs"):
            started = await fleet_grpc.FleetServiceStub(channel).CreateInstance(REQUEST)
            await asyncio.to_thread(service.began.wait)
    path = f"/deploymentmanager/v2/projects/p/global/operations/{started.name.rpartition('/')[2]}"
    with trace.flow("A Deployment Manager GET"):
        await get(gateway(operations), path)
    with grpc.insecure_channel(f"127.0.0.1:{port}") as sync_channel:
        client = lro_grpc.OperationsClient(sync_channel)
        future = client.future(started, response=fleet.Instance)
        asyncio.get_running_loop().call_later(0.1, service.may_end.set)
        with trace.flow("`future.result()`"):
            await asyncio.to_thread(future.result)
    await operations.stop(lambda: server.stop(0))
    print(json.dumps(trace.flows))


async def get(app: Any, path: str) -> None:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        assert message.get("status", 200) == 200, message

    scope = {"type": "http", "method": "GET", "path": path, "raw_path": path.encode()}
    server = {"scheme": "http", "server": ("127.0.0.1", 80), "client": ("127.0.0.1", 1)}
    await app(
        {**scope, **server, "query_string": b"", "headers": [], "root_path": ""}, receive, send
    )


with tempfile.TemporaryDirectory() as place:
    asyncio.run(main(place))
