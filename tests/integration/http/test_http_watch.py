"""Server-sent events: the states of an operation, the terminal one last."""

from __future__ import annotations

import json
import time
from datetime import timedelta

from http_harness import PARENT, SECONDS, Http, start

import lro_grpc


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
