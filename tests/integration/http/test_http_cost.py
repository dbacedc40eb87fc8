"""A caller can neither make the server convert more than it should, nor fill its memory."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from google.api import http_pb2
from google.protobuf import struct_pb2
from http_harness import PARENT, Fleet, Http, serving

import lro_grpc
from lro_grpc._http.gateway import gateway
from lro_grpc.http import listening_in_thread

CREATE = f"/v1/{PARENT}/instances?instanceId=a"


class Doorkeeper:
    """Knows one caller, and remembers who was asked about."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def identify(self, context: Any) -> str:
        key = dict(context.invocation_metadata()).get("x-key", "")
        self.asked.append(key)
        if key != "ann":
            raise lro_grpc.LroError("who is that?", code=lro_grpc.Code.UNAUTHENTICATED)
        return key


def begin(http: Http, length: int, part: bytes = b"", key: str = "ann") -> socket.socket:
    """Sends the head of a start, and a part of its body."""
    connection = http.connect()
    head = [f"POST {CREATE} HTTP/1.1", "Host: localhost", f"X-Key: {key}",
            "Content-Type: application/json", f"Content-Length: {length}", "", ""]  # fmt: skip
    connection.sendall("\r\n".join(head).encode() + part)
    return connection


@pytest.mark.parametrize("where", ["aio", "sync"])
def test_a_stranger_is_refused_before_the_body_comes(where):
    door = Doorkeeper()
    with serving(where, Fleet(), identify=door.identify) as http:
        with begin(http, 3_900_000, key="eve") as connection:
            assert connection.recv(12) == b"HTTP/1.1 401"
        assert door.asked == ["eve"]
        refused = http.post(CREATE, {}, headers={"X-Key": "eve"}).json["error"]
        assert refused["details"][0]["domain"] == "lro.example.v1.FleetService"


def test_a_caller_is_identified_once_for_each_call(fleet):
    door = Doorkeeper()
    with serving("aio", fleet, identify=door.identify) as http:
        name = http.post(CREATE, {}, headers={"X-Key": "ann"}).ok["name"]
        assert door.asked == ["ann"]
        http.get(f"/v1/{name}", headers={"X-Key": "ann"})
        http.post(f"/v1/{name}:cancel", {}, headers={"X-Key": "ann"})
        assert door.asked == ["ann"] * 3
        fleet.gate.set()


START = "/echo.Service/Start"


@pytest.fixture(scope="module")
def echo() -> Iterator[Http]:
    """A service that takes any JSON object."""
    operations = lro_grpc.Operations("memory:")
    operations.add_method(
        START, lambda request, op: request, request=struct_pb2.Struct, response=struct_pb2.Struct
    )
    operations.start_sync()
    rules = {START: http_pb2.HttpRule(post="/v1/echo", body="*")}
    app = gateway(operations, rules=rules, max_values=5000)
    with listening_in_thread(app, "127.0.0.1:0") as port:
        yield Http(port)
    operations.stop_sync(lambda: None)


@pytest.mark.parametrize(
    "body",
    [b'{"a":[' + b"1," * 1_900_000 + b"1]}", b'{"a":[' + b"{}," * 1_300_000 + b"1]}",
     b'{"a":[' + b'"",' * 1_300_000 + b"1]}", b'{"a":' + b"[" * 3_000_000,
     b"{" + b",".join(b'"%d":1' % n for n in range(300_000)) + b"}"],
    ids=["numbers", "objects", "strings", "brackets", "members"],
)  # fmt: skip
def test_a_body_of_more_values_than_may_be_is_not_converted(echo, body):
    assert len(body) < 4 * 1024 * 1024
    reply = echo.post("/v1/echo", body=body)
    assert reply.status == 413
    error = reply.json["error"]
    assert error["details"][0]["reason"] == "TOO_MANY_VALUES"
    assert "5000" in error["message"]


@pytest.mark.parametrize("text", ["x," * 1_500_000, '","' * 500_000, "\\" * 1_000_000])
def test_a_large_text_is_one_value_whatever_is_in_it(echo, text):
    name = echo.post("/v1/echo", {"a": text}).ok["name"]
    done = echo.get(f"/v1/{name}:wait?timeout=15s").ok
    assert done["response"]["value"] == {"a": text}


def test_as_many_values_as_may_be_are_converted(echo):
    name = echo.post("/v1/echo", {"a": list(range(4990))}).ok["name"]
    done = echo.get(f"/v1/{name}:wait?timeout=15s").ok
    assert len(done["response"]["value"]["a"]) == 4990
    (event,) = [one for one in echo.events(f"/v1/{name}:watch") if one.get("id") == "done"]
    assert json.loads(event["data"]) == done
    assert "lro-json_0" in [thread.name for thread in threading.enumerate()]


def test_bodies_on_their_way_take_no_more_memory_than_they_may(fleet):
    with serving("aio", fleet, options={"max_bodies": 30_000}) as http:
        first = begin(http, 40_000, b" " * 39_000)
        while (reply := http.post(CREATE, body=b"{}" + b" " * 30_000)).status != 503:
            assert reply.status == 200  # until what was sent before has arrived
        assert reply.json["error"]["status"] == "UNAVAILABLE"
        assert reply.headers["retry-after"] == "1"
        assert reply.headers["connection"] == "close"
        with begin(http, 40_000, b" " * 30_000) as another:
            assert another.recv(12) == b"HTTP/1.1 503"
        assert http.post(CREATE, body=b"{}" + b" " * 10_000).status == 200  # a small one passes
        first.close()
        while http.post(CREATE, body=b"{}" + b" " * 30_000).status == 503:
            pass  # until the server has heard of the end of the first
        fleet.gate.set()


@pytest.mark.parametrize(
    "path", ["/v1/" + "a/" * 33_000 + "operations/x", "/v1/operations?filter=" + "a" * 66_000]
)
def test_a_url_that_is_too_long(echo, path):
    reply = echo.get(path)
    assert reply.status == 414
    assert "65536" in reply.json["error"]["message"]


@pytest.mark.parametrize("path", ["/v1/operations", "/face/v1.0/operations/x"])
def test_a_query_of_too_many_parameters(echo, path):
    reply = echo.get(f"{path}?{'filter=a&' * 1000}")
    assert reply.status == 400
    assert "more than 1000 parameters" in reply.json["error"]["message"]
