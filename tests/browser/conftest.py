"""One Chromium for the tests of this folder, a context for each, and what fails them all."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from browser import chromium
from browser.complaints import Complaints
from browser.steered import PARENT, Steered, serving
from lro_grpc._http.listening import listening_in_thread
from lro_grpc.console import console

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

KEPT = Path(__file__).parents[2] / "build" / "browser"
"""The folder where a test that fails leaves a picture of each of its pages, and a trace."""

SECONDS = 15
"""The longest that a test waits for anything, on a busy machine, too."""

_PATH, _MISSING = chromium.find()


def pytest_pycollect_makemodule(
    module_path: Path, parent: pytest.Collector
) -> pytest.Collector | None:
    """Puts one test in place of a module's if there is no browser: it is skipped, or fails."""
    if not _MISSING:
        return None
    left_out: pytest.Collector = LeftOut.from_parent(parent, path=module_path)
    return left_out


class LeftOut(pytest.File):
    """A module whose tests need a browser, where there is none."""

    def collect(self) -> Iterator[pytest.Item]:
        yield NeedsBrowser.from_parent(self, name="needs_a_browser")


class NeedsBrowser(pytest.Item):
    """Skipped, or a failure where a browser is required."""

    def runtest(self) -> None:
        if chromium.is_required():
            pytest.fail(_MISSING, pytrace=False)
        pytest.skip(_MISSING)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Any:
    """Keeps pictures and traces of the pages of a test that has failed, while they are open."""
    report = yield
    open_context = getattr(item, "funcargs", {}).get("open_context")
    if report.when == "call" and report.failed and open_context is not None:
        KEPT.mkdir(parents=True, exist_ok=True)
        of_test = KEPT / re.sub(r"[^\w.-]+", "-", item.nodeid)
        for context in open_context.opened:
            keep(context, of_test)
        report.sections.append(("pictures and traces", f"{of_test}-*"))
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> None:
    """Closes the pages of a test before its servers end, for that is no complaint of theirs."""
    open_context = getattr(item, "funcargs", {}).get("open_context")
    if open_context is not None:
        open_context.close()


def keep(context: BrowserContext, of_test: Path) -> None:
    """Writes the pictures of a context's pages, and its trace."""
    for number, page in enumerate(context.pages, start=1):
        page.screenshot(path=f"{of_test}-{number}.png")
    context.tracing.stop(path=f"{of_test}-trace-{id(context)}.zip")


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """One Chromium; it ends with this folder, for elsewhere tests run loops of their own."""
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=SECONDS * 1000)
    with sync_playwright() as playwright:
        chrome = playwright.chromium.launch(executable_path=_PATH, args=chromium.FLAGS)
        yield chrome
        chrome.close()


class OpenContext:
    """Opens contexts: each is a browser of its own, with its own cookies."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self.opened: list[BrowserContext] = []
        self.complaints: list[Complaints] = []

    def __call__(self, **options: Any) -> BrowserContext:
        context = self._browser.new_context(**{"reduced_motion": "reduce", **options})
        context.set_default_timeout(SECONDS * 1000)
        context.tracing.start(snapshots=True)
        self.opened.append(context)
        self.complaints.append(Complaints(context))
        return context

    def close(self) -> None:
        """Closes them all; what their pages have said is known then."""
        for context in self.opened:
            context.close()


@pytest.fixture
def open_context(browser: Browser) -> Iterator[OpenContext]:
    """Opens more contexts in one test; every complaint in any of them fails it."""
    contexts = OpenContext(browser)
    yield contexts
    for complaints in contexts.complaints:
        complaints.verify()


@pytest.fixture
def context(open_context: Callable[..., BrowserContext]) -> BrowserContext:
    """The test's browser: cookies, storage, permissions of its own."""
    return open_context()


@pytest.fixture
def complaints(open_context: OpenContext, context: BrowserContext) -> Complaints:
    """What the test's pages complain of; name here those that it means to have."""
    return open_context.complaints[open_context.opened.index(context)]


@pytest.fixture
def page(context: BrowserContext) -> Page:
    """An empty tab."""
    return context.new_page()


@pytest.fixture
def steered() -> Iterator[Steered]:
    """A server, whose operations do what the test says."""
    with serving() as found:
        yield found


OpenConsole = Callable[..., str]


@pytest.fixture
def open_console() -> Iterator[OpenConsole]:
    """Opens consoles, each with an address of its own; takes the options of ``console``."""
    with contextlib.ExitStack() as opened:

        def open_one(**options: Any) -> str:
            app = console(**{"parents": [PARENT], **options})
            port = opened.enter_context(listening_in_thread(app, "127.0.0.1:0"))
            return f"http://127.0.0.1:{port}{options.get('prefix', '')}"

        yield open_one


@pytest.fixture
def url(steered: Steered, open_console: OpenConsole) -> str:
    """The address of a console in front of the server that the test steers."""
    return open_console(target=steered.target)
