"""The headers of a request as the metadata of its call, and the address of its client."""

from __future__ import annotations

import base64
import re
from typing import Any

import pytest
from http_harness import Http, Reply, serving
from pages import Page

import lro_grpc
from lro_grpc.http import listening_in_thread

OF_HTTP = {
    "Cookie": "session=secret",
    "Proxy-Authorization": "Basic secret",
    "Proxy-Connection": "keep-alive",
    "Set-Cookie": "a=secret",
    "Origin": "http://localhost",
    "Referer": "http://localhost/secret",
    "Sec-Fetch-Mode": "cors",
    "Sec-CH-UA": "secret",
    "TE": "trailers",
    "Content-Language": "en",
    "Content-Disposition": "secret",
    "If-None-Match": "secret",
    "Grpc-Timeout": "1S",
    "Grpc-Encoding": "gzip",
    "Forwarded": "for=6.6.6.6",
    "X-Forwarded-For": "6.6.6.6",
    "X-Real-IP": "6.6.6.6",
    "User-Agent": "secret",
    "X-Umlaut": "gr\xfc\xdfe",
    "X-Broken-Bin": "no base64!",
}
OF_THE_CALLER = {
    "Authorization": "Bearer t",
    "X-Goog-User-Project": "p",
    "X-Tenant": "a",
    "X-Forwarded-User": "ann",
    "Accept-Language": "de",
}


class Seen:
    """Remembers what ``identify`` has found."""

    def __init__(self) -> None:
        self.metadata: list[tuple[str, Any]] = []
        self.peer = ""

    def identify(self, context: Any) -> str:
        self.metadata = [(key, value) for key, value in context.invocation_metadata()]
        self.peer = context.peer()
        return "someone"


@pytest.mark.parametrize("where", ["aio", "sync", "channel"])
def test_what_is_the_callers_is_metadata_and_what_is_https_is_not(where):
    seen = Seen()
    binary = {"Trace-Bin": base64.b64encode(b"\x00\xff").decode().rstrip("=")}
    sent = {"Host": "localhost", **OF_HTTP, **OF_THE_CALLER, **binary}
    lines = ["GET /v1/operations HTTP/1.1", *(f"{name}: {sent[name]}" for name in sent), "", ""]
    with serving(where, identify=seen.identify) as http, http.connect() as connection:
        connection.sendall("\r\n".join(lines).encode("latin-1"))
        assert connection.recv(12) == b"HTTP/1.1 200"
    found = dict(seen.metadata)
    assert {name: found.get(name.lower()) for name in OF_THE_CALLER} == OF_THE_CALLER
    assert found["trace-bin"] == b"\x00\xff"
    assert "secret" not in str(seen.metadata)
    assert "6.6.6.6" not in str(seen.metadata)
    ours = {"user-agent", "x-forwarded-for", "accept-encoding", "grpc-accept-encoding"}
    rest = found.keys() - {name.lower() for name in (*OF_THE_CALLER, *binary)} - ours
    assert rest == set()
    if where == "channel":
        assert [value for key, value in seen.metadata if key == "x-forwarded-for"] == ["127.0.0.1"]


FORGED = {"X-Forwarded-For": "6.6.6.6", "Forwarded": "for=6.6.6.6", "X-Real-IP": "6.6.6.6"}


def listed(http: Http, headers: dict[str, str]) -> Reply:
    return http.get("/v1/operations", headers=headers)


@pytest.mark.parametrize(
    ("proxies", "client"),
    [((), "ipv4:127.0.0.1:"), (("10.0.0.0/8",), "ipv4:127.0.0.1:"),
     (("127.0.0.1",), "ipv4:6.6.6.6:"), (("127.0.0.0/8", "::1"), "ipv4:6.6.6.6:")],
)  # fmt: skip
def test_only_a_proxy_that_is_named_says_who_the_client_is(proxies, client):
    seen = Seen()
    from lro_grpc._http.gateway import gateway

    with (
        serving("sync", identify=seen.identify) as served,
        listening_in_thread(
            gateway(served.operations), "127.0.0.1:0", trusted_proxies=proxies
        ) as port,
    ):
        assert listed(Http(port), FORGED).ok == {}
    assert seen.peer.startswith(client)


@pytest.mark.parametrize("proxy", ["*", "proxy.example", "10.0.0.0/33", ""])
def test_a_trusted_proxy_that_is_no_address_is_refused(proxy):
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError

    with (
        pytest.raises(lro_grpc.ConfigurationError, match="trusted proxy"),
        listening_in_thread(app, "127.0.0.1:0", trusted_proxies=[proxy]),
    ):
        raise AssertionError


def test_the_page_has_the_headers_of_answers_that_other_origins_may_read(serve: Any) -> None:
    origin = "https://page.example"
    http: Http = serve(options={"allow_origins": [origin]})
    reply = http.get("/healthz", headers={"Origin": origin})
    told = reply.headers["access-control-expose-headers"].split(", ")
    page = Page("reference/headers.md")
    assert re.findall(r"^\| `([\w-]+)` \| answers \|", page, re.MULTILINE) == told
