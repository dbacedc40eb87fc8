"""Reads of the store: one for a Get and one for a page, whatever the dialect, behind the guard."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, TypeVar

import pytest
from google.api import http_pb2
from http_harness import FLEET, PARENT, Http
from test_server_jobs import Builds, with_jobs

from lro_grpc import testing
from lro_grpc._runtime.clock import SystemClock
from lro_grpc.http import gateway, listening_in_thread
from lro_grpc.stores import ForwardingStore, open_url

T = TypeVar("T")

PROJECT = "/deploymentmanager/v2/projects/p/global"
GLOBAL = "projects/p/locations/global"
RULE = http_pb2.HttpRule(post="/face/v1.0/snapshots", body="*")
RULE.additional_bindings.add(post=f"{PROJECT}/deployments", body="*")
RULE.additional_bindings.add(post=f"/v1/{PARENT}/instances", body="*")
OPTIONS = {"rules": {f"{FLEET}/CreateInstance": RULE}}
READS = ("read", "operation", "page", "find_id")


class ObservedReads(ForwardingStore):
    """Remembers the reads of operations, as callers' requests make them."""

    def __init__(self) -> None:
        super().__init__(open_url("memory:", SystemClock().now))
        self.reads: list[str] = []

    async def _call(
        self, call: Callable[..., Coroutine[Any, Any, T]], *arguments: Any, **options: Any
    ) -> T:
        if call.__name__ in READS:
            self.reads.append(call.__name__)
        return await super()._call(call, *arguments, **options)

    def of(self, call: Callable[[], Any]) -> list[str]:
        """Returns the reads that a call makes."""
        self.reads.clear()
        call()
        return [*self.reads]


@pytest.fixture
def where() -> str:
    return "aio"


@pytest.fixture(params=["anyone", "authorized"])
def guarded(request: pytest.FixtureRequest) -> dict[str, Any]:
    """The guard reads the operation that ``authorize`` is asked about; nobody reads it again."""
    if request.param == "anyone":
        return {}
    return {"authorize": lambda access: access.resource != ""}


def test_each_dialect(serve: Callable[..., Http], guarded: dict[str, Any]) -> None:
    store = ObservedReads()
    http = serve(options=OPTIONS, store=store, **guarded)
    made: list[str] = []

    def started(path: str, parent: str) -> None:
        reply = http.post(path, {"parent": parent, "instanceId": "a"})
        made.append(reply.headers.get("operation-location") or reply.json["name"])

    def listed(path: str) -> None:
        assert len(http.get(path).ok["operations"]) == 2

    def got(path: str) -> None:
        assert http.get(path).ok

    for path, parent in (
        (f"/v1/{PARENT}/instances", PARENT),
        ("/face/v1.0/snapshots", PARENT),
        (f"{PROJECT}/deployments", GLOBAL),
        (f"{PROJECT}/deployments", GLOBAL),
    ):
        assert store.of(partial(started, path, parent)) == [], path
    longrunning, azure, deployment, _ = made
    one = ["read"] if guarded else ["operation"]
    assert store.of(partial(got, f"/v1/{longrunning}")) == one
    assert store.of(partial(got, azure)) == ["find_id", "read"]
    assert store.of(partial(got, f"{PROJECT}/operations/{deployment}")) == ["read"]
    for path in (f"/v1/{PARENT}/operations", f"{PROJECT}/operations"):
        assert store.of(partial(listed, path)) == ["page"]


def test_a_job(builds: Builds, guarded: dict[str, Any]) -> None:
    store = ObservedReads()
    with (
        testing.serve(configure=with_jobs(builds), store=store, **guarded) as served,
        listening_in_thread(gateway(served.operations), "127.0.0.1:0") as port,
    ):
        http = Http(port)
        path = f"/v1/{PARENT}/buildJobs"
        first = http.post(path, {}).ok["name"]
        http.post(path, {})
        assert store.of(lambda: http.get(f"/v1/{first}").ok) == ["read"]
        assert store.of(lambda: http.get(path).ok["buildJobs"][1]) == ["page"]


@pytest.fixture(scope="module")
def builds() -> Builds:
    return Builds()


def test_a_page_holds_what_its_caller_may_see_alone(serve: Callable[..., Http]) -> None:
    """No operation is looked up beside the page that was authorized."""
    store = ObservedReads()
    asked: list[str] = []
    http = serve(
        options=OPTIONS, store=store, authorize=lambda access: not asked.append(access.permission)
    )
    for _ in range(3):
        http.post(f"{PROJECT}/deployments", {"parent": GLOBAL, "instanceId": "a"})
    asked.clear()
    assert store.of(lambda: http.get(f"{PROJECT}/operations").ok["operations"][2]) == ["page"]
    assert asked == ["operations.list"]
