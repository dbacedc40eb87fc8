"""A server whose handlers never end: ``stubborn_process.py STACK STORE-URL KIND``.

KIND is ``swallows`` for one that goes on through every cancel, ``children`` for one whose tasks do,
and ``blocks`` for a ``def`` handler that never returns. Prints ``listening PORT``, then ``began
NAME ATTEMPT`` for each attempt, and ``drained`` at last.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
from concurrent import futures
from datetime import timedelta
from typing import Any

import grpc
import grpc.aio

import lro_grpc
from lro.example.v1 import fleet_service_pb2_grpc


async def go_on() -> None:
    while True:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(1)


class Swallows(fleet_service_pb2_grpc.FleetServiceServicer):
    @lro_grpc.method
    async def CreateInstance(self, request: Any, op: Any) -> Any:
        print("began", op.name, op.attempt, flush=True)
        await go_on()


class Children(fleet_service_pb2_grpc.FleetServiceServicer):
    @lro_grpc.method
    async def CreateInstance(self, request: Any, op: Any) -> Any:
        child = asyncio.create_task(go_on())
        print("began", op.name, op.attempt, flush=True)
        await child


class Blocks(fleet_service_pb2_grpc.FleetServiceServicer):
    @lro_grpc.method
    def CreateInstance(self, request: Any, op: Any) -> Any:
        print("began", op.name, op.attempt, flush=True)
        threading.Event().wait()


KINDS = {"swallows": Swallows, "children": Children, "blocks": Blocks}


def main(stack: str, url: str, kind: str) -> None:
    operations = lro_grpc.Operations(url, grace=timedelta(seconds=0.5))

    def run(server: Any) -> Any:
        registrar = operations.attach(server)
        fleet_service_pb2_grpc.add_FleetServiceServicer_to_server(KINDS[kind](), registrar)
        port = server.add_insecure_port("127.0.0.1:0")
        return operations.run(server, ready=lambda: print("listening", port, flush=True))

    async def serve() -> None:
        await run(grpc.aio.server())

    if stack == "sync":
        run(grpc.server(futures.ThreadPoolExecutor(8)))
    else:
        asyncio.run(serve())
    print("drained", flush=True)


def run() -> None:
    main(*sys.argv[1:])


if __name__ == "__main__":
    run()
