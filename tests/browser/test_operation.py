"""One operation, as its page shows it while it runs, and once it is done."""

from __future__ import annotations

import json
import re
from pathlib import Path

from playwright.sync_api import BrowserContext, Page, expect

import lro_grpc
from browser import shown
from browser.complaints import Complaints
from browser.conftest import OpenConsole
from browser.steered import Steered


def test_an_operation_is_watched_to_its_end_on_one_page(
    page: Page, url: str, steered: Steered
) -> None:
    operation = steered.start("tables/orders")
    page.goto(shown.operation(url, operation.name))
    page.evaluate("window.isTheSame = true")
    expect(shown.state(page)).to_contain_text("Running")
    expect(shown.live(page)).to_have_text("Live")
    operation.report(42, "copying 42 of 100 rows")
    expect(shown.state(page)).to_contain_text("copying 42 of 100 rows")
    expect(shown.state(page).get_by_role("progressbar")).to_have_attribute("value", "42")
    expect(page).to_have_title(f"42 % · Running · copyTable orders · {steered.target}")
    operation.succeed(rows=100)
    expect(shown.state(page)).to_contain_text("Succeeded")
    expect(shown.live(page)).to_have_text("Done")
    expect(page).to_have_title(f"Succeeded · copyTable orders · {steered.target}")
    expect(page.locator("#favicon")).to_have_attribute("href", re.compile("succeeded"))
    expect(page.get_by_role("group", name="Response")).to_contain_text('"rows": 100')
    assert page.evaluate("window.isTheSame")


def test_what_is_opened_and_the_focus_survive_a_change(
    page: Page, url: str, steered: Steered
) -> None:
    operation = steered.start("tables/orders")
    page.goto(shown.operation(url, operation.name))
    form = page.locator("#form-longrunning")
    form.locator("summary").press("Enter")
    expect(form.locator("pre")).to_contain_text('"state": "JOB_STATE_RUNNING"')
    operation.report(7)
    expect(form.locator("pre")).to_contain_text('"progressPercent": 7')
    expect(form.locator("summary")).to_be_focused()
    operation.succeed()
    expect(form.locator("pre")).to_contain_text('"done": true')
    expect(form.locator("summary")).to_be_focused()


def test_the_text_that_is_selected_stays_selected(page: Page, url: str, steered: Steered) -> None:
    operation = steered.start("tables/orders")
    page.goto(shown.operation(url, operation.name))
    page.get_by_role("heading", level=1).select_text()
    before = page.evaluate("getSelection().toString()")
    operation.report(7)
    expect(shown.state(page)).to_contain_text("7%")
    assert page.evaluate("getSelection().toString()") == before != ""


def test_a_question_comes_first_and_its_focus_is_on_the_way_back(
    page: Page, url: str, steered: Steered
) -> None:
    operation = steered.start("tables/orders")
    page.goto(shown.operation(url, operation.name))
    cancel = page.get_by_role("link", name="Cancel…")
    cancel.click()
    question = shown.dialog(page)
    expect(question).to_contain_text("Cancel this operation?")
    expect(question.get_by_role("link", name="Back")).to_be_focused()
    page.keyboard.press("Enter")
    expect(question).to_be_hidden()
    expect(cancel).to_be_focused()
    page.keyboard.press("c")
    expect(question).to_be_visible()
    page.keyboard.press("Escape")
    expect(question).to_be_hidden()
    page.keyboard.press("c")
    expect(question).to_be_visible()
    page.mouse.click(5, 5)
    expect(question).to_be_hidden()
    expect(shown.state(page)).to_contain_text("Running")


def test_two_tabs_may_cancel_the_same(
    page: Page, context: BrowserContext, url: str, steered: Steered
) -> None:
    operation = steered.start("tables/orders")
    other = context.new_page()
    for tab in (page, other):
        tab.goto(shown.operation(url, operation.name))
        tab.keyboard.press("c")
        expect(shown.dialog(tab)).to_be_visible()
    for tab in (page, other):
        shown.dialog(tab).get_by_role("button", name="Cancel the operation").click()
        expect(shown.state(tab)).to_contain_text("Cancelled")
        expect(tab.get_by_text("The cancellation is requested.")).to_be_visible()


def test_an_operation_is_paused_and_goes_on(page: Page, url: str, steered: Steered) -> None:
    operation = steered.start("tables/orders")
    page.goto(shown.operation(url, operation.name))
    page.get_by_role("link", name="Pause…").click()
    page.get_by_role("button", name="Pause the operation").click()
    expect(shown.state(page)).to_contain_text("Paused")
    page.get_by_role("link", name="Resume…").click()
    page.get_by_role("button", name="Resume the operation").click()
    expect(shown.state(page)).to_contain_text("Running")
    operation.succeed()
    expect(shown.state(page)).to_contain_text("Succeeded")


def test_an_action_is_sent_once(page: Page, url: str, steered: Steered) -> None:
    operation = steered.start("tables/orders")
    page.goto(shown.operation(url, operation.name))
    sent: list[str] = []
    page.on("request", lambda it: sent.append(it.method))
    page.get_by_role("link", name="Cancel…").click()
    page.get_by_role("button", name="Cancel the operation").dblclick()
    expect(shown.state(page)).to_contain_text("Cancelled")
    assert sent.count("POST") == 1


def test_an_operation_runs_again_on_a_page_of_its_own(
    page: Page, url: str, steered: Steered
) -> None:
    operation = steered.start("tables/orders")
    operation.fail("the disk is full", code=lro_grpc.Code.RESOURCE_EXHAUSTED, reason="DISK_FULL")
    page.goto(shown.operation(url, operation.name))
    expect(page.get_by_role("region", name="RESOURCE_EXHAUSTED")).to_contain_text("DISK_FULL")
    page.get_by_role("link", name="Run again…").click()
    page.get_by_role("button", name="Run the operation again").click()
    expect(shown.state(page)).to_contain_text("Running")
    page.get_by_role("complementary").get_by_role("link", name=operation.name[-8:]).click()
    expect(shown.state(page)).to_contain_text("Failed")


def test_one_that_is_deleted_while_it_is_open_is_said_to_be_gone(
    page: Page, url: str, steered: Steered, complaints: Complaints
) -> None:
    operation = steered.start("tables/orders")
    page.goto(shown.operation(url, operation.name))
    expect(shown.live(page)).to_have_text("Live")
    steered.served.client.delete(operation.name)
    expect(shown.banner(page)).to_contain_text("This operation is gone")
    expect(shown.live(page)).to_have_text("Stopped")
    complaints.expect("status of 404")
    page.get_by_role("link", name="Cancel…").click()
    page.get_by_role("button", name="Cancel the operation").click()
    expect(page.get_by_role("heading", name="There is no such operation")).to_be_visible()


def test_deleting_leads_back_to_the_list(page: Page, url: str, steered: Steered) -> None:
    operation = steered.start("tables/orders")
    operation.succeed()
    operation.wait()
    page.goto(shown.operation(url, operation.name))
    page.get_by_role("link", name="Delete…").click()
    page.get_by_role("button", name="Delete the operation").click()
    expect(page.get_by_role("heading", name="No operations yet")).to_be_visible()


def test_to_cancel_one_that_is_done_is_no_error(page: Page, url: str, steered: Steered) -> None:
    operation = steered.start("tables/orders")
    page.goto(shown.operation(url, operation.name))
    page.keyboard.press("c")
    expect(shown.dialog(page)).to_be_visible()
    operation.succeed()
    operation.wait()
    shown.dialog(page).get_by_role("button", name="Cancel the operation").click()
    expect(shown.state(page)).to_contain_text("Succeeded")
    expect(page.get_by_role("alert")).to_have_count(0)


def test_all_of_it_is_a_file(page: Page, url: str, steered: Steered, tmp_path: Path) -> None:
    operation = steered.start("tables/orders")
    operation.succeed(rows=3)
    operation.wait()
    page.goto(shown.operation(url, operation.name))
    with page.expect_download() as download:
        page.get_by_role("link", name="All of it as a JSON file").click()
    download.value.save_as(tmp_path / "operation.json")
    found = json.loads((tmp_path / "operation.json").read_text())
    assert found["name"] == operation.name
    assert found["response"]["value"] == {"rows": 3}


def test_its_name_and_the_commands_for_it_are_copied(
    page: Page, context: BrowserContext, url: str, steered: Steered
) -> None:
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    operation = steered.start("tables/orders")
    page.goto(shown.operation(url, operation.name))
    page.keyboard.press("y")
    expect(page.get_by_text("Copied")).to_have_count(1)
    assert page.evaluate("navigator.clipboard.readText()") == operation.name
    page.get_by_role("button", name="Copy the command").first.click()
    page.wait_for_function("async () => (await navigator.clipboard.readText()).startsWith('lro ')")
    page.evaluate("navigator.clipboard.writeText('')")
    page.evaluate("() => { navigator.clipboard.writeText = () => Promise.reject(new Error()) }")
    page.keyboard.press("y")
    page.wait_for_function(
        "async (name) => (await navigator.clipboard.readText()) === name", arg=operation.name
    )
    page.evaluate("document.getElementById('body').dataset.name = 'reboot\\n'")
    page.keyboard.press("y")  # of which a shell would obey the first line
    assert page.evaluate("navigator.clipboard.readText()") == operation.name


def test_one_that_only_looks_is_offered_no_action(
    page: Page, open_console: OpenConsole, steered: Steered
) -> None:
    operation = steered.start("tables/orders")
    page.goto(shown.operation(open_console(target=steered.target, read_only=True), operation.name))
    expect(shown.state(page)).to_contain_text("Running")
    expect(page.get_by_role("link", name="Cancel…")).to_have_count(0)
