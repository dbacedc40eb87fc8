"""Actions on all that a filter finds: asked, followed, stopped, and told what was refused."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from fake_operations import CANCEL, LIST, FakeServer, operation
from google.longrunning import operations_pb2
from google.protobuf import empty_pb2
from grpc import StatusCode
from playwright.sync_api import Page, expect

from browser import shown
from browser.complaints import Complaints
from browser.conftest import OpenConsole
from browser.steered import Steered

COUNT = 30


@pytest.fixture
def fake() -> Iterator[FakeServer]:
    """A server with operations that run."""
    server = FakeServer()
    for number in range(COUNT):
        server.fake.put(operation(f"operations/{number:02}"))
    found = operations_pb2.ListOperationsResponse(operations=server.fake.operations.values())
    server.fake.always(LIST, found)
    yield server
    server.fake.close()
    server.stop()


def begin(page: Page, url: str, count: int) -> None:
    """Cancels all that are not done."""
    page.goto(f"{url}/?filter=done+%3D+false")
    page.get_by_text("All that match…", exact=True).click()
    page.get_by_role("link", name="Cancel all that match…").click()
    question = shown.dialog(page)
    expect(question).to_contain_text(f"Cancel {count} operations?")
    question.get_by_label(f"Type {count} to go on").fill(f"{count}")
    question.get_by_role("button", name=f"Cancel {count} operations").click()


def test_it_is_typed_and_followed_to_its_end(
    page: Page, url: str, steered: Steered, complaints: Complaints
) -> None:
    for number in range(25):
        steered.start(f"tables/part-{number:02}")
    page.goto(f"{url}/confirm?verb=cancel&all=1&filter=done+%3D+false")
    page.get_by_label("Type 25 to go on").fill("24")
    page.get_by_role("button", name="Cancel 25 operations").click()
    expect(page.get_by_role("alert")).to_contain_text("Type 25")
    complaints.expect("status of 400")
    begin(page, url, 25)
    expect(page.get_by_role("region", name="Progress")).to_contain_text("25 of 25")
    expect(shown.live(page)).to_have_text("Done")
    page.goto(f"{url}/?filter=state+%3D+CANCELLED")
    expect(shown.rows(page)).to_have_count(25)


def test_it_is_stopped(page: Page, open_console: OpenConsole, fake: FakeServer) -> None:
    goes_on = threading.Event()

    def cancel(request: Any, context: Any) -> empty_pb2.Empty:
        del context
        if request.name > "operations/09":
            goes_on.wait(30)
        return empty_pb2.Empty()

    fake.fake.always(CANCEL, cancel)
    begin(page, open_console(target=fake.target), COUNT)
    progress = page.get_by_role("region", name="Progress")
    expect(progress).to_contain_text(f"10 of {COUNT}")
    expect(page).to_have_title(re.compile("^33 %"))
    page.get_by_role("button", name="Stop").click()
    goes_on.set()
    expect(shown.live(page)).to_have_text("Done")
    expect(progress).to_contain_text("It was stopped")
    assert fake.fake.count(CANCEL) < COUNT


def test_it_says_what_was_refused(page: Page, open_console: OpenConsole, fake: FakeServer) -> None:
    fake.fake.script(CANCEL, StatusCode.PERMISSION_DENIED, StatusCode.FAILED_PRECONDITION)
    begin(page, open_console(target=fake.target), COUNT)
    expect(shown.live(page)).to_have_text("Done")
    refused = page.get_by_role("region", name="Refused")
    expect(refused.get_by_role("link")).to_have_count(2)
    expect(refused).to_contain_text("PERMISSION_DENIED")
    expect(refused).to_contain_text("CancelOperation says FAILED_PRECONDITION")
