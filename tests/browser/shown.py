"""Parts of the console's pages, as a reader finds them."""

from __future__ import annotations

from urllib.parse import urlencode

from playwright.sync_api import Locator, Page


def operation(url: str, name: str) -> str:
    """Returns the address of an operation's page."""
    return f"{url}/operation?{urlencode({'name': name})}"


def state(page: Page) -> Locator:
    """The card that says how an operation is."""
    return page.get_by_role("region", name="State")


def rows(page: Page) -> Locator:
    """The operations of a list."""
    return page.locator("tbody tr[data-name]")


def row(page: Page, text: str) -> Locator:
    """The row of a list that has a text."""
    return rows(page).filter(has_text=text)


def live(page: Page) -> Locator:
    """The word that says whether the page is kept as the server has it."""
    return page.locator("[data-live-word]")


def banner(page: Page) -> Locator:
    """The line that says what has gone wrong."""
    return page.locator("[data-banner]")


def dialog(page: Page) -> Locator:
    """The question that is open."""
    return page.get_by_role("dialog")
