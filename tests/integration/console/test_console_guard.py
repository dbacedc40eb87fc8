"""Requests that the console refuses whoever sends them, and the headers of each answer."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import httpx
import pytest
from console_harness import browsing, consoled, serving

from lro_grpc import ConfigurationError
from lro_grpc.console import console


@pytest.fixture(scope="module")
def shown() -> Iterator[tuple[httpx.Client, str]]:
    """A console, and the name of an operation."""
    with serving() as served, consoled(served.target, hosts=["ops.example"]) as browser:
        yield browser, served.start()


@pytest.fixture
def browser(shown: tuple[httpx.Client, str]) -> httpx.Client:
    return shown[0]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:9", "[::1]:9", "ops.example", "10.1.2.3"])
def test_a_host_of_its_own(browser, host):
    assert browser.get("/", headers={"host": host}).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "ops.example.evil.example", "127.0.0.1.evil", ""])
def test_another_host(browser, host):
    """Under which a page of a stranger's could read all that is here."""
    refused = browser.get("/", headers={"host": host})
    assert refused.status_code == 403
    assert "--host" in refused.text
    assert refused.headers["content-type"].startswith("text/plain")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"sec-fetch-site": "same-origin"}, 400),
        ({"sec-fetch-site": "none"}, 400),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"sec-fetch-site": "cross-site", "origin": "http://ops.example"}, 403),
        ({"origin": "http://ops.example"}, 400),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({}, 400),  # no browser
    ],
)
@pytest.mark.parametrize("path", ["/act", "/bulk", "/signin", "/signout", "/bulk/x"])
def test_a_form_is_taken_from_its_own_pages_alone(browser, headers, status, path):
    del browser.headers["sec-fetch-site"]
    try:
        answer = browser.post(path, headers={"host": "ops.example", **headers})
    finally:
        browser.headers["sec-fetch-site"] = "same-origin"
    assert (answer.status_code == 403) == (status == 403)


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
@pytest.mark.parametrize("path", ["/", "/confirm?verb=cancel&all=1", "/static/console.css"])
def test_a_get_from_another_site_is_a_link(browser, site, path):
    for mode in ("navigate", None):
        headers = {"sec-fetch-site": site, **({"sec-fetch-mode": mode} if mode else {})}
        assert browser.get(path, headers=headers).status_code != 403
    for mode, use in (("no-cors", "image"), ("cors", "empty"), ("navigate", "iframe")):
        headers = {"sec-fetch-site": site, "sec-fetch-mode": mode, "sec-fetch-dest": use}
        refused = browser.get(path, headers=headers)
        assert refused.status_code == 403
        assert "another site" in refused.text


EVERYWHERE = [
    ("GET", "/"),
    ("HEAD", "/"),
    ("GET", "/?filter=state+%3D"),
    ("GET", "/?parent=../.."),
    ("GET", "/rows"),
    ("GET", "/operation?name={name}"),
    ("GET", "/operation?name=operations/none"),
    ("GET", "/operation"),
    ("GET", "/operation/body?name={name}"),
    ("GET", "/operation/form?name={name}&as=alloydb"),
    ("GET", "/operation.json?name={name}"),
    ("GET", "/confirm?verb=cancel&name={name}"),
    ("GET", "/confirm"),
    ("POST", "/act"),
    ("POST", "/bulk"),
    ("GET", "/bulk/none"),
    ("GET", "/signin"),
    ("POST", "/signin"),
    ("POST", "/signout"),
    ("GET", "/static/console.css"),
    ("GET", "/static/none.css"),
    ("GET", "/none"),
    ("PUT", "/"),
    ("OPTIONS", "/"),
]


@pytest.mark.parametrize(("method", "path"), EVERYWHERE)
@pytest.mark.parametrize("headers", [{}, {"x-part": "1"}, {"host": "evil.example"}])
def test_every_answer_has_the_headers(shown, method, path, headers):
    browser, name = shown
    answer = browser.request(method, path.format(name=name), headers=headers)
    assert answer.status_code < 500
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "require-trusted-types-for 'script'" in policy
    assert "frame-ancestors 'none'" in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["x-frame-options"] == "DENY"
    assert answer.headers["referrer-policy"] == "same-origin"
    assert answer.headers["cross-origin-opener-policy"] == "same-origin"
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    is_file = path == "/static/console.css" and "host" not in headers
    assert answer.headers["cache-control"] == ("no-cache" if is_file else "no-store")
    assert "access-control-allow-origin" not in answer.headers
    assert "server" not in answer.headers
    assert "set-cookie" not in answer.headers or method == "POST"


def test_a_static_file_is_kept_under_its_hash(browser):
    page = browser.get("/").text
    address = page.partition('rel="stylesheet" href="')[2].partition('"')[0]
    kept = browser.get(address)
    assert kept.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert kept.headers["content-encoding"] == "gzip"
    assert browser.get("/static/console.css?v=other").headers["cache-control"] == "no-cache"
    tag = {"if-none-match": kept.headers["etag"]}
    assert browser.get("/static/console.css", headers=tag).status_code == 304


def test_no_other_file_is_served(browser):
    for path in ("..%2Fpages.py", "%2Fetc%2Fpasswd", "../templates/base.html", "console.css/"):
        assert browser.get(f"/static/{path}").status_code == 404


def test_a_body_with_two_ends_is_refused_and_nothing_behind_it_is_taken(browser):
    rest = b"0\r\n\r\nGET /none HTTP/1.1\r\nHost: localhost\r\n\r\n"
    head = (
        "POST /act HTTP/1.1\r\nHost: localhost\r\nSec-Fetch-Site: same-origin\r\n"
        f"Content-Length: {len(rest)}\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    with socket.create_connection((browser.base_url.host, browser.base_url.port), 15) as connection:
        connection.sendall(head.encode() + rest)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1 ") == 1


def test_a_form_that_is_too_large(browser):
    refused = browser.post("/act", content=b"name=" + b"x" * 1_100_000)
    assert refused.status_code == 413


def test_a_form_that_is_none(browser):
    for body in (b"\xff\xfe", b"&".join([b"name=x"] * 3_000), b"%00=%00"):
        assert browser.post("/act", content=body).status_code == 400


def test_a_wrong_method_says_which_are_right(browser):
    refused = browser.get("/act")
    assert refused.status_code == 405
    assert refused.headers["allow"] == "POST"


def test_a_page_is_packed_for_those_who_take_it(browser):
    packed = browser.get("/")
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.headers["vary"] == "accept-encoding"
    plain = browser.get("/", headers={"accept-encoding": "identity"})
    assert "content-encoding" not in plain.headers


def test_options_that_cannot_be():
    for options in (
        {},
        {"target": "x:1", "prefix": "ops"},
        {"target": "x:1", "prefix": "/ops/"},
        {"target": "x:1", "hosts": ["a b"]},
        {"target": "x:1", "forward": ["cookie"]},
        {"target": "x:1", "sign_in": "Cookie"},
        {"target": "x:1", "sign_in": "grpc-timeout"},
        {"target": "x:1", "sign_in": "token-bin"},
        {"target": "x:1", "sign_in": "x y"},
        {"target": "x:1", "metadata": [("X-Caps", "1")]},
        {"operations": 1},
    ):
        with pytest.raises(ConfigurationError):
            console(**options)


def test_a_websocket_is_closed():
    import asyncio

    sent = []

    async def send(message):
        sent.append(message)

    asyncio.run(console(target="x:1")({"type": "websocket", "path": "/"}, None, send))
    assert sent == [{"type": "websocket.close", "code": 1000}]


def test_nothing_is_asked_of_the_server_for_files_and_refusals():
    from console_harness import serving_foreign

    with serving_foreign() as foreign, browsing(console(target=foreign.target)) as browser:
        for path in ("/static/console.css", "/none", "/signin", "/confirm?verb=cancel&name=x"):
            browser.get(path)
        browser.get("/", headers={"host": "evil.example"})
        browser.post("/act", headers={"sec-fetch-site": "cross-site"})
        assert foreign.calls == []
