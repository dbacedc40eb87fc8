"""Complaints of a browser: errors in its console, uncaught ones, breaches of the page's policy."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, ConsoleMessage, Page, WebError

REPORTS_BREACHES = """
document.addEventListener("securitypolicyviolation", (event) =>
  console.error(`CSP: ${event.effectiveDirective} ${event.blockedURI} ${event.sample}`));
"""


class Complaints:
    """Collects what the pages of a context complain of."""

    def __init__(self, context: BrowserContext) -> None:
        self.heard: list[str] = []
        self._named: list[str] = []
        context.add_init_script(REPORTS_BREACHES)
        context.on("console", self._hear)
        context.on("weberror", self._hear_uncaught)
        context.on("page", self._hear_crash)

    def expect(self, pattern: str) -> None:
        """Names a complaint that has to come in this test, once or more."""
        self._named.append(pattern)

    def verify(self) -> None:
        """Fails for a complaint that the test has not named, or for one that has not come."""
        others = [it for it in self.heard if not any(re.search(one, it) for one in self._named)]
        assert not others, others
        for one in self._named:
            assert any(re.search(one, it) for it in self.heard), f"nothing said {one!r}"

    def _hear(self, message: ConsoleMessage) -> None:
        where = message.location.get("url", "")
        # A browser asks for an icon by itself where a page has none.
        if message.type == "error" and not where.endswith("/favicon.ico"):
            self.heard.append(f"{message.text} ({where})")

    def _hear_uncaught(self, error: WebError) -> None:
        self.heard.append(f"uncaught: {error.error}")

    def _hear_crash(self, page: Page) -> None:
        page.on("crash", lambda: self.heard.append("the page has crashed"))
