"""Changes of a page in place: what the reader has begun in it goes on."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Page, Route, expect

import lro_grpc

STATIC = Path(lro_grpc.__file__).parent / "_console" / "static"
SITE = "http://console.test"
POLICY = (
    "default-src 'none'; script-src 'self'; connect-src 'self'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
MORPH = """
import { morph } from "./morph.js";
addEventListener("fresh", () => {
  const request = new XMLHttpRequest();
  request.open("GET", "/fresh");
  request.responseType = "document";
  request.onload = () => {
    morph(document.querySelector("main"), request.response.querySelector("main"));
    dispatchEvent(new Event("morphed"));
  };
  request.send();
});
"""
ASK = """() => new Promise((done) => {
  addEventListener("morphed", done, { once: true });
  dispatchEvent(new Event("fresh"));
})"""


class Site:
    """A page under the console's own policy, which becomes another one in place."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self._fresh = ""
        page.route(f"{SITE}/**", self._answer)

    def show(self, markup: str) -> None:
        self._shown = markup
        self._page.goto(f"{SITE}/")

    def become(self, markup: str) -> None:
        self._fresh = markup
        self._page.evaluate(ASK)

    def _answer(self, route: Route) -> None:
        name = route.request.url.rpartition("/")[2]
        if name == "morphs.js":
            route.fulfill(body=MORPH, content_type="text/javascript")
        elif name == "morph.js":
            route.fulfill(path=STATIC / name, content_type="text/javascript")
        else:
            markup = self._fresh if name == "fresh" else self._shown
            head = "<!doctype html><title>t</title><script type=module src=morphs.js></script>"
            headers = {"content-security-policy": POLICY, "content-type": "text/html"}
            route.fulfill(body=head + markup, headers=headers)


@pytest.fixture
def site(page: Page) -> Site:
    return Site(page)


def test_texts_attributes_and_elements_become_those_of_the_other(site: Site, page: Page) -> None:
    site.show('<main class="a"><p title="x">one</p><b>two</b></main>')
    site.become('<main lang="en"><p>1</p><i>2</i><b>two</b><hr></main>')
    expect(page.locator("body")).to_have_js_property(
        "innerHTML", '<main lang="en"><p>1</p><i>2</i><b>two</b><hr></main>'
    )


def test_the_focus_and_what_is_written_stay(site: Site, page: Page) -> None:
    site.show('<main><p>one</p><label id="l">Number <input></label></main>')
    page.get_by_label("Number").fill("1,2")
    site.become('<main><h1>new</h1><p>two</p><hr><label id="l">Number <input></label></main>')
    expect(page.get_by_label("Number")).to_be_focused()
    expect(page.get_by_label("Number")).to_have_value("1,2")


def test_what_is_before_the_focus_can_go(site: Site, page: Page) -> None:
    site.show('<main><p>one</p><p id="gone">two</p><p id="b"><button>Go</button></p></main>')
    page.get_by_role("button").focus()
    site.become('<main><p id="b"><button>Go</button></p><p>one</p></main>')
    expect(page.get_by_role("button")).to_be_focused()
    expect(page.locator("main")).to_have_text("Goone")


def test_elements_with_ids_are_the_same_ones_wherever_they_are(site: Site, page: Page) -> None:
    site.show('<main><p id="a">a</p><p id="b">b</p><p id="c">c</p></main>')
    page.evaluate("for (const it of document.querySelectorAll('p')) it.was = it.id")
    site.become('<main><p id="c">C</p><p id="d">D</p><p id="a">A</p><p id="b">B</p></main>')
    expect(page.locator("p")).to_have_text(["C", "D", "A", "B"])
    assert page.evaluate("[...document.querySelectorAll('p')].map((it) => it.was ?? '')") == [
        "c",
        "",
        "a",
        "b",
    ]


def test_a_section_is_known_by_its_heading(site: Site, page: Page) -> None:
    site.show('<main><section aria-labelledby="h"><h2 id="h">Forms</h2><input></section></main>')
    page.locator("input").fill("mine")
    site.become(
        '<main><section aria-labelledby="r"><h2 id="r">Response</h2></section>'
        '<section aria-labelledby="h"><h2 id="h">Forms</h2><input></section></main>'
    )
    expect(page.locator("h2")).to_have_text(["Response", "Forms"])
    expect(page.locator("input")).to_be_focused()
    expect(page.locator("input")).to_have_value("mine")


def test_what_is_opened_stays_open_and_what_is_closed_stays_closed(site: Site, page: Page) -> None:
    site.show("<main><details><summary>x</summary>1</details></main>")
    page.locator("summary").click()
    site.become("<main><details><summary>x</summary>2</details></main>")
    expect(page.locator("details")).to_have_attribute("open", "")
    page.locator("summary").click()
    site.become("<main><details open><summary>x</summary>3</details></main>")
    expect(page.locator("details")).not_to_have_attribute("open", "")
    expect(page.locator("details")).to_contain_text("3")


def test_the_text_of_a_time_is_the_pages_until_it_is_another_time(site: Site, page: Page) -> None:
    site.show('<main><time datetime="2026-05-01T00:00:00Z">May</time></main>')
    page.evaluate("document.querySelector('time').textContent = '3 min ago'")
    site.become('<main><time datetime="2026-05-01T00:00:00Z">May</time></main>')
    expect(page.locator("time")).to_have_text("3 min ago")
    site.become('<main><time datetime="2026-06-01T00:00:00Z">June</time></main>')
    expect(page.locator("time")).to_have_text("June")


def test_what_a_page_fills_itself_is_left_alone(site: Site, page: Page) -> None:
    site.show("<main><div data-own>loading</div></main>")
    page.evaluate("document.querySelector('div').textContent = 'here'")
    site.become('<main><div class="x" data-own>loading</div></main>')
    expect(page.locator("div.x")).to_have_text("here")


def test_markup_in_a_text_stays_a_text(site: Site, page: Page) -> None:
    site.show("<main><p>a</p></main>")
    site.become('<main title="&lt;b>"><p>&lt;img src=x onerror=alert(1)></p></main>')
    expect(page.locator("p")).to_have_text("<img src=x onerror=alert(1)>")
    expect(page.locator("img")).to_have_count(0)


def test_an_input_named_id_is_no_id(site: Site, page: Page) -> None:
    site.show('<main><form><input name="id"></form><p>a</p></main>')
    site.become('<main><form><input name="id"></form><p>b</p></main>')
    expect(page.locator("p")).to_have_text("b")
    expect(page.locator("form")).to_have_count(1)
