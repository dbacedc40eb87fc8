"""The pages by keyboard, in the reader's times and theme, and without script."""

from __future__ import annotations

import re

from playwright.sync_api import Page, expect

from browser import shown
from browser.conftest import OpenConsole, OpenContext
from browser.steered import Steered


def test_all_is_done_by_keyboard(page: Page, url: str, steered: Steered) -> None:
    for number in range(1, 4):
        steered.start(f"tables/part-{number}")
    page.goto(url)
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keyboard")).to_be_visible()
    page.keyboard.press("j")  # no key of the page's means anything in a dialog
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog", name="Keyboard")).to_be_hidden()
    page.keyboard.press("j")
    expect(shown.row(page, "part-3").get_by_role("link")).to_be_focused()
    page.keyboard.press("x")
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("k")
    page.keyboard.press("Shift+X")
    expect(page.get_by_text("2 selected")).to_be_visible()
    page.keyboard.press("c")
    expect(shown.dialog(page)).to_contain_text("Cancel 2 operations?")
    page.keyboard.press("Escape")
    page.keyboard.press("x")
    page.keyboard.press("j")
    expect(shown.row(page, "part-1").get_by_role("link")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_contain_text("part-1")
    page.wait_for_load_state()  # the keys are those of a script
    page.keyboard.press("c")
    expect(shown.dialog(page)).to_contain_text("Cancel this operation?")
    page.keyboard.press("Escape")
    page.keyboard.press("u")
    expect(shown.rows(page)).to_have_count(3)


def test_the_row_with_the_focus_is_what_a_key_is_about(
    page: Page, url: str, steered: Steered
) -> None:
    steered.start("tables/orders")
    page.goto(url)
    page.keyboard.press("j")
    page.keyboard.press("c")
    expect(shown.dialog(page)).to_contain_text("Cancel this operation?")


def test_keys_of_the_browser_and_letters_in_a_field_are_not_the_pages(
    page: Page, url: str, steered: Steered
) -> None:
    steered.start("tables/orders")
    page.goto(url)
    page.keyboard.press("/")
    field = page.get_by_role("textbox", name="Filter")
    expect(field).to_be_focused()
    page.keyboard.type("tjx?")
    expect(field).to_have_value("tjx?")
    page.keyboard.press("Escape")
    expect(field).not_to_be_focused()
    page.keyboard.press("Control+t")
    page.keyboard.press("Alt+t")
    expect(page.locator("html")).not_to_have_attribute("data-theme", re.compile("."))


def test_times_are_how_long_ago_local_or_utc(
    open_context: OpenContext, url: str, steered: Steered
) -> None:
    page = open_context(timezone_id="Asia/Kolkata", locale="en-GB").new_page()
    page.clock.install()
    steered.finish(1)
    page.goto(url)
    created = shown.row(page, "part-001").locator("time").first
    expect(created).to_have_text("now")
    page.clock.fast_forward("03:00")
    expect(created).to_have_text("3m ago")
    moment = created.get_attribute("datetime") or ""
    page.keyboard.press("z")
    local = created.inner_text()
    page.get_by_role("button", name="Times: local").click()
    expect(created).to_contain_text(moment[11:19])
    assert local != created.inner_text()
    assert local[-5:-3] != moment[14:16]  # half an hour beside
    created.hover()
    expect(created).to_have_attribute("title", re.compile(f"{moment[:10]} {moment[11:19]}.* UTC"))
    page.reload()
    expect(created).to_contain_text(moment[11:19])
    page.keyboard.press("z")
    expect(created).to_have_text(re.compile("ago|now"))


def test_a_duration_runs_as_the_server_writes_it(page: Page, url: str, steered: Steered) -> None:
    operation = steered.start("tables/orders")
    page.clock.install()
    page.goto(shown.operation(url, operation.name))
    lap = shown.state(page).locator("time[data-since]")
    begin = page.evaluate("(text) => Date.parse(text)", lap.get_attribute("datetime")) / 1000
    for seconds, text in [(59, "59 s"), (300, "5 m"), (7_384, "2 h 3 m"), (86_400, "1 d")]:
        page.clock.pause_at(begin + seconds + 0.5)
        expect(lap).to_have_text(text)


def test_a_clock_that_is_wrong_shows_no_time_to_come(
    page: Page, url: str, steered: Steered
) -> None:
    page.clock.install(time="2020-01-01T00:00:00Z")
    operation = steered.start("tables/orders")
    page.goto(shown.operation(url, operation.name))
    expect(shown.state(page)).to_contain_text(re.compile("now|[0-9]s ago"))
    expect(shown.state(page)).not_to_contain_text(re.compile(r"in \d|yr|mo\."))


def test_the_theme_is_the_systems_until_one_is_chosen(open_context: OpenContext, url: str) -> None:
    page = open_context(color_scheme="dark").new_page()
    page.goto(url)
    dark = page.evaluate("getComputedStyle(document.body).color")
    page.get_by_role("button", name="Theme").click()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    page.keyboard.press("t")
    expect(page.locator("html")).to_have_attribute("data-theme", "light")
    assert page.evaluate("getComputedStyle(document.body).color") != dark
    page.reload()
    expect(page.locator("html")).to_have_attribute("data-theme", "light")
    page.keyboard.press("t")
    expect(page.locator("html")).not_to_have_attribute("data-theme", re.compile("."))


def test_without_script_every_page_and_action_is_there(
    open_context: OpenContext, url: str, steered: Steered
) -> None:
    page = open_context(java_script_enabled=False).new_page()
    operation = steered.start("tables/orders")
    other = steered.start("tables/items")
    page.goto(url)
    expect(page.locator(".scripted:visible")).to_have_count(0)
    shown.row(page, "orders").get_by_role("link").click()
    page.get_by_text("longrunning", exact=True).click()
    page.locator("#form-longrunning").get_by_role("link").click()
    expect(page.locator("pre")).to_contain_text(operation.name)
    page.go_back()
    page.get_by_role("link", name="Cancel…").click()
    expect(page.get_by_role("heading", name="Cancel this operation?")).to_be_visible()
    page.get_by_role("button", name="Cancel the operation").click()
    expect(page.get_by_text("The cancellation is requested.")).to_be_visible()
    page.goto(url)
    page.get_by_role("checkbox", name="Select copyTable items").check()
    page.get_by_role("button", name="Cancel…").click()
    page.get_by_role("button", name="Cancel the operation").click()
    expect(page.get_by_text("The cancellation is requested.")).to_be_visible()
    assert other.name in page.url


def test_a_prefix_is_part_of_every_address(
    page: Page, open_console: OpenConsole, steered: Steered
) -> None:
    steered.start("tables/orders")
    page.goto(open_console(target=steered.target, prefix="/ops/of/shop"))
    shown.row(page, "orders").get_by_role("link").click()
    expect(shown.live(page)).to_have_text("Live")
    page.wait_for_load_state()
    page.keyboard.press("c")
    shown.dialog(page).get_by_role("button", name="Cancel the operation").click()
    expect(shown.state(page)).to_contain_text("Cancelled")
    assert "/ops/of/shop/operation?" in page.url
