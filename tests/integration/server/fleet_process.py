"""A server in a process of its own.

``fleet_process.py STACK STORE-URL [DRAINING [LAME-DUCK [GRACE]]]``

STACK is ``sync``, ``aio``, or ``own-loop`` for one that is started without ``Operations.run``, on a
loop on which Python's own handler of Ctrl-C stands.

Prints ``listening PORT``, then ``began NAME ATTEMPT`` for each attempt, and ``drained`` at last.
DRAINING is what its ``draining`` does after it has printed ``draining``: ``hold`` and
``hold-async`` wait for a line from stdin, ``raise`` fails. LAME-DUCK and GRACE are in seconds.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent import futures
from datetime import timedelta
from typing import Any

import grpc
import grpc.aio
from busy_machine import is_said_of_it

import lro_grpc
from lro.example.v1 import fleet_service_pb2_grpc

SLEEP = ["sleep", "60"]
SILENT: Any = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
"""A child that outlives the server keeps none of its pipes open."""


class FleetService(fleet_service_pb2_grpc.FleetServiceServicer):
    """Its instances take for ever."""

    @lro_grpc.method
    async def CreateInstance(self, request: Any, op: Any) -> Any:
        if request.instance_id.startswith("child"):
            await with_child(request, op)
        print("began", op.name, op.attempt, flush=True)
        if request.instance_id == "interrupt":
            raise KeyboardInterrupt
        if request.instance_id == "ctrl-c":
            signal.raise_signal(signal.SIGINT)
        op.progress(30, "taking for ever")
        try:
            await asyncio.Event().wait()
        finally:
            if request.instance_id == "unwinds":
                print("unwinding", flush=True)
                await asyncio.to_thread(sys.stdin.readline)

    @CreateInstance.prepare
    def prepare_create_instance(self, request: Any, context: Any) -> None:
        if request.instance_id == "exit":
            sys.exit(3)
        if request.instance_id == "interrupt-prepare":
            raise KeyboardInterrupt

    @lro_grpc.method(max_attempts=1)
    def BatchCreateInstances(self, request: Any, op: Any) -> Any:
        with subprocess.Popen(SLEEP, **SILENT) as child:
            print("began", op.name, op.attempt, flush=True)
            child.wait()
        raise RuntimeError(f"sleep has ended with {child.returncode}")

    @lro_grpc.method(max_attempts=1)
    def DeleteInstance(self, request: Any, op: Any) -> Any:
        print("began", op.name, op.attempt, flush=True)
        while op.stop_reason is None:
            threading.Event().wait(0.01)
        print("stopped", op.stop_reason.name, flush=True)
        op.raise_if_stopped()


async def with_child(request: Any, op: Any) -> None:
    """Has a process of its own do the work, as one target of a batch if the request says so."""

    async def create(target: str) -> None:
        child = await asyncio.create_subprocess_exec(*SLEEP, **SILENT)
        print("began", op.name, op.attempt, flush=True)
        code = await child.wait()
        raise RuntimeError(f"sleep has ended with {code}")

    if request.instance_id == "child":
        await create(op.target)
    await op.batch(["one"], create=create, delete=create)


def hold() -> None:
    print("draining", flush=True)
    sys.stdin.readline()


async def hold_async() -> None:
    await asyncio.to_thread(hold)


def fail() -> None:
    print("draining", flush=True)
    raise RuntimeError("the load balancer does not answer")


DRAINING: dict[str, Callable[[], object]] = {
    "nothing": lambda: None,
    "print": lambda: print("draining", flush=True),
    "health": lambda: print("draining is_serving:", OPERATIONS[0].is_serving, flush=True),
    "hold": hold,
    "hold-async": hold_async,
    "raise": fail,
}


OPERATIONS: list[lro_grpc.Operations] = []


def main(
    stack: str, url: str, draining: str = "nothing", lame_duck: str = "0", grace: str = "5"
) -> None:
    logging.getLogger("lro_grpc").addFilter(lambda one: not is_said_of_it(one.getMessage()))
    operations = lro_grpc.Operations(url, grace=float(grace))
    OPERATIONS.append(operations)

    def run(server: Any) -> Any:
        registrar = operations.attach(server)
        fleet_service_pb2_grpc.add_FleetServiceServicer_to_server(FleetService(), registrar)
        port = server.add_insecure_port("127.0.0.1:0")
        return operations.run(
            server,
            ready=lambda: print("listening", port, flush=True),
            draining=DRAINING[draining],
            lame_duck=timedelta(seconds=float(lame_duck)),
        )

    async def serve() -> None:
        await run(grpc.aio.server())

    async def serve_without_run() -> None:
        server = grpc.aio.server()
        registrar = operations.attach(server)
        fleet_service_pb2_grpc.add_FleetServiceServicer_to_server(FleetService(), registrar)
        port = server.add_insecure_port("127.0.0.1:0")
        await operations.start()
        await server.start()
        print("listening", port, flush=True)
        await server.wait_for_termination()

    if stack == "sync":
        run(grpc.server(futures.ThreadPoolExecutor(8)))
    elif stack == "aio":
        asyncio.run(serve())
    else:
        asyncio.new_event_loop().run_until_complete(serve_without_run())
    print("drained", flush=True)


def run() -> None:
    main(*sys.argv[1:])


if __name__ == "__main__":
    run()
