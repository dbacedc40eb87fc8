"""Retry-After: each answer that says "not done" says when to ask again, if that is recommended."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from google.api import http_pb2
from google.protobuf import duration_pb2
from google.rpc import error_details_pb2
from http_harness import FLEET, PARENT, SECONDS, Fleet, Http, Reply, done
from test_server_jobs import Builds, with_jobs

import lro_grpc
from lro_grpc import testing
from lro_grpc.http import gateway, listening_in_thread

CREATE = f"{FLEET}/CreateInstance"
PROJECT = "/deploymentmanager/v2/projects/p/global"
PATHS = {
    "longrunning": f"/v1/{PARENT}/instances",
    "azure_face": "/face/v1.0/snapshots",
    "deployment_manager": f"{PROJECT}/deployments",
}
RULE = http_pb2.HttpRule(post=f"/v1/{{parent={PARENT}}}/instances", body="*")
for path in PATHS.values():
    RULE.additional_bindings.add(post=path, body="*")
RULES = {CREATE: RULE}

Serve = Callable[..., Any]


def start(http: Http, dialect: str, **fields: Any) -> tuple[Reply, str, str]:
    """Returns the answer, the operation's path in the dialect, and its name."""
    parent = "projects/p/locations/global" if dialect == "deployment_manager" else PARENT
    if dialect == "azure_face":
        parent = ""  # behind a channel nobody finds another one by its id
    reply = http.post(PATHS[dialect], {"parent": parent, "instanceId": "a", **fields})
    if dialect == "azure_face":
        path = reply.headers.get("operation-location", "")
        return reply, path, f"operations/{path.rpartition('/')[2]}"
    name = reply.json.get("name", "")
    if dialect == "deployment_manager":
        return reply, f"{PROJECT}/operations/{name}", f"{parent}/operations/{name}"
    return reply, f"/v1/{name}", name


@pytest.mark.parametrize("dialect", PATHS)
@pytest.mark.parametrize(
    ("pause", "seconds"),
    [
        (timedelta(milliseconds=1), "1"),
        (timedelta(seconds=1), "1"),
        (timedelta(milliseconds=1001), "2"),
        (timedelta(minutes=2), "120"),
        (None, None),
    ],
)
def test_a_start_and_each_get_until_the_operation_is_done(
    serve: Serve, fleet: Fleet, dialect: str, pause: timedelta | None, seconds: str | None
) -> None:
    """P5: in whole seconds, never too early and never none (RFC 9110)."""
    http = serve(options={"rules": RULES}, poll_after=pause)
    started, path, name = start(http, dialect)
    assert started.status == (202 if dialect == "azure_face" else 200)
    assert started.headers.get("retry-after") == seconds
    assert http.get(path).headers.get("retry-after") == seconds
    fleet.gate.set()
    done(http, name)
    after = http.get(path)
    assert after.status == 200
    assert "retry-after" not in after.headers


@pytest.mark.parametrize("dialect", PATHS)
def test_what_was_only_validated_is_done(serve: Serve, dialect: str) -> None:
    http = serve(options={"rules": RULES}, poll_after=timedelta(seconds=1))
    started, _, _ = start(http, dialect, validateOnly=True)
    assert "retry-after" not in started.headers


def test_a_wait_that_ends_before_its_operation(serve: Serve) -> None:
    http = serve(options={"rules": RULES}, poll_after=timedelta(seconds=1.5))
    _, path, _ = start(http, "longrunning")
    assert http.get(f"{path}:wait?timeout=0s").headers["retry-after"] == "2"


def test_a_pause_and_a_resume(serve: Serve) -> None:
    """Which answer with the operation, too; a Cancel answers with nothing."""
    http = serve(options={"rules": RULES}, poll_after=timedelta(seconds=1.5))
    _, path, _ = start(http, "longrunning")
    for verb in ("pause", "resume"):
        assert http.post(f"{path}:{verb}").headers["retry-after"] == "2"
    assert "retry-after" not in http.post(f"{path}:cancel").headers


def test_a_job(builds: Builds) -> None:
    may_end = threading.Event()

    def run(job: Any, op: Any) -> None:
        assert may_end.wait(SECONDS)

    with (
        testing.serve(
            configure=with_jobs(builds, run), poll_after=timedelta(milliseconds=2500)
        ) as served,
        listening_in_thread(gateway(served.operations), "127.0.0.1:0") as port,
    ):
        http = Http(port)
        created = http.post(f"/v1/{PARENT}/buildJobs", {})
        path = f"/v1/{created.ok['name']}"
        cancelled = http.post(f"{path}:cancel", {})
        for reply in (created, http.get(path), cancelled):
            assert (reply.status, reply.headers["retry-after"]) == (200, "3")
        may_end.set()
        operation = created.json["name"].replace("buildJobs", "operations")
        assert http.get(f"/v1/{operation}:wait?timeout=15s").ok["done"]
        assert "retry-after" not in http.get(path).headers


@pytest.fixture(scope="module")
def builds() -> Builds:
    return Builds()


def test_a_server_that_goes_down(serve: Serve) -> None:
    http = serve(options={"rules": RULES})
    http.drain()
    for reply in (http.get("/v1/operations/x"), http.get(f"{PROJECT}/operations/x")):
        assert (reply.status, reply.headers["retry-after"]) == (503, "1")


def test_an_error_that_says_when_to_try_again(serve: Serve) -> None:
    """Whatever its code."""
    later = error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(seconds=4, nanos=1))

    def identify(context: Any) -> str:
        code = lro_grpc.Code[dict(context.invocation_metadata())["x-code"]]
        raise lro_grpc.LroError("not now", code=code, details=[later])

    http = serve(identify=identify)
    for code, status in (("RESOURCE_EXHAUSTED", 429), ("UNAVAILABLE", 503), ("ABORTED", 409)):
        reply = http.get("/v1/operations/x", headers={"x-code": code})
        assert (reply.status, reply.headers["retry-after"]) == (status, "5")


def test_a_limit_that_is_reached(serve: Serve) -> None:
    http = serve(options={"rules": RULES}, limits=lro_grpc.Limits(queue=1))
    replies = [http.post(PATHS["longrunning"], {"parent": PARENT}) for _ in range(20)]  # 16 run
    refused = [one for one in replies if one.status == 429]
    assert refused
    assert {one.headers.get("retry-after") for one in refused} == {"1"}


def test_a_refusal_that_may_be_for_good(serve: Serve) -> None:
    """Of a quota that is used up, or as gRPC refuses a message that is too large."""

    def identify(context: Any) -> str:
        raise lro_grpc.LroError("no more this month", code=lro_grpc.Code.RESOURCE_EXHAUSTED)

    reply = serve(identify=identify).get("/v1/operations/x")
    assert reply.status == 429
    assert "retry-after" not in reply.headers
