"""Every page in both themes and two widths: axe finds nothing, and nothing is cut off."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import axe_playwright_python
import pytest
from playwright.sync_api import Page, ViewportSize, expect

from browser import shown
from browser.complaints import Complaints
from browser.conftest import OpenConsole
from browser.steered import Steered
from browser.zoo import Zoo, open_zoo

AXE = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text()
FINDINGS = """async () => (await axe.run()).violations.map(
    (it) => `${it.id}: ${it.nodes.map((node) => node.target).join(" ")}: ${it.help}`
)"""
SIZES: dict[str, ViewportSize] = {
    "desk": {"width": 1280, "height": 800},
    "phone": {"width": 390, "height": 844},
}

Visit = Callable[[Page, str, Zoo], object]


@pytest.fixture(scope="module")
def zoo() -> Iterator[Zoo]:
    with open_zoo() as found:
        yield found


@pytest.fixture
def url(zoo: Zoo, open_console: OpenConsole) -> str:
    return open_console(target=zoo.steered.target)


def of(kind: str) -> Visit:
    """Returns the way to an operation's page."""
    return lambda page, url, zoo: page.goto(shown.operation(url, getattr(zoo, kind).name))


def cancel_question(page: Page, url: str, zoo: Zoo) -> None:
    of("running")(page, url, zoo)
    page.keyboard.press("c")
    expect(shown.dialog(page)).to_be_visible()


def some_selected(page: Page, url: str, zoo: Zoo) -> None:
    page.goto(url)
    shown.rows(page).first.get_by_role("checkbox").check()


def keyboard(page: Page, url: str, zoo: Zoo) -> None:
    page.goto(url)
    page.keyboard.press("?")
    expect(shown.dialog(page)).to_be_visible()


def opened_form(page: Page, url: str, zoo: Zoo) -> None:
    of("failed")(page, url, zoo)
    for details in page.locator("section.error details").all():
        details.locator("summary").click()
    page.locator("#form-vertex_ai summary").click()
    expect(page.locator("#form-vertex_ai pre")).to_be_visible()


LISTS: dict[str, Visit] = {
    "list": lambda page, url, zoo: page.goto(url),
    "selected": some_selected,
    "empty": lambda page, url, zoo: page.goto(f"{url}/?parent=projects/none"),
    "nothing matches": lambda page, url, zoo: page.goto(f"{url}/?filter=verb+%3D+%22x%22"),
    "keyboard": keyboard,
}
OPERATIONS: dict[str, Visit] = {
    "running": of("running"),
    "paused": of("paused"),
    "cancelling": of("cancelling"),
    "cancelled": of("cancelled"),
    "succeeded": of("succeeded"),
    "failed": of("failed"),
    "failed batch": of("failed_batch"),
    "opened": opened_form,
    "question": cancel_question,
}
TROUBLES = {"?filter=done+%3D+maybe": 400, "operation?name=operations/none": 404, "nowhere": 404}


def findings(page: Page, turn: int = 0) -> list[str]:
    """Returns what axe finds, and what is wider than the page, in both themes and both widths.

    A theme changes colours and a width the layout, so that two runs are enough; which theme comes
    with which width takes turns from page to page.
    """
    page.evaluate(AXE)
    found = []
    widths = list(SIZES) if turn % 2 else list(reversed(SIZES))
    for theme, name in zip(("light", "dark"), widths, strict=True):
        page.emulate_media(color_scheme=theme, reduced_motion="reduce")
        page.set_viewport_size(SIZES[name])
        found += [f"{theme} {name}: {it}" for it in page.evaluate(FINDINGS)]
        if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
            found.append(f"{theme} {name}: the page is wider than its window")
    page.set_viewport_size(SIZES["desk"])
    return found


@pytest.mark.parametrize("pages", [LISTS, OPERATIONS], ids=["lists", "operations"])
def test_axe_finds_nothing(page: Page, url: str, zoo: Zoo, pages: dict[str, Visit]) -> None:
    found = {}
    for turn, (name, visit) in enumerate(pages.items()):
        visit(page, url, zoo)
        found[name] = findings(page, turn)
    assert not any(found.values()), found


def test_axe_finds_nothing_in_trouble(page: Page, url: str, complaints: Complaints) -> None:
    for turn, (path, status) in enumerate(TROUBLES.items()):
        page.goto(f"{url}/{path}")
        assert findings(page, turn) == []
        complaints.expect(f"status of {status}")


def test_axe_finds_nothing_at_the_sign_in(page: Page, zoo: Zoo, open_console: OpenConsole) -> None:
    page.goto(open_console(target=zoo.steered.target, sign_in="x-user") + "/signin")
    expect(page.get_by_label("x-user")).to_be_visible()
    assert findings(page) == []


def test_axe_finds_nothing_in_what_has_come_of_actions(
    page: Page, steered: Steered, open_console: OpenConsole, complaints: Complaints
) -> None:
    steered.finish(1)
    for number in range(25):
        steered.start(f"tables/running-{number}")
    url = open_console(target=steered.target)
    page.goto(f"{url}/confirm?verb=cancel&all=1&filter=done+%3D+false")
    assert findings(page) == []
    page.get_by_label("Type 25 to go on").fill("25")
    page.get_by_role("button", name="Cancel 25 operations").click()
    expect(shown.live(page)).to_have_text("Done")
    assert findings(page) == []
    page.goto(f"{url}/?size=2")
    page.get_by_role("checkbox", name="Select all on this page").check()
    page.get_by_role("button", name="Pause…").click()
    page.get_by_role("button", name="Pause 2 operations").click()
    expect(page.get_by_role("table")).to_contain_text("FAILED_PRECONDITION")
    complaints.expect("status of 409")
    assert findings(page) == []
