"""docs/serving.md: what it shows is run."""

from __future__ import annotations

import ast
import asyncio
import datetime
import os
import re
import signal
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from server_harness import Held

import lro_grpc
from lro.example.v1 import fleet_service_pb2_grpc

PAGE = (Path(__file__).parents[3] / "docs" / "serving.md").read_text(encoding="utf-8")
KEEPALIVE, HEALTH, CHANNELS, WORK, INTERCEPTORS = re.findall(
    r"```python\n(.*?)```", PAGE, re.DOTALL
)

NAMES = {
    "datetime": datetime,
    "futures": futures,
    "grpc": grpc,
    "health": health,
    "health_pb2": health_pb2,
    "health_pb2_grpc": health_pb2_grpc,
    "lro_grpc": lro_grpc,
    "reflection": reflection,
}


async def run(block: str, **names: Any) -> dict[str, Any]:
    """Runs a block, and returns the names that it has then."""
    known = {**NAMES, **names}
    coroutine = eval(compile(block, "serving.md", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), known)
    if coroutine is not None:
        await coroutine
    return known


def test_a_server_of_either_kind_is_made_with_the_options() -> None:
    async def make() -> None:
        kinds = [grpc.aio.Server, grpc.Server]
        for line, kind in zip(KEEPALIVE.splitlines(), kinds, strict=True):
            assert isinstance((await run(line))["server"], kind)

    asyncio.run(make())


def test_a_server_has_health_checks_and_reflection() -> None:
    async def serve() -> None:
        operations = lro_grpc.Operations("memory:")
        server = grpc.aio.server()
        known = await run(INTERCEPTORS, operations=operations, server=server)
        assert isinstance(known["registrar"], grpc.aio.Server)
        port = server.add_insecure_port("127.0.0.1:0")
        running = asyncio.create_task(run(HEALTH, operations=operations, server=server))
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            check = health_pb2_grpc.HealthStub(channel).Check
            for service in ("", *operations.services):
                request = health_pb2.HealthCheckRequest(service=service)
                answer = await check(request, timeout=20, wait_for_ready=True)
                assert answer.status == health_pb2.HealthCheckResponse.SERVING
        await server.stop(0)
        await running

    asyncio.run(serve())


def test_channels_of_their_own_are_connections_of_their_own() -> None:
    peers = grpc.method_handlers_generic_handler(
        "test.Peers",
        {"Peer": grpc.unary_unary_rpc_method_handler(lambda _, context: context.peer().encode())},
    )
    server = grpc.server(futures.ThreadPoolExecutor(4), handlers=[peers])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    block = CHANNELS.replace("reports:50051", f"127.0.0.1:{port}")
    channels = asyncio.run(run(block))["channels"]
    seen = {channel.unary_unary("/test.Peers/Peer")(b"", timeout=20) for channel in channels}
    assert len(seen) == 4
    for channel in channels:
        channel.close()
    server.stop(0).wait()


def test_a_process_works_until_a_signal_comes(postgres: str) -> None:
    said = []

    def say(text: str) -> None:
        said.append(text)
        os.kill(os.getpid(), signal.SIGTERM)

    names = {
        "add_FleetServiceServicer_to_server": (
            fleet_service_pb2_grpc.add_FleetServiceServicer_to_server
        ),
        "FleetService": Held("def").servicer,
        "print": say,
    }
    block = WORK.replace("postgresql://lro@db/lro", postgres)
    known = asyncio.run(run(block, **names))
    assert said == ["at work"]
    assert not known["operations"].is_serving
