"""A request that the API has not is refused as its vendor refuses it, and changes nothing."""

from __future__ import annotations

import contextlib
import json
import logging
import time
from collections.abc import Iterator
from datetime import timedelta

import pytest
from google.api import http_pb2
from http_harness import FLEET, PARENT, SECONDS, Fleet, Http, serving

MAX_BODY = 1000
FACE = "/face/v1.0"
DEPLOYMENT = "/deploymentmanager/v2/projects/p/global"
CREATE = f"/v1/{PARENT}/instances"

RULES = {
    f"{FLEET}/CreateInstance": http_pb2.HttpRule(
        post="/v1/{parent=projects/*/locations/*}/instances",
        body="instance",
        additional_bindings=[
            http_pb2.HttpRule(post=f"{FACE}/snapshots", body="*"),
            http_pb2.HttpRule(post=f"{DEPLOYMENT}/deployments", body="*"),
        ],
    )
}

GETS = [f"/v1/{PARENT}/operations", f"/v1/{PARENT}/operations/x", f"/v1/{PARENT}/operations/x:wait",
        f"/v1/{PARENT}/operations/x:watch", f"{FACE}/operations/x", f"{DEPLOYMENT}/operations",
        f"{DEPLOYMENT}/operations/x"]  # fmt: skip
POSTS = [CREATE, f"{FACE}/snapshots", f"{DEPLOYMENT}/deployments",
         *(f"/v1/{PARENT}/operations/x:{verb}" for verb in ("cancel", "wait", "pause", "resume")),
         ]  # fmt: skip


@pytest.fixture(scope="module", params=["aio", "channel"])
def server(request: pytest.FixtureRequest) -> Iterator[Http]:
    options = {"rules": RULES, "max_body": MAX_BODY, "body_timeout": timedelta(seconds=0.2)}
    with serving(request.param, Fleet(), options=options) as server:
        yield server


@pytest.fixture
def http(server: Http, caplog: pytest.LogCaptureFixture) -> Iterator[Http]:
    """A server that stores nothing in a test, and logs no error."""
    yield server
    for parent in (PARENT, "projects/p/locations/global"):
        assert server.get(f"/v1/{parent}/operations").ok == {}
    assert [one for one in caplog.records if one.levelno >= logging.ERROR] == []


def check(reply, path: str, status: int, code: str) -> dict:
    """Checks that a refusal is shaped as the vendor of its path has it, and returns it."""
    assert reply.status == status, reply
    error = reply.json.pop("error")
    assert "Traceback" not in reply.body.decode()
    assert error["message"]
    if path.startswith(FACE):
        assert error.keys() == {"code", "message"}
        assert error["code"] == code
    elif path.startswith("/deploymentmanager"):
        assert error.keys() == {"code", "message", "errors", "status"}
        assert (error["code"], error["status"]) == (status, code)
        assert error["errors"][0].keys() == {"message", "domain", "reason"}
    else:
        assert error.keys() == {"code", "message", "status", "details"}
        assert (error["code"], error["status"]) == (status, code)
        assert error["details"][0]["@type"] == "type.googleapis.com/google.rpc.ErrorInfo"
    return error


@pytest.mark.parametrize("path", [*GETS, *POSTS])
def test_another_method(http, path):
    reply = http.send("PROPFIND", path)
    check(reply, path, 405, "UNIMPLEMENTED")
    assert reply.headers["allow"] in (
        *("GET, HEAD", "POST", "DELETE, GET, HEAD", "GET, HEAD, POST"),
    )


@pytest.mark.parametrize(
    "path",
    ["/x", "/v1", "/v1/", "/v1/x", "/v1/operations/", "/v1//operations/x", "/v2/operations/x",
     "/v1/operations/x/", "/v1/%6Fperations/x", "/v1%2Foperations%2Fx", "/V1/operations/x",
     "/v1/operations/x:nope", "/v1/operations/x:", "/v1/operations/x:watch:",
     "/v1/..%2Fetc/operations/x",
     f"{FACE}/operations", f"{FACE}/operations/x/y", f"{FACE}/snapshots/x", f"{DEPLOYMENT}/x",
     f"{DEPLOYMENT}/operations/x/y", "/deploymentmanager/v2/projects/p/operations/x"],
)  # fmt: skip
def test_an_unknown_path(http, path):
    check(http.get(path), path, 404, "NOT_FOUND")


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize(
    "body",
    [b"{", b"x", b"[]", b"1", b'"x"', b"null", b"\xff", b'{"a":1,"a":1}', b"{}{}", b"[" * 900,
     b'{"a":' * 150, b'{"nope":1}', b'{"__proto__":{}}', b'{"name":1}', b'{"name":{}}',
     b'\xef\xbb\xbf{}', b'{"name":"\\ud800"}', b'{"\\udfff":1}', b'{"name":NaN}',
     "{}".encode("utf-16")],
)  # fmt: skip
def test_a_body_that_is_no_request(http, path, body):
    check(http.post(path, body=body), path, 400, "INVALID_ARGUMENT")


@pytest.mark.parametrize("path", POSTS)
def test_a_body_of_another_media_type(http, path):
    reply = http.post(path, body=b"a=b", headers={"content-type": "text/plain"})
    check(reply, path, 415, "INVALID_ARGUMENT")


@pytest.mark.parametrize("path", POSTS)
def test_a_body_that_is_too_large(http, path):
    reply = http.post(path, body=b'{"name":"%s"}' % (b"x" * MAX_BODY))
    check(reply, path, 413, "RESOURCE_EXHAUSTED")


@pytest.mark.parametrize("path", POSTS)
def test_a_body_that_is_too_large_and_does_not_say_so(http, path):
    chunk = b"%x\r\n%s\r\n" % (600, b" " * 600)
    body = chunk * 3 + b"0\r\n\r\n"
    reply = raw(
        http, f"POST {path} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked", body
    )
    assert reply.startswith(b"HTTP/1.1 413 ")
    assert b"Connection: close" in reply.title().replace(b"Close", b"close")


@pytest.mark.parametrize("path", POSTS)
def test_a_body_that_does_not_come(http, path):
    begin = time.monotonic()
    reply = raw(http, f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10", b"{")
    assert reply.startswith(b"HTTP/1.1 408 ")
    error = json.loads(reply.partition(b"\r\n\r\n")[2])["error"]
    assert "0.2 seconds" in error["message"]
    assert time.monotonic() - begin < SECONDS  # it is the server that has ended it


@pytest.mark.parametrize("path", GETS)
def test_a_body_where_there_is_none(http, path):
    reply = http.get(path, body=b"{}")
    if path.startswith("/v1"):
        check(reply, path, 400, "INVALID_ARGUMENT")


@pytest.mark.parametrize(
    "name",
    ["operations/..", "../operations/x", "./operations/x", "%2e%2e/operations/x",
     "operations/%2e%2e", "a%2F../operations/%2Fx", "operations/x%00",
     "operations/x%0a", "operations/x%20y", "operations/%E2%82%AC", "operations/x%3Await",
     "operations/" + "x" * 200, "x" * 2000 + "/operations/x",
     "operations/x;a=b", "operations/x%2Fy"],
)  # fmt: skip
def test_a_path_that_is_no_name(http, name):
    for path in (f"/v1/{name}", f"/v1/{name}:watch"):
        check(http.get(path), path, 400, "INVALID_ARGUMENT")
    check(http.post(f"/v1/{name}:cancel"), "/v1", 400, "INVALID_ARGUMENT")
    check(http.send("DELETE", f"/v1/{name}"), "/v1", 400, "INVALID_ARGUMENT")


@pytest.mark.parametrize(
    "operation", ["..", "%2e%2e", "x%2Fy", "..%2Fx", "x%00", "%ff", "%zz", "%"]
)
def test_a_path_that_is_no_id(http, operation):
    for path in (
        f"{FACE}/operations/{operation}",
        f"{DEPLOYMENT}/operations/{operation}",
        f"/deploymentmanager/v2/projects/{operation}/global/operations/x",
        f"/deploymentmanager/v2/projects/{operation}/global/operations",
    ):
        check(http.get(path), path, 400, "INVALID_ARGUMENT")


@pytest.mark.parametrize("escape", ["%", "%2", "%zz", "%ff", "%c3%28", "%ed%a0%80", "%c0%ae"])
def test_a_path_that_is_not_percent_encoded_text(http, escape):
    path = f"/v1/projects/{escape}/operations/x"
    check(http.get(path), path, 400, "INVALID_ARGUMENT")
    assert http.post(f"/v1/projects/{escape}/locations/l/instances", {}).status == 400


@pytest.mark.parametrize("path", [f"/v1/{PARENT}/operations", f"{DEPLOYMENT}/operations"])
@pytest.mark.parametrize(
    "query",
    ["filter=a&filter=b", "pageToken=a&pageToken=a", "nope=1", "filter=(", "pageToken=x", "=1",
     "pageToken=%ff", "filter=" + "x" * 5000],
)  # fmt: skip
def test_parameters_of_a_list_that_are_none(http, path, query):
    if path.startswith("/deploymentmanager"):
        query = query.replace("a&filter", "name%20%3D%20x&filter")
    check(http.get(f"{path}?{query}"), path, 400, "INVALID_ARGUMENT")


@pytest.mark.parametrize(
    "query",
    ["pageSize=x", "pageSize=-1", "pageSize=1.5", "pageSize=99999999999", "pageSize=1&page_size=1",
     "returnPartialSuccess=1", "name=other", "returnPartialSuccess=true", "name.x=1", "filter.x=1"],
)  # fmt: skip
def test_parameters_of_googles_list_that_are_none(http, query):
    path = f"/v1/{PARENT}/operations"
    check(http.get(f"{path}?{query}"), path, 400, "INVALID_ARGUMENT")


@pytest.mark.parametrize(
    "query", ["maxResults=501", "maxResults=-1", "maxResults=x", "maxResults=" + "9" * 5000,
              "maxResults=00000999999999", "maxResults=00000" + "9" * 5000,
              "maxResults=%C2%B2", "orderBy=status", "orderBy=name%20desc", "pageSize=1"],
)  # fmt: skip
def test_parameters_of_deployment_managers_list_that_are_none(http, query):
    path = f"{DEPLOYMENT}/operations"
    check(http.get(f"{path}?{query}"), path, 400, "INVALID_ARGUMENT")


@pytest.mark.parametrize(
    "path", [f"{FACE}/operations/x?a=b", f"{DEPLOYMENT}/operations/x?a=b", f"{CREATE[:-1]}x?a=b"]
)
def test_parameters_where_there_are_none(http, path):
    assert http.get(path).status in (400, 404)
    assert http.get(path.partition("?")[0]).status == 404


@pytest.mark.parametrize(
    "query",
    ["instanceId=a&instance_id=b", "instanceId=a&instanceId=b", "instance.name=x", "nope=1",
     "parent=projects/q/locations/l", "instance=x", "instanceId.x=1"],
)  # fmt: skip
def test_parameters_of_a_start_that_are_none(http, query):
    check(http.post(f"{CREATE}?{query}", {}), CREATE, 400, "INVALID_ARGUMENT")


@pytest.mark.parametrize("path", [f"{FACE}/snapshots", f"{DEPLOYMENT}/deployments"])
def test_parameters_beside_a_body_that_is_the_whole_request(http, path):
    check(http.post(f"{path}?instanceId=a", {}), path, 400, "INVALID_ARGUMENT")


@pytest.mark.parametrize(
    ("name", "path"),
    [("operations/nope", f"{FACE}/operations/nope"),
     (f"{PARENT}/operations/nope", f"{DEPLOYMENT}/operations/nope"),
     ("operations/nope", "/v1/operations/nope")],
)  # fmt: skip
def test_a_name_that_nothing_has(http, name, path):
    check(http.get(path), path, 404, "NOT_FOUND")


def test_a_very_long_path(http):
    reply = http.get("/v1/" + "a/" * 20_000 + "operations/x")
    assert reply.status in (400, 414, 431)


def test_a_head_that_is_too_large_is_refused_by_the_server(http):
    reply = raw(
        http, "GET /v1/operations HTTP/1.1\r\nHost: localhost\r\nX: " + "x" * 2_000_000, b""
    )
    assert reply.startswith(b"HTTP/1.1 4")


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_body_with_two_ends_is_refused_and_nothing_behind_it_is_taken(http, method):
    rest = b"0\r\n\r\nGET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
    head = (
        f"{method} {CREATE} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(rest)}\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    with http.connect() as connection:
        connection.sendall(head.encode() + rest)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 400 ")
    by_httptools = b"\r\n\r\nInvalid HTTP request received."
    assert b"AMBIGUOUS_LENGTH" in answer or answer.endswith(by_httptools)
    assert answer.count(b"HTTP/1.1 ") == 1


def test_what_is_no_http_is_refused_by_the_server(http):
    assert raw(http, "\x16\x03\x01 nonsense", b"").startswith(b"HTTP/1.1 400 ")


def raw(http: Http, head: str, body: bytes) -> bytes:
    """Sends bytes as they are, and returns what comes until the server closes the connection."""
    reply = b""
    with http.connect() as connection:
        with contextlib.suppress(ConnectionError):  # the server may close before all is sent
            connection.sendall(head.encode("latin-1") + b"\r\n\r\n" + body)
        while True:
            try:
                received = connection.recv(65536)
            except ConnectionResetError:
                return reply
            if not received:
                return reply
            reply += received
