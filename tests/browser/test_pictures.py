"""Pictures of the console for its page in docs/, made anew by ``make pictures``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import grpc.aio
import pytest
from playwright.sync_api import expect

from browser import shown
from browser.conftest import OpenConsole, OpenContext
from browser.zoo import Zoo, open_zoo

DOCUMENT = Path(__file__).parents[2] / "docs" / "deploy" / "console.md"
MOST_BYTES = 150 * 1024
"""The most bytes of a picture: each one that is made anew stays in the repository for ever."""


@pytest.fixture(scope="module")
def zoo() -> Iterator[Zoo]:
    with open_zoo() as found:
        yield found


@pytest.fixture
def url(zoo: Zoo, open_console: OpenConsole) -> str:
    return open_console(
        target="operations.shop.example.com",
        channel=lambda: grpc.aio.insecure_channel(zoo.steered.target),
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder for the pictures; they are thrown away unless they are asked for."""
    return Path(os.environ.get("LRO_PICTURES") or tmp_path)


PICTURES = {
    "list": ("", "light", (1200, 620)),
    "running": ("running", "light", (1200, 600)),
    "failed": ("failed_batch", "light", (1200, 800)),
    "error": ("failed", "light", (1200, 500)),
    "dark": ("", "dark", (1200, 500)),
    "phone": ("", "light", (390, 700)),
}
"""Of each picture: the kind of operation, or none for the list; the theme; the size."""


def test_the_pages_look_as_the_document_shows_them(
    open_context: OpenContext, url: str, zoo: Zoo, folder: Path
) -> None:
    for name, (kind, theme, (width, height)) in PICTURES.items():
        page = open_context(color_scheme=theme).new_page()
        page.clock.install()
        page.set_viewport_size({"width": width, "height": height})
        page.goto(shown.operation(url, getattr(zoo, kind).name) if kind else url)
        expect(shown.live(page)).to_have_text("Done" if "failed" in kind else "Live")
        page.clock.fast_forward("23:00")
        expect(page.locator("time", has_text="23m ago").first).to_be_visible()
        picture = folder / f"console-{name}.png"
        page.screenshot(path=picture, animations="disabled")
        assert picture.stat().st_size < MOST_BYTES
        page.close()


def test_the_document_shows_each_picture() -> None:
    document = DOCUMENT.read_text()
    pictures = sorted((DOCUMENT.parents[1] / "pictures").glob("console-*.png"))
    assert [one.name for one in pictures] == sorted(f"console-{name}.png" for name in PICTURES)
    assert [one.name for one in pictures if f"](../pictures/{one.name})" not in document] == []
