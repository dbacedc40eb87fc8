"""Callers of the console: the server knows each by their own credentials, and by nothing else."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Iterator
from typing import Any

import grpc
import httpx
import pytest
from console_harness import (
    PARENT,
    Served,
    browsing,
    consoled,
    names_in,
    serving,
    serving_foreign,
)
from starlette.applications import Starlette
from starlette.routing import Mount

from lro_grpc.console import console


def identify(context: Any) -> str:
    headers = dict(context.invocation_metadata())
    return str(headers.get("authorization", headers.get("x-user", "")))


def authorize(access: Any) -> bool:
    return access.caller in ("Bearer ada", "ada") or access.permission == "operations.start"


@pytest.fixture
def served() -> Iterator[Served]:
    """A server that knows Ada alone, and answers PERMISSION_DENIED to everyone else."""
    with serving(identify=identify, authorize=authorize) as found:
        yield found


@contextlib.contextmanager
def signing_in(served: Served, **options: Any) -> Iterator[httpx.Client]:
    with consoled(served.target, sign_in="authorization", **options) as browser:
        yield browser


def sign_in(browser: httpx.Client, credential: str = "Bearer ada", where: str = "/"):
    return browser.post("/signin", params={"next": where}, data={"credential": credential})


def test_nobody_is_asked_to_sign_in_and_is_led_back(served):
    name = served.start()
    with signing_in(served) as browser:
        page = browser.get("/operation", params={"name": name})
        assert page.status_code == 303
        form = browser.get(page.headers["location"])
        assert form.status_code == 200
        assert 'type="password"' in form.text
        action = form.text.partition('action="/signin')[2].partition('"')[0].replace("&amp;", "&")
        signed = browser.post(f"/signin{action}", data={"credential": " Bearer ada "})
        assert signed.status_code == 303
        shown = browser.get(signed.headers["location"])
        assert shown.status_code == 200
        assert shown.request.url.params["name"] == name
        assert "signout" in shown.text


def test_a_part_says_that_one_is_signed_out(served):
    with signing_in(served) as browser:
        assert browser.get("/rows", headers={"x-part": "1"}).status_code == 401


def test_one_who_is_signed_in_and_may_not_see_it(served):
    with signing_in(served) as browser:
        sign_in(browser, "Bearer bob")
        page = browser.get("/")
        assert page.status_code == 403
        assert "may not see" in page.text
        assert "signin" in page.text


def test_a_credential_that_is_not_accepted_any_more():
    with serving_foreign() as foreign, consoled(foreign.target, sign_in="authorization") as browser:
        sign_in(browser)
        assert browser.get("/").status_code == 200
        foreign.refusal = (grpc.StatusCode.UNAUTHENTICATED, "the token is over")
        page = browser.get("/operation?name=operations/x")
        assert page.status_code == 303
        assert "/signin?next=" in page.headers["location"]
        acted = browser.post("/act", data={"verb": "cancel", "name": "operations/x"})
        assert acted.status_code == 303
        assert "/signin" in acted.headers["location"]


def test_the_cookie(served):
    with signing_in(served) as browser:
        cookie = sign_in(browser).headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert "Path=/" in cookie
    assert "Secure" not in cookie
    assert "Max-Age" not in cookie
    assert "expires" not in cookie.lower()
    assert "ada" not in cookie


def test_consoles_on_two_ports_have_two_cookies(served):
    """A browser sends the cookies of a host to all of its ports."""
    with signing_in(served) as browser, signing_in(served) as other:
        first, second = (sign_in(one).headers["set-cookie"] for one in (browser, other))
    assert first.partition("=")[0] != second.partition("=")[0]


def test_the_cookie_of_https():
    """A proxy in front has the certificate."""
    from lro_grpc.http import listening_in_thread

    app = console(target="127.0.0.1:1", sign_in="authorization")
    with listening_in_thread(app, "127.0.0.1:0", trusted_proxies=["127.0.0.1"]) as port:
        answer = httpx.post(
            f"http://127.0.0.1:{port}/signin",
            data={"credential": "x"},
            headers={"x-forwarded-proto": "https"},
        )
    assert "Secure" in answer.headers["set-cookie"]


def test_signing_out(served):
    with signing_in(served) as browser:
        sign_in(browser)
        assert browser.get("/").status_code == 200
        assert browser.post("/signout").status_code == 303
        assert browser.get("/").status_code == 303


@pytest.mark.parametrize("credential", ["", "  ", "ключ", "a\x00b", "a\nb", "x" * 2_901])
def test_a_credential_that_cannot_be_sent(served, credential):
    with signing_in(served) as browser:
        answer = sign_in(browser, credential)
    assert answer.status_code == 400
    assert "set-cookie" not in answer.headers
    assert 'role="alert"' in answer.text


@pytest.mark.parametrize(
    "cookie",
    ["x", "!!!", base64.b64encode("ключ".encode()).decode(), base64.b64encode(b"a\nb: c").decode()],
)
def test_a_cookie_that_is_none(served, cookie):
    with signing_in(served) as browser:
        name = sign_in(browser).headers["set-cookie"].partition("=")[0]
        browser.cookies.clear()
        page = browser.get("/", headers={"cookie": f"{name}={cookie}"})
    assert page.status_code == 303


@pytest.mark.parametrize(
    "where",
    [
        *("https://evil.example/", "//evil.example/", "/\\evil.example/", "\\/evil.example"),
        *("/\t/evil.example", "/\n/evil.example", "/ /evil.example", "javascript:alert(1)", ""),
        *("evil", "/x\r\nset-cookie: a=b", "/é"),
    ],
)
def test_one_is_led_back_to_the_console_alone(served, where):
    with signing_in(served) as browser:
        assert sign_in(browser, where=where).headers["location"] == "/"


@pytest.mark.parametrize("where", ["/", "/?filter=done+%3D+false", "/operation?name=operations/x"])
def test_one_is_led_back_to_where_one_was(served, where):
    with signing_in(served) as browser:
        assert sign_in(browser, where=where).headers["location"] == where


def test_below_a_prefix_one_is_led_back_to_below_it(served):
    with signing_in(served, prefix="/ops") as browser:
        assert sign_in(browser, where="/opsx/").headers["location"] == "/ops/"
        for upwards in ("/../x", "/..", "/..?a", "/..#a", "/%2e%2E/x", "/.%2e", "/a/.././../x"):
            assert sign_in(browser, where=f"/ops{upwards}").headers["location"] == "/ops/"
        within = "/ops/?filter=target=/../x"
        assert sign_in(browser, where=within).headers["location"] == within
        assert sign_in(browser, where="/ops/?a=b").headers["location"] == "/ops/?a=b"
        assert "Path=/ops" in sign_in(browser).headers["set-cookie"]


def test_without_a_sign_in_there_is_no_page_for_it(served):
    with consoled(served.target) as browser:
        assert browser.get("/signin").status_code == 404
        assert sign_in(browser).status_code == 404
        assert browser.get("/").status_code == 403


def test_what_a_proxy_says_is_sent_on_and_nothing_else(served):
    with serving_foreign() as foreign:
        with consoled(foreign.target, forward=["X-User", "x-groups"]) as browser:
            headers = {"x-user": "ada", "authorization": "Bearer stolen", "cookie": "a=b"}
            browser.get("/", headers={**headers, "x-other": "1"})
        (sent,) = foreign.metadata
    assert sent["x-user"] == "ada"
    assert set(sent) & {"authorization", "cookie", "x-other", "x-groups"} == set()
    with consoled(served.target, forward=["x-user"]) as browser:
        name = served.start()
        found = browser.get("/", params={"parent": PARENT}, headers={"x-user": "ada"})
        assert names_in(found) == [name]
        assert browser.get("/", headers={"x-user": "bob"}).status_code == 403


def test_the_consoles_own_metadata(served):
    name = served.start()
    with consoled(served.target, metadata=[("authorization", "Bearer ada")]) as browser:
        assert names_in(browser.get("/")) == [name]


def test_the_cookies_of_two_consoles_on_one_host_are_not_mixed_up(served):
    with signing_in(served) as one, consoled("127.0.0.1:1", sign_in="authorization") as other:
        first = sign_in(one).headers["set-cookie"].partition("=")[0]
        second = sign_in(other).headers["set-cookie"].partition("=")[0]
    assert first != second


def test_the_cookies_of_a_console_below_another_are_not_mixed_up():
    """A browser sends the cookies of both to the one below."""
    with serving_foreign() as foreign:
        options = {"target": foreign.target, "sign_in": "authorization"}
        app = Starlette(
            routes=[Mount("/below", console(**options)), Mount("/", console(**options))]
        )
        with browsing(app) as browser:
            for path, credential in (("/below", "ada"), ("", "bob")):
                answer = browser.post(f"{path}/signin", data={"credential": credential})
                assert answer.status_code == 303
            for path, credential in (("/below", "ada"), ("", "bob")):
                browser.get(f"{path}/")
                assert foreign.metadata[-1]["authorization"] == credential
            browser.post("/below/signout")
            browser.get("/below/rows")
            assert "authorization" not in foreign.metadata[-1]


@pytest.mark.parametrize(
    "values", [[], ["ada", "root"], ["ada", "ada"], ["ад".encode()], ["José".encode("latin-1")]]
)
def test_a_caller_whom_a_proxy_does_not_name_plainly_is_not_taken_for_the_console(values):
    with serving_foreign() as foreign:
        own = {"forward": ["x-user"], "metadata": [("authorization", "Bearer console")]}
        with consoled(foreign.target, **own) as browser:
            headers = [("x-user", value) for value in values]
            for answer in (
                browser.get("/", headers=headers),
                browser.get("/rows", headers=headers),
                browser.post("/act", headers=headers, data={"verb": "cancel", "name": "x"}),
            ):
                assert answer.status_code == 400
                assert "x-user" in answer.text
        assert foreign.calls == []


@pytest.mark.parametrize(
    "path",
    ["/", "/rows", "/operation?name={}", "/operation/body?name={}", "/operation.json?name={}"],
)
def test_what_one_sees_is_not_shown_to_another(served, path):
    """Though it is asked for within the second for which answers are shared."""
    path = path.format(served.start())
    with consoled(served.target, forward=["x-user"]) as browser:
        for _ in range(2):
            assert browser.get(path, headers={"x-user": "ada"}).status_code == 200
            assert browser.get(path, headers={"x-user": "bob"}).status_code == 403
            assert browser.get(path).status_code == 403


def test_a_refusal_is_not_remembered_for_another_caller(served):
    with signing_in(served) as browser:
        sign_in(browser, "Bearer bob")
        assert browser.get("/").status_code == 403
        sign_in(browser, "Bearer ada")
        assert browser.get("/").status_code == 200
