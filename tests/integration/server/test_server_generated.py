"""Services that derive from a generated servicer, in each stack, on each kind of server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc
import pytest
from declared import Declared, Rpc
from server_harness import PARENT, SECONDS, Instance, metadata_of, refused, response_of, serving

import lro_grpc
from lro.example.v1 import fleet_service_lro, fleet_service_pb2, fleet_service_pb2_grpc
from lro.v1.operation_metadata_pb2 import OperationMetadata
from lro_grpc import stubs

ADD = fleet_service_lro.add_FleetServiceServicer_to_server
TAKEN = lro_grpc.LroError("the id is taken", code=lro_grpc.Code.ALREADY_EXISTS, reason="TAKEN")

Serve = Any


class Fleet(fleet_service_lro.FleetServiceServicer):
    """In ``def``."""

    @lro_grpc.MethodOptions(max_attempts=3, verb="grow")
    def CreateInstance(
        self,
        request: fleet_service_pb2.CreateInstanceRequest,
        op: lro_grpc.OperationContext[OperationMetadata],
    ) -> Instance:
        op.progress(50, "half")
        return Instance(name=op.target)

    def prepare_CreateInstance(
        self, request: fleet_service_pb2.CreateInstanceRequest, context: grpc.ServicerContext
    ) -> lro_grpc.Prepared:
        if request.instance_id == "taken":
            raise TAKEN
        return lro_grpc.Prepared(target=f"{request.parent}/instances/{request.instance_id}")

    def TakeSnapshot(
        self,
        request: fleet_service_pb2.TakeSnapshotRequest,
        op: lro_grpc.OperationContext,  # of any metadata
    ) -> fleet_service_pb2.TakeSnapshotResponse:
        return fleet_service_pb2.TakeSnapshotResponse()

    def GetInstance(
        self, request: fleet_service_pb2.GetInstanceRequest, context: grpc.ServicerContext
    ) -> Instance:
        if request.name == "taken":
            raise TAKEN
        return Instance(name=request.name)


class AsyncFleet(fleet_service_lro.AsyncFleetServiceServicer):
    """In ``async def``."""

    @lro_grpc.MethodOptions(max_attempts=3, verb="grow")
    async def CreateInstance(
        self,
        request: fleet_service_pb2.CreateInstanceRequest,
        op: lro_grpc.AsyncOperationContext[OperationMetadata],
    ) -> Instance:
        op.progress(50, "half")
        return Instance(name=op.target)

    async def prepare_CreateInstance(
        self,
        request: fleet_service_pb2.CreateInstanceRequest,
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> lro_grpc.Prepared:
        if request.instance_id == "taken":
            raise TAKEN
        return lro_grpc.Prepared(target=f"{request.parent}/instances/{request.instance_id}")

    async def TakeSnapshot(
        self,
        request: fleet_service_pb2.TakeSnapshotRequest,
        op: lro_grpc.AsyncOperationContext,
    ) -> fleet_service_pb2.TakeSnapshotResponse:
        return fleet_service_pb2.TakeSnapshotResponse()


class AsyncFleetWithPlain(AsyncFleet):
    """With a plain method, which a ``grpc.server`` could not await."""

    async def GetInstance(
        self,
        request: fleet_service_pb2.GetInstanceRequest,
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> Instance:
        if request.name == "taken":
            raise TAKEN
        return Instance(name=request.name)


FLEETS = {"def": Fleet, "async def": AsyncFleet}


@pytest.fixture
def fleet(handler_keyword: str) -> Any:
    return FLEETS[handler_keyword]()


@pytest.fixture
def fleet_with_plain(stack: str, handler_keyword: str) -> Any:
    if handler_keyword == "def":
        return Fleet()
    if stack == "sync":
        pytest.skip("a grpc.server cannot await")
    return AsyncFleetWithPlain()


def test_its_methods_start_operations(serve: Serve, fleet: Any) -> None:
    server = serve(fleet, add=ADD)
    ended = server.done(server.create(instance_id="i").name)
    assert response_of(ended).name == f"{PARENT}/instances/i"
    assert metadata_of(ended).progress_percent == 100
    assert metadata_of(ended).status_detail == "half"


def test_what_decorates_a_method_holds(serve: Serve, fleet: Any) -> None:
    server = serve(fleet, add=ADD)
    assert metadata_of(server.create(instance_id="i")).verb == "grow"
    request = fleet_service_pb2.TakeSnapshotRequest(name="x")
    assert metadata_of(server.fleet.TakeSnapshot(request, timeout=SECONDS)).verb == "takeSnapshot"


def test_what_its_prepare_raises_is_the_rpcs_error(serve: Serve, fleet: Any) -> None:
    """S3."""
    server = serve(fleet, add=ADD)
    error = refused(lambda: server.create(instance_id="taken"))
    assert (error.code, error.info.reason) == (grpc.StatusCode.ALREADY_EXISTS, "TAKEN")
    assert server.names() == []


def test_what_it_does_not_override_is_unimplemented(serve: Serve, fleet: Any) -> None:
    server = serve(fleet, add=ADD)
    for call in (
        lambda: server.fleet.DeleteInstance(fleet_service_pb2.DeleteInstanceRequest()),
        lambda: server.fleet.ListInstances(fleet_service_pb2.ListInstancesRequest()),
    ):
        with pytest.raises(grpc.RpcError) as raised:
            call()
        assert raised.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert server.names() == []


def test_a_decorated_method_is_as_good(serve: Serve) -> None:
    """For what a type checker need not accept."""

    class Marked(Fleet):
        @lro_grpc.method(verb="decorated")
        async def CreateInstance(self, request: Any, op: Any) -> Instance:
            return Instance(name="decorated")

    server = serve(Marked(), add=ADD)
    ended = server.done(server.create(instance_id="i").name)
    assert response_of(ended).name == "decorated"
    assert metadata_of(ended).verb == "decorated"


def test_its_plain_methods_answer_or_raise(serve: Serve, fleet_with_plain: Any) -> None:
    server = serve(fleet_with_plain, add=ADD)

    def get(name: str) -> Instance:
        request = fleet_service_pb2.GetInstanceRequest(name=name)
        return server.fleet.GetInstance(request, timeout=SECONDS)

    assert get("i").name == "i"
    error = refused(lambda: get("taken"))
    assert (error.code, error.info.reason) == (grpc.StatusCode.ALREADY_EXISTS, "TAKEN")
    assert error.info.domain == "lro.example.v1.FleetService"


# What cannot be served


def start_up_error(stack: str, servicer: Any, add: Any = ADD) -> str:
    with pytest.raises(lro_grpc.ConfigurationError) as raised, serving(stack, servicer, add=add):
        pass
    return raised.value.message


def test_grpcs_own_adder_says_which_one_to_take(stack: str, fleet: Any) -> None:
    wrong = fleet_service_pb2_grpc.add_FleetServiceServicer_to_server
    message = start_up_error(stack, fleet, wrong)
    assert "/lro.example.v1.FleetService/CreateInstance" in message
    assert "_lro module" in message


def test_a_grpc_server_cannot_await_a_plain_method() -> None:
    message = start_up_error("sync", AsyncFleetWithPlain())
    assert "/lro.example.v1.FleetService/GetInstance" in message
    assert "grpc.aio.server" in message


def test_a_plain_method_takes_no_options(stack: str) -> None:
    class Wrong(Fleet):
        @lro_grpc.MethodOptions(pausable=True)
        def GetInstance(
            self, request: fleet_service_pb2.GetInstanceRequest, context: grpc.ServicerContext
        ) -> Instance:
            return super().GetInstance(request, context)

    message = start_up_error(stack, Wrong())
    assert "/lro.example.v1.FleetService/GetInstance" in message
    assert "MethodOptions" in message


# Methods that stream


class _Things:
    """A service with every kind of method, as generated code declares it."""

    def __init__(self) -> None:
        self.declared = Declared(
            {
                "Make": Rpc(),
                "Tail": Rpc(info=None, output="Thing", server_streaming=True),
                "Join": Rpc(info=None, output="Thing", client_streaming=True),
                "Chat": Rpc(None, "Thing", client_streaming=True, server_streaming=True),
            }
        )
        ask, self.thing = map(self.declared.message, ("Ask", "Thing"))
        method = self.declared.method
        progress = self.declared.message("Progress")
        members = {
            "Make": stubs.LongRunning(method("Make"), ask, self.thing, progress),
            "Tail": stubs.UnaryStream(method("Tail"), ask, self.thing),
            "Join": stubs.StreamUnary(method("Join"), ask, self.thing),
            "Chat": stubs.StreamStream(method("Chat"), ask, self.thing),
        }
        self.rpcs = type("_Things", (), members)
        self.base = dict.fromkeys((*members, "prepare_Make"))

    def add(self, servicer: Any, server: Any) -> None:
        bases = [type("Base", (kind,), self.base) for kind in type(servicer).__mro__[1:2]]
        stubs.add_servicer(servicer, server, self.rpcs, *bases)


def sync_things(thing: Any) -> Any:
    class Things(stubs.Servicer):
        def Make(self, request: Any, op: Any) -> Any:
            return thing(name=request.name)

        def Tail(self, request: Any, context: Any) -> Iterator[Any]:
            yield thing(name=request.name)
            raise TAKEN

        def Join(self, requests: Iterator[Any], context: Any) -> Any:
            return thing(name="".join(one.name for one in requests))

        def Chat(self, requests: Iterator[Any], context: Any) -> Iterator[Any]:
            for one in requests:
                yield thing(name=one.name)

    return Things()


def async_things(thing: Any) -> Any:
    class Things(stubs.AsyncServicer):
        async def Make(self, request: Any, op: Any) -> Any:
            return thing(name=request.name)

        async def Tail(self, request: Any, context: Any) -> AsyncIterator[Any]:
            yield thing(name=request.name)
            raise TAKEN

        async def Join(self, requests: AsyncIterator[Any], context: Any) -> Any:
            return thing(name="".join([one.name async for one in requests]))

        def Chat(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
            return self._echo(requests)  # no generator itself

        async def _echo(self, requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
            async for one in requests:
                yield thing(name=one.name)

    return Things()


@pytest.mark.parametrize(
    ("stack", "handler_keyword"), [("sync", "def"), ("aio", "def"), ("aio", "async def")]
)
def test_streaming_methods_beside_a_long_running_one(serve: Serve, handler_keyword: str) -> None:
    things = _Things()
    make = sync_things if handler_keyword == "def" else async_things
    server = serve(make(things.thing), add=things.add)
    ask = things.declared.message("Ask")

    def rpc(kind: str, name: str) -> Any:
        how = {"response_deserializer": things.thing.FromString}
        method = things.declared.method(name)
        serialize = {"request_serializer": ask.SerializeToString}
        return getattr(server.channel, kind)(method, **serialize, **how)

    many = [ask(name="a"), ask(name="b")]
    assert rpc("stream_unary", "Join")(iter(many), timeout=SECONDS).name == "ab"
    chat = rpc("stream_stream", "Chat")(iter(many), timeout=SECONDS)
    assert [one.name for one in chat] == ["a", "b"]
    tail = rpc("unary_stream", "Tail")(ask(name="x"), timeout=SECONDS)
    assert next(tail).name == "x"
    assert refused(lambda: next(tail)).info.reason == "TAKEN"
    started = server.start(things.declared.method("Make"), ask(name="m"))
    ended = server.done(started.name)
    assert things.thing.FromString(ended.response.value).name == "m"
