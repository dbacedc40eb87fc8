"""Server-sent events: the states of an operation, the terminal one last."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from concurrent import futures
from datetime import timedelta
from typing import Any

import grpc
from http_harness import PARENT, SECONDS, Http, start

import lro_grpc
from lro.example.v1.fleet_service_pb2_grpc import (
    add_FleetServiceServicer_to_server as add_fleet,
)
from lro_grpc.http import gateway
from lro_grpc.stores import ForwardingStore, MemoryStore


def states(events) -> list[str]:
    return [json.loads(one["data"])["metadata"]["state"] for one in events]


def test_each_state_is_an_event_and_the_terminal_one_the_last(serve, fleet):
    http = serve()
    events = http.events(f"/v1/{start(http)}:watch")
    first = json.loads(next(events)["data"])
    assert "done" not in first
    fleet.gate.set()
    *between, last = events
    assert json.loads(last["data"])["response"]["name"] == f"{PARENT}/instances/a"
    assert last["id"] == "done"
    assert all("done" not in json.loads(one["data"]) for one in between)


def test_a_browser_that_has_seen_the_end_is_asked_to_come_no_more(serve, fleet):
    http = serve()
    fleet.gate.set()
    path = f"/v1/{start(http)}:watch"
    assert states(http.events(path))[-1] == "JOB_STATE_SUCCEEDED"
    assert states(http.events(path)) == ["JOB_STATE_SUCCEEDED"]
    assert http.get(path, headers={"Last-Event-ID": "done"}).status == 204


def test_what_is_not_there_is_refused_as_by_a_get(serve):
    reply = serve().get(f"/v1/{PARENT}/operations/nope:watch")
    assert reply.status == 404
    assert reply.json["error"]["status"] == "NOT_FOUND"


def test_a_state_that_lasts_is_a_comment(serve):
    """Which keeps the connection open, and is no event."""
    http = serve(watch_resend=timedelta(milliseconds=50))
    name = start(http)
    with http.connect() as connection:
        connection.sendall(f"GET /v1/{name}:watch HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        received = b""
        while received.count(b": unchanged\n\n") < 2:
            received += connection.recv(4096)
    assert received.count(b"data: ") <= 2  # queued and running


def test_a_failure_in_between_is_an_event_of_its_own(serve):
    """Such as the deletion of the operation."""
    http = serve()
    name = start(http)
    events = http.events(f"/v1/{name}:watch")
    next(events)
    http.send("DELETE", f"/v1/{name}")
    last = list(events)[-1]
    assert last["event"] == "status"
    assert json.loads(last["data"])["error"]["status"] == "NOT_FOUND"


def test_a_drain_ends_it(serve):
    http = serve()
    events = http.events(f"/v1/{start(http)}:watch")
    next(events)
    http.drain()
    last = list(events)[-1]
    assert last["event"] == "status"
    assert json.loads(last["data"])["error"]["status"] == "UNAVAILABLE"


class SaysWhenItCloses(ForwardingStore):
    """A store that says when it is closed, the last thing but one at a stop."""

    def __init__(self) -> None:
        super().__init__(MemoryStore(lambda: time.time_ns() // 1000))
        self.is_closed = threading.Event()

    async def close(self) -> None:
        await super().close()
        self.is_closed.set()


def test_the_last_event_arrives_though_the_loop_of_the_operations_ends(fleet):
    """Beside a grpc.server that is a loop of its own, and the HTTP server is still to send it."""
    store = SaysWhenItCloses()
    operations = lro_grpc.Operations(store)
    server = grpc.server(futures.ThreadPoolExecutor(2))
    add_fleet(fleet, operations.attach(server))
    operations.start_sync()
    app = gateway(operations)

    async def call(method: str, path: str, body: bytes, on_body: Any) -> bytes:
        sent = []

        async def receive() -> dict[str, Any]:
            if sent:
                await asyncio.Event().wait()
            return {"type": "http.request", "body": body}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message.get("body", b""))
            await on_body(sent[-1])

        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
        ]
        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"instanceId=a" if body else b"",
            "headers": headers,
        }
        await asyncio.wait_for(app(scope, receive, send), SECONDS)
        return b"".join(sent)

    async def main() -> None:
        stopping = []

        async def nothing(body: bytes) -> None:
            del body

        async def stop_and_be_slow(body: bytes) -> None:
            if b"data" in body and not stopping:
                stop = asyncio.to_thread(operations.stop_sync, lambda: None)
                stopping.append(asyncio.create_task(stop))
            elif b"status" in body:
                assert await asyncio.to_thread(store.is_closed.wait, SECONDS)
                await asyncio.wait(stopping, timeout=0.2)  # it does not end before this is sent

        created = await call("POST", f"/v1/{PARENT}/instances", b"{}", nothing)
        name = json.loads(created)["name"]
        events = await call("GET", f"/v1/{name}:watch", b"", stop_and_be_slow)
        assert b"UNAVAILABLE" in events
        await stopping[0]

    asyncio.run(main())


def test_who_is_gone_holds_no_place(serve):
    http = serve(limits=lro_grpc.Limits(streams=1))
    path = f"/v1/{start(http)}:watch"
    with http.connect() as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        connection.recv(1)
        refused = http.get(path)
        assert refused.status == 429
        assert refused.json["error"]["status"] == "RESOURCE_EXHAUSTED"
    assert until_free(http, path)


def until_free(http: Http, path: str) -> bool:
    """Tries again and again, for the server learns of the end in its own time."""
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        with http.connect() as connection:
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            if connection.recv(12) == b"HTTP/1.1 200":
                return True
    return False
