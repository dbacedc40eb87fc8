"""The gateway as a part of someone's own app."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from queue import Queue
from typing import Any
from urllib.parse import unquote

import pytest
from http_harness import PARENT, SECONDS, Fleet, Http
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


@pytest.fixture
def without_raw_path() -> Iterator[Http]:
    """Behind an HTTP server that tells only the decoded path, as ASGI allows."""
    fleet = Fleet()
    add = fleet_service_pb2_grpc.add_FleetServiceServicer_to_server
    with testing.serve(fleet, add) as served:
        app = gateway(served.operations)

        async def telling_less(scope: Any, receive: Any, send: Any) -> None:
            if "raw_path" in scope:
                scope = {**scope, "path": unquote(scope["raw_path"].decode(), errors="strict")}
                del scope["raw_path"]
            await app(scope, receive, send)

        with listening_in_thread(telling_less, "127.0.0.1:0") as port:
            yield Http(port)
        fleet.gate.set()


@pytest.mark.parametrize("colon", [":", "%3A"])
def test_all_verbs_are_reached_behind_a_server_that_tells_no_raw_path(without_raw_path, colon):
    """The two are the same there."""
    http = without_raw_path
    name = http.post(f"/v1/{PARENT}/instances?instanceId=a", {}).ok["name"]
    assert next(http.events(f"/v1/{name}{colon}watch"))["data"]
    assert http.get(f"/v1/{name}{colon}wait?timeout=0s").ok["name"] == name
    assert http.get(f"/v1/{name.replace('/operations', '/%6fperations')}").ok["name"] == name
    assert http.post(f"/v1/{name}{colon}cancel").ok == {}
    assert http.get(f"/v1/{name}{colon}wait?timeout=15s").ok["error"]["code"] == 1


@pytest.mark.parametrize("text", ["a:b", "a@b", "a%25b", "a%3Fb", "a%20b", "%C3%A9", "a'b(c)", "~"])
def test_a_value_is_the_same_behind_a_server_that_tells_no_raw_path(without_raw_path, http, text):
    path = f"/v1/{PARENT}/operations/{text}/operations"
    told = without_raw_path.get(path)
    assert (told.status, told.json) == ((other := http.get(f"/api{path}")).status, other.json)


@pytest.mark.parametrize(
    ("request_line", "status"),
    [("OPTIONS *", 204), ("GET http://localhost/livez", 200), ("GET http://[::1]/livez", 200),
     ("GET http://evil.example/livez", 421)],
)  # fmt: skip
def test_every_form_of_a_target_is_taken_behind_a_server_that_tells_no_raw_path(
    without_raw_path, request_line, status
):
    with without_raw_path.connect() as connection:
        connection.sendall(f"{request_line} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        assert connection.recv(13) == b"HTTP/1.1 %d " % status


def test_a_client_that_leaves_in_the_middle_of_its_body_starts_nothing():
    """Though what has come of it is a body; and it is no error of the app's."""
    fleet, sent, came, ended = Fleet(), [], Queue(), Queue()
    fleet.gate.set()
    add = fleet_service_pb2_grpc.add_FleetServiceServicer_to_server
    with testing.serve(fleet, add) as served:
        app = gateway(served.operations, max_bodies=5000)

        async def spied(scope: Any, receive: Any, send: Any) -> None:
            async def spying_receive() -> Any:
                message = await receive()
                came.put(len(message.get("body", b"")))
                return message

            async def spying_send(message: Any) -> None:
                sent.append(message)
                await send(message)

            try:
                await app(scope, spying_receive, spying_send)
            except BaseException as error:
                ended.put(error)
                raise
            ended.put(None)

        with listening_in_thread(spied, "127.0.0.1:0") as port:
            http = Http(port)
            path = f"/v1/{PARENT}/instances?instanceId=a"
            head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json"
            for _ in range(2):
                with http.connect() as connection:
                    connection.sendall(f"{head}\r\nContent-Length: 40000\r\n\r\n".encode())
                    connection.sendall(b"{}".ljust(20_000))
                    left = 20_000
                    while left:
                        left -= came.get(timeout=SECONDS)
                assert ended.get(timeout=SECONDS) is None
                assert came.get() == 0
            assert sent == []
            assert http.get(f"/v1/{PARENT}/operations").ok == {}


def test_what_an_http_server_raises_is_an_incident_in_the_form_of_the_api(caplog):
    """The client gets its id, and the log the rest."""
    fleet = Fleet()
    add = fleet_service_pb2_grpc.add_FleetServiceServicer_to_server
    with testing.serve(fleet, add) as served:
        app = gateway(served.operations)

        async def failing(scope: Any, receive: Any, send: Any) -> None:
            async def fail() -> Any:
                raise RuntimeError("the password is tiger")

            await app(scope, fail, send)

        with listening_in_thread(failing, "127.0.0.1:0") as port:
            reply = Http(port).post(f"/v1/{PARENT}/instances?instanceId=a", {})
    assert reply.status == 500
    assert b"tiger" not in reply.body
    error = reply.json["error"]
    assert (error["status"], error["details"][0]["reason"]) == ("INTERNAL", "UNEXPECTED")
    incident = error["details"][0]["metadata"]["incident"]
    (logged,) = [one for one in caplog.records if incident in one.getMessage()]
    assert "tiger" in str(logged.exc_info[1])


def test_a_port_is_not_shared_where_the_system_cannot(monkeypatch):
    monkeypatch.delattr(socket, "SO_REUSEPORT")
    with (
        pytest.raises(ConfigurationError, match=r"cannot listen on .*: processes cannot share"),
        listening_in_thread(Starlette(), "127.0.0.1:0", shares_port=True),
    ):
        pass


@pytest.mark.parametrize("address", ["127.0.0.1:{port}", "127.0.0.1:a", "nowhere.invalid:0"])
def test_an_address_that_cannot_be_bound_is_refused(address):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = address.format(port=taken.getsockname()[1])
        with (
            pytest.raises(ConfigurationError, match=f"cannot listen on {address}: "),
            listening_in_thread(Starlette(), address),
        ):
            pass
