"""One process with a server whose operations take as long as asked, and that counts its calls.

Who calls is in the header ``x-who``. It answers each line on its standard input, a name, with how
many calls that one has made of the operations.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

import grpc
import grpc.aio

from lro.example.v1 import fleet_service_pb2, fleet_service_pb2_grpc
from lro_grpc import Operations, method

WHO = "x-who"


class Server:
    """The process, from outside."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.target = f"127.0.0.1:{self.calls('port')}"

    def calls(self, who: str) -> int:
        """Returns how many calls someone has made."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(who, file=self._process.stdin, flush=True)
        return int(json.loads(self._process.stdout.readline()))


@contextlib.contextmanager
def serving() -> Iterator[Server]:
    """Runs the process while the context lasts."""
    command = [sys.executable, "-m", "benchmarks.counting"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield Server(process)
        finally:
            process.terminate()


class Fleet(fleet_service_pb2_grpc.FleetServiceServicer):
    """Its instances take as many seconds as their id says, and carry the moment of their end."""

    @method(concurrency=1000)
    async def CreateInstance(self, request, op):
        del op
        await asyncio.sleep(float(request.instance_id))
        return fleet_service_pb2.Instance(size_bytes=time.monotonic_ns())


class Counter(grpc.aio.ServerInterceptor):
    def __init__(self) -> None:
        self.calls: collections.Counter[str] = collections.Counter()

    async def intercept_service(self, continuation, details):
        self.calls[dict(details.invocation_metadata).get(WHO, "")] += 1
        return await continuation(details)


async def _main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        counter = Counter()
        operations = Operations(f"sqlite:///{folder}/operations.db")
        server = grpc.aio.server(interceptors=[counter])
        fleet_service_pb2_grpc.add_FleetServiceServicer_to_server(
            Fleet(), operations.attach(server)
        )
        port = server.add_insecure_port("127.0.0.1:0")
        await operations.start()
        await server.start()
        while line := await asyncio.to_thread(sys.stdin.readline):
            who = line.strip()
            print(json.dumps(port if who == "port" else counter.calls[who]), flush=True)


if __name__ == "__main__":
    asyncio.run(_main())
