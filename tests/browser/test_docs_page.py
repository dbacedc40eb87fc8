"""The page that shows the API, in a browser: it loads nothing from elsewhere, and calls the API."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from http_harness import Fleet, serving
from playwright.sync_api import Page, expect


@pytest.fixture
def address() -> Iterator[str]:
    with serving("aio", Fleet(), options={"docs": True}) as http:
        yield f"http://127.0.0.1:{http.port}"


def test_the_page_shows_the_api_and_calls_it(page: Page, address: str) -> None:
    """Without a complaint of the browser's, be it of the policy."""
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{address}/docs")
    listed = page.locator("#operations-Operations-Operations_ListOperations_2")
    expect(listed).to_contain_text("/v1/operations")
    expect(page.locator(".opblock-tag").first).to_contain_text("FleetService")
    listed.locator(".opblock-summary-control").click()
    listed.get_by_role("button", name="Try it out").click()
    listed.get_by_role("button", name="Execute").click()
    answer = listed.locator(".live-responses-table .response")
    expect(answer.locator(".response-col_status")).to_contain_text("200")
    assert f"{address}/v1/operations" in asked
    elsewhere = [url for url in asked if not url.startswith((f"{address}/", "data:"))]
    assert elsewhere == []
