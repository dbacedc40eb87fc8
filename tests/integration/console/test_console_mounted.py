"""The console below a path: mounted, behind a proxy, in a gateway; and in the server's process."""

from __future__ import annotations

import re
from collections.abc import Iterator

import httpx
import pytest
from console_harness import PARENT, Served, browsing, names_in, serving, until
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from lro_grpc import ConfigurationError
from lro_grpc.console import console
from lro_grpc.http import gateway


@pytest.fixture
def served() -> Iterator[Served]:
    with serving() as found:
        yield found


def addresses_in(page: httpx.Response) -> set[str]:
    """Returns the addresses that a page has."""
    found = re.findall(r'(?:href|src|action|data-part|data-form|data-icon)="([^"]+)"', page.text)
    return {one for one in found if not one.startswith("#")}


def check(browser: httpx.Client, served: Served, root: str) -> None:
    """Goes through the pages by the addresses that they have."""
    name = served.start()
    page = browser.get(f"{root}/")
    assert names_in(page) == [name]
    one = browser.get(f"{root}/operation", params={"name": name})
    for shown in (page, one):
        assert {address for address in addresses_in(shown) if not address.startswith(root)} == set()
    style = next(address for address in addresses_in(page) if "console.css" in address)
    assert browser.get(style).status_code == 200
    part = next(address for address in addresses_in(page) if "/rows" in address)
    assert names_in(browser.get(part.replace("&amp;", "&"))) == [name]
    answer = browser.post(f"{root}/act", data={"verb": "cancel", "name": name})
    assert answer.headers["location"].startswith(f"{root}/operation?")
    until(lambda: browser.get(answer.headers["location"]), "Cancelled")
    assert browser.get(f"{root}/nowhere").status_code == 404


def test_mounted(served):
    app = Starlette(
        routes=[
            Route("/", lambda request: PlainTextResponse("the app's own")),
            Mount("/tools/ops", console(target=served.target)),
        ]
    )
    with browsing(app) as browser:
        assert browser.get("/").text == "the app's own"
        check(browser, served, "/tools/ops")


def test_its_address_without_a_slash(served):
    app = console(target=served.target, prefix="/ops")
    with browsing(app) as browser:
        answer = browser.get("/ops?filter=done+%3D+true")
        assert answer.status_code == 307
        assert answer.headers["location"] == "/ops/?filter=done+%3D+true"


def test_behind_a_proxy_that_leaves_the_path_as_it_is(served):
    with browsing(console(target=served.target, prefix="/ops")) as browser:
        check(browser, served, "/ops")


def test_behind_a_proxy_that_takes_the_prefix_off(served):
    app = console(target=served.target, prefix="/ops")

    async def proxy(scope, receive, send):
        path = scope["path"].removeprefix("/ops")
        stripped = {**scope, "path": path, "raw_path": path.encode()}
        await app(stripped, receive, send)

    with browsing(proxy) as browser:
        check(browser, served, "/ops")


def test_a_path_that_only_begins_like_the_prefix(served):
    with browsing(console(target=served.target, prefix="/ops")) as browser:
        assert browser.get("/opsx/").status_code == 404


def test_in_process(served):
    """Beside the operations, whose loop is in a thread of its own: without a channel."""
    with browsing(console(served.served.operations)) as browser:
        check(browser, served, "")


def test_what_is_live_in_process(served):
    name = served.start()
    with browsing(console(served.served.operations)) as browser:
        body = {"name": name}
        tag = browser.get("/operation/body", params=body).headers["etag"]
        held = {"if-none-match": tag, "prefer": "wait=8", "x-part": "1"}
        served.fleet.gate.set()
        changed = browser.get("/operation/body", params=body, headers=held)
        assert changed.status_code == 200


def test_in_process_with_a_guard():
    def identify(context):
        return dict(context.invocation_metadata()).get("x-user", "")

    def authorize(access):
        return access.caller == "ada" or access.permission == "operations.start"

    with serving(identify=identify, authorize=authorize) as served:
        name = served.start()
        with browsing(console(served.served.operations, forward=["x-user"])) as browser:
            assert browser.get("/").status_code == 403
            browser.headers["x-user"] = "ada"
            assert names_in(browser.get("/", params={"parent": PARENT})) == [name]
            answer = browser.post("/act", data={"verb": "cancel", "name": name})
            assert answer.status_code == 303


def test_in_process_while_the_operations_do_not_run(served):
    with browsing(console(served.served.operations)) as browser:
        served.served.operations.stop_sync(lambda: None)
        page = browser.get("/")
    assert page.status_code == 503


def test_in_a_gateway(served):
    app = gateway(served.served.operations, console=True, allow_origins=["https://page.example"])
    with browsing(app) as browser:
        check(browser, served, "/console")
        assert browser.get("/console").headers["location"] == "/console/"
        assert browser.get("/healthz").status_code == 200
        assert browser.get("/consoles").headers["content-type"] == "application/json"


def test_the_origins_of_a_gateway_are_none_of_the_consoles(served):
    name = served.start()
    other = {"origin": "https://page.example", "sec-fetch-site": "cross-site"}
    app = gateway(served.served.operations, console=True, allow_origins=["https://page.example"])
    with browsing(app) as browser:
        assert browser.post(f"/v1/{name}:cancel", headers=other).status_code == 200
        page = browser.get("/console/", headers=other)
        assert "access-control-allow-origin" not in page.headers
        form = {"verb": "cancel", "name": name}
        assert browser.post("/console/act", data=form, headers=other).status_code == 403
        asked = {**other, "access-control-request-method": "POST"}
        preflight = browser.options("/console/act", headers=asked)
        assert preflight.status_code == 405
        assert "access-control-allow-origin" not in preflight.headers


def test_in_a_gateway_below_a_path(served):
    """As ``public_url`` has it, and as the app that it is mounted in does."""
    operations = served.served.operations
    with browsing(Starlette(routes=[Mount("/api", gateway(operations, console=True))])) as browser:
        check(browser, served, "/api/console")
    public = gateway(operations, console=True, public_url="https://ops.example/api")
    with browsing(public) as browser:
        page = browser.get("/console/", headers={"host": "ops.example"})
        assert page.status_code == 200
        assert {one for one in addresses_in(page) if not one.startswith("/api/console/")} == set()
        assert browser.get("/console/", headers={"host": "evil.example"}).status_code == 403


def test_in_a_gateway_with_options_of_its_own(served):
    operations = served.served.operations
    shown = console(operations, read_only=True)
    with browsing(gateway(operations, console=shown)) as browser:
        assert browser.get("/console/").status_code == 200
        assert browser.post("/console/act").status_code == 403


@pytest.mark.parametrize("prefix", ["/console", "/console/v1"])
def test_a_gateway_has_its_prefix_elsewhere(served, prefix):
    with pytest.raises(ConfigurationError, match="path of the console"):
        gateway(served.served.operations, prefix=prefix)


def test_a_gateway_without_a_console(served):
    with browsing(gateway(served.served.operations)) as browser:
        assert browser.get("/console/").status_code == 404
