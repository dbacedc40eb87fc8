"""Servers, consoles and sessions that fail while a page is open."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from fake_operations import CANCEL, DESCRIBE, LIST, WAIT, WATCH, FakeServer, operation
from google.longrunning import operations_pb2
from grpc import StatusCode
from playwright.sync_api import Page, Request, expect

from browser import shown
from browser.complaints import Complaints
from browser.conftest import OpenConsole
from browser.steered import Steered, serving
from lro_grpc._http.listening import listening_in_thread
from lro_grpc.console import console


@pytest.fixture
def fake() -> Any:
    """A server whose answers the test writes."""
    server = FakeServer()
    yield server
    server.fake.close()
    server.stop()


def page_of(*operations: operations_pb2.Operation) -> operations_pb2.ListOperationsResponse:
    return operations_pb2.ListOperationsResponse(operations=operations)


def asked(page: Page) -> list[Request]:
    """Collects the requests of a page for a part of itself."""
    found: list[Request] = []
    page.on("request", lambda it: "x-part" in it.headers and found.append(it))
    return found


def test_a_server_that_is_away_is_waited_for(
    page: Page, open_console: OpenConsole, fake: FakeServer, complaints: Complaints
) -> None:
    fake.fake.pages[""] = page_of(operation())
    page.goto(open_console(target=fake.target))
    expect(shown.rows(page)).to_have_count(1)
    fake.stop()
    expect(shown.live(page)).to_have_text("Retrying")
    expect(shown.banner(page)).to_contain_text("The server does not answer")
    expect(shown.banner(page)).to_contain_text("What you see is from")
    expect(shown.banner(page)).not_to_contain_text("127.0.0.1")
    expect(shown.rows(page)).to_have_count(1)
    fake.fake.pages[""] = page_of(operation(), operation("operations/2"))
    fake.start()
    expect(shown.live(page)).to_have_text("Live")
    expect(shown.banner(page)).to_be_hidden()
    expect(shown.rows(page)).to_have_count(2)
    complaints.expect("status of 50")


def test_a_console_that_is_away_is_waited_for(
    page: Page, steered: Steered, complaints: Complaints
) -> None:
    one = steered.start("tables/orders")
    app = console(target=steered.target)
    with listening_in_thread(app, "127.0.0.1:0", grace=0.1) as port:
        page.goto(shown.operation(f"http://127.0.0.1:{port}", one.name))
        expect(shown.live(page)).to_have_text("Live")
    expect(shown.banner(page)).to_contain_text("The console does not answer")
    one.report(42)
    with listening_in_thread(console(target=steered.target), f"127.0.0.1:{port}"):
        expect(shown.state(page)).to_contain_text("42%")
        expect(shown.banner(page)).to_be_hidden()
    complaints.expect("net::ERR_|status of 500")


@pytest.mark.parametrize(
    ("code", "status"), [(StatusCode.INVALID_ARGUMENT, 400), (StatusCode.PERMISSION_DENIED, 403)]
)
def test_a_refusal_ends_the_asking(
    page: Page,
    open_console: OpenConsole,
    fake: FakeServer,
    complaints: Complaints,
    code: StatusCode,
    status: int,
) -> None:
    fake.fake.pages[""] = page_of(operation())
    page.clock.install()
    page.goto(open_console(target=fake.target))
    expect(shown.live(page)).to_have_text("Live")
    fake.fake.always(LIST, code)
    page.clock.run_for(5_000)
    expect(shown.live(page)).to_have_text("Stopped")
    expect(shown.banner(page)).to_contain_text(f"{LIST} says {code.name}")
    parts = asked(page)
    page.clock.run_for(120_000)
    assert parts == []
    complaints.expect(f"status of {status}")


def test_a_hidden_tab_asks_nothing(page: Page, open_console: OpenConsole, fake: FakeServer) -> None:
    fake.fake.pages[""] = page_of(operation())
    page.clock.install()
    page.goto(open_console(target=fake.target))
    expect(shown.live(page)).to_have_text("Live")
    hide = """(isHidden) => {
        Object.defineProperty(document, "hidden", { value: isHidden, configurable: true });
        document.dispatchEvent(new Event("visibilitychange"));
    }"""
    page.evaluate(hide, True)
    parts = asked(page)
    page.clock.run_for(120_000)
    assert parts == []
    fake.fake.pages[""] = page_of(operation(), operation("operations/2"))
    page.evaluate(hide, False)
    expect(shown.rows(page)).to_have_count(2)


def test_a_page_that_is_paused_asks_nothing_until_it_goes_on(
    page: Page, open_console: OpenConsole, fake: FakeServer
) -> None:
    fake.fake.put(operation())
    page.clock.install()
    page.goto(shown.operation(open_console(target=fake.target), "operations/1"))
    expect(shown.live(page)).to_have_text("Live")
    page.keyboard.press("p")
    expect(shown.live(page)).to_have_text("Paused")
    parts = asked(page)
    fake.fake.put(operation(error=8))
    page.clock.run_for(120_000)
    assert parts == []
    page.get_by_role("button", name="Paused").click()
    expect(shown.live(page)).to_have_text("Done")
    expect(shown.state(page)).to_contain_text("Failed")


def test_a_session_that_has_ended_leads_to_the_sign_in_and_back(
    page: Page, open_console: OpenConsole, complaints: Complaints
) -> None:
    sessions = {"ann"}
    options = {
        "identify": lambda context: dict(context.invocation_metadata()).get("x-user", ""),
        "authorize": lambda access: access.caller in sessions
        or access.permission.endswith("start"),
    }
    with serving(**options) as steered:
        one = steered.start("tables/orders", caller="ann")
        url = open_console(target=steered.target, sign_in="x-user")
        page.goto(shown.operation(url, one.name))
        page.get_by_label("x-user").fill("ann")
        page.get_by_role("button", name="Sign in").click()
        expect(shown.state(page)).to_contain_text("Running")
        expect(shown.live(page)).to_have_text("Live")
        page.context.clear_cookies()
        one.report(1)
        expect(shown.banner(page)).to_contain_text("You are signed out")
        complaints.expect("status of 401")
        page.get_by_role("link", name="Sign in").click()
        page.get_by_label("x-user").fill("ann")
        page.get_by_role("button", name="Sign in").click()
        expect(shown.state(page)).to_contain_text("Running")


@pytest.mark.parametrize("lacks", [(), (WATCH,), (WATCH, WAIT), (WATCH, WAIT, DESCRIBE)])
def test_servers_with_fewer_methods_are_as_live(
    page: Page, open_console: OpenConsole, fake: FakeServer, lacks: tuple[str, ...]
) -> None:
    for method in lacks:
        fake.fake.always(method, StatusCode.UNIMPLEMENTED)
    fake.fake.put(operation())
    page.goto(shown.operation(open_console(target=fake.target), "operations/1"))
    expect(shown.live(page)).to_have_text("Live")
    fake.fake.put(operation(error=8))
    expect(shown.state(page)).to_contain_text("Failed")
    expect(page.get_by_role("region", name="RESOURCE_EXHAUSTED")).to_contain_text("disk is full")
    expect(shown.live(page)).to_have_text("Done")


def test_what_a_server_does_not_have_is_offered_no_longer(
    page: Page, open_console: OpenConsole, fake: FakeServer, complaints: Complaints
) -> None:
    for method in (WATCH, DESCRIBE, CANCEL):
        fake.fake.always(method, StatusCode.UNIMPLEMENTED)
    fake.fake.put(operation())
    page.goto(shown.operation(open_console(target=fake.target), "operations/1"))
    page.get_by_role("link", name="Cancel…").click()
    page.get_by_role("button", name="Cancel the operation").click()
    expect(page.get_by_role("alert")).to_contain_text("UNIMPLEMENTED")
    expect(page.get_by_role("link", name="Cancel…")).to_have_count(0)
    expect(page.get_by_role("link", name="Pause…")).to_have_count(0)
    complaints.expect("status of 501")


def test_a_server_that_ignores_filters_is_said_to(
    page: Page, open_console: OpenConsole, fake: FakeServer
) -> None:
    fake.fake.pages[""] = page_of(operation(), operation("operations/2", error=8))
    page.goto(open_console(target=fake.target) + "/?filter=done+%3D+true")
    expect(page.get_by_text("ignores filters")).to_be_visible()


def test_a_slow_server_leaves_the_page_as_it_is(
    page: Page, open_console: OpenConsole, fake: FakeServer
) -> None:
    fake.fake.pages[""] = page_of(operation())
    page.goto(open_console(target=fake.target))
    expect(shown.live(page)).to_have_text("Live")
    answers = threading.Event()

    def answer(request: Any, context: Any) -> Any:
        answers.wait(30)
        return page_of(operation(), operation("operations/2"))

    fake.fake.always(LIST, answer)
    for _ in range(2):
        fake.fake.arrived[LIST].acquire(timeout=15)
    expect(shown.rows(page)).to_have_count(1)
    page.keyboard.press("t")
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    answers.set()
    expect(shown.rows(page)).to_have_count(2)


def test_a_page_of_an_operation_that_is_not_there(
    page: Page, url: str, complaints: Complaints
) -> None:
    page.goto(shown.operation(url, "projects/shop/locations/eu-west1/operations/none"))
    expect(page.get_by_role("heading", name="There is no such operation")).to_be_visible()
    complaints.expect("status of 404")
