"""google.longrunning over HTTP: each call does what its RPC does (P14)."""

from __future__ import annotations

import asyncio
import json
import uuid
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import grpc
import pytest
from google.api import annotations_pb2, http_pb2
from google.protobuf import json_format, message_factory
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status
from http_harness import FLEET, PARENT, Fleet, Http, done, start

import lro_grpc
from lro.v1 import operation_control_service_pb2
from lro_grpc import Code
from lro_grpc._http.gateway import gateway

CONTROL = operation_control_service_pb2.DESCRIPTOR.services_by_name["OperationControlService"]
METADATA = "type.googleapis.com/lro.v1.OperationMetadata"


def test_an_operation_from_its_start_to_its_end(serve, fleet):
    http = serve()
    name = start(http)
    assert name.startswith(f"{PARENT}/operations/op-")
    before = http.get(f"/v1/{name}").ok
    assert before.keys() == {"name", "metadata"}
    assert before["metadata"]["@type"] == METADATA
    assert before["metadata"]["target"] == f"{PARENT}/instances/a"
    fleet.gate.set()
    after = done(http, name)
    assert after.keys() == {"name", "metadata", "done", "response"}
    assert after["metadata"]["state"] == "JOB_STATE_SUCCEEDED"
    assert after["response"] == {
        "@type": "type.googleapis.com/lro.example.v1.Instance",
        "name": f"{PARENT}/instances/a",
    }
    assert http.get(f"/v1/{name}").ok == after


def test_a_failure_is_in_the_operation(serve, fleet):
    http = serve()
    fleet.gate.set()
    error = done(http, start(http, "bad"))["error"]
    assert error["code"] == 5
    assert error["message"] == "no such disk"
    assert error["details"][0]["reason"] == "NO_DISK"


@pytest.mark.parametrize("body", [b"", b"{}"])
def test_cancel(serve, body):
    """With an empty body too, which Google's client sends with a Content-Type."""
    http = serve()
    name = start(http)
    assert http.post(f"/v1/{name}:cancel", body=body).ok == {}
    assert done(http, name)["error"]["code"] == 1
    assert http.post(f"/v1/{name}:cancel").ok == {}  # of a done operation: nothing changes


def test_pause_and_resume(serve, fleet):
    http = serve()
    name = start(http)
    requested = http.post(f"/v1/{name}:pause").ok["operation"]
    assert (requested["name"], requested["metadata"]["pauseRequested"]) == (name, True)
    assert states_up_to(http, name, "JOB_STATE_PAUSED")
    assert http.post(f"/v1/{name}:pause").ok == {"operation": http.get(f"/v1/{name}").ok}
    resumed = http.post(f"/v1/{name}:resume").ok["operation"]
    assert resumed["metadata"]["state"] == "JOB_STATE_QUEUED"
    fleet.gate.set()
    assert "response" in done(http, name)


def test_terminate(serve):
    """Whatever its handler does."""
    http = serve()
    name = start(http)
    ended = http.post(f"/v1/{name}:terminate", {"reason": "it hangs"}).ok["operation"]
    assert (ended["name"], ended["done"], ended["error"]["code"]) == (name, True, 10)
    assert ended["error"]["details"][0]["reason"] == "OPERATION_TERMINATED"
    assert "it hangs" in ended["error"]["message"]
    assert http.get(f"/v1/{name}").ok == ended
    assert http.post(f"/v1/{name}:terminate", {"reason": "again"}).ok == {"operation": ended}
    assert http.post(f"/v1/{name}:terminate", {}).status == 400


def test_describe(serve, fleet):
    http = serve()
    name = start(http)
    told = http.get(f"/v1/{name}:describe").ok
    assert told["operation"]["name"] == name
    assert told["method"] == "lro.example.v1.FleetService/CreateInstance"
    assert "CANCEL" in told["actions"]
    assert "request" not in told
    full = http.get(f"/v1/{name}:describe?view=OPERATION_DESCRIPTION_VIEW_FULL").ok
    assert full["request"]["@type"] == "type.googleapis.com/lro.example.v1.CreateInstanceRequest"
    assert full["request"]["parent"] == PARENT
    assert http.get(f"/v1/{name}:describe?view=NONE").status == 400
    assert http.get(f"/v1/{PARENT}/operations/none:describe").status == 404
    fleet.gate.set()
    done(http, name)
    told = http.get(f"/v1/{name}:describe").ok
    assert told["operation"] == http.get(f"/v1/{name}").ok
    assert [(one["number"], one["outcome"]) for one in told["attempts"]] == [(1, "SUCCEEDED")]


def test_summarize(serve, fleet):
    http = serve()
    name = start(http)
    other = http.get("/v1/projects/none:summarizeOperations").ok
    assert other == {"examinedCount": "0"} or other == {}
    for parent in (PARENT, "-", "projects/-/locations/-"):
        told = http.get(f"/v1/{parent}:summarizeOperations").ok
        (count,) = told["counts"]
        assert count["method"] == "lro.example.v1.FleetService/CreateInstance"
        assert count["count"] == "1"
        assert told["examinedCount"] == "1"
    assert http.get("/v1/operations:summarizeOperations?filter=done%3Dtrue").ok == {}
    assert http.get(f"/v1/{PARENT}:summarizeOperations?filter=(").status == 400
    assert http.get("/v1/a%20b:summarizeOperations").status == 400
    fleet.gate.set()
    done(http, name)


OVER_HTTP = [one for one in CONTROL.methods if not one.client_streaming]  # HTTP has no such stream


@pytest.mark.parametrize("method", OVER_HTTP, ids=lambda method: method.name)
def test_a_control_method_is_served_as_its_annotation_has_it(serve, method):
    """Path, body and response body: what a client that is made of the schema sends and reads."""
    http = serve()
    name = start(http)
    rule = method.GetOptions().Extensions[annotations_pb2.http]
    path = (rule.get or rule.post).replace("{name=**}", name).replace("{parent=**}", PARENT)
    if method.server_streaming:
        found = json.loads(next(http.events(path))["data"])
    elif rule.get:
        found = http.get(path).ok
    else:
        assert rule.body == "*"
        given = {field.name: "it hangs" for field in method.input_type.fields[1:]}
        if method.name == "ResumeOperation":
            http.post(f"/v1/{name}:pause")
        if method.name == "RerunOperation":
            http.post(f"/v1/{name}:terminate", {"reason": "it hangs"})
            given = {"request_id": str(uuid.uuid4()), "validate_only": False}
        found = http.post(path, given).ok
    if rule.response_body:
        found = {rule.response_body: found}
    answer = json_format.ParseDict(found, message_factory.GetMessageClass(method.output_type)())
    if method.name == "SummarizeOperations":
        assert answer.examined_count == 1
        return
    is_another = method.name == "RerunOperation"
    assert (answer.operation.name != name) == is_another
    assert answer.operation.name.startswith(f"{PARENT}/operations/")


def states_up_to(http: Http, name: str, state: str) -> bool:
    return any(f'"state":"{state}"' in event["data"] for event in http.events(f"/v1/{name}:watch"))


def test_delete(serve):
    http = serve()
    name = start(http)
    assert http.send("DELETE", f"/v1/{name}").ok == {}
    for method in ("GET", "DELETE"):
        reply = http.send(method, f"/v1/{name}")
        assert reply.status == 404
        assert reply.json["error"]["status"] == "NOT_FOUND"


def test_wait_ends_with_its_timeout(serve):
    http = serve()
    name = start(http)
    assert "done" not in http.post(f"/v1/{name}:wait", {"timeout": "0.05s"}).ok
    assert "done" not in http.get(f"/v1/{name}:wait?timeout=0s").ok


def test_a_list_is_filtered_and_paged(serve, fleet):
    http = serve()
    names = [start(http, f"i{n}") for n in range(5)]
    path = f"/v1/{PARENT}/operations"
    fleet.gate.set()
    for name in names:
        done(http, name)
    first = http.get(f"{path}?pageSize=2&filter=done%20%3D%20true").ok
    token = first["nextPageToken"]
    second = http.get(f"{path}?page_size=3&filter=done+%3D+true&pageToken={token}").ok
    found = [one["name"] for one in (*first["operations"], *second["operations"])]
    assert found == names[::-1]
    assert "nextPageToken" not in second
    assert http.get(f"{path}?filter=done%20%3D%20false").ok == {}
    everywhere = http.get("/v1/projects/-/locations/l/operations?returnPartialSuccess=true").ok
    assert len(everywhere["operations"]) == 5


@pytest.mark.parametrize("path", ["/v1/operations", "/v1/operations/operations"])
def test_names_without_a_parent_are_listed_by_their_collection(serve, path):
    http = serve()
    name = http.post("/v1/other/instances", {"instance": {}}).status
    assert name == 404  # the template wants projects/*/locations/*
    assert http.get(path).ok == {}


def test_parameters_that_google_sends_with_every_call_are_no_fields(serve):
    http = serve()
    name = start(http)
    assert http.get(f"/v1/{name}?$alt=json;enum-encoding=int&alt=json&key=k").ok["name"] == name


def test_what_waits_learns_when_to_ask_again(serve, fleet):
    http = serve(poll_after=timedelta(milliseconds=1500))
    name = start(http)
    assert http.get(f"/v1/{name}").headers["retry-after"] == "2"  # never too early
    fleet.gate.set()
    done(http, name)
    assert "retry-after" not in http.get(f"/v1/{name}").headers


def test_nobody_learns_when_to_ask_again_unless_that_is_set(serve):
    http = serve()
    assert "retry-after" not in http.get(f"/v1/{start(http)}").headers


def test_a_start_is_once_for_a_request_id(serve):
    http = serve()
    path = f"/v1/{PARENT}/instances?instanceId=a&requestId={uuid.uuid4()}"
    first = http.post(path, {}).ok
    assert http.post(path, {}).ok["name"] == first["name"]
    reused = http.post(path, {"schemaSql": "x"})
    assert reused.status == 409
    assert reused.json["error"]["status"] == "ALREADY_EXISTS"
    assert reused.json["error"]["details"][0]["reason"] == "REQUEST_ID_REUSED"


def test_a_start_that_is_refused_is_the_answer_itself(serve):
    """By an abort of the service's prepare; nothing is stored (S3)."""
    http = serve()
    reply = http.post(f"/v1/{PARENT}/instances?instanceId=refused", {})
    assert reply.status == 400
    assert reply.json["error"]["code"] == 400
    assert reply.json["error"]["message"] == "not today"
    assert reply.json["error"]["status"] == "FAILED_PRECONDITION"
    assert http.get(f"/v1/{PARENT}/operations").ok == {}


class Detailing(Fleet):
    """Refuses each start with a whole Status."""

    @lro_grpc.method
    async def CreateInstance(self, request, op):
        raise AssertionError("it is refused")

    @CreateInstance.prepare
    def prepare_create_instance(self, request, context):
        status = status_pb2.Status(code=Code.RESOURCE_EXHAUSTED, message="the fleet is full")
        status.details.add().Pack(error_details_pb2.ErrorInfo(reason="NO_ROOM", domain="fleet"))
        context.abort_with_status(rpc_status.to_status(status))


@pytest.mark.parametrize("fleet", [Detailing()])
def test_a_refusal_with_a_whole_status_has_its_details(serve, fleet):
    error = serve().post(f"/v1/{PARENT}/instances?instanceId=a", {}).json["error"]
    assert (error["status"], error["message"]) == ("RESOURCE_EXHAUSTED", "the fleet is full")
    assert [one["reason"] for one in error["details"]] == ["NO_ROOM"]


def test_a_start_without_a_body(serve):
    http = serve()
    operation = http.send("DELETE", f"/v1/{PARENT}/instances/i").ok
    assert operation["metadata"]["verb"] == "delete"
    empty = {"@type": "type.googleapis.com/google.protobuf.Empty"}
    assert done(http, operation["name"])["response"] == empty


def test_prefix(serve):
    http = serve(options={"prefix": "/operations-api/v7"})
    name = start(http)
    assert http.get(f"/operations-api/v7/{name}").ok["name"] == name
    assert http.get(f"/v1/{name}").status == 404


def test_several_prefixes(serve):
    """Each has all routes; where one begins with another, the longer one shapes the errors."""
    http = serve(options={"prefix": ["/v1", "/api/v2alpha", "/v1/beta", ""]})
    name = start(http)
    for prefix in ("/v1", "/api/v2alpha", "/v1/beta", ""):
        assert http.get(f"{prefix}/{name}").ok["name"] == name
        assert http.get(f"{prefix}/{PARENT}/operations").ok["operations"][0]["name"] == name
        assert http.post(f"{prefix}/{name}:cancel").ok == {}
        assert http.get(f"{prefix}/operations/x").json["error"]["status"] == "NOT_FOUND"


@pytest.mark.parametrize(
    "prefix", [[], ["/v1", "v2"], "v1", "/v1/", "//v1", "/{v}", "/v1:x", "/*", [1]]
)
def test_a_prefix_that_cannot_be(prefix):
    with pytest.raises(lro_grpc.ConfigurationError, match="prefix"):
        gateway(lro_grpc.Operations("memory:"), prefix=prefix)


@pytest.mark.parametrize(
    "url",
    [
        *(
            "example.com",
            "//example.com",
            "/path",
            "ftp://example.com",
            "https://",
            "https:///path",
        ),
        *("https://a b", "https://example.com/a b", "https://example.com/é", "https://é.example"),
        *("https://example.com/?a=b", "https://example.com#a", "https://user:pw@example.com"),
        *("https://example.com/\r\nx: y", "https://example.com:", 7),
    ],
)
def test_a_public_url_with_which_no_link_can_begin(url):
    with pytest.raises(lro_grpc.ConfigurationError, match="public_url is"):
        gateway(lro_grpc.Operations("memory:"), public_url=url)


@pytest.mark.parametrize(
    "url", ["", "http://localhost:8080", "HTTPS://[::1]:8/a/b//", "https://a.example/x%20y/"]
)
def test_a_public_url(url):
    gateway(lro_grpc.Operations("memory:"), public_url=url)


def test_the_headers_identify_the_caller(serve):
    """Of two callers each sees only what it has started, and cannot find out what else there is."""

    def identify(context):
        headers = dict(context.invocation_metadata())
        assert context.peer().startswith("ipv4:127.0.0.1:")
        if "x-user" not in headers:
            raise lro_grpc.LroError("say who you are", code=lro_grpc.Code.UNAUTHENTICATED)
        return headers["x-user"]

    def authorize(access):
        if access.permission == "operations.start":
            return access.caller != "guest"
        return access.operation is not None and access.operation.caller == access.caller

    http = serve(identify=identify, authorize=authorize)
    ann, bob = {"X-User": "ann"}, {"X-User": "bob"}
    name = http.post(f"/v1/{PARENT}/instances?instanceId=a", {}, headers=ann).ok["name"]
    assert http.get(f"/v1/{name}", headers=ann).ok["name"] == name
    refused = http.get(f"/v1/{name}", headers=bob)
    assert refused.status == 403
    message = refused.json["error"]["message"]
    missing = http.get(f"/v1/{PARENT}/operations/nope", headers=bob)
    assert missing.status == 403
    assert missing.json["error"]["message"] == message.replace(name, f"{PARENT}/operations/nope")
    assert http.get(f"/v1/{name}").status == 401
    guest = http.post(f"/v1/{PARENT}/instances", {}, headers={"X-User": "guest"})
    assert guest.status == 403


def test_a_drain_is_503(serve):
    """And a wait that it ends is answered with the latest state."""
    http = serve()
    name = start(http)
    http.drain()
    for reply in (http.get(f"/v1/{name}"), http.post(f"/v1/{PARENT}/instances", {})):
        assert reply.status == 503
        assert reply.json["error"]["status"] == "UNAVAILABLE"
        assert "127.0.0.1" not in reply.json["error"]["message"]


def test_answers_are_not_kept_by_anyone(serve):
    assert serve().get("/v1/operations").headers["cache-control"] == "no-store"


def test_other_origins_may_not_call_unless_they_are_named(serve):
    http = serve()
    asking = {"Origin": "https://page.example", "Access-Control-Request-Method": "GET"}
    assert http.send("OPTIONS", "/v1/operations", headers=asking).status == 405
    assert "access-control-allow-origin" not in http.get("/v1/operations", headers=asking).headers


def test_an_origin_that_is_named_may_call(serve):
    http = serve(options={"allow_origins": ["https://page.example"]})
    asking = {"Origin": "https://page.example", "Access-Control-Request-Method": "DELETE"}
    answer = http.send("OPTIONS", "/v1/operations/x", headers=asking)
    assert answer.status == 200
    assert answer.headers["access-control-allow-origin"] == "https://page.example"
    reply = http.get("/v1/operations/x", headers={"Origin": "https://page.example"})
    assert reply.status == 404
    assert reply.headers["access-control-allow-origin"] == "https://page.example"
    other = http.get("/v1/operations/x", headers={"Origin": "https://other.example"})
    assert "access-control-allow-origin" not in other.headers


def test_a_gateway_says_which_kind_of_channel_it_needs():
    with (
        grpc.insecure_channel("127.0.0.1:1") as channel,
        pytest.raises(
            lro_grpc.ConfigurationError, match=r"needs a grpc\.aio\.Channel, and was given"
        ),
    ):
        gateway(channel=channel)


def test_a_gateway_is_given_a_channel_by_its_name():
    async def give() -> None:
        async with grpc.aio.insecure_channel("127.0.0.1:1") as channel:
            gateway(channel)

    with pytest.raises(lro_grpc.ConfigurationError, match=r"gateway\(channel=\.\.\.\)"):
        asyncio.run(give())


@pytest.mark.parametrize(
    ("option", "value"),
    [("channel", "127.0.0.1:1"), ("services", "pkg.Service"), ("openapi", "yes"), ("docs", 1)],
)
def test_a_gateway_refuses_an_option_of_another_type(option: str, value: Any):
    with pytest.raises(lro_grpc.ConfigurationError, match=f"{option} is {value!r}; give"):
        gateway(lro_grpc.Operations("memory:"), **{option: value})


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("services", ["pkg.Service"]),
        ("starts", {"/pkg.Service/Start": object}),
        ("jobs", [object()]),
    ],
)
def test_a_gateway_knows_of_operations_what_it_is_told_of_a_server(option: str, value: Any):
    with pytest.raises(lro_grpc.ConfigurationError) as raised:
        gateway(lro_grpc.Operations("memory:"), **{option: value})
    assert raised.value.message.startswith(f"{option} is for a server behind a channel, and was ")


def test_a_gateway_stands_in_front_of_something():
    with pytest.raises(lro_grpc.ConfigurationError, match="operations, a channel, or both"):
        gateway()


def test_a_rule_for_what_is_not_there_is_refused():
    operations = lro_grpc.Operations("memory:")
    with pytest.raises(lro_grpc.ConfigurationError, match="rules for"):
        gateway(
            operations, rules={f"{FLEET}/CreateInstance": http_pb2.HttpRule(post="/v1/x", body="*")}
        )


def test_a_list_takes_every_field_of_filters(serve, fleet):
    http = serve()
    fleet.gate.set()
    name = start(http, "bad")
    done(http, name)

    def found(text):
        listed = http.get(f"/v1/{PARENT}/operations?filter={quote(text)}").ok
        return [one["name"] for one in listed.get("operations", [])]

    for text in ("error.message:disk", f"method = {FLEET}/CreateInstance", "worker:*", "-caller:*"):
        assert found(text) == [name], text
    for text in ("error.message:none", "method:Delete", "NOT worker:*", "caller = ann"):
        assert found(text) == [], text
    reply = http.get(f"/v1/{PARENT}/operations?filter={quote('metadata.colour = red')}")
    assert (reply.status, reply.json["error"]["status"]) == (400, "INVALID_ARGUMENT")
    assert "there is no field 'metadata.colour'" in reply.json["error"]["message"]


def test_a_filter_that_names_the_caller_is_denied_to_who_may_not_describe(serve):
    http = serve(authorize=lambda access: access.permission != "operations.describe")
    for path in (f"/v1/{PARENT}/operations", "/v1/projects/-/locations/l/operations"):
        assert http.get(path).status == 200
        reply = http.get(f"{path}?filter=caller%20=%20ann")
        assert (reply.status, reply.json["error"]["status"]) == (403, "PERMISSION_DENIED")
        assert "'operations.describe'" in reply.json["error"]["message"]
