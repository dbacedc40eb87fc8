"""Gets over HTTP: calls a second of the gateway, beside Starlette with constant bytes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import statistics
import subprocess
import sys
from collections.abc import Iterator

import grpc.aio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from benchmarks.figure import Figure
from benchmarks.server import LIFE_SECONDS, done_operation, operations_of_a_fleet
from lro_grpc._http.gateway import gateway
from lro_grpc._http.listening import listening
from lro_grpc._http.responses import operation_json

CALLS = 4_000
ROUNDS = 9


def measure() -> list[Figure]:
    """Loads both servers in turn, and takes the median of each."""
    with _serving() as (ours, constant):
        rounds = [(_rate(ours), _rate(constant)) for _ in range(ROUNDS)][1:]  # the first warms up
    return [
        Figure(
            what="Get over HTTP",
            ours=statistics.median(ours for ours, _ in rounds),
            baseline=statistics.median(constant for _, constant in rounds),
            unit="calls/s",
            goal="≥ 0.6 × Starlette with constant bytes",
            meets=lambda _, ratio: ratio >= 0.6,
        )
    ]


def _rate(url: str) -> float:
    command = ["h2load", "--h1", "-c", "8", "-n", str(CALLS), url]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert f"{CALLS} succeeded" in output, output
    found = re.search(r"([0-9.]+) req/s", output)
    assert found is not None, output
    return float(found.group(1))


@contextlib.contextmanager
def _serving() -> Iterator[tuple[str, str]]:
    """Runs both in a process of their own, and gives where the operation is at each."""
    command = [sys.executable, "-m", "benchmarks.http_get"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            ours, constant = json.loads(process.stdout.readline())
            yield ours, constant
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
