"""What google-api-core 2.44 gets wrong, each defect reproduced there, and right here."""

from __future__ import annotations

import asyncio
import inspect
import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
import pytest
from fake_operations import GET, WAIT, FakeOperations, FakeServer, operation
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2

from lro_grpc._client.async_operations import AsyncOperationsClient
from lro_grpc._errors import Code, OperationFailedError, OperationTimeoutError, WrongTypeError
from lro_grpc._runtime.backoff import DEFAULT_BACKOFF

if TYPE_CHECKING:
    from sides import Side

RESPONSE = Timestamp(seconds=7)
LONG = timedelta(seconds=20)
INFO = error_details_pb2.ErrorInfo(reason="GONE", domain="x.test", metadata={"disk": "1"})
HELP = error_details_pb2.Help(links=[error_details_pb2.Help.Link(url="https://x.test")])


def gone() -> operations_pb2.Operation:
    one = operation(error=Code.NOT_FOUND)
    one.error.details.add().Pack(INFO)
    one.error.details.add().Pack(HELP)
    return one


def polled(fake: FakeOperations) -> None:
    """The incumbent only ever polls."""
    fake.always(WAIT, grpc.StatusCode.UNIMPLEMENTED)


def test_sync_and_async_have_drifted_apart(side: Side, fake: FakeOperations) -> None:
    """A failed operation is NotFound in one, and a bare GoogleAPICallError in the other."""
    fake.put(gone())
    with pytest.raises(OperationFailedError) as caught:
        side.run(side.client().attach("operations/1").result(LONG))
    assert type(caught.value) is OperationFailedError
    assert caught.value.code is Code.NOT_FOUND
    assert caught.value.message == "the disk is full"
    assert (caught.value.reason, caught.value.domain) == ("GONE", "x.test")


def test_error_info_and_the_other_details_are_lost(side: Side, fake: FakeOperations) -> None:
    fake.put(gone())
    error = side.run(side.client().attach("operations/1").exception(LONG))
    assert error.details == (INFO, HELP)
    assert error.metadata == {"disk": "1"}


def test_from_grpc_cannot_poll_at_all(side: Side, fake: FakeOperations) -> None:
    """A future that is made of what a plain stub has returned."""
    polled(fake)
    fake.put(operation())
    stub = operations_pb2_grpc.OperationsStub(side.channel)

    async def started() -> operations_pb2.Operation:
        call = stub.GetOperation(operations_pb2.GetOperationRequest(name="operations/1"))
        return await call if inspect.isawaitable(call) else call

    raw = side.run(started()) if side.is_async else asyncio.run(started())
    fake.script(GET, operation(), operation())
    fake.put(operation(response=RESPONSE))
    assert side.run(side.client().future(raw, response=Timestamp).result(LONG)) == RESPONSE
    assert fake.count(GET) == 4


def test_after_a_type_mismatch_the_second_result_is_none(side: Side, fake: FakeOperations) -> None:
    fake.put(operation(response=RESPONSE))
    future = side.client().attach("operations/1", response=Duration)
    for _ in range(3):
        with pytest.raises(WrongTypeError):
            side.run(future.result(LONG))


def test_a_timeout_comes_late_because_a_poll_is_slow(side: Side, fake: FakeOperations) -> None:
    polled(fake)
    fake.always(GET, fake.hang)
    with pytest.raises(OperationTimeoutError) as caught:
        side.run(side.client().attach("operations/1").result(timedelta(seconds=0.3)))
    assert caught.value.elapsed < timedelta(seconds=10)  # the deadline of a poll


def test_a_timeout_does_not_name_the_operation(side: Side, fake: FakeOperations) -> None:
    fake.put(operation(metadata=RESPONSE))
    with pytest.raises(OperationTimeoutError, match="operations/1") as caught:
        side.run(side.client().attach("operations/1").result(timedelta(seconds=0.1)))
    assert caught.value.name == "operations/1"
    assert caught.value.operation == operation(metadata=RESPONSE)


def test_callbacks_are_never_called_when_the_background_poll_ends_badly(
    side: Side, fake: FakeOperations
) -> None:
    polled(fake)
    fake.script(GET, *[grpc.StatusCode.DEADLINE_EXCEEDED] * 3, grpc.StatusCode.PERMISSION_DENIED)
    future = side.client().attach("operations/1")
    called = threading.Event()

    async def add() -> None:
        future.add_done_callback(lambda _: called.set())

    if side.is_async:
        side.run(add())
    else:
        future.add_done_callback(lambda _: called.set())
    side.until(called)
    assert fake.count(GET) == 4


def test_ten_waiters_make_ten_polls(side: Side, fake: FakeOperations) -> None:
    polled(fake)
    client = side.client()
    futures = [client.attach("operations/1") for _ in range(10)]
    fake.script(GET, *[operation()] * 4, operation(response=RESPONSE))
    results = side.together([lambda one=one: one.result(LONG) for one in futures])
    assert results == [RESPONSE] * 10
    assert fake.count(GET) == 5


def test_await_operation_is_a_type_error(server: FakeServer) -> None:
    server.fake.put(operation(response=RESPONSE))

    async def main() -> Any:
        async with grpc.aio.insecure_channel(server.target) as channel:
            return await AsyncOperationsClient(channel).attach("operations/1")

    assert asyncio.run(main()) == RESPONSE


def test_default_polling_adds_seconds_to_an_operation(side: Side, fake: FakeOperations) -> None:
    """The very call that waits returns with the end, so there is nothing to add."""
    fake.put(operation())

    def finish() -> None:
        fake.arrived[WAIT].acquire(timeout=10)
        fake.put(operation(response=RESPONSE))

    finishing = threading.Thread(target=finish)
    finishing.start()
    future = side.client(backoff=DEFAULT_BACKOFF).attach("operations/1")
    assert side.run(future.result(LONG)) == RESPONSE
    finishing.join()
    assert fake.calls == [WAIT]


def test_the_metadata_list_of_the_caller_grows_with_each_poll(
    side: Side, fake: FakeOperations
) -> None:
    polled(fake)
    fake.script(GET, *[operation()] * 5)
    fake.put(operation(response=RESPONSE))
    mine: list[tuple[str, str | bytes]] = [("x-mine", "1")]
    side.run(side.client(call_metadata=mine).attach("operations/1").result(LONG))
    assert mine == [("x-mine", "1")]
    assert fake.count(GET) == 6
