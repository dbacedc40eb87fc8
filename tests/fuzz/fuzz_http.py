"""The gateway: any request has an answer of the API, and any operation an event."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

from fuzz_messages import JSON_WORDS, OPERATIONS, TYPE_WORDS
from google.api import http_pb2
from google.longrunning import operations_pb2
from google.protobuf import any_pb2, struct_pb2
from google.protobuf.message import DecodeError
from target import target

import lro_grpc
from lro.v1 import operation_control_service_pb2
from lro_grpc._http import server_sent_events
from lro_grpc._http.gateway import gateway
from lro_grpc._http.request import Caller

START = "/fuzz.Service/Start"
PACK = "/fuzz.Service/Pack"
RULES = {
    PACK: http_pb2.HttpRule(post="/v1/packed", body="*"),
    START: http_pb2.HttpRule(
        post="/v1/things",
        body="*",
        additional_bindings=[
            http_pb2.HttpRule(post="/face/v1.0/things", body="*"),
            http_pb2.HttpRule(post="/deploymentmanager/v2/things", body="*"),
        ],
    ),
}
STATUSES = (200, 400, 403, 404, 405, 408, 411, 413, 414, 415, 421, 429, 431)


class Noted(logging.Handler):
    """Notes what is logged as an error."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


class App:
    """The gateway on a loop of its own, without a socket."""

    def __init__(self) -> None:
        self.noted = Noted()
        self._loop = asyncio.new_event_loop()
        operations = lro_grpc.Operations("memory:")
        for method, kind in ((START, struct_pb2.Struct), (PACK, any_pb2.Any)):
            operations.add_method(method, lambda request, op: request, request=kind, response=kind)
        self._app = gateway(operations, rules=RULES, max_body=4096)
        self._loop.run_until_complete(operations.start())

    def send(
        self, method: str, path: str, query: str, headers: list[tuple[bytes, bytes]], body: bytes
    ) -> tuple[int, dict[bytes, bytes], bytes]:
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
            "headers": headers,
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 80),
            "scheme": "http",
        }
        logger = logging.getLogger("lro_grpc")
        logger.addHandler(self.noted)
        try:
            self._loop.run_until_complete(self._app(scope, receive, send))
        finally:
            logger.removeHandler(self.noted)
        start, *parts = sent
        whole = b"".join(part.get("body", b"") for part in parts)
        return start["status"], dict(start["headers"]), whole


_apps: list[App] = []


def app() -> App:
    """The one app, which is made when it is needed first."""
    if not _apps:
        _apps.append(App())
    return _apps[0]


def header(line: str) -> tuple[bytes, bytes]:
    name, _, value = line.partition(": ")
    return name.lower().encode("latin-1"), value.encode("latin-1")


@target(
    "GET /v1/projects/p/operations?filter=done=true&pageSize=3&page_token=x\n\n",
    "POST /v1/things\nauthorization: Bearer x\n\n" + '{"a": [1, {"b": null}]}',
    "GET /v1/operations/op-x:wait?timeout=0s\n\n",
    "GET /v1/operations/op-x:watch\nlast-event-id: done\n\n",
    "POST /v1/operations/op-x:cancel\ncontent-type: text/plain\n\n{}",
    "GET /deploymentmanager/v2/projects/p/global/operations?maxResults=9&filter=status+eq+DONE\n\n",
    "GET /face/v1.0/operations/op-x\n\n",
    "POST /deploymentmanager/v2/things\n\n{}",
    "GET http://localhost/v1/operations/op-x/y:wait\n\n",
    "OPTIONS *\n\n",
    "HEAD /healthz\n\n",
    'POST /v1/things\n\n""',
    'POST /v1/packed\n\n{"@type": "type.googleapis.com/google.protobuf.DoubleValue"}',
    'POST /v1/packed\n\n{"@type": "type.googleapis.com/google.protobuf.Empty", "value": {}}',
    'POST /v1/packed\n\n{"@type": "type.googleapis.com/google.protobuf.Any", "value": {"@type":'
    ' "type.googleapis.com/google.protobuf.Struct", "value": {"a": null}}}',
    words=(
        *(
            "GET ",
            "POST ",
            "DELETE ",
            "HEAD ",
            "OPTIONS ",
            "http://",
            "/healthz",
            "*",
            "/v1/",
            "/operations",
            "%2F",
            "%ff",
            ":cancel",
            ":wait",
        ),
        *("?", "&", "filter=", "pageSize=", "pageToken=", "maxResults=", "orderBy=", "timeout=0s"),
        *("name=", "returnPartialSuccess=true", "origin: ", "host: ", "content-length: ", "\n\n"),
        *("content-type: application/json", "last-event-id: done", "0000000000", "\u00b2"),
        *JSON_WORDS,
    ),
)
def http_request(data: bytes) -> None:
    head, _, body = data.partition(b"\n\n")
    first, *lines = head.decode("latin-1").split("\n")
    method, _, path = first.partition(" ")
    path, _, query = path.partition("?")
    headers = [header(line) for line in lines if ": " in line]
    if not any(name == b"content-length" for name, _ in headers):
        headers.append((b"content-length", str(len(body)).encode()))
    if not any(name == b"host" for name, _ in headers):
        headers.append((b"host", b"127.0.0.1"))
    if not any(name == b"content-type" for name, _ in headers):
        headers.append((b"content-type", b"application/json"))
    for name, value in Caller({"headers": headers}).forwarded_metadata():
        assert name == name.lower()
        assert isinstance(value, bytes) == name.endswith("-bin")
        assert isinstance(value, bytes) or (value.isascii() and value.isprintable())
    noted = app().noted.records
    noted.clear()
    status, answered, answer = app().send(method, path, query, headers, body)
    assert noted == [], noted
    for name, value in answered.items():
        assert not {b"\r"[0], b"\n"[0], 0} & {*name, *value}
    if status == 202:
        assert answered[b"operation-location"].startswith(b"/face/v1.0/operations/op-")
    elif status != 204:
        found = json.loads(answer) if answer else {}
        assert status in STATUSES, (status, answer)
        assert (status == 200) == ("error" not in found)
        assert status == 200 or len(answer) < 4000


@target(*OPERATIONS, words=TYPE_WORDS)
def server_sent_event(data: bytes) -> None:
    try:
        operation = operations_pb2.Operation.FromString(data)
    except DecodeError:
        return
    message = operation_control_service_pb2.WatchOperationResponse(operation=operation)
    event = server_sent_events._event(message.SerializeToString()).decode()
    *lines, nothing, end = event.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    assert (nothing, end) == ("", "")
    fields = dict(line.split(": ", 1) for line in lines)
    assert len(fields) == len(lines)
    assert fields.keys() <= {"id", "data"}
    assert ("id" in fields) == operation.done
    assert json.loads(fields["data"]).get("name", "") == operation.name
