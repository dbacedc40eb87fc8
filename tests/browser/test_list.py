"""The list of operations: live, and still under the pointer."""

from __future__ import annotations

import re

from playwright.sync_api import BrowserContext, Page, expect

import lro_grpc
from browser import shown
from browser.complaints import Complaints
from browser.steered import PARENT, Steered


def test_what_is_started_appears_by_itself_and_changes_in_place(
    page: Page, url: str, steered: Steered
) -> None:
    page.goto(url)
    expect(page.get_by_role("heading", name="No operations yet")).to_be_visible()
    orders = steered.start("tables/orders")
    row = shown.row(page, "orders")
    expect(row).to_contain_text("Running")
    page.evaluate("document.querySelector('tbody tr').isTheSame = true")
    orders.report(42, "copying")
    expect(row.get_by_role("progressbar")).to_have_attribute("value", "42")
    expect(row).to_contain_text("copying")
    steered.start("tables/items")
    expect(shown.rows(page)).to_have_count(2)
    orders.fail("the disk is full", code=lro_grpc.Code.RESOURCE_EXHAUSTED)
    expect(row).to_contain_text("RESOURCE_EXHAUSTED")
    expect(row).to_contain_text("the disk is full")
    assert page.evaluate("document.querySelectorAll('tbody tr')[1].isTheSame")


def test_a_row_under_the_pointer_stays_and_still_changes(
    page: Page, url: str, steered: Steered
) -> None:
    orders = steered.start("tables/orders")
    page.goto(url)
    row = shown.row(page, "orders")
    row.hover()
    place = row.bounding_box()
    steered.start("tables/items")
    newer = page.get_by_role("button", name="Show 1 newer")
    expect(newer).to_be_visible()
    orders.report(42)
    expect(row).to_contain_text("42%")
    expect(shown.rows(page)).to_have_count(1)
    assert row.bounding_box() == place
    page.keyboard.press("n")
    expect(shown.rows(page)).to_have_count(2)
    expect(newer).to_be_hidden()


def test_new_rows_come_once_the_pointer_is_gone(page: Page, url: str, steered: Steered) -> None:
    steered.start("tables/orders")
    page.goto(url)
    shown.row(page, "orders").hover()
    steered.start("tables/items")
    expect(page.get_by_role("button", name="Show 1 newer")).to_be_visible()
    page.mouse.move(5, 5)
    expect(shown.rows(page)).to_have_count(2)


def test_rows_stay_while_some_are_selected_and_those_that_are_gone_too(
    page: Page, url: str, steered: Steered
) -> None:
    orders = steered.start("tables/orders")
    steered.start("tables/items")
    page.goto(url)
    page.get_by_role("checkbox", name="Select copyTable orders").check()
    page.mouse.move(5, 5)
    steered.served.client.delete(orders.name)
    expect(page.get_by_role("button", name="Refresh the list")).to_be_visible()
    expect(page.get_by_text("1 selected")).to_be_visible()
    expect(shown.row(page, "orders")).to_have_class("gone")
    page.get_by_role("button", name="Clear").click()
    expect(shown.rows(page)).to_have_count(1)


def test_several_are_selected_by_a_range_and_cancelled_with_one_question(
    page: Page, url: str, steered: Steered
) -> None:
    for number in range(1, 6):
        steered.start(f"tables/part-{number}")
    page.goto(url)
    place = shown.row(page, "part-4").bounding_box()
    page.get_by_role("checkbox", name="Select copyTable part-4").click()
    assert shown.row(page, "part-4").bounding_box() == place
    page.get_by_role("checkbox", name="Select copyTable part-2").click(modifiers=["Shift"])
    expect(page.get_by_text("3 selected")).to_be_visible()
    page.get_by_role("button", name="Cancel…").click()
    expect(shown.dialog(page)).to_contain_text("Cancel 3 operations?")
    shown.dialog(page).get_by_role("button", name="Cancel 3 operations").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("3")
    page.goto(url)
    expect(shown.rows(page).filter(has_text="Cancelled")).to_have_count(3)
    expect(shown.row(page, "part-1")).to_contain_text("Running")


def test_all_of_a_page_are_selected_and_let_go(page: Page, url: str, steered: Steered) -> None:
    for number in range(3):
        steered.start(f"tables/part-{number}")
    page.goto(url)
    everything = page.get_by_role("checkbox", name="Select all on this page")
    everything.check()
    expect(page.get_by_text("3 selected")).to_be_visible()
    page.get_by_role("checkbox", name="Select copyTable part-1").uncheck()
    expect(page.get_by_text("2 selected")).to_be_visible()
    expect(everything).to_have_js_property("indeterminate", True)
    page.get_by_role("button", name="Clear").click()
    expect(page.get_by_text("selected", exact=False).first).to_be_hidden()


def test_states_and_filters_are_addresses(page: Page, url: str, steered: Steered) -> None:
    steered.start("tables/orders")
    done = steered.start("tables/items")
    done.succeed()
    done.wait()
    page.goto(url)
    page.get_by_role("link", name=re.compile("^Succeeded 1")).click()
    expect(shown.rows(page)).to_have_count(1)
    expect(shown.row(page, "items")).to_be_visible()
    page.reload()
    expect(shown.rows(page)).to_have_count(1)
    page.keyboard.press("/")
    page.keyboard.type('verb = "copyTable" AND done = false')
    page.keyboard.press("Enter")
    expect(shown.row(page, "orders")).to_be_visible()
    expect(shown.rows(page)).to_have_count(1)
    page.go_back()
    expect(shown.row(page, "items")).to_be_visible()


def test_a_wrong_filter_says_what_is_wrong_with_which_word(
    page: Page, url: str, complaints: Complaints
) -> None:
    page.goto(url)
    page.get_by_role("textbox", name="Filter").fill('done = false AND colour = "red"')
    page.keyboard.press("Enter")
    alert = page.get_by_role("alert")
    expect(alert.locator("mark")).to_have_text("colour")
    expect(page.get_by_role("textbox", name="Filter")).to_have_value(
        'done = false AND colour = "red"'
    )
    expect(page.locator("[data-live-word]:visible")).to_have_count(0)
    complaints.expect("status of 400")


def test_older_operations_are_pages_and_an_old_token_leads_to_the_newest(
    page: Page, url: str, steered: Steered
) -> None:
    steered.finish(5)
    page.goto(f"{url}/?size=2")
    expect(shown.rows(page)).to_have_count(2)
    page.get_by_role("link", name="Older").click()
    expect(shown.row(page, "part-003")).to_be_visible()
    page.get_by_role("link", name="Newest").click()
    expect(shown.row(page, "part-005")).to_be_visible()
    page.goto(f"{url}/?size=2&token=of-last-week")
    expect(page.get_by_text("That page is no longer there")).to_be_visible()
    expect(shown.row(page, "part-005")).to_be_visible()


def test_the_parents_that_one_has_been_at_are_offered_again(page: Page, url: str) -> None:
    page.goto(f"{url}/?parent=projects/blog/locations/eu")
    page.goto(url)
    expect(page.locator("#parents option")).to_have_count(2)
    options = page.locator("#parents option").evaluate_all("(all) => all.map((it) => it.value)")
    assert sorted(options) == ["projects/blog/locations/eu", PARENT]


def test_nine_tabs_are_all_live(context: BrowserContext, url: str, steered: Steered) -> None:
    operations = [steered.start(f"tables/part-{number}") for number in range(9)]
    tabs = [context.new_page() for _ in operations]
    for tab, operation in zip(tabs, operations, strict=True):
        tab.goto(shown.operation(url, operation.name))
        expect(shown.state(tab)).to_contain_text("Running")
    for tab, operation in zip(tabs, operations, strict=True):
        operation.succeed()
        expect(shown.state(tab)).to_contain_text("Succeeded")
