"""Gets over HTTP: calls a second of the gateway, beside Starlette with constant bytes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from typing import NamedTuple

import grpc.aio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from benchmarks import h2load
from benchmarks.figure import Figure
from benchmarks.server import LIFE_SECONDS, done_operation, operations_of_a_fleet
from lro_grpc._http.gateway import gateway
from lro_grpc._http.listening import listening
from lro_grpc._http.responses import operation_json
from lro_grpc._runtime import garbage

CALLS = 4_000
ROUNDS = 5


def measure(rounds: int = ROUNDS, calls: int = CALLS) -> list[Figure]:
    """Loads both servers in turn."""
    ours, constant = [], []
    with _serving() as places:
        for _ in range(rounds + 1):
            for loads, url in zip((ours, constant), places.urls, strict=True):
                loads.append(h2load.load(url, calls, "--h1", "-c", "8", servers=[places.pid]))
    del ours[0], constant[0]  # they have warmed up
    return [
        Figure(
            what="Get over HTTP",
            ours=[one.rate for one in ours],
            baseline=[one.rate for one in constant],
            unit="calls/s",
            goal="≥ 0.6 × Starlette with constant bytes",
            meets=lambda _, ratio: ratio >= 0.6,
            cpu={
                "server": ([one.server for one in ours], [one.server for one in constant]),
                "client": ([one.client for one in ours], [one.client for one in constant]),
            },
        )
    ]


class _Places(NamedTuple):
    urls: tuple[str, str]
    """Where the operation is at the gateway, and at the bare app."""
    pid: int
    """The process of both."""


@contextlib.contextmanager
def _serving() -> Iterator[_Places]:
    """Runs both in a process of their own."""
    command = [sys.executable, "-m", "benchmarks.http_get"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            ours, constant = json.loads(process.stdout.readline())
            yield _Places((ours, constant), process.pid)
        finally:
            process.terminate()


async def _main() -> None:
    server = grpc.aio.server()
    with operations_of_a_fleet(server) as operations:
        port = server.add_insecure_port("127.0.0.1:0")
        await operations.start()
        await server.start()
        operation = await done_operation(port)
        body = operation_json(operation.SerializeToString())
        async with (
            listening(gateway(operations), "127.0.0.1:0") as ours,
            listening(_constant(body), "127.0.0.1:0") as constant,
        ):
            garbage.search_less()  # as `lro serve` does
            hosts = (f"127.0.0.1:{port}" for port in (ours, constant))
            print(json.dumps([f"http://{host}/v1/{operation.name}" for host in hosts]), flush=True)
            await asyncio.sleep(LIFE_SECONDS)


def _constant(body: bytes) -> Starlette:
    async def answer(request: Request) -> Response:
        del request
        return Response(body, media_type="application/json")

    return Starlette(routes=[Route("/v1/{name:path}", answer)])


if __name__ == "__main__":
    asyncio.run(_main())
