"""docs/dialects/http.md, with the gateway that it makes first and with the other one."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import re
import socket
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from pages import Page
from programs import first_service

import lro_grpc
from lro.example.v1 import fleet_service_lro
from lro_grpc.example import FleetService

PAGE = Page("dialects/http.md")
(GATEWAY,) = PAGE.texts("python")


@pytest.mark.codegen
def test_a_method_starts_where_its_annotation_says(tmp_path: Path) -> None:
    generate, call = PAGE.section("From a proto to a call").texts("sh")
    serve = generate.splitlines()[-1]
    folder = first_service(tmp_path, PAGE)
    with folder.started(f"{serve} --listen {folder.lro_target}"):
        folder.answers(folder.url)
        while (answer := json.loads(folder.run(call))).get("error", {}).get("code") == 503:
            pass  # it begins
        assert answer["name"].startswith("operations/op-")
        bare = call.replace("-H 'Content-Type: application/json'", "")
        assert json.loads(folder.run(bare))["error"]["code"] == 415
        assert "<title>" in folder.run("curl -s http://127.0.0.1:8080/docs")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def get(port: int, path: str) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    with contextlib.closing(connection):
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, json.load(answer)


@pytest.mark.parametrize("gateway", ["in the server's own process", "in front of a server"])
def test_the_gateway_serves_the_operations(gateway: str, tmp_path: Path) -> None:
    grpc_port, http_port = free_port(), free_port()
    code = GATEWAY.replace("50051", str(grpc_port)).replace("8080", str(http_port))
    if gateway == "in the server's own process":
        code = re.sub(r"^app = gateway\(channel=.*\n", "", code, flags=re.MULTILINE)
    source = f"async def serve(operations, server):\n{textwrap.indent(code, '    ')}"
    names: dict[str, Any] = {"grpc": grpc}
    exec(source, names)
    asyncio.run(served(names["serve"], tmp_path, grpc_port, http_port))


async def served(serve: Callable[..., Any], folder: Path, grpc_port: int, http_port: int) -> None:
    server = grpc.aio.server()
    operations = lro_grpc.Operations(store="memory:")
    fleet_service_lro.add_FleetServiceServicer_to_server(
        FleetService(folder), operations.attach(server)
    )
    server.add_insecure_port(f"127.0.0.1:{grpc_port}")
    serving = asyncio.create_task(serve(operations, server))
    path = "/v1/projects/p/locations/l/operations"
    while True:
        with contextlib.suppress(OSError):
            status, body = await asyncio.to_thread(get, http_port, path)
            if status != 503:  # the server has begun
                break
        await asyncio.sleep(0.01)
    assert (status, body) == (200, {})
    serving.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await serving
