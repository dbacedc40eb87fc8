"""Deployment Manager's routes: a project's operations, one and many, and starts."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from google.api import http_pb2
from http_harness import FLEET, Http, done

from lro_grpc._runtime.clock import SystemClock
from lro_grpc.stores import ForwardingStore, Record, open_url

PROJECT = "/deploymentmanager/v2/projects/p/global"
PARENT = "projects/p/locations/global"
RULES = {
    f"{FLEET}/CreateInstance": http_pb2.HttpRule(post=f"{PROJECT}/deployments", body="*"),
}


def started(http: Http, instance_id: str = "a", **fields) -> dict:
    body = {"parent": PARENT, "instanceId": instance_id, **fields}
    return http.post(f"{PROJECT}/deployments", body).ok


def ended(http: Http, operation: dict) -> dict:
    done(http, f"{PARENT}/operations/{operation['name']}")
    return http.get(f"{PROJECT}/operations/{operation['name']}").ok


@pytest.fixture
def http(serve) -> Http:
    return serve(options={"rules": RULES, "public_url": "https://example.com"})


def test_success(http, fleet):
    operation = started(http)
    assert operation["kind"] == "deploymentmanager#operation"
    assert operation["name"].startswith("op-")
    assert operation["status"] in ("PENDING", "RUNNING")
    assert operation["operationType"] == "create"
    assert operation["selfLink"].startswith("https://example.com/")
    fleet.gate.set()
    after = ended(http, operation)
    assert (after["status"], after["progress"]) == ("DONE", 100)
    assert "error" not in after
    assert after["insertTime"] == operation["insertTime"]
    assert after["id"] == operation["id"]


def test_failure(http, fleet):
    """It is 200 with the error inside."""
    operation = started(http, "bad")
    fleet.gate.set()
    after = ended(http, operation)
    assert (after["status"], after["httpErrorStatusCode"]) == ("DONE", 404)
    assert after["error"]["errors"][0]["code"] == "NOT_FOUND"


def test_cancellation(http):
    operation = started(http)
    http.post(f"/v1/{PARENT}/operations/{operation['name']}:cancel")
    assert ended(http, operation)["error"]["errors"][0]["code"] == "CANCELLED"


def test_the_caller_and_the_request_id_are_shown_where_they_are_known(where, serve, fleet):
    """Which is not behind a channel."""

    def identify(context):
        return dict(context.invocation_metadata()).get("x-user", "")

    http = serve(options={"rules": RULES}, identify=identify)
    body = {"parent": PARENT, "instanceId": "a", "requestId": UUID}
    operation = http.post(f"{PROJECT}/deployments", body, headers={"X-User": "ann"}).ok
    listed = http.get(f"{PROJECT}/operations").ok["operations"]
    for one in (operation, *listed):
        known = where != "channel"
        assert one.get("user") == ("ann" if known else None)
        assert one.get("clientOperationId") == (UUID if known else None)


UUID = "6f2c1d0e-4b5a-4c3d-9e8f-708192a3b4c5"


def names(http: Http, query: str = "") -> list[str]:
    return [one["name"] for one in http.get(f"{PROJECT}/operations{query}").ok["operations"]]


class CountingStore(ForwardingStore):
    """Remembers the names that were read."""

    def __init__(self) -> None:
        super().__init__(open_url("memory:", SystemClock().now))
        self.names: list[str] = []

    async def read(self, name: str) -> Record:
        self.names.append(name)
        return await super().read(name)

    async def operation(self, name: str) -> bytes:
        self.names.append(name)
        return await super().operation(name)


def test_an_operation_is_read_once(serve):
    store = CountingStore()
    http = serve(options={"rules": RULES}, store=store)
    operation = started(http)
    store.names.clear()
    assert http.get(f"{PROJECT}/operations/{operation['name']}").ok["name"] == operation["name"]
    assert store.names == [f"{PARENT}/operations/{operation['name']}"]


def test_a_list_is_paged(http):
    made = [started(http, f"i{n}")["name"] for n in range(5)]
    path = f"{PROJECT}/operations?maxResults=2&orderBy=creationTimestamp%20desc&alt=json"
    found, token = [], ""
    while True:
        page = http.get(f"{path}&pageToken={token}").ok
        assert len(page["operations"]) <= 2
        found += [one["name"] for one in page["operations"]]
        token = page.get("nextPageToken", "")
        if not token:
            break
    assert found == made[::-1]
    other = http.get("/deploymentmanager/v2/projects/q/global/operations").ok
    assert other == {"operations": []}
    assert len(names(http, "?maxResults=0")) == 5


def test_a_list_is_in_the_order_of_names_or_newest_first(http, where, fleet):
    """Behind a channel it is the latter alone, for the server has no other."""
    made = [started(http, f"i{n}")["name"] for n in range(5)]
    newest_first = made[::-1]
    assert names(http, "?orderBy=creationTimestamp%20desc") == newest_first
    if where == "channel":
        assert names(http) == newest_first
        reply = http.get(f"{PROJECT}/operations?orderBy=name")
        assert (reply.status, reply.json["error"]["status"]) == (400, "INVALID_ARGUMENT")
        assert "the newest first" in reply.json["error"]["message"]
        return
    assert names(http) == names(http, "?orderBy=name") == names(http, "?orderBy=") == sorted(made)
    page = http.get(f"{PROJECT}/operations?orderBy=name&maxResults=2").ok
    token = page["nextPageToken"]
    rest = names(http, f"?orderBy=name&pageToken={token}")
    assert [one["name"] for one in page["operations"]] + rest == sorted(made)
    for other in ("creationTimestamp%20desc", "name&filter=status=DONE"):
        assert http.get(f"{PROJECT}/operations?orderBy={other}&pageToken={token}").status == 400


@pytest.mark.parametrize(
    "order", ["status", "name desc", "name asc", "creationTimestamp", "NAME", "x" * 1000]
)
def test_an_order_that_there_is_not(http, order):
    reply = http.get(f"{PROJECT}/operations?orderBy={quote(order)}")
    assert (reply.status, reply.json["error"]["status"]) == (400, "INVALID_ARGUMENT")
    assert "give 'name' or 'creationTimestamp desc'" in reply.json["error"]["message"]


def test_a_list_is_filtered_by_the_words_of_this_dialect(http, fleet):
    bad = started(http, "bad")
    fleet.gate.set()
    ended(http, bad)
    fleet.gate.clear()
    running = started(http, "b")["name"]

    def found(text: str) -> list[str]:
        return names(http, f"?filter={quote(text)}")

    assert found("status = DONE") == found('status eq "DONE"') == [bad["name"]]
    assert found("status != DONE") == found("NOT status=DONE") == [running]
    assert found(f"name = {running}") == found(f'name eq "{running}"') == [running]
    assert found("operationType = create AND status = DONE") == [bad["name"]]
    assert found('insertTime > "2020-01-01T00:00:00Z" AND endTime:*') == [bad["name"]]
    assert found("error.code = NOT_FOUND") == [bad["name"]]
    assert found("status = RUNNING OR status = PENDING") == [running]
    assert found('statusMessage = "status = DONE"') == []
    assert found("method = */CreateInstance AND status = RUNNING") == [running]
    assert found('error.message eq ".*disk"') == [bad["name"]]


@pytest.mark.parametrize("quotes", ["", "'", '"'])
def test_eq_and_ne_are_regular_expressions(http, fleet, quotes):
    """For the whole field, as the discovery document has them; behind a channel, too."""
    bad = started(http, "bad")["name"]
    fleet.gate.set()
    ended(http, {"name": bad})
    fleet.gate.clear()
    running = started(http, "b")["name"]

    def found(text: str) -> list[str]:
        text = text.replace("<", quotes).replace(">", quotes)
        return names(http, f"?orderBy=creationTimestamp%20desc&filter={quote(text)}")

    assert found("name eq <op-.*>") == [running, bad]
    assert found(f"name ne <.*{bad[-6:]}>") == [running]
    assert found("name eq <op>") == found("operationType eq <creat>") == []
    assert found("operationType eq <cre?ate|delete>") == [running, bad]
    assert found("status eq <DONE>") == found("status ne <RUNNING|PENDING>") == [bad]
    assert found("(name eq <op-[a-z2-7]{26}>) (status ne <DONE>)") == [running]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name eq a**", "character 11: of the regular expression 'a**': this repeats"),
        ("name eq (?i)OP", "only (?:x)"),
        ("name eq a AND status = DONE", "for comparisons use = and !="),
        ("status = RUN", "one of DONE, RUNNING, PENDING"),
        ("metadata.colour = red", "there is no field 'metadata.colour'"),
    ],
)
def test_a_filter_that_cannot_be_is_refused_with_a_sentence(http, text, says):
    reply = http.get(f"{PROJECT}/operations?filter={quote(text)}")
    assert (reply.status, reply.json["error"]["status"]) == (400, "INVALID_ARGUMENT")
    assert says in reply.json["error"]["message"]


@pytest.mark.timeout(60)
def test_an_expression_that_others_never_finish_is_answered(http):
    """Each of these takes a backtracking matcher longer than anyone waits."""
    for number in range(5):
        started(http, f"{number}{'a' * 1000}")
    for text in (
        "name eq (o|p|-|.)*(.*)*(.*)*(.*)*Z",
        "name eq ((.?){20}){20}Z",
        "name eq (.|.)*Z",
    ):
        assert names(http, f"?filter={quote(text)}") == []


def test_a_filter_that_cannot_be(http):
    reply = http.get(f"{PROJECT}/operations?filter={quote('zone = x')}")
    assert reply.status == 400
    assert reply.json["error"]["status"] == "INVALID_ARGUMENT"


def test_a_field_of_this_dialect_may_have_several_values(http, fleet):
    made = started(http)["name"]
    assert names(http, f"?filter={quote('operationType = (delete OR create)')}") == [made]
    assert names(http, f"?filter={quote('operationType eq delete')}") == []


def test_the_name_of_an_operation_is_a_value_like_any_other(http, fleet):
    made = started(http)["name"]
    for text in (f"name = '{made}'", f"name={made}", 'name = "op-*"', "name = op-*", "name:op-"):
        assert names(http, f"?filter={quote(text)}") == [made], text
    for text in ('name = "op\\*"', 'name = "a\\"b"', "name = 'a\\'b'", "name = a.b.c", "name:none"):
        assert names(http, f"?filter={quote(text)}") == [], text
    other = "/deploymentmanager/v2/projects/a%22b/global/operations?filter=name%20=%20x"
    assert http.get(other).status == 400  # by the project's name, not by the filter
    assert "parent" in http.get(other).json["error"]["message"]


@pytest.mark.timeout(60)
def test_a_filter_is_read_in_one_go_however_many_quotes_begin_in_it(http):
    for piece in ('\\"', "\\'", "\"'", "name", 'name="', "(status="):
        for begin in ('"', "'", 'name="', "status eq'"):
            text = begin.replace(" ", "+") + piece * (56_000 // len(piece))
            reply = http.get(f"{PROJECT}/operations?filter={text}")
            assert reply.status == 400
            assert "give 4096 at most" in reply.json["error"]["message"]


def test_a_filter_as_long_as_may_be(http, fleet):
    made = started(http)["name"]
    text = f'operationType = create AND NOT "{"x" * 4063}"'
    assert len(text) == 4096
    assert names(http, f"?filter={quote(text.replace('operationType', 'verb' + ' ' * 9))}") == [
        made
    ]
    assert names(http, f"?filter={quote(text)}") == [made]
    assert http.get(f"{PROJECT}/operations?filter={quote(text + ' ')}").status == 400


@pytest.mark.parametrize(
    "query",
    [
        *("filter=(", 'filter="', f"filter={'x' * 5000}", "filter=zone=x", "filter=a&filter=b"),
        *(
            "maxResults=x",
            f"maxResults={'9' * 5000}",
            "pageToken=x",
            "orderBy=status",
            "unheard=of",
        ),
    ],
)
def test_a_caller_who_may_not_list_is_told_so_whatever_is_asked(serve, query):
    asked = []

    def authorize(access):
        asked.append((access.permission, access.resource))
        return access.resource != PARENT

    http = serve(options={"rules": RULES}, authorize=authorize)
    assert http.get(f"{PROJECT}/operations?{query}").status == 403
    assert asked == [("operations.list", PARENT)]
    other = http.get(f"/deploymentmanager/v2/projects/q/global/operations?{query}")
    assert other.status == 400


def test_a_caller_who_may_not_get_is_told_so_whatever_is_asked(serve):
    http = serve(options={"rules": RULES}, authorize=lambda access: access.resource[-1] != "x")
    assert http.get(f"{PROJECT}/operations/x?unheard=of").status == 403
    assert http.get(f"{PROJECT}/operations/y?unheard=of").status == 400
    assert http.get(f"{PROJECT}/operations/y").status == 404


def test_the_caller_of_a_list_is_authorized_once(serve):
    asked = []
    http = serve(options={"rules": RULES}, authorize=lambda access: not asked.append(access))
    assert names(http, "?filter=status=DONE") == []
    assert [one.method for one in asked] == ["/google.longrunning.Operations/ListOperations"]


def test_what_was_only_validated_is_no_operation(http):
    assert started(http, validateOnly=True) == {}
    assert names(http) == []


def test_a_start_that_is_refused(http):
    body = {"parent": PARENT, "instanceId": "refused"}
    reply = http.post(f"{PROJECT}/deployments", body)
    assert reply.status == 400
    error = reply.json["error"]
    assert (error["code"], error["message"]) == (400, "not today")
    assert error["errors"][0]["message"] == "not today"
