"""The gateway as a part of someone's own app."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import pytest
from http_harness import PARENT, Fleet, Http
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from lro.example.v1 import fleet_service_pb2_grpc
from lro_grpc import ConfigurationError, testing
from lro_grpc._http.gateway import gateway
from lro_grpc.http import listening_in_thread


@pytest.fixture
def http() -> Iterator[Http]:
    fleet = Fleet()
    add = fleet_service_pb2_grpc.add_FleetServiceServicer_to_server
    with testing.serve(fleet, add) as served:
        app = Starlette(
            routes=[
                Route("/", lambda request: PlainTextResponse("the app's own")),
                Mount("/api", gateway(served.operations)),
            ]
        )
        with listening_in_thread(app, "127.0.0.1:0") as port:
            yield Http(port)
        fleet.gate.set()


def test_its_paths_begin_where_it_is_mounted(http):
    assert http.get("/").body == b"the app's own"
    name = http.post(f"/api/v1/{PARENT}/instances?instanceId=a", {}).ok["name"]
    assert http.get(f"/api/v1/{name}").ok["name"] == name
    assert next(http.events(f"/api/v1/{name}:watch"))["data"]
    assert http.get(f"/v1/{name}").status == 404
    refused = http.get("/api/v1/operations/%2Fx")
    assert refused.json["error"]["status"] == "INVALID_ARGUMENT"
    assert http.get("/api/face/v1.0/operations/x").json["error"]["code"] == "NOT_FOUND"


def test_a_websocket_is_closed_at_once():
    """For there is nothing for it here; the servers that know them ask all the same."""
    sent = []

    async def receive():
        return {"type": "websocket.connect"}

    async def send(message):
        sent.append(message)

    fleet = Fleet()
    with testing.serve(fleet, fleet_service_pb2_grpc.add_FleetServiceServicer_to_server) as served:
        app = gateway(served.operations)
        asyncio.run(app({"type": "websocket", "path": "/", "headers": []}, receive, send))
    assert sent == [{"type": "websocket.close", "code": 1000}]


@pytest.mark.parametrize("address", ["127.0.0.1:{port}", "127.0.0.1:a", "nowhere.invalid:0"])
def test_an_address_that_cannot_be_bound_is_refused(address):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = address.format(port=taken.getsockname()[1])
        with (
            pytest.raises(ConfigurationError, match=f"cannot listen on {address}: "),
            listening_in_thread(Starlette(), address),
        ):
            pass
