"""Every name has its paths: of any parent, and those that other servers give (P14)."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import grpc
import grpc.aio
import pytest
from google.api import http_pb2
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf import empty_pb2
from http_harness import FLEET, PARENT, SECONDS, Fleet, Http, done, serving, start

import lro_grpc
from lro.example.v1 import fleet_service_pb2, fleet_service_pb2_grpc
from lro_grpc.http import gateway, listening

RULES = {
    f"{FLEET}/CreateInstance": http_pb2.HttpRule(post="/v1/{parent=**}/instances", body="instance")
}


class Named(fleet_service_pb2_grpc.FleetServiceServicer):
    """A fleet that responds with the name of the request."""

    @lro_grpc.method
    async def CreateInstance(self, request: Any, op: Any) -> Any:
        del op
        return fleet_service_pb2.Instance(name=request.parent)


class Parented(Fleet):
    """A fleet whose operations have the parent that the request names; one for each target."""

    @lro_grpc.method
    async def CreateInstance(self, request: Any, op: Any) -> Any:
        del request, op
        return fleet_service_pb2.Instance()

    @lro_grpc.method(exclusive=True)
    async def DeleteInstance(self, request: Any, op: Any) -> Any:
        del request, op
        return empty_pb2.Empty()

    @DeleteInstance.prepare
    def prepare_delete_instance(self, request: Any, context: Any) -> Any:
        del context
        return lro_grpc.Prepared(parent=PARENT, target=request.name)

    @CreateInstance.prepare
    def prepare_create_instance(self, request: Any, context: Any) -> Any:
        del context
        return lro_grpc.Prepared(parent=request.parent)


@pytest.fixture
def fleet() -> Fleet:
    return Parented()


@pytest.mark.parametrize(
    "parent",
    ["projects/p/operations", "projects/p/operations/x", "operations/x", "operations/operations",
     "a", "projects/p/operations/operations", "operations-/x", "projects/example.com:p/operations",
     "p/a%2Fb", "p/-x"],
)  # fmt: skip
def test_whatever_its_parent_an_operation_is_listed_and_found(serve, parent):
    http = serve(options={"rules": RULES})
    path = parent.replace("%", "%25").replace(":", "%3A")
    made = [http.post(f"/v1/{path}/instances", {}).ok["name"] for _ in range(2)]
    assert all(name.startswith(f"{parent}/operations/") for name in made)
    for name in made:
        done(http, f"{path}/operations/{name.rpartition('/')[2]}")
    listed = http.get(f"/v1/{path}/operations").ok["operations"]
    assert [one["name"] for one in listed] == made[::-1]
    first = f"/v1/{path}/operations/{made[0].rpartition('/')[2]}"
    assert http.get(first).ok["name"] == made[0]
    assert http.post(f"{first}:cancel").ok == {}
    assert next(http.events(f"{first}:watch"))["id"] == "done"
    assert http.send("DELETE", first).ok == {}
    assert [one["name"] for one in http.get(f"/v1/{path}/operations").ok["operations"]] == made[1:]


def test_a_parent_that_ends_in_operations_has_a_list_though_it_is_empty(serve):
    http = serve()
    start(http)
    assert http.get("/v1/projects/p/operations/operations").ok == {}


@pytest.mark.parametrize(
    ("name", "status"),
    [("operations/a/b", 400), (f"{PARENT}/operations/a/b/c", 400), ("operations/a//b", 404),
     ("operations/a/b/", 404)],
)  # fmt: skip
def test_a_name_that_no_operation_of_this_package_has_is_refused(serve, name, status):
    http = serve()
    for method, verb in [("GET", ""), ("DELETE", ""), ("POST", ":cancel"), ("GET", ":wait")]:
        assert http.send(method, f"/v1/{name}{verb}").status == status


class Foreign(operations_pb2_grpc.OperationsServicer):
    """A server with names of its own, which notes what it is asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []

    def _note(self, request: Any) -> None:
        self.asked.append((type(request).__name__, request.name))

    async def GetOperation(self, request: Any, context: Any) -> Any:
        self._note(request)
        return operations_pb2.Operation(name=request.name)

    async def WaitOperation(self, request: Any, context: Any) -> Any:
        self._note(request)
        return operations_pb2.Operation(name=request.name, done=True)

    async def ListOperations(self, request: Any, context: Any) -> Any:
        self._note(request)
        return operations_pb2.ListOperationsResponse()

    async def CancelOperation(self, request: Any, context: Any) -> Any:
        self._note(request)
        return empty_pb2.Empty()

    async def DeleteOperation(self, request: Any, context: Any) -> Any:
        self._note(request)
        return empty_pb2.Empty()


@contextlib.contextmanager
def in_front_of(foreign: Foreign) -> Iterator[Http]:
    ready: futures.Future[tuple[int, asyncio.AbstractEventLoop, asyncio.Event]] = futures.Future()

    async def run() -> None:
        server = grpc.aio.server()
        operations_pb2_grpc.add_OperationsServicer_to_server(foreign, server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            over = asyncio.Event()
            async with listening(gateway(channel=channel), "127.0.0.1:0") as http_port:
                ready.set_result((http_port, asyncio.get_running_loop(), over))
                await over.wait()
        await server.stop(None)

    thread = threading.Thread(target=lambda: asyncio.run(run()), daemon=True)
    thread.start()
    port, loop, over = ready.result(SECONDS)
    try:
        yield Http(port)
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join(SECONDS)
        assert not thread.is_alive()


NAMES = [
    "operations/x",
    "operations/build/my-project/YWJj",  # as of Cloud Build
    "operations/projects/p/instances/i/locations/l/operations/123",  # as of Bigtable
    "projects/p/operations/a/b",
    "operations/ns/operations/x/y",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_of_another_server_may_have_several_segments_after_operations(name):
    foreign = Foreign()
    with in_front_of(foreign) as http:
        assert http.get(f"/v1/{name}").ok == {"name": name}
        assert http.get(f"/v1/{name}:wait").ok["done"]
        assert http.post(f"/v1/{name}:wait", {"timeout": "1s"}).ok["done"]
        assert http.post(f"/v1/{name}:cancel", {}).ok == {}
        assert http.send("DELETE", f"/v1/{name}").ok == {}
        assert http.get(f"/v1/{name}/operations").ok == {}
    kinds = ["Get", "Wait", "Wait", "Cancel", "Delete"]
    expected = [(f"{kind}OperationRequest", name) for kind in kinds]
    assert foreign.asked == [*expected, ("ListOperationsRequest", name)]


def test_a_path_of_a_method_of_its_own_comes_before_long_names():
    rule = http_pb2.HttpRule(delete="/v1/{parent=projects/*/operations/*/logs/*}")
    rules = {f"{FLEET}/CreateInstance": rule}
    with serving("aio", Named(), options={"rules": rules}) as http:
        operation = http.send("DELETE", "/v1/projects/p/operations/x/logs/y").ok
        assert done(http, operation["name"])["response"]["name"] == "projects/p/operations/x/logs/y"


WILD = ["projects/-", "projects/-/locations/l", "-", "projects/p/locations/-", "*", "a/*/b", "a/**"]


@pytest.mark.parametrize("parent", WILD)
def test_a_parent_that_stands_for_several_gets_no_operation(serve, parent):
    http = serve(options={"rules": RULES})
    reply = http.post(f"/v1/{parent}/instances", {})
    assert reply.status == 400
    error = reply.json["error"]
    assert error["status"] == "INVALID_ARGUMENT"
    assert "stands for several resources" in error["message"]
    assert repr(parent) in error["message"]
    assert http.get("/v1/operations").ok == {}
    assert http.get("/v1/projects/-/operations").ok == {}


def test_no_operation_is_exclusive_on_several_targets(serve):
    http = serve()
    reply = http.send("DELETE", f"/v1/{PARENT}/instances/-")
    assert reply.status == 400
    assert "stands for several resources" in reply.json["error"]["message"]
    assert http.send("DELETE", f"/v1/{PARENT}/instances/-a").status == 200
