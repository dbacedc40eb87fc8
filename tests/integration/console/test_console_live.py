"""The parts that pages ask for again: only what is new is sent, and what many want is made once."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from concurrent import futures

import httpx
import pytest
from console_harness import (
    SECONDS,
    Foreign,
    Served,
    at_once,
    consoled,
    names_in,
    serving,
    serving_foreign,
    until,
)


@pytest.fixture
def served() -> Iterator[Served]:
    with serving() as found:
        yield found


@pytest.fixture
def browser(served: Served) -> Iterator[httpx.Client]:
    with consoled(served.target) as found:
        yield found


@pytest.fixture
def foreign() -> Iterator[Foreign]:
    with serving_foreign() as found:
        yield found


def part(browser: httpx.Client, path: str, tag: str = "", wait: int = 0, **query: str):
    headers = {"x-part": "1"}
    if tag:
        headers["if-none-match"] = tag
    if wait:
        headers["prefer"] = f"wait={wait}"
    return browser.get(path, params=query, headers=headers)


def tag_in(page: httpx.Response) -> str:
    """Returns the ETag of the part that a page has been sent with."""
    return page.text.partition("data-etag=")[2].strip("'\"").partition("&#34;")[2][:20].strip()


def test_rows_are_sent_once(served, browser):
    served.start()
    first = part(browser, "/rows")
    assert len(names_in(first)) == 1
    assert int(first.headers["x-next-ms"]) >= 2_000
    again = part(browser, "/rows", first.headers["etag"])
    assert again.status_code == 304
    assert again.content == b""
    assert again.headers["x-next-ms"]
    assert again.headers["etag"] == first.headers["etag"]


def test_rows_that_have_changed(served, browser):
    name = served.start()
    tag = part(browser, "/rows").headers["etag"]
    served.finish(name)
    until(lambda: part(browser, "/rows", tag), 'data-state="SUCCEEDED"')


def test_a_page_knows_the_part_that_it_has(served, browser):
    name = served.start()
    for page, path, query in (
        (browser.get("/"), "/rows", {}),
        (browser.get("/operation", params={"name": name}), "/operation/body", {"name": name}),
    ):
        tag = part(browser, path, **query).headers["etag"]
        assert f"data-etag='{tag}'" in page.text.replace("&#34;", '"').replace('""', '"') or (
            tag.strip('"') in page.text
        )


def test_what_many_look_at_is_asked_for_once(foreign):
    foreign.put("x")
    foreign.gate.clear()
    with consoled(foreign.target) as browser:
        calls = [lambda: part(browser, "/rows")] * 20
        with futures.ThreadPoolExecutor(20) as pool:
            parts = [pool.submit(call) for call in calls]
            foreign.gate.set()
            answers = [one.result(SECONDS) for one in parts]
    assert {one.status_code for one in answers} == {200}
    assert len({one.headers["etag"] for one in answers}) == 1
    assert foreign.calls == ["List"]


def test_what_others_may_see_is_not_shared(foreign):
    foreign.put("x")
    with consoled(foreign.target, forward=["x-user"]) as browser:
        at_once(
            *(
                lambda user=user: browser.get("/rows", headers={"x-user": user})
                for user in ("ada", "bob")
            )
        )
    assert {one["x-user"] for one in foreign.metadata} == {"ada", "bob"}


def test_what_differs_is_not_shared(foreign):
    foreign.put("x")
    with consoled(foreign.target) as browser:
        for query in ({}, {"filter": "a = b"}, {"parent": "p"}, {"size": "3"}):
            part(browser, "/rows", **query)
    assert foreign.calls == ["List"] * 4


def test_an_operation_is_held_until_it_changes(served, browser):
    name = served.start()
    first = until(lambda: part(browser, "/operation/body", name=name), "allocating")
    assert "x-done" not in first.headers
    with futures.ThreadPoolExecutor(1) as pool:
        held = pool.submit(
            part, browser, "/operation/body", first.headers["etag"], wait=8, name=name
        )
        assert not futures.wait([held], timeout=0.3).done
        served.fleet.gate.set()
        changed = held.result(SECONDS)
    assert changed.status_code == 200
    assert changed.headers["etag"] != first.headers["etag"]
    while "x-done" not in changed.headers:
        changed = part(browser, "/operation/body", changed.headers["etag"], wait=8, name=name)
    assert "Succeeded" in changed.text


def test_an_operation_is_never_shown_as_it_was_before(served, browser):
    name = served.start("steps")
    seen, tag = [0], ""
    while max(seen) < 30:
        answer = part(browser, "/operation/body", tag, wait=8, name=name)
        tag = answer.headers["etag"]
        if answer.status_code == 200:
            percent = re.search(r'data-title="(\d+)', answer.text)
            assert percent is not None, answer.text
            seen.append(int(percent[1]))
    assert seen == sorted(seen)


def test_an_operation_that_does_not_change(served, browser):
    name = served.start()
    part(browser, "/operation/body", name=name)
    tag = part(browser, "/operation/body", name=name).headers["etag"]
    held = part(browser, "/operation/body", tag, wait=1, name=name)
    while held.status_code == 200:  # its progress had not been shown yet
        held = part(browser, "/operation/body", held.headers["etag"], wait=1, name=name)
    assert held.status_code == 304
    assert held.content == b""


@pytest.mark.parametrize("known", ["W/{}", '"other", {}', '"other",W/{}'])
def test_what_a_proxy_in_between_makes_of_the_etag_is_known_again(known):
    """One that packs answers itself makes it a weak one."""
    with serving_foreign() as foreign, consoled(foreign.target) as browser:
        name = foreign.put("a")
        for path, query in (("/rows", {}), ("/operation/body", {"name": name})):
            tag = part(browser, path, **query).headers["etag"]
            answer = part(browser, path, known.format(tag), wait=1, **query)
            assert (answer.status_code, answer.headers["etag"]) == (304, tag)
        css = browser.get("/static/console.css")
        tag = {"if-none-match": known.format(css.headers["etag"])}
        assert browser.get("/static/console.css", headers=tag).status_code == 304


def test_an_operation_that_is_done_is_not_held(served, browser):
    name = served.start()
    served.finish(name)
    first = part(browser, "/operation/body", name=name)
    assert first.headers["x-done"] == "true"
    again = part(browser, "/operation/body", first.headers["etag"], wait=8, name=name)
    assert again.status_code == 304
    assert again.headers["x-done"] == "true"


def test_an_operation_that_is_deleted_while_it_is_open(served, browser):
    name = served.start()
    tag = part(browser, "/operation/body", name=name).headers["etag"]
    with futures.ThreadPoolExecutor(1) as pool:
        held = pool.submit(part, browser, "/operation/body", tag, wait=8, name=name)
        served.client.delete(name)
        gone = held.result(SECONDS)
        while gone.status_code == 200:
            tag = gone.headers["etag"]
            gone = part(browser, "/operation/body", tag, wait=8, name=name)
    assert gone.status_code == 404
    assert 'data-trouble="NOT_FOUND"' in gone.text


def test_those_who_follow_one_operation_share_its_watch(served, browser):
    """Nine tabs."""
    name = served.start()
    tag = part(browser, "/operation/body", name=name).headers["etag"]
    with futures.ThreadPoolExecutor(9) as pool:
        tabs = [
            pool.submit(part, browser, "/operation/body", tag, wait=8, name=name) for _ in range(9)
        ]
        served.fleet.gate.set()
        answers = [tab.result(SECONDS) for tab in tabs]
    assert {one.status_code for one in answers} == {200}


@pytest.mark.parametrize("has_wait", [True, False])
def test_an_operation_of_a_server_without_a_watch(foreign, has_wait):
    foreign.has_wait = has_wait
    name = foreign.put("x")
    with consoled(foreign.target) as browser:
        first = part(browser, "/operation/body", name=name)
        with futures.ThreadPoolExecutor(1) as pool:
            held = pool.submit(
                part, browser, "/operation/body", first.headers["etag"], wait=8, name=name
            )
            foreign.put("x", done=True)
            foreign.changed.set()
            changed = held.result(SECONDS)
    assert changed.status_code == 200
    assert changed.headers["x-done"] == "true"


def test_a_browser_that_goes_away_leaves_nothing_behind(served):
    name = served.start()
    with consoled(served.target) as browser:
        tag = part(browser, "/operation/body", name=name).headers["etag"]
        headers = {"if-none-match": tag, "prefer": "wait=8"}
        with pytest.raises(httpx.ReadTimeout):
            browser.get("/operation/body", params={"name": name}, headers=headers, timeout=0.5)
        assert browser.get("/").status_code == 200
    # The context has ended: the console's shutdown did not wait for it.


def test_a_server_that_goes_away_while_an_operation_is_open(served):
    name = served.start()
    with consoled(served.target) as browser:
        tag = part(browser, "/operation/body", name=name).headers["etag"]
        stopped = threading.Thread(
            target=lambda: served.served._server.stop(None).wait(), daemon=True
        )
        stopped.start()
        stopped.join(SECONDS)
        for _ in range(20):
            away = part(browser, "/operation/body", tag, wait=1, name=name)
            if away.status_code not in (200, 304):
                break
    assert away.status_code == 503
