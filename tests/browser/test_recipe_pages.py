"""The pages of the recipes in a browser: a bar that goes on, a cookie that an EventSource sends."""

from __future__ import annotations

import re
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pages
import pytest
from playwright.sync_api import expect
from programs import first_service, with_pages_of

from browser.complaints import Complaints

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.codegen

PROGRESS = pages.Page("recipes/progress-page.md")
SIGNED_IN = pages.Page("recipes/authentication.md")


def test_the_bar_goes_on_after_a_reload_and_a_crash(
    page: Page, complaints: Complaints, tmp_path: Path
) -> None:
    complaints.expect("ERR_(CONNECTION_REFUSED|INCOMPLETE_CHUNKED_ENCODING)")
    folder = first_service(tmp_path, PROGRESS)
    with_pages_of(folder, 3)
    with folder.started("python page.py", end=signal.SIGKILL):
        folder.answers(folder.url)
        page.goto(folder.url)
        page.get_by_role("button").click()
        expect(page.get_by_role("status")).to_have_text(re.compile("page [1-4]"))
        page.reload()
        expect(page.get_by_role("progressbar")).to_have_attribute("value", re.compile("[2-8]0"))
    with_pages_of(folder, 0.1)
    with folder.started("python page.py"):
        expect(page.get_by_role("status")).to_have_text("5 pages")


BUSY = """
from starlette.responses import JSONResponse


def busy_once(app):
    refused = []

    async def serve(scope, receive, send):
        if scope.get("path", "").endswith(":watch") and not refused:
            refused.append(scope)
            await JSONResponse({"error": {"code": 503}}, 503)(scope, receive, send)
        else:
            await app(scope, receive, send)

    return serve
"""


def test_the_page_watches_again_after_a_503_and_says_what_is_gone(
    page: Page, complaints: Complaints, tmp_path: Path
) -> None:
    complaints.expect("status of (503|404)")
    folder = first_service(tmp_path, PROGRESS)
    (tmp_path / "busy.py").write_text(BUSY)
    program = tmp_path / "page.py"
    text = program.read_text().replace("listening(app", "listening(busy_once(app)")
    program.write_text("from busy import busy_once\n" + text.replace("3000", "30"))
    with folder.started("python page.py"):
        folder.answers(folder.url)
        page.goto(folder.url)
        page.get_by_role("button").click()
        expect(page.get_by_role("status")).to_have_text("5 pages")
        page.goto(f"{folder.url}/?#operations/op-x")
        expect(page.get_by_role("status")).to_contain_text("operations/op-x")


def test_an_event_source_sends_the_cookie_of_who_has_signed_in(page: Page, tmp_path: Path) -> None:
    sign_in, watch = SIGNED_IN.texts("text")[0].splitlines()
    folder = first_service(tmp_path, SIGNED_IN)
    with folder.started("python signed_in.py"):
        folder.answers(folder.url)
        page.goto(f"{folder.url}/healthz")  # a page of this origin
        page.evaluate(f"async () => {{ {sign_in} }}")
        name = page.evaluate(
            """async () => (await (await fetch("/v1/reports", {
                method: "POST", body: '{"pageCount": 1}',
                headers: {"Content-Type": "application/json"}})).json()).name"""
        )
        with page.expect_console_message(lambda said: "done" in said.text):
            page.evaluate(f"(name) => {{ {watch.replace('JSON.parse(data)', 'data')} }}", name)
