"""google-api-core's own clients and futures, unmodified, against our servers."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from fleet import ADD, NO_ROOM, PARENT, FleetService, Instance, create
from google.api_core import exceptions, operation, operation_async, operations_v1
from google.api_core.future import async_future, polling
from google.longrunning import operations_pb2
from google.protobuf import any_pb2
from google.rpc import code_pb2, error_details_pb2

import lro_grpc
from lro.example.v1 import fleet_service_pb2_grpc
from lro.v1 import operation_metadata_pb2, state_pb2
from lro_grpc import testing

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

OperationMetadata = operation_metadata_pb2.OperationMetadata

GRPC, ASYNCIO = "google-api-core (gRPC)", "google-api-core (asyncio)"
"""The names of the SDKs in the table."""

SOON = {"initial": 0.01, "maximum": 0.1}
"""The pause between polls, in seconds; the clients' own defaults begin at one."""


def assert_has_no_room(error: exceptions.GoogleAPICallError) -> None:
    """Every detail that the handler gave has come through."""
    assert error.message == "zone a is full"
    (status,) = error.errors
    assert status.code == code_pb2.RESOURCE_EXHAUSTED
    infos = [error_details_pb2.ErrorInfo(), error_details_pb2.QuotaFailure()]
    for info, detail in zip(infos, status.details, strict=True):
        assert detail.Unpack(info)
    assert infos == [
        error_details_pb2.ErrorInfo(
            reason="NO_ROOM", domain="fleet.example.com", metadata={"zone": "a"}
        ),
        NO_ROOM,
    ]


# OperationsClient


class Sync:
    """The vendor's sync client, and a stub that starts operations."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.client = operations_v1.OperationsClient(channel)
        self._fleet = fleet_service_pb2_grpc.FleetServiceStub(channel)

    def start(self, instance_id: str) -> operations_pb2.Operation:
        return self._fleet.CreateInstance(create(instance_id), timeout=10)

    def future(self, instance_id: str) -> operation.Operation:
        return operation.from_gapic(
            self.start(instance_id),
            self.client,
            Instance,
            metadata_type=OperationMetadata,
            polling=polling.DEFAULT_POLLING.with_delay(**SOON),
        )


@pytest.fixture
def sync() -> Iterator[Sync]:
    with testing.serve(FleetService(), ADD) as served:
        yield Sync(served.channel)


def test_get(sync: Sync) -> None:
    started = sync.start("held")
    found = sync.client.get_operation(started.name)
    assert isinstance(found, operations_pb2.Operation)
    assert found.name == started.name
    assert not found.done


@pytest.mark.case("missing", sdk=GRPC)
def test_get_of_an_unknown_name(sync: Sync) -> None:
    with pytest.raises(exceptions.NotFound) as raised:
        sync.client.get_operation(f"{PARENT}/operations/none")
    assert raised.value.reason == "OPERATION_NOT_FOUND"
    assert raised.value.domain == "lro-grpc"


def test_get_of_a_malformed_name(sync: Sync) -> None:
    with pytest.raises(exceptions.InvalidArgument) as raised:
        sync.client.get_operation("none")
    assert raised.value.reason == "INVALID_NAME"


@pytest.mark.case("list", sdk=GRPC)
def test_list_goes_over_the_pages_by_itself(sync: Sync) -> None:
    """The client asks for no size, so that the server's default of 50 makes two pages of 60."""
    names = [sync.start(f"i{number}").name for number in range(60)][::-1]
    pages = sync.client.list_operations(PARENT, "").pages
    assert [page.num_items for page in pages] == [50, 10]
    assert [one.name for one in sync.client.list_operations(PARENT, "")] == names


def test_list_with_a_filter(sync: Sync) -> None:
    held = sync.start("held").name
    cancelled = sync.start("held").name
    sync.client.cancel_operation(cancelled)
    while not sync.client.get_operation(cancelled).done:
        pass
    for text, expected in (("done = true", [cancelled]), ("done = false", [held])):
        assert [one.name for one in sync.client.list_operations(PARENT, text)] == expected
    with pytest.raises(exceptions.InvalidArgument) as raised:
        list(sync.client.list_operations(PARENT, "done ="))
    assert raised.value.reason == "INVALID_FILTER"


def test_cancel(sync: Sync) -> None:
    started = sync.start("held")
    assert sync.client.cancel_operation(started.name) is None
    found = sync.client.get_operation(started.name)
    while not found.done:
        found = sync.client.get_operation(started.name)
    assert found.error.code == code_pb2.CANCELLED


def test_delete(sync: Sync) -> None:
    started = sync.start("held")
    assert sync.client.delete_operation(started.name) is None
    with pytest.raises(exceptions.NotFound):
        sync.client.get_operation(started.name)
    with pytest.raises(exceptions.NotFound):
        sync.client.delete_operation(started.name)


@pytest.mark.case("success", sdk=GRPC)
def test_a_future_gives_response_and_metadata(sync: Sync) -> None:
    future = sync.future("i")
    assert future.result() == Instance(name=f"{PARENT}/instances/i", size_bytes=4096)
    assert future.done()
    assert not future.cancelled()
    assert future.exception() is None
    metadata = future.metadata
    assert isinstance(metadata, OperationMetadata)
    assert metadata.target == f"{PARENT}/instances/i"
    assert metadata.verb == "create"
    assert metadata.state == state_pb2.JOB_STATE_SUCCEEDED


def test_a_future_shows_metadata_while_it_runs(sync: Sync) -> None:
    future = sync.future("held")
    while future.metadata.progress_percent != 40:
        assert not future.done()
    assert future.metadata.status_detail == "building"
    assert future.running()
    future.cancel()


@pytest.mark.case("cancel", sdk=GRPC)
def test_a_cancelled_future_is_cancelled(sync: Sync) -> None:
    future = sync.future("held")
    assert future.cancel()
    with pytest.raises(exceptions.Cancelled) as raised:
        future.result()
    assert raised.value.errors[0].code == code_pb2.CANCELLED
    assert future.cancelled()
    assert future.done()
    assert not future.cancel()  # it is done, so no call is made
    assert future.metadata.state == state_pb2.JOB_STATE_CANCELLED


@pytest.mark.case("failure", sdk=GRPC)
def test_a_failed_future_has_every_detail(sync: Sync) -> None:
    future = sync.future("no-room")
    with pytest.raises(exceptions.ResourceExhausted) as raised:
        future.result()
    assert_has_no_room(raised.value)
    assert future.exception() is not None
    assert future.metadata.state == state_pb2.JOB_STATE_FAILED
    assert not future.cancelled()


@pytest.mark.case("denied", sdk=GRPC)
def test_a_caller_who_may_not() -> None:
    with testing.serve(FleetService(), ADD, authorize=may_start) as served:
        sync = Sync(served.channel)
        name = sync.start("held").name
        for call in (
            lambda: sync.client.get_operation(name),
            lambda: list(sync.client.list_operations(PARENT, "")),
            lambda: sync.client.cancel_operation(name),
            lambda: sync.client.delete_operation(name),
        ):
            with pytest.raises(exceptions.PermissionDenied) as raised:
                call()
            assert raised.value.reason == "PERMISSION_DENIED"


def may_start(access: lro_grpc.Access) -> bool:
    return access.permission == "operations.start"


def test_a_refused_start_is_the_calls_own_error(sync: Sync) -> None:
    """S3, as google-api-core's wrapper of a stub's method shows it."""
    with pytest.raises(grpc.RpcError) as raised:
        sync.start("refused")
    error = exceptions.from_grpc_error(raised.value)
    assert isinstance(error, exceptions.FailedPrecondition)
    assert error.reason == "FAILED_PRECONDITION"
    assert error.domain == "lro.example.v1.FleetService"


def test_the_result_of_validate_only_is_done_already(sync: Sync) -> None:
    request = create("i")
    request.validate_only = True
    answer = sync._fleet.CreateInstance(request, timeout=10)
    future = operation.from_gapic(answer, sync.client, Instance)
    assert future.result() == Instance()


# OperationsAsyncClient


class Async:
    """The vendor's asyncio client, and a stub that starts operations."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.client = operations_v1.OperationsAsyncClient(channel)
        self._fleet: Any = fleet_service_pb2_grpc.FleetServiceStub(channel)

    async def start(self, instance_id: str) -> operations_pb2.Operation:
        started: operations_pb2.Operation = await self._fleet.CreateInstance(create(instance_id))
        return started

    async def future(self, instance_id: str) -> operation_async.AsyncOperation:
        return operation_async.from_gapic(
            await self.start(instance_id),
            self.client,
            Instance,
            metadata_type=OperationMetadata,
            retry=async_future.DEFAULT_RETRY.with_delay(**SOON),
        )


def run_async(steps: Callable[[Async], Awaitable[None]], **options: Any) -> None:
    async def main() -> None:
        async with testing.serve_async(FleetService(), ADD, **options) as served:
            await steps(Async(served.channel))

    asyncio.run(main())


@pytest.mark.case("missing", sdk=ASYNCIO)
def test_async_get_cancel_and_delete() -> None:
    async def steps(vendor: Async) -> None:
        name = (await vendor.start("held")).name
        found = await vendor.client.get_operation(name)
        assert (found.name, found.done) == (name, False)
        await vendor.client.cancel_operation(name)
        while not found.done:
            found = await vendor.client.get_operation(name)
        assert found.error.code == code_pb2.CANCELLED
        await vendor.client.delete_operation(name)
        with pytest.raises(exceptions.NotFound) as raised:
            await vendor.client.get_operation(name)
        assert raised.value.reason == "OPERATION_NOT_FOUND"

    run_async(steps)


@pytest.mark.case("list", sdk=ASYNCIO)
def test_async_list_goes_over_the_pages_by_itself() -> None:
    async def steps(vendor: Async) -> None:
        names = [(await vendor.start(f"i{number}")).name for number in range(60)][::-1]
        pager = await vendor.client.list_operations(PARENT, "")
        assert [page.num_items async for page in pager.pages] == [50, 10]
        pager = await vendor.client.list_operations(PARENT, "")
        assert [one.name async for one in pager] == names

    run_async(steps)


@pytest.mark.case("success", sdk=ASYNCIO)
def test_async_future_gives_response_and_metadata() -> None:
    async def steps(vendor: Async) -> None:
        future = await vendor.future("i")
        expected = Instance(name=f"{PARENT}/instances/i", size_bytes=4096)
        assert await future.result() == expected
        assert await future.done()
        assert not await future.cancelled()
        assert future.metadata.state == state_pb2.JOB_STATE_SUCCEEDED
        assert future.metadata.target == expected.name

    run_async(steps)


@pytest.mark.case("cancel", sdk=ASYNCIO)
def test_async_cancelled_future_is_cancelled() -> None:
    async def steps(vendor: Async) -> None:
        future = await vendor.future("held")
        assert await future.cancel()
        with pytest.raises(exceptions.GoogleAPICallError) as raised:
            await future.result()
        assert raised.value.errors[0].code == code_pb2.CANCELLED
        assert await future.cancelled()
        assert not await future.cancel()

    run_async(steps)


@pytest.mark.case("failure", sdk=ASYNCIO)
def test_async_failed_future_has_every_detail() -> None:
    async def steps(vendor: Async) -> None:
        future = await vendor.future("no-room")
        with pytest.raises(exceptions.GoogleAPICallError) as raised:
            await future.result()
        assert_has_no_room(raised.value)
        assert future.metadata.state == state_pb2.JOB_STATE_FAILED

    run_async(steps)


@pytest.mark.case("denied", sdk=ASYNCIO)
def test_async_caller_who_may_not() -> None:
    async def steps(vendor: Async) -> None:
        name = (await vendor.start("held")).name

        async def listed() -> None:
            async for _ in await vendor.client.list_operations(PARENT, ""):
                pass

        for call in (
            lambda: vendor.client.get_operation(name),
            listed,
            lambda: vendor.client.cancel_operation(name),
            lambda: vendor.client.delete_operation(name),
        ):
            with pytest.raises(exceptions.PermissionDenied) as raised:
                await call()
            assert raised.value.reason == "PERMISSION_DENIED"

    run_async(steps, authorize=may_start)


def test_the_response_is_the_message_that_operation_info_declares(sync: Sync) -> None:
    """A client without this package unpacks it by the type in the ``Any`` alone (P3, P11)."""
    future = sync.future("i")
    future.result()
    packed = future.operation.response
    assert isinstance(packed, any_pb2.Any)
    assert packed.type_url == "type.googleapis.com/lro.example.v1.Instance"
    assert future.operation.metadata.type_url == "type.googleapis.com/lro.v1.OperationMetadata"
