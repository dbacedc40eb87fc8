"""The pages about operations: lists, one operation, its forms; and those about trouble."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import timedelta

import grpc
import httpx
import pytest
from console_harness import (
    PARENT,
    Foreign,
    Served,
    consoled,
    names_in,
    serving,
    serving_foreign,
    until,
)

from lro_grpc import Code
from lro_grpc._console import source


@pytest.fixture
def served() -> Iterator[Served]:
    with serving() as found:
        yield found


@pytest.fixture
def browser(served: Served) -> Iterator[httpx.Client]:
    with consoled(served.target, parents=[PARENT]) as found:
        yield found


@pytest.fixture
def foreign() -> Iterator[Foreign]:
    with serving_foreign() as found:
        yield found


def test_a_list(served, browser):
    first, second = served.start("a"), served.start("b")
    page = browser.get("/")
    assert page.status_code == 200
    assert names_in(page) == [second, first]
    assert "Running" in page.text
    assert f'value="{PARENT}"' in page.text


def test_a_list_by_a_filter(served, browser):
    name, other = served.start("a"), served.start("b")
    served.client.cancel(other)
    served.client.wait(other, timeout=15)
    page = browser.get("/", params={"filter": "state = CANCELLED"})
    assert names_in(page) == [other]
    assert names_in(browser.get("/", params={"filter": "done = false"})) == [name]


def test_a_list_of_another_parent(served, browser):
    name = served.start()
    assert names_in(browser.get("/", params={"parent": "projects/-/locations/-"})) == [name]
    assert names_in(browser.get("/", params={"parent": "projects/q/locations/l"})) == []


def test_pages_by_token(served, browser):
    names = [served.start(f"i{number}") for number in range(3)]
    page = browser.get("/", params={"size": "2"})
    assert names_in(page) == names[:0:-1]
    older = page.text.partition('rel="next" href="')[2].partition('"')[0].replace("&amp;", "&")
    assert names_in(browser.get(older)) == names[:1]


@pytest.mark.parametrize("size", ["0", "-1", "x", "1e9", "9" * 5_000, "٣"])
def test_a_size_that_is_none(served, browser, size):
    name = served.start()
    assert names_in(browser.get("/", params={"size": size})) == [name]


def test_a_page_has_at_most_five_hundred_rows(foreign):
    foreign.put(*map(str, range(600)))
    with consoled(foreign.target) as browser:
        assert len(names_in(browser.get("/", params={"size": "600"}))) == 500


def test_a_filter_by_how_long_ago(served, browser):
    """It becomes the time that it is then, so that the pages behind it ask for the same."""
    name = served.start()
    query = {"filter": "create_time > now-1h", "size": "7", "path": "elsewhere"}
    answer = browser.get("/", params=query)
    assert answer.status_code == 303
    there = httpx.URL(answer.headers["location"])
    assert there.path == "/"
    assert re.fullmatch(r'create_time > "20[0-9T:.-]+Z"', there.params["filter"])
    assert there.params["size"] == "7"
    assert names_in(browser.get(answer.headers["location"])) == [name]
    far = browser.get("/", params={"filter": "create_time > now-99999999d"})
    assert far.status_code == 400
    assert "not within the years 1 to 9999" in far.text


def test_a_wrong_filter_is_shown_where_it_is_wrong(browser):
    page = browser.get("/", params={"filter": "state = RUNNING AND <b>x</b>"})
    assert page.status_code == 400
    assert "<b>x" not in page.text
    assert 'value="state = RUNNING AND &lt;b&gt;x&lt;/b&gt;"' in page.text
    assert "<mark>&lt;</mark>" in page.text
    part = browser.get("/rows", params={"filter": "state ="}, headers={"x-part": "1"})
    assert part.status_code == 400
    assert 'data-trouble="INVALID_ARGUMENT"' in part.text


def test_a_token_that_is_refused_leads_to_the_newest_page(served, browser):
    name = served.start()
    page = browser.get("/", params={"token": "no-such-token"})
    assert page.status_code == 200
    assert names_in(page) == [name]
    assert "no longer there" in page.text
    assert "token=" not in page.text
    part = browser.get("/rows", params={"token": "no-such-token"}, headers={"x-part": "1"})
    assert part.status_code == 400


def test_an_operation(served, browser):
    name = served.start("bad")
    page = browser.get("/operation", params={"name": name})
    assert page.status_code == 200
    until(lambda: browser.get("/operation", params={"name": name}), "Running", "allocating")
    served.finish(name)
    until(
        lambda: browser.get("/operation", params={"name": name}),
        *("no such disk", "NO_DISK", "NOT_FOUND", "Failed"),
    )


def test_an_operation_that_is_not_there(browser):
    page = browser.get("/operation", params={"name": f"{PARENT}/operations/none"})
    assert page.status_code == 404
    assert "no such operation" in page.text
    part = browser.get(
        "/operation/body", params={"name": f"{PARENT}/operations/none"}, headers={"x-part": "1"}
    )
    assert part.status_code == 404
    assert 'data-trouble="NOT_FOUND"' in part.text


@pytest.mark.parametrize("name", ["", "\0", "<script>", "x" * 20_000, "../..", "операции/%2F"])
def test_a_name_that_is_none(browser, name):
    page = browser.get("/operation", params={"name": name})
    assert page.status_code in (400, 404)
    assert "<script>" not in page.text.partition("</head>")[2]


@pytest.mark.parametrize(
    "form", ["longrunning", "alloydb", "vertex_ai", "azure_face", "deployment_manager"]
)
def test_an_operation_in_another_form(served, browser, form):
    name = served.start()
    page = browser.get("/operation/form", params={"name": name, "as": form})
    assert page.status_code == 200
    part = browser.get(
        "/operation/form", params={"name": name, "as": form}, headers={"x-part": "1"}
    )
    assert "id=form" in part.text.replace('"', "")
    assert "<nav" not in part.text


def test_the_request_that_has_started_an_operation(served, browser):
    name = served.start("a")
    page = browser.get("/operation/form", params={"name": name, "as": "request"})
    assert page.status_code == 200
    assert "CreateInstanceRequest" in page.text or "instanceId" in page.text


def test_a_form_that_is_none(served, browser):
    name = served.start()
    page = browser.get("/operation/form", params={"name": name, "as": "yaml"})
    assert page.status_code == 404
    assert "alloydb" in page.text


def test_an_operation_as_a_file(served, browser):
    name = served.start("bad")
    served.finish(name)
    file = browser.get("/operation.json", params={"name": name})
    assert file.headers["content-type"] == "application/json"
    assert file.headers["content-disposition"] == 'attachment; filename="operation.json"'
    value = json.loads(file.content)
    assert value["name"] == name
    assert value["error"]["message"] == "no such disk"
    assert value["metadata"]["state"] == "JOB_STATE_FAILED"


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (Code.UNAVAILABLE, 503),
        (Code.DEADLINE_EXCEEDED, 504),
        (Code.PERMISSION_DENIED, 403),
        (Code.UNAUTHENTICATED, 401),
        (Code.UNIMPLEMENTED, 501),
        (Code.INTERNAL, 502),
    ],
)
@pytest.mark.parametrize("path", ["/", "/rows", "/operation?name=operations/x"])
def test_trouble(foreign, code, status, path):
    foreign.refusal = (getattr(grpc.StatusCode, code.name), "ipv4:10.0.0.9:50051 <b>said so</b>")
    with consoled(foreign.target) as browser:
        page = browser.get(path)
        part = browser.get(path, headers={"x-part": "1"})
    assert page.status_code == part.status_code == status
    assert code.name in page.text
    assert f'data-trouble="{code.name}"' in part.text
    assert "<b>said so" not in page.text + part.text
    if code is Code.UNAVAILABLE:
        assert "10.0.0.9" not in page.text + part.text


def test_a_server_that_is_away():
    with consoled("127.0.0.1:1") as browser:
        page = browser.get("/")
    assert page.status_code == 503
    assert "does not answer" in page.text
    assert "127.0.0.1:1" not in page.text.partition("<main")[2]


def test_a_server_that_is_slow(foreign, monkeypatch):
    monkeypatch.setattr(source, "TIMEOUT", timedelta(seconds=0.2))
    foreign.put("x")
    foreign.gate.clear()
    with consoled(foreign.target) as browser:
        page = browser.get("/")
        assert page.status_code == 504
        assert "takes too long" in page.text
        foreign.gate.set()
        until(lambda: browser.get("/"), "/operations/x")


def test_a_message_of_a_type_that_nobody_knows(foreign):
    name = foreign.put("x", done=True)
    foreign.operations[name].response.type_url = "type.googleapis.com/acme.Unknown"
    foreign.operations[name].response.value = b"\xff\x00"
    with consoled(foreign.target) as browser:
        page = browser.get("/operation", params={"name": name})
    assert page.status_code == 200
    assert "acme.Unknown" in page.text


def test_the_types_of_another_server():
    from foreign_server import launch
    from foreign_server import serving_foreign as serving_types

    with serving_types("v1") as server, consoled(server.target) as browser:
        name = server.put(launch())
        page = browser.get("/operation", params={"name": name})
        assert "39A" in page.text
        assert "fuelling" in page.text or "launch" in page.text
        value = json.loads(browser.get("/operation.json", params={"name": name}).content)
        assert value["response"]["payload"]["kilograms"] == "5"
        server.requests.clear()
        browser.get("/operation", params={"name": name})
        assert "reflection" not in server.requests


def test_a_page_is_bounded_whatever_an_operation_holds(foreign):
    name = foreign.put("x", done=True)
    operation = foreign.operations[name]
    operation.error.code, operation.error.message = 3, "x" * 1_000_000
    for number in range(60):
        detail = operation.error.details.add()
        detail.type_url = "type.googleapis.com/google.protobuf.StringValue"
        detail.value = b"\n\xa0\x8d\x06" + b"y" * 100_000
        assert detail.ByteSize() > 100_000, number
    with consoled(foreign.target) as browser:
        page = browser.get("/operation", params={"name": name})
        assert page.status_code == 200
        assert len(page.content) <= 512 * 1024
        assert len(browser.get("/").content) <= 512 * 1024


def test_a_list_is_bounded_whatever_its_rows_hold(foreign):
    foreign.put(*(f"{number}-{'x' * 1_500}" for number in range(500)))
    with consoled(foreign.target) as browser:
        part = browser.get("/rows", params={"size": "500"})
        assert 0 < len(names_in(part)) < 500
        assert len(part.content) <= 512 * 1024
        assert len(browser.get("/", params={"size": "500"}).content) <= 512 * 1024


def test_a_page_of_operations_larger_than_a_message_may_be(foreign):
    for number in range(40):
        name = foreign.put(str(number))
        foreign.operations[name].metadata.type_url = "type.googleapis.com/acme.Unknown"
        foreign.operations[name].metadata.value = b"x" * 2_000_000
    with consoled(foreign.target) as browser:
        page = browser.get("/")
        assert page.status_code == 200
        assert len(names_in(page)) == 12
        assert foreign.calls == ["List", "List"]
        older = page.text.partition('rel="next" href="')[2].partition('"')[0]
        older = older.replace("&amp;", "&")
        assert names_in(browser.get(older))[0].endswith("/12")
        assert foreign.calls == ["List", "List", "List"], "the smaller size is remembered"


def test_a_filter_that_nothing_matches_has_a_hint_at_small_letters(foreign):
    told = "Nothing matches: and is a text that it looks for; the operator is AND."
    with consoled(foreign.target) as browser:
        small = {"filter": "done = false and state = RUNNING"}
        assert told in browser.get("/", params=small).text
        assert told not in browser.get("/", params={"filter": small["filter"].upper()}).text
    foreign.put("x")
    with consoled(foreign.target) as browser:
        assert told not in browser.get("/", params=small).text


def test_a_server_that_ignores_filters(foreign):
    foreign.put("x", done=True)
    with consoled(foreign.target) as browser:
        assert "ignores filters" in browser.get("/", params={"filter": "done = false"}).text
        assert "ignores filters" in browser.get("/", params={"filter": "state = RUNNING"}).text
        assert "ignores filters" not in browser.get("/", params={"filter": "done = true"}).text
        refused = browser.get(
            "/confirm", params={"verb": "cancel", "all": "1", "filter": "done = false"}
        )
        assert refused.status_code == 409
        assert "ignores filters" in refused.text


def chips_in(page: httpx.Response) -> dict[str, str]:
    """Returns the number of operations on the chip of each state that has one."""
    chips = re.findall(
        r"<a[^>]*>(?:<svg.*?</svg>)?([\w ]+) <span class=\"count\">(.*?)</span>", page.text
    )
    return dict(chips)


def test_the_numbers_of_operations(served, browser):
    for number in range(3):
        served.start(f"i{number}")
    cancelled = served.start("x")
    served.client.cancel(cancelled)
    served.client.wait(cancelled, timeout=15)
    page = until(lambda: browser.get("/", params={"size": "2"}), 'class="count"')
    assert chips_in(page) == {"Running": "3", "Cancelled": "1"}
    part = browser.get("/rows", params={"size": "2"}, headers={"x-part": "1"})
    assert chips_in(part) == chips_in(page)


def test_the_numbers_of_a_server_that_shows_them_to_others_alone():
    def authorize(access):
        return access.permission != "operations.summarize"

    with serving(authorize=authorize) as served, consoled(served.target) as browser:
        name = served.start()
        page = browser.get("/")
        assert names_in(page) == [name]
        assert chips_in(page) == {}


def test_a_server_that_does_not_count_is_not_asked_to_again(foreign):
    foreign.put("x")
    with consoled(foreign.target) as browser:
        page = browser.get("/")
    assert chips_in(page) == {}
    assert foreign.calls == ["List"], "nothing is counted by listing"


def test_what_is_offered_for_rows_is_what_the_server_has(served, browser, foreign):
    served.start()

    def offered(page: httpx.Response) -> set[str]:
        return set(re.findall(r'name="verb" value="(\w+)"', page.text))

    page = until(lambda: browser.get("/"), 'class="count"')
    assert offered(page) == {"cancel", "pause", "resume", "rerun", "terminate", "delete"}
    foreign.put("x")
    with consoled(foreign.target) as other:
        assert offered(other.get("/")) == {"cancel", "delete"}
        other.post("/act", data={"verb": "delete", "name": f"{PARENT}/operations/x"})
        assert offered(other.get("/")) == {"cancel"}
