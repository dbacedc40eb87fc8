"""Health over HTTP: what load balancers and probes ask for."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from http_harness import PARENT, Http, start

import lro_grpc
from lro_grpc.http import gateway, listening, listening_in_thread

WELL = {"status": "SERVING"}
UNWELL = {"status": "NOT_SERVING"}


def test_while_the_operations_run_it_is_well(serve):
    http = serve(identify=refuse)
    for path in ("/healthz", "/livez"):
        reply = http.get(path)
        assert reply.ok == WELL
        assert reply.headers["cache-control"] == "no-store"
        assert http.send("POST", path).headers["allow"] == "GET, HEAD"
    assert http.get("/healthz", headers={"Host": "evil.example"}).status == 421


def refuse(context: Any) -> str:
    raise lro_grpc.LroError("nobody is known", code=lro_grpc.Code.UNAUTHENTICATED)


def test_in_a_drain_it_lives_and_is_to_be_sent_nothing(serve):
    http = serve()
    start(http)
    http.drain()
    unwell = http.get("/healthz")
    assert (unwell.status, unwell.json, unwell.headers["retry-after"]) == (503, UNWELL, "1")
    assert http.send("HEAD", "/healthz").status == 503
    assert http.get("/livez").ok == WELL
    assert http.get(f"/v1/{PARENT}/operations").status == 503


def test_before_the_start_it_lives_and_is_to_be_sent_nothing():
    operations = lro_grpc.Operations("memory:")
    with listening_in_thread(gateway(operations), "127.0.0.1:0") as port:
        http = Http(port)
        assert http.get("/healthz").status == 503
        assert http.get("/livez").ok == WELL
        operations.start_sync()
        assert http.get("/healthz").ok == WELL
        operations.stop_sync(lambda: None)
        assert http.get("/healthz").status == 503


def test_operations_whose_file_is_gone_are_to_be_sent_nothing(serve, where, tmp_path):
    """As gRPC's health checks say; a server behind a channel says it there, if anywhere."""
    file = tmp_path / "o.db"
    http = serve(store=f"sqlite:///{file}")
    assert http.get("/healthz").ok == WELL
    file.unlink()
    assert http.post(f"/v1/{PARENT}/instances?instanceId=a", {}).status == 503
    assert http.get("/healthz").status == (200 if where == "channel" else 503)
    assert http.get("/livez").ok == WELL


class Refusing(health_pb2_grpc.HealthServicer):
    """A health service that tells nobody."""

    def __init__(self, code: grpc.StatusCode):
        self.code = code

    async def Check(self, request: Any, context: Any) -> Any:
        await context.abort(self.code, "not for you")


async def behind_a_channel(servicer: Any, act: Any) -> None:
    """Runs a server with a health service, and calls a gateway in front of it."""
    server = grpc.aio.server()
    if servicer is not None:
        health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with (
        grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
        listening(gateway(channel=channel), "127.0.0.1:0") as http_port,
    ):
        await act(Http(http_port), server)
    await server.stop(None)


async def status_of(http: Http, path: str = "/healthz") -> int:
    return (await asyncio.to_thread(http.get, path)).status


def test_behind_a_channel_it_is_what_the_server_says_of_all_of_it():
    checks = health.aio.HealthServicer()

    async def act(http: Http, server: Any) -> None:
        assert await status_of(http) == 200
        await checks.set("", health_pb2.HealthCheckResponse.NOT_SERVING)
        assert await status_of(http) == 503
        await checks.set("", health_pb2.HealthCheckResponse.SERVING)
        assert await status_of(http) == 200
        await checks.enter_graceful_shutdown()
        assert await status_of(http) == 503
        await server.stop(None)
        assert await status_of(http) == 503
        assert await status_of(http, "/livez") == 200

    asyncio.run(behind_a_channel(checks, act))


@pytest.mark.parametrize(
    ("servicer", "status"),
    [(None, 200), (Refusing(grpc.StatusCode.PERMISSION_DENIED), 200),
     (Refusing(grpc.StatusCode.UNAUTHENTICATED), 200), (Refusing(grpc.StatusCode.NOT_FOUND), 200),
     (Refusing(grpc.StatusCode.INTERNAL), 503), (Refusing(grpc.StatusCode.UNAVAILABLE), 503)],
)  # fmt: skip
def test_behind_a_channel_a_server_that_says_nothing_of_its_health_is_well(servicer, status):
    async def act(http: Http, server: Any) -> None:
        assert await status_of(http) == status

    asyncio.run(behind_a_channel(servicer, act))
