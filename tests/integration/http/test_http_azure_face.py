"""Azure Face's routes: an operation by its id alone, and starts that answer with its URL."""

from __future__ import annotations

import asyncio
from concurrent import futures
from urllib.parse import quote

import grpc
import grpc.aio
import pytest
from google.api import http_pb2
from google.longrunning import operations_pb2
from http_harness import FLEET, PARENT, STARTS, Http, done, serving

from lro_grpc.http import gateway, listening

RULES = {f"{FLEET}/CreateInstance": http_pb2.HttpRule(post="/face/v1.0/snapshots", body="*")}


def started(http: Http, instance_id: str = "a", **how) -> str:
    """Starts an operation, and returns where it is."""
    body = {"parent": PARENT, "instanceId": instance_id}
    reply = http.post("/face/v1.0/snapshots", body, **how)
    assert (reply.status, reply.body) == (202, b""), reply
    return reply.headers["operation-location"]


@pytest.fixture(params=["aio", "sync"])
def where(request: pytest.FixtureRequest) -> str:
    """Not through a channel: nobody finds an operation by its id there."""
    where: str = request.param
    return where


@pytest.fixture
def http(serve) -> Http:
    return serve(options={"rules": RULES})


def name_of(where: str) -> str:
    return f"{PARENT}/operations/{where.rpartition('/')[2]}"


def test_success(http, fleet):
    where = started(http)
    assert where.startswith("/face/v1.0/operations/op-")
    before = http.get(where).ok
    assert before["status"] in ("notstarted", "running")
    assert before.keys() <= {"status", "createdTime", "lastActionTime"}
    fleet.gate.set()
    done(http, name_of(where))
    after = http.get(where).ok
    assert after["status"] == "succeeded"
    assert after["resourceLocation"] == f"/{PARENT}/instances/a"
    assert after["createdTime"] == before["createdTime"]


@pytest.mark.parametrize("ending", ["fails", "is cancelled"])
def test_failure(http, fleet, ending):
    where = started(http, "bad")
    if ending == "fails":
        fleet.gate.set()
    else:
        http.post(f"/v1/{name_of(where)}:cancel")
    done(http, name_of(where))
    after = http.get(where).ok
    assert after["status"] == "failed"
    assert after["message"]
    assert "resourceLocation" not in after


@pytest.mark.parametrize("public_url", ["https://example.com", "https://example.com/"])
def test_links_begin_with_the_public_url(serve, fleet, public_url):
    http = serve(options={"rules": RULES, "public_url": public_url})
    where = started(http)
    assert where.startswith("https://example.com/face/v1.0/operations/op-")
    fleet.gate.set()
    done(http, name_of(where))
    location = http.get(where.removeprefix("https://example.com")).ok["resourceLocation"]
    assert location == f"https://example.com/{PARENT}/instances/a"


def test_an_operation_without_a_parent_is_found_too(serve):
    http = serve(options={"rules": RULES})
    reply = http.post("/face/v1.0/snapshots", {"parent": "", "instanceId": "a"})
    assert http.get(reply.headers["operation-location"]).status == 200


def test_an_id_that_several_operations_have_is_found_by_none(serve):
    """Only their whole names differ: either would be a guess."""
    http = serve(options={"rules": RULES}, new_id=lambda _: "same")
    for parent in (PARENT, "projects/q/locations/l"):
        started_at = http.post("/face/v1.0/snapshots", {"parent": parent, "instanceId": "a"})
        assert started_at.headers["operation-location"] == "/face/v1.0/operations/same"
    assert http.get("/face/v1.0/operations/same").status == 404


def test_an_id_is_looked_up_for_nobody_who_may_not(serve):
    """The refusal is the same whether there is such an operation or not."""

    def authorize(access):
        if access.permission == "operations.start":
            return True
        return access.operation is not None and access.operation.caller == access.caller

    def identify(context):
        return dict(context.invocation_metadata()).get("ocp-apim-subscription-key", "")

    http = serve(options={"rules": RULES}, identify=identify, authorize=authorize)
    where = started(http, headers={"Ocp-Apim-Subscription-Key": "ann"})
    assert http.get(where, headers={"Ocp-Apim-Subscription-Key": "ann"}).status == 200
    refused = http.get(where)
    assert refused.status == 403
    missing = http.get("/face/v1.0/operations/nope")
    assert missing.status == 403
    operation_id = where.rpartition("/")[2]
    assert refused.body.replace(operation_id.encode(), b"nope") == missing.body


def test_a_start_that_is_refused(http):
    body = {"parent": PARENT, "instanceId": "refused"}
    reply = http.post("/face/v1.0/snapshots", body)
    assert reply.status == 400
    assert reply.json == {"error": {"code": "FAILED_PRECONDITION", "message": "not today"}}


def test_what_was_only_validated_is_nowhere(http):
    body = {"parent": PARENT, "instanceId": "a", "validateOnly": True}
    reply = http.post("/face/v1.0/snapshots", body)
    assert reply.status == 202
    assert "operation-location" not in reply.headers


def test_through_a_channel_only_names_without_a_parent_are_known(fleet):
    with serving("channel", fleet, options={"rules": RULES}) as http:
        assert http.get(started(http)).status == 404
        here = http.post("/face/v1.0/snapshots", {"instanceId": "a"})
        assert http.get(here.headers["operation-location"]).status == 200
        fleet.gate.set()


def test_a_caller_who_may_not_get_is_told_so_whatever_is_asked(serve):
    http = serve(options={"rules": RULES}, authorize=lambda access: access.resource[-1] != "x")
    assert http.get("/face/v1.0/operations/x?unheard=of").status == 403
    assert http.get("/face/v1.0/operations/y?unheard=of").status == 400
    assert http.get("/face/v1.0/operations/y").status == 404


@pytest.mark.parametrize("operation_id", ["a b", "é\u2028", "a\r\nX-More: 1", "~a%20"])
def test_the_location_is_a_url_whatever_the_server_behind_the_gateway_names_it(
    operation_id: str,
) -> None:
    started = operations_pb2.Operation(name=f"operations/{operation_id}").SerializeToString()
    handler = grpc.unary_unary_rpc_method_handler(lambda request, context: started)
    server = grpc.server(futures.ThreadPoolExecutor(1))
    server.add_generic_rpc_handlers(
        [
            grpc.method_handlers_generic_handler(
                "lro.example.v1.FleetService", {"DeleteInstance": handler}
            )
        ]
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    method = f"{FLEET}/DeleteInstance"

    async def location() -> str:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            app = gateway(
                channel=channel,
                starts={method: STARTS[method]},
                rules={method: http_pb2.HttpRule(delete="/face/v1.0/{name=instances/*}")},
            )
            async with listening(app, "127.0.0.1:0") as http_port:
                reply = await asyncio.to_thread(
                    Http(http_port).send, "DELETE", "/face/v1.0/instances/a"
                )
        assert reply.status == 202
        assert "x-more" not in reply.headers
        return reply.headers["operation-location"]

    try:
        found = asyncio.run(location())
    finally:
        server.stop(None)
    assert found == f"/face/v1.0/operations/{quote(operation_id, safe='~')}"
