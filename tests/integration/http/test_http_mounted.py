"""The gateway as a part of someone's own app."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from http_harness import PARENT, Fleet, Http
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from lro.example.v1 import fleet_service_pb2_grpc
from lro_grpc import testing
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
