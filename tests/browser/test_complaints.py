"""Complaints of a browser, which fail a test unless it has named them."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page

from browser.complaints import Complaints

POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)


@pytest.mark.parametrize(
    ("markup", "said"),
    [
        ("<script>console.error('the disk is full')</script>", "the disk is full"),
        ("<script>throw new TypeError('no such row')</script>", "uncaught.*no such row"),
        ("<p style='color: red'>red</p>", "CSP: style-src-attr inline"),
        ("<img src='//elsewhere.test/i.png'>", "CSP: img-src http://elsewhere.test"),
        (
            "<script>try { document.body.innerHTML = '<p>' } catch {}</script>",
            "CSP: require-trusted-types-for",
        ),
    ],
)
def test_what_a_page_complains_of_fails_its_test(
    page: Page, complaints: Complaints, markup: str, said: str
) -> None:
    headers = {"content-security-policy": POLICY, "content-type": "text/html"}
    page.route("**", lambda route: route.fulfill(body=f"<body>{markup}", headers=headers))
    page.goto("http://console.test/")
    with pytest.raises(AssertionError):
        complaints.verify()
    complaints.expect(said)
    complaints.expect("")  # and what the browser says of it in its own words


def test_a_complaint_that_was_named_has_to_come(page: Page, complaints: Complaints) -> None:
    page.evaluate("console.error('one')")
    complaints.expect("one")
    complaints.verify()
    complaints.expect("another")
    with pytest.raises(AssertionError, match="nothing said 'another'"):
        complaints.verify()
    page.evaluate("console.error('another')")
