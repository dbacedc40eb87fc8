"""``lro_grpc.testing.serve``, with which services are tested."""

from __future__ import annotations

import asyncio
import threading
from datetime import timedelta
from typing import Any

import grpc
import pytest
from google.longrunning import operations_pb2
from server_harness import PARENT, Instance, defined_with, fleet, metadata_of

import lro_grpc
from lro.example.v1 import fleet_service_pb2, fleet_service_pb2_grpc
from lro_grpc import testing

ADD = fleet_service_pb2_grpc.add_FleetServiceServicer_to_server
REQUEST = fleet_service_pb2.CreateInstanceRequest(parent=PARENT, instance_id="i")


def servicer(handler_keyword: str) -> Any:
    def run(self: Any, request: Any, op: Any) -> Any:
        if not request.instance_id:
            raise lro_grpc.LroError("no id", code=lro_grpc.Code.INVALID_ARGUMENT)
        return Instance(name=request.instance_id)

    return fleet("CreateInstance", defined_with(handler_keyword, run))


def test_serve(handler_keyword: str) -> None:
    with testing.serve(servicer(handler_keyword), ADD) as served:
        stub = fleet_service_pb2_grpc.FleetServiceStub(served.channel)
        future = served.client.future(stub.CreateInstance(REQUEST), response=Instance)
        assert future.result(timeout=timedelta(seconds=10)).name == "i"
        wrong = fleet_service_pb2.CreateInstanceRequest(parent=PARENT)
        failed = served.client.future(stub.CreateInstance(wrong), response=Instance)
        with pytest.raises(lro_grpc.OperationFailedError, match="no id"):
            failed.result(timeout=timedelta(seconds=10))
        assert len(list(served.client.list(PARENT))) == 2
    with pytest.raises(ValueError, match="closed"):
        stub.CreateInstance(REQUEST)


def test_serve_async(handler_keyword: str) -> None:
    async def main() -> None:
        async with testing.serve_async(servicer(handler_keyword), ADD) as served:
            stub: Any = fleet_service_pb2_grpc.FleetServiceStub(served.channel)
            future = served.client.future(await stub.CreateInstance(REQUEST), response=Instance)
            assert (await future.result(timeout=timedelta(seconds=10))).name == "i"
            assert len([operation async for operation in served.client.list(PARENT)]) == 1

    asyncio.run(main())


def test_what_is_no_servicers_is_configured() -> None:
    method = "/test.v1.Things/Make"

    def configure(operations: lro_grpc.Operations) -> None:
        operations.add_method(
            method, lambda request, op: request, request=Instance, response=Instance
        )

    with testing.serve(configure=configure) as served:
        with grpc.insecure_channel(served.target) as channel:
            body = channel.unary_unary(method)(b"", timeout=10)
        name = operations_pb2.Operation.FromString(body).name
        assert served.client.attach(name, response=Instance).result() == Instance()

    async def main() -> None:
        async with (
            testing.serve_async(configure=configure) as served,
            grpc.aio.insecure_channel(served.target) as channel,
        ):
            call: Any = channel.unary_unary(method)
            name = operations_pb2.Operation.FromString(await call(b"")).name
            assert await served.client.attach(name, response=Instance).result() == Instance()

    asyncio.run(main())


def test_the_clock_moves_by_hand_only(handler_keyword: str) -> None:
    with testing.serve(servicer(handler_keyword), ADD) as served:
        stub = fleet_service_pb2_grpc.FleetServiceStub(served.channel)
        started = [stub.CreateInstance(REQUEST) for _ in range(2)]
        served.clock.advance(timedelta(hours=1))
        started.append(stub.CreateInstance(REQUEST))
        times = [metadata_of(one).create_time.ToMicroseconds() for one in started]
        assert [time - times[0] for time in times] == [0, 0, 3_600_000_000]
        assert times[0] == served.clock.now() - 3_600_000_000


def test_a_test_that_fails_stops_the_server_all_the_same(handler_keyword: str) -> None:
    before = set(threading.enumerate())

    def failing() -> None:
        with testing.serve(servicer(handler_keyword), ADD) as served:
            fleet_service_pb2_grpc.FleetServiceStub(served.channel).CreateInstance(REQUEST)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        failing()
    left = {thread.name for thread in set(threading.enumerate()) - before}
    assert "lro-loop" not in left


def test_two_at_a_time_know_nothing_of_each_other(handler_keyword: str) -> None:
    with (
        testing.serve(servicer(handler_keyword), ADD) as one,
        testing.serve(servicer(handler_keyword), ADD) as other,
    ):
        started = fleet_service_pb2_grpc.FleetServiceStub(one.channel).CreateInstance(REQUEST)
        assert one.client.get(started.name).name == started.name
        with pytest.raises(lro_grpc.OperationNotFoundError):
            other.client.get(started.name)


def test_a_servicer_that_cannot_be_served_is_refused(handler_keyword: str) -> None:
    def twice(servicer: Any, server: grpc.Server) -> None:
        ADD(servicer, server)
        ADD(servicer, server)

    with (
        pytest.raises(lro_grpc.ConfigurationError, match="twice"),
        testing.serve(servicer(handler_keyword), twice),
    ):
        pass
