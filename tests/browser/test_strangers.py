"""Other sites, other hosts, and strangers' texts."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from fake_operations import FakeServer
from google.longrunning import operations_pb2
from google.protobuf import any_pb2, struct_pb2, timestamp_pb2
from google.rpc import error_details_pb2, status_pb2
from playwright.sync_api import Page, expect

from browser import shown
from browser.complaints import Complaints
from browser.conftest import OpenConsole
from browser.steered import FOR_ANN, Steered, serving
from lro.v1 import operation_metadata_pb2

EVIL = "<img src=x onerror=alert(1)>\"'><script>alert(2)</script>{{7*7}}"
OVERRIDE = "\u202e"
LONG = 100_000


@contextlib.contextmanager
def site(markup: str) -> Iterator[str]:
    """Serves a page of another site: ``localhost``, while the console is at ``127.0.0.1``."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.end_headers()
            self.wfile.write(b"<!doctype html><link rel=icon href=data:>" + markup.encode())

        def log_message(self, *words: Any) -> None:
            """Says nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://localhost:{server.server_port}/"
        server.shutdown()
        thread.join()


def test_a_form_of_another_site_does_nothing(
    page: Page, url: str, steered: Steered, complaints: Complaints
) -> None:
    one = steered.start("tables/orders")
    form = (
        f'<form method=post action="{url}/act"><input name=verb value=cancel>'
        f'<input name=name value="{one.name}"><button>Win a prize</button></form>'
    )
    with site(form) as other:
        page.goto(other)
        page.get_by_role("button").click()
        expect(page.get_by_text("comes from a page of another site")).to_be_visible()
    complaints.expect("status of 403")
    page.goto(shown.operation(url, one.name))
    expect(shown.state(page)).to_contain_text("Running")


def test_a_link_of_another_site_arrives_signed_in(page: Page, open_console: OpenConsole) -> None:
    with serving(**FOR_ANN) as steered:
        one = steered.start("tables/orders", caller="ann")
        url = open_console(target=steered.target, sign_in="x-user", prefix="/ops")
        page.goto(url)
        page.get_by_label("x-user").fill("ann")
        page.get_by_role("button", name="Sign in").click()
        expect(shown.rows(page)).to_have_count(1)
        with site(f'<a href="{shown.operation(url, one.name)}">look at this</a>') as other:
            page.goto(other)
            page.get_by_role("link").click()
            expect(shown.state(page)).to_contain_text("Running")
        [cookie] = page.context.cookies(url)
        assert (cookie["httpOnly"], cookie["sameSite"], cookie["path"]) == (True, "Lax", "/ops")
        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
        assert page.context.cookies(url) == []


def test_a_host_that_is_not_the_consoles_is_refused(
    page: Page, url: str, complaints: Complaints
) -> None:
    page.goto(url.replace("127.0.0.1", "rebound.localhost"))
    expect(page.get_by_text("does not answer for the host")).to_be_visible()
    complaints.expect("status of 403")


def test_no_site_shows_a_console_in_a_frame(page: Page, url: str, complaints: Complaints) -> None:
    with site(f'<iframe src="{url}"></iframe>') as other:
        page.goto(other)
        expect(page.frame_locator("iframe").get_by_text("Operations")).to_have_count(0)
    complaints.expect("frame-ancestors|X-Frame-Options|ERR_BLOCKED_BY_RESPONSE|status of 403")


def packed(message: Any) -> any_pb2.Any:
    found = any_pb2.Any()
    found.Pack(message)
    return found


def deep(levels: int) -> any_pb2.Any:
    found = packed(struct_pb2.Value(string_value="x"))
    for _ in range(levels):
        found = packed(found)
    return found


def metadata(**fields: Any) -> any_pb2.Any:
    return packed(operation_metadata_pb2.OperationMetadata(**fields))


def hostile() -> list[operations_pb2.Operation]:
    one = operations_pb2.Operation
    time = timestamp_pb2.Timestamp
    return [
        one(
            name=f"operations/{EVIL}", metadata=metadata(verb=EVIL, target=EVIL, status_detail=EVIL)
        ),
        one(name="operations/a b?#&=/../%2F\"'<b>x"),
        one(name="operations/" + "n" * LONG),
        one(name=""),
        one(name=f"operations/{OVERRIDE}gnp.exe\x00\n"),
        one(
            name="operations/unknown",
            metadata=any_pb2.Any(type_url="x/no.Type", value=b"\xff" * 99),
        ),
        one(
            name="operations/broken",
            metadata=any_pb2.Any(
                type_url="type.googleapis.com/lro.v1.OperationMetadata", value=b"\xff" * 9
            ),
        ),
        one(name="operations/deep", metadata=deep(150)),
        one(
            name="operations/long",
            metadata=metadata(
                status_detail="d" * LONG, target="t" * LONG, verb="v" * LONG, progress_percent=-5
            ),
        ),
        one(
            name="operations/old",
            metadata=metadata(
                progress_percent=2_000_000_000, create_time=time(seconds=-62_135_596_800)
            ),
        ),
        one(
            name="operations/details",
            done=True,
            error=status_pb2.Status(
                code=77,
                message="m" * LONG,
                details=[
                    packed(
                        error_details_pb2.Help(
                            links=[{"description": EVIL, "url": "javascript:alert(3)"}]
                        )
                    ),
                    *[packed(struct_pb2.Value(string_value="s" * 20_000))] * 60,
                ],
            ),
        ),
        one(name="operations/none", done=True),
    ]


@pytest.fixture
def fake() -> Iterator[FakeServer]:
    server = FakeServer()
    for one in hostile():
        server.fake.put(one)
    server.fake.pages[""] = operations_pb2.ListOperationsResponse(operations=hostile())
    yield server
    server.fake.close()
    server.stop()


def test_a_list_of_hostile_operations_is_a_list(
    page: Page, open_console: OpenConsole, fake: FakeServer
) -> None:
    page.goto(open_console(target=fake.target))
    expect(shown.live(page)).to_have_text("Live")
    expect(page.locator("tbody tr")).to_have_count(len(hostile()))
    expect(shown.row(page, "alert(1)").first).to_contain_text("<img src=x onerror=alert(1)>")
    expect(page.locator("main img")).to_have_count(0)
    expect(page.get_by_text("⟨U+202E⟩").first).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_hostile_operation_is_a_page(
    page: Page, open_console: OpenConsole, fake: FakeServer
) -> None:
    url = open_console(target=fake.target)
    for name in (one.name for one in hostile() if 0 < len(one.name) < LONG):
        answer = page.goto(shown.operation(url, name))
        assert answer is not None
        assert answer.status == 200, name
        assert len(answer.body()) < 1_000_000, name
        written = name.replace("\x00", "\ufffd")  # as any HTML has it
        expect(page.locator("#body")).to_have_attribute("data-name", written)
        expect(page.locator("main img, main script, main [href^=javascript]")).to_have_count(0)
        expect(page.locator("h1")).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), name
        for details in page.locator("main details:visible").all()[:2]:
            details.locator("summary").click()
