"""Actions: what a confirmation says, what is requested, and what comes of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import grpc
import httpx
import pytest
from console_harness import (
    PARENT,
    Foreign,
    Served,
    at_once,
    consoled,
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


def fields_of(page: httpx.Response) -> dict[str, list[str]]:
    """Returns the hidden fields of the form on a confirmation."""
    fields: dict[str, list[str]] = {}
    for tag in re.findall(r"<input[^>]*type=\"?hidden[^>]*>", page.text):
        name = re.search(r'name="?([^">\s]+)', tag)
        value = re.search(r'value="([^"]*)"', tag)
        assert name is not None
        assert value is not None
        fields.setdefault(name[1], []).append(value[1])
    return fields


def act(browser: httpx.Client, verb: str, *names: str, **fields: str) -> httpx.Response:
    return browser.post("/act", data={"verb": verb, "name": list(names), **fields})


def offered(page: httpx.Response) -> set[str]:
    return set(re.findall(r"confirm\?verb=(\w+)", page.text))


def test_a_confirmation_says_what_will_happen(served, browser):
    name = served.start()
    page = browser.get("/confirm", params={"verb": "cancel", "name": name})
    assert page.status_code == 200
    assert "Cancel this operation" in page.text
    assert "asked to stop" in page.text
    assert fields_of(page) == {"verb": ["cancel"], "name": [name]}
    assert served.client.get(name).done is False


def test_many_long_names_are_asked_about_in_a_form(served, browser):
    """As an address they would be longer than what a server or a proxy takes."""
    name = served.start()
    names = [f"projects/{'p' * 300}/operations/op-{number}" for number in range(499)]
    page = browser.post("/confirm", data={"verb": "cancel", "name": [name, *names]})
    assert page.status_code == 200
    assert fields_of(page) == {"verb": ["cancel"], "name": [name, *names]}
    assert served.client.get(name).done is False
    too_many = browser.post("/confirm", data={"verb": "cancel", "name": [name, "x", *names]})
    assert too_many.status_code == 400
    assert "501 operations are selected" in too_many.text


def test_cancel(served, browser):
    name = served.start()
    asked = browser.get("/confirm", params={"verb": "cancel", "name": name})
    answer = browser.post("/act", data=fields_of(asked))
    assert answer.status_code == 303
    assert served.client.wait(name, timeout=15).error.code == 1
    page = browser.get(answer.headers["location"])
    assert page.status_code == 200
    assert "The cancellation is requested." in page.text


def test_what_has_come_of_an_action_is_shown_at_once(served, browser):
    name = served.start()
    browser.get("/operation", params={"name": name})
    act(browser, "pause", name)
    until(lambda: browser.get("/operation", params={"name": name}), "Paused")


def test_pause_and_resume(served, browser):
    name = served.start()
    assert "pause" in offered(browser.get("/operation", params={"name": name}))
    assert act(browser, "pause", name).status_code == 303
    paused = until(lambda: browser.get("/operation", params={"name": name}), "Paused")
    assert {"resume", "cancel"} <= offered(paused)
    assert act(browser, "resume", name).status_code == 303
    served.finish(name)


def test_terminate_needs_a_reason(served, browser):
    name = served.start()
    assert act(browser, "terminate", name).status_code == 400
    assert served.client.get(name).done is False
    assert act(browser, "terminate", name, reason="it hangs").status_code == 303
    assert "it hangs" in served.client.get(name).error.message


def test_run_again_leads_to_the_new_operation(served, browser):
    name = served.start()
    served.finish(name)
    answer = act(browser, "rerun", name)
    assert answer.status_code == 303
    page = browser.get(answer.headers["location"])
    assert page.status_code == 200
    assert name not in str(answer.headers["location"])
    assert "new operation" in page.text


def test_a_form_that_is_sent_twice_runs_it_again_once(served, browser):
    name = served.start()
    served.finish(name)
    fields = fields_of(browser.get("/confirm", params={"verb": "rerun", "name": name}))
    answers = at_once(*[lambda: browser.post("/act", data=fields)] * 2)
    assert len({one.headers["location"] for one in answers}) == 1
    other = fields_of(browser.get("/confirm", params={"verb": "rerun", "name": name}))
    another = browser.post("/act", data=other)
    assert another.headers["location"] != answers[0].headers["location"]


def test_delete_leads_to_the_list(served, browser):
    name = served.start()
    served.finish(name)
    browser.get("/", params={"parent": PARENT})  # which is shared for a second
    answer = act(browser, "delete", name)
    assert answer.status_code == 303
    page = browser.get(answer.headers["location"])
    assert f'data-name="{name}"' not in page.text
    assert "deleted" in page.text


def test_two_tabs_that_cancel_the_same(served, browser):
    name = served.start()
    answers = at_once(*[lambda: act(browser, "cancel", name)] * 2)
    assert [one.status_code for one in answers] == [303, 303]


def test_a_cancel_that_comes_too_late_is_no_error(served, browser):
    name = served.start()
    served.finish(name)
    answer = act(browser, "cancel", name)
    assert answer.status_code == 303
    page = browser.get(answer.headers["location"])
    assert "It was done before it could be cancelled." in page.text
    assert "requested" not in page.text.partition("<main")[2]


def test_a_refusal_stands_where_the_button_was(served, browser):
    name = served.start()
    served.finish(name)
    refused = act(browser, "pause", name)
    assert refused.status_code == 409
    assert "FAILED_PRECONDITION" in refused.text
    assert name.rpartition("/")[2] in refused.text


def test_an_action_on_one_that_is_gone(browser):
    gone = act(browser, "cancel", f"{PARENT}/operations/none")
    assert gone.status_code == 404


def test_an_action_on_several(served, browser):
    names = [served.start("a"), served.start("b"), f"{PARENT}/operations/none"]
    answer = act(browser, "cancel", *names)
    assert answer.status_code == 200
    assert "NOT_FOUND" in answer.text
    for name in names[:2]:
        assert served.client.wait(name, timeout=15).error.code == 1


def test_an_action_on_several_that_are_all_refused(browser):
    answer = act(browser, "cancel", "operations/x", "operations/y")
    assert answer.status_code == 409


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"verb": "cancel"},
        {"name": "operations/x"},
        {"verb": "explode", "name": "operations/x"},
        {"verb": "cancel", "name": ""},
        {"verb": "cancel", "name": [f"operations/{number}" for number in range(501)]},
    ],
)
def test_a_form_that_asks_for_nothing(foreign, fields):
    with consoled(foreign.target) as browser:
        answer = browser.post("/act", data=fields)
    assert answer.status_code == 400
    assert foreign.calls == []


@pytest.mark.parametrize("query", [{}, {"verb": "cancel"}, {"verb": "x", "name": "operations/x"}])
def test_a_confirmation_of_nothing(browser, query):
    assert browser.get("/confirm", params=query).status_code == 400


def test_a_console_that_only_shows(served):
    name = served.start()
    with consoled(served.target, read_only=True) as browser:
        page = browser.get("/operation", params={"name": name})
        assert offered(page) == set()
        assert "confirm" not in browser.get("/").text.partition("<main")[2].partition("<dialog")[0]
        for answer in (
            act(browser, "cancel", name),
            browser.post("/bulk", data={"verb": "cancel", "name": name}),
            browser.get("/confirm", params={"verb": "cancel", "name": name}),
        ):
            assert answer.status_code == 403
            assert "only shows" in answer.text
    assert served.client.get(name).done is False


def test_what_a_caller_may_not_do_is_not_offered():
    def authorize(access: Any) -> bool:
        return access.permission not in ("operations.cancel", "operations.terminate")

    with serving(authorize=authorize) as served, consoled(served.target) as browser:
        name = served.start()
        page = browser.get("/operation", params={"name": name})
        assert "pause" in offered(page)
        assert offered(page) & {"cancel", "terminate"} == set()
        refused = act(browser, "cancel", name)
        assert refused.status_code == 403
        assert "PERMISSION_DENIED" in refused.text


def test_what_a_server_does_not_have_is_not_offered(foreign):
    name = foreign.put("x", done=True)
    running = foreign.put("y")
    with consoled(foreign.target) as browser:
        assert offered(browser.get("/operation", params={"name": running})) == {"cancel"}
        assert offered(browser.get("/operation", params={"name": name})) == {"delete"}
        assert act(browser, "delete", name).status_code == 501
        assert offered(browser.get("/operation", params={"name": name})) == set()
        assert act(browser, "cancel", running).status_code == 303
    assert foreign.cancelled == [running]


def test_nothing_is_done_by_looking(foreign):
    name = foreign.put("x")
    with consoled(foreign.target) as browser:
        for path in ("/", "/operation", "/confirm?verb=cancel", "/act", "/bulk"):
            browser.get(path, params={"name": name})
    assert set(foreign.calls) <= {"Get", "List"}


# All that a filter finds


def found(browser: httpx.Client, verb: str = "cancel", text: str = "done = false"):
    return browser.get("/confirm", params={"verb": verb, "all": "1", "filter": text})


def test_all_that_a_filter_finds(served, browser):
    names = [served.start(f"i{number}") for number in range(3)]
    page = found(browser)
    assert page.status_code == 200
    assert sorted(fields_of(page)["name"]) == sorted(names)
    late = served.start("late")
    answer = browser.post("/bulk", data=fields_of(page))
    assert answer.status_code == 303
    for name in names:
        assert served.client.wait(name, timeout=15).error.code == 1
    page = until(lambda: browser.get(answer.headers["location"]), "Done")
    assert "3" in page.text
    assert served.client.get(late).done is False, "it was not there at the confirmation"


def test_the_number_of_many_has_to_be_typed(foreign):
    foreign.put(*map(str, range(30)))
    with consoled(foreign.target) as browser:
        page = found(browser)
        fields = fields_of(page)
        assert len(fields["name"]) == 30
        for typed in ("", "29", "thirty"):
            again = browser.post("/bulk", data={**fields, "typed": typed})
            assert again.status_code == 400
            assert fields_of(again)["name"] == fields["name"]
        assert foreign.cancelled == []
        answer = browser.post("/bulk", data={**fields, "typed": "30"})
        assert answer.status_code == 303
        until(lambda: browser.get(answer.headers["location"]), "Done")
    assert sorted(foreign.cancelled) == sorted(fields["name"])


def test_the_number_of_many_that_are_selected_has_to_be_typed_too(foreign):
    foreign.put(*map(str, range(30)))
    asked = {"verb": "cancel", "name": list(foreign.operations)}
    with consoled(foreign.target) as browser:
        fields = fields_of(browser.get("/confirm", params=asked))
        for typed in ("", "3", "31"):
            again = browser.post("/act", data={**fields, "typed": typed})
            assert again.status_code == 400
            assert fields_of(again) == fields
            assert "Type 30" in again.text
        assert foreign.cancelled == []
        assert browser.post("/act", data={**fields, "typed": " 30 "}).status_code == 303


def test_at_most_a_thousand(foreign):
    foreign.put(*map(str, range(1_200)))
    with consoled(foreign.target) as browser:
        page = found(browser)
        assert len(fields_of(page)["name"]) == 1_000
        assert "1,000" in page.text
        assert len(page.content) <= 512 * 1024
        refused = browser.post(
            "/bulk", data={"verb": "cancel", "name": list(foreign.operations), "typed": "1200"}
        )
        assert refused.status_code == 400
    assert foreign.calls.count("List") == 2


def test_as_many_as_a_page_has_room_for(foreign):
    foreign.put(*(f"{number}-{'&' * 300}" for number in range(1_000)))
    with consoled(foreign.target) as browser:
        page = found(browser)
        assert page.status_code == 200
        assert 20 < len(fields_of(page)["name"]) < 1_000
        assert "more than these" in page.text
        assert len(page.content) <= 512 * 1024
        some = list(foreign.operations)[:500]
        answer = browser.post("/bulk", data={"verb": "cancel", "name": some, "typed": "1"})
        assert answer.status_code == 400
        assert len(answer.content) <= 512 * 1024


def test_a_filter_that_finds_nothing(browser):
    page = found(browser)
    assert page.status_code == 404
    assert "Nothing matches" in page.text


def test_all_of_everything_is_no_filter(foreign):
    foreign.put("x")
    with consoled(foreign.target) as browser:
        assert found(browser, text=" ").status_code == 400
    assert foreign.calls == []


def test_what_is_refused_of_many(foreign):
    names = [foreign.put(str(number)) for number in range(25)]
    with consoled(foreign.target) as browser:
        fields = fields_of(found(browser))
        for name in names[:5]:
            del foreign.operations[name]
        answer = browser.post("/bulk", data={**fields, "typed": "25"})
        page = until(lambda: browser.get(answer.headers["location"]), "Done", "NOT_FOUND")
        part = browser.get(answer.headers["location"], headers={"x-part": "1"})
    assert part.headers["x-done"] == "true"
    assert page.text.count("NOT_FOUND") >= 5
    assert sorted(foreign.cancelled) == sorted(names[5:])


def test_the_page_of_what_is_refused_of_a_thousand_is_bounded(foreign):
    names = [f"operations/{'&' * 200}{number}" for number in range(1_000)]
    foreign.refusal = (grpc.StatusCode.FAILED_PRECONDITION, "<" * 3_000)
    with consoled(foreign.target) as browser:
        for some in (names, names[:600]):
            form = {"verb": "cancel", "name": some, "typed": str(len(some))}
            where = browser.post("/bulk", data=form).headers["location"]
            page = until(lambda where=where: browser.get(where), "Done")
            assert len(page.content) <= 512 * 1024
            shown = page.text.count("FAILED_PRECONDITION")
            assert 50 < shown < len(some)
            assert f"and {len(some) - shown:,} more" in page.text
            assert f">{len(some):,}<" in page.text


def test_many_that_are_selected_go_on_by_themselves(foreign):
    names = [foreign.put(str(number)) for number in range(25)]
    with consoled(foreign.target) as browser:
        answer = act(browser, "cancel", *names, typed="25")
        assert answer.status_code == 303
        until(lambda: browser.get(answer.headers["location"]), "Done")
    assert sorted(foreign.cancelled) == sorted(names)


def test_a_bulk_action_that_is_stopped(foreign):
    names = [foreign.put(str(number)) for number in range(100)]
    with consoled(foreign.target) as browser:
        foreign.gate.clear()
        answer = act(browser, "cancel", *names, typed="100")
        where = answer.headers["location"]
        running = browser.get(where, headers={"x-part": "1"})
        assert "x-done" not in running.headers
        assert running.headers["x-next-ms"] == "1000"
        tag = {"x-part": "1", "if-none-match": running.headers["etag"]}
        assert browser.get(where, headers=tag).status_code == 304
        assert browser.post(where, data={"stop": "1"}).status_code == 303
        foreign.gate.set()
        until(lambda: browser.get(where), "Stopped")
    assert len(foreign.cancelled) <= 8


def test_the_last_part_of_a_bulk_action_shows_its_end(foreign):
    """However often it is asked for while it ends: nothing is asked for after it."""
    names = [foreign.put(str(number)) for number in range(25)]
    with consoled(foreign.target) as browser:
        for _ in range(20):
            where = act(browser, "cancel", *names, typed="25").headers["location"]
            last = browser.get(where, headers={"x-part": "1"})
            while "x-done" not in last.headers:
                last = browser.get(where, headers={"x-part": "1"})
            assert 'data-done="true"' in last.text


def test_a_bulk_action_is_its_callers_own(foreign):
    names = [foreign.put(str(number)) for number in range(25)]
    with consoled(foreign.target, forward=["x-user"]) as browser:
        browser.headers["x-user"] = "ada"
        where = act(browser, "cancel", *names, typed="25").headers["location"]
        assert browser.get(where).status_code == 200
        other = browser.get(where, headers={"x-user": "bob"})
        assert other.status_code == 404
        assert browser.post(where, data={"stop": "1"}, headers={"x-user": "bob"}).status_code == 404


def test_only_so_many_bulk_actions_run_at_a_time(foreign):
    names = [foreign.put(str(number)) for number in range(25)]
    with consoled(foreign.target) as browser:
        foreign.gate.clear()
        for _ in range(4):
            assert act(browser, "cancel", *names, typed="25").status_code == 303
        refused = act(browser, "cancel", *names, typed="25")
        assert refused.status_code == 503
        assert "bulk actions" in refused.text
        foreign.gate.set()


def test_a_server_that_is_away_during_an_action(foreign):
    name = foreign.put("x")
    with consoled(foreign.target) as browser:
        foreign.refusal = (grpc.StatusCode.UNAVAILABLE, "ipv4:10.0.0.9:1 is away")
        away = act(browser, "cancel", name)
    assert away.status_code == 503
    assert "10.0.0.9" not in away.text
