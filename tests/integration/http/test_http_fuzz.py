"""Any request has an answer of the API, and nothing goes wrong in the server."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from google.api import http_pb2
from google.protobuf import struct_pb2
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import lro_grpc
from lro_grpc._http.gateway import gateway

START = "/fuzz.Service/Start"
RULES = {
    START: http_pb2.HttpRule(
        post="/v1/things",
        body="*",
        additional_bindings=[
            http_pb2.HttpRule(post="/face/v1.0/things", body="*"),
            http_pb2.HttpRule(post="/deploymentmanager/v2/things", body="*"),
        ],
    )
}


class App:
    """The gateway on a loop of its own, without a socket."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._operations = lro_grpc.Operations("memory:")
        self._operations.add_method(
            START,
            lambda request, op: request,
            request=struct_pb2.Struct,
            response=struct_pb2.Struct,
        )
        self._app = gateway(self._operations, rules=RULES, max_body=200)
        self._loop.run_until_complete(self._operations.start())

    def send(self, method: str, path: str, query: str, body: bytes) -> tuple[int, Any, bytes]:
        """Returns the status, the headers and the body of the response."""
        sent: list[Any] = []
        received = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def receive() -> Any:
            return next(received, {"type": "http.disconnect"})

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": method,
            "raw_path": path.encode("latin-1"),
            "path": path,
            "query_string": query.encode("latin-1"),
            "headers": [
                (b"content-length", str(len(body)).encode()),
                (b"content-type", b"application/json"),
            ],
            "client": ("127.0.0.1", 1),
        }
        self._loop.run_until_complete(self._app(scope, receive, send))
        start, *parts = sent
        whole = b"".join(part.get("body", b"") for part in parts)
        return start["status"], dict(start["headers"]), whole

    def close(self) -> None:
        async def stop_server() -> None:
            pass

        self._loop.run_until_complete(self._operations.stop(stop_server))
        self._loop.close()


@pytest.fixture(scope="module")
def app() -> Iterator[App]:
    app = App()
    yield app
    app.close()


PARTS = ["v1", "face", "v1.0", "deploymentmanager", "v2", "projects", "p", "global", "operations",
         "op-x", "things", "locations", "..", ".", "", "%2F", "%2e", "%ff", "%00", "é", "~", "x:y",
         ":cancel", ":wait", ":watch", ":pause", ":resume", ":", "*", "{a}", "-"]  # fmt: skip
PATHS = st.lists(st.sampled_from(PARTS), max_size=8).map(lambda parts: "/" + "/".join(parts)) | (
    st.tuples(
        st.sampled_from(["/v1", "/v1/p", "/face/v1.0", "/deploymentmanager/v2/projects/p/global"]),
        st.sampled_from(["", "/operations", "/operations/op-x", "/things"]),
        st.sampled_from(["", ":cancel", ":wait", ":watch", "/", "%3Await"]),
    ).map("".join)
)
NAMES = ["filter", "pageSize", "page_size", "pageToken", "maxResults", "orderBy", "timeout", "name"]
QUERIES = st.lists(
    st.tuples(
        st.sampled_from([*NAMES, "alt", "x", ""]),
        st.sampled_from(["", "1", "-1", "0s", "done=true", "(", "%ff", "%", "true", "é", "9" * 30]),
    ).map("=".join),
    max_size=3,
).map("&".join)
BODIES = st.sampled_from([b"", b"{}", b'{"a":1}', b'{"timeout":"0s"}', b"[", b"x" * 300]) | (
    st.binary(max_size=20)
)


@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    method=st.sampled_from(["GET", "POST", "DELETE", "PUT", "PATCH", "HEAD", "OPTIONS", "é"]),
    path=PATHS,
    query=QUERIES,
    body=BODIES,
)
@example(method="POST", path="/v1/things", query="", body=b'{"a":' * 40)
@example(method="GET", path="/v1/operations/op-x:watch", query="", body=b"")
def test_any_request(app, caplog, method, path, query, body):
    status, headers, answer = app.send(method, path, query, body)
    assert [one for one in caplog.records if one.levelno >= logging.ERROR] == []
    if status == 202:
        assert headers[b"operation-location"].startswith(b"/face/v1.0/operations/op-")
        return
    body_json = json.loads(answer)
    assert (status == 200) == ("error" not in body_json)
    assert status in (200, 400, 404, 405, 413), answer
    if status != 200:
        assert body_json["error"]["message"]
        assert len(answer) < 2000
