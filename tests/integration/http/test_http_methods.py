"""HTTP's own: HEAD, OPTIONS, the forms of a target, and the methods that are not served."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from google.api import http_pb2
from http_harness import FLEET, PARENT, Fleet, Http, Reply, done, serving, start

import lro_grpc

DEPLOYMENT = "/deploymentmanager/v2/projects/p/global"
FACE = "/face/v1.0"


def exchange(http: Http, *heads: str) -> bytes:
    """Sends requests without bodies, the last one with ``close``, and returns all that comes."""
    with http.connect() as connection:
        connection.sendall("".join(f"{head}\r\n\r\n" for head in heads).encode())
        return b"".join(iter(lambda: connection.recv(65536), b""))


def without_date(reply: Reply) -> Mapping[str, str]:
    return {name: value for name, value in reply.headers.items() if name != "date"}


def test_head_is_answered_as_get_is_but_for_the_body(serve):
    http = serve()
    name = start(http)
    http.post(f"/v1/{name}:cancel")
    done(http, name)
    operation_id = name.rpartition("/")[2]
    paths = [f"/v1/{name}", f"/v1/{PARENT}/operations?pageSize=1", f"/v1/{name}:wait?timeout=0s",
             "/v1/operations", f"{FACE}/operations/{operation_id}", f"{DEPLOYMENT}/operations",
             f"{DEPLOYMENT}/operations/{operation_id}", "/healthz", "/livez",
             # And where GET is refused.
             "/v1/operations/nope", "/nowhere", f"/v1/{name}?nope=1", f"/v1/{name}:cancel",
             f"/v1/{PARENT}/instances/i"]  # fmt: skip
    for path in paths:
        by_get, by_head = http.get(path), http.send("HEAD", path)
        assert by_head.status == by_get.status, path
        assert without_date(by_head) == without_date(by_get), path
        assert by_get.body, path
        assert by_head.body == b"", path


def test_no_byte_follows_the_head_and_the_connection_goes_on(serve):
    http = serve()
    request = "/healthz HTTP/1.1\r\nHost: localhost"
    answer = exchange(http, f"HEAD {request}", f"HEAD {request}\r\nConnection: close")
    assert answer.count(b"HTTP/1.1 200 ") == 2
    assert answer.count(b"\r\n\r\n") == 2
    assert answer.endswith(b"\r\n\r\n")


def test_head_of_a_watch_ends_though_the_operation_goes_on(serve):
    """It takes no place of those that watch."""
    http = serve(limits=lro_grpc.Limits(streams=1))
    name = start(http)
    for _ in range(3):
        reply = http.send("HEAD", f"/v1/{name}:watch")
        assert reply.status == 200
        assert reply.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert reply.body == b""
    assert next(http.events(f"/v1/{name}:watch"))["data"]
    assert http.send("HEAD", "/v1/operations/nope:watch").status == 404


def test_a_head_with_headers_of_its_own_may_come_from_an_origin_that_is_named(serve):
    http = serve(options={"allow_origins": ["https://page.example"]})
    asking = {"Origin": "https://page.example", "Access-Control-Request-Method": "HEAD"}
    assert http.send("OPTIONS", "/v1/operations", headers=asking).status == 200


ANNOTATED = f"/v1/{PARENT}/instances/i"


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_method_that_starts_nothing_is_not_served_and_says_so(serve, method):
    """Its path has a Delete, which does: "use DELETE" would be bad advice."""
    http = serve()
    reply = http.send(method, ANNOTATED)
    assert reply.status == 501
    assert "allow" not in reply.headers
    if method == "GET":
        error = reply.json["error"]
        assert error["status"] == "UNIMPLEMENTED"
        assert error["details"][0]["reason"] == "NOT_SERVED"
        assert f"{FLEET}/GetInstance is not served over HTTP" in error["message"]
    assert http.get(f"/v1/{PARENT}/instances").status == 501  # there is a Create
    assert http.send("PUT", ANNOTATED).headers["allow"] == "DELETE"
    assert http.send("DELETE", ANNOTATED).status == 200


def test_an_unserved_method_takes_no_path_from_one_that_is_served():
    """Nor from google.longrunning, wherever its prefix is."""
    rule = http_pb2.HttpRule(post="/v1/{parent=projects/*/locations/*}/instances:get")
    rules = {f"{FLEET}/CreateInstance": rule}
    with serving("aio", Fleet(), options={"rules": rules, "prefix": "/x"}) as http:
        assert http.post(f"/v1/{PARENT}/instances:get").status == 200
        assert http.get(f"/v1/{PARENT}/operations/x").status == 404
        assert http.get("/v1/operations/x").status == 404
        assert http.get("/x/operations/x").json["error"]["status"] == "NOT_FOUND"


@pytest.mark.parametrize("scheme", ["http", "https", "HTTP"])
@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:80", "[::1]", "api.example"])
def test_a_target_may_be_a_whole_url(serve, scheme, host):
    """As what speaks to a proxy sends it; ``Host`` is of no account then (RFC 9112, 3.2.2)."""
    http = serve(options={"allowed_hosts": ["api.example"]})
    name = start(http)
    path = f"/v1/{name.replace('operations/', 'operations/%6F', 1).replace('%6Fo', '%6F')}"
    for own in (host, "evil.example"):
        target = f"{scheme}://{host}{path}:wait?timeout=0s"
        answer = exchange(http, f"GET {target} HTTP/1.1\r\nHost: {own}\r\nConnection: close")
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 "), answer
        assert f'"name":"{name}"'.encode() in body


@pytest.mark.parametrize(
    "authority", ["evil.example", "", "a.b@localhost", "localhost@evil.example", "localhost%00"]
)
def test_the_host_of_a_whole_url_is_the_one_that_counts(serve, authority):
    http = serve()
    for method in ("GET", "OPTIONS"):
        target = f"http://{authority}/v1/operations"
        answer = exchange(
            http, f"{method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close"
        )
        assert answer.startswith(b"HTTP/1.1 421 "), answer


def test_a_page_is_of_the_host_of_the_whole_url(serve):
    http = serve()
    name = start(http)
    for host, status in [("127.0.0.1:1", 200), ("127.0.0.1:2", 403)]:
        head = f"POST http://{host}/v1/{name}:cancel HTTP/1.1\r\nHost: 127.0.0.1:1\r\n"
        answer = exchange(http, f"{head}Origin: http://127.0.0.1:1\r\nConnection: close")
        assert answer.startswith(b"HTTP/1.1 %d " % status), answer


def test_a_whole_url_without_a_path_is_that_of_the_root(serve):
    http = serve()
    answer = exchange(http, "GET http://localhost HTTP/1.1\r\nHost: x\r\nConnection: close")
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b'"openapi":"/openapi.json"' in answer


@pytest.mark.parametrize("target", ["*", "http://localhost", "http://localhost:80"])
def test_the_server_says_which_methods_it_has(serve, target):
    http = serve()
    answer = exchange(http, f"OPTIONS {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close")
    assert answer.startswith(b"HTTP/1.1 204 ")
    assert b"\r\nallow: DELETE, GET, HEAD, POST\r\n" in answer
    refused = exchange(http, "OPTIONS * HTTP/1.1\r\nHost: evil.example\r\nConnection: close")
    assert refused.startswith(b"HTTP/1.1 421 ")


@pytest.mark.parametrize(
    "head", ["GET *", "CONNECT localhost:80", "GET x", "GET ftp://localhost/v1"]
)
def test_a_target_of_no_known_form_is_nowhere(serve, head):
    answer = exchange(serve(), f"{head} HTTP/1.1\r\nHost: localhost\r\nConnection: close")
    assert answer.startswith((b"HTTP/1.1 404 ", b"HTTP/1.1 400 "))  # httptools refuses some itself
