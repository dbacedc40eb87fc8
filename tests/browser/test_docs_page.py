"""The page that shows the API, in a browser: it loads nothing from elsewhere, and calls the API."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from http_harness import serving
from playwright.sync_api import Page, expect

from lro.example.v1 import fleet_service_lro
from lro_grpc.example import FleetService

PICTURE = "docs-page.png"
MOST_BYTES = 150 * 1024
"""The most bytes of the picture."""


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    def add(registrar: Any) -> None:
        fleet = FleetService(tmp_path / "fleet")
        fleet_service_lro.add_FleetServiceServicer_to_server(fleet, registrar)

    with serving("aio", plain=True, add=add, options={"docs": True}) as http:
        yield f"http://127.0.0.1:{http.port}"


def test_the_page_shows_the_api_and_calls_it(page: Page, address: str, tmp_path: Path) -> None:
    """Without a complaint of the browser's, be it of the policy."""
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.set_viewport_size({"width": 1200, "height": 620})
    page.goto(f"{address}/docs")
    expect(page.locator(".opblock-tag").first).to_contain_text("FleetService")
    picture = Path(os.environ.get("LRO_PICTURES") or tmp_path) / PICTURE
    page.screenshot(path=picture, animations="disabled")
    assert picture.stat().st_size < MOST_BYTES
    listed = page.locator("#operations-Operations-Operations_ListOperations_2")
    expect(listed).to_contain_text("/v1/operations")
    listed.locator(".opblock-summary-control").click()
    listed.get_by_role("button", name="Try it out").click()
    listed.get_by_role("button", name="Execute").click()
    answer = listed.locator(".live-responses-table .response")
    expect(answer.locator(".response-col_status")).to_contain_text("200")
    assert f"{address}/v1/operations" in asked
    elsewhere = [url for url in asked if not url.startswith((f"{address}/", "data:"))]
    assert elsewhere == []
