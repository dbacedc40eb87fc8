"""Each quirk of grpcio as this version of it has it, and what the client makes of it.

A test that fails with a newer grpcio shows a quirk that has gone, or has changed.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
import pytest
from fake_operations import GET, FakeOperations, FakeServer, operation
from google.longrunning import operations_pb2, operations_pb2_grpc

from lro_grpc._client import grpc_quirks
from lro_grpc._errors import Code

if TYPE_CHECKING:
    from collections.abc import Coroutine

REQUEST = operations_pb2.GetOperationRequest(name="operations/1")


class Passing(grpc.UnaryUnaryClientInterceptor):
    def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        return continuation(details, request)


def test_a_deadline_in_the_far_future_is_over_at_once(
    server: FakeServer, fake: FakeOperations
) -> None:
    fake.put(operation())
    with grpc.insecure_channel(server.target) as channel:
        get = operations_pb2_grpc.OperationsStub(channel).GetOperation
        with pytest.raises(grpc.RpcError) as caught:
            get(REQUEST, timeout=timedelta.max.total_seconds())
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert get(REQUEST, timeout=grpc_quirks.deadline(timedelta.max)) == operation()


def test_only_a_plain_channel_is_known_not_to_block(server: FakeServer) -> None:
    with grpc.insecure_channel(server.target) as channel:
        assert not grpc_quirks.may_block(channel)
        assert grpc_quirks.may_block(grpc.intercept_channel(channel, Passing()))


def test_a_cancelled_future_raises_no_rpc_error(server: FakeServer, fake: FakeOperations) -> None:
    fake.always(GET, fake.hang)
    with grpc.insecure_channel(server.target) as channel:
        call: Any = operations_pb2_grpc.OperationsStub(channel).GetOperation
        future = call.future(REQUEST)
        future.cancel()
        with pytest.raises(grpc.FutureCancelledError):
            future.result()
        with pytest.raises(ValueError, match="closed") as caught:
            grpc_quirks.result_of(future)
    assert grpc_quirks.error_of_call(caught.value).reason == "CHANNEL_CLOSED"


def test_a_closed_channel_takes_no_call(server: FakeServer) -> None:
    channel = grpc.insecure_channel(server.target)
    channel.close()
    with pytest.raises(ValueError, match="closed") as caught:
        operations_pb2_grpc.OperationsStub(channel).GetOperation(REQUEST)
    assert grpc_quirks.error_of_call(caught.value).reason == "CHANNEL_CLOSED"


def on_aio_channel(server: FakeServer, use: Any) -> Any:
    async def run() -> Any:
        async with grpc.aio.insecure_channel(server.target) as channel:
            return await use(channel, operations_pb2_grpc.OperationsStub(channel).GetOperation)

    return asyncio.run(run())


def test_a_closed_aio_channel_takes_no_call(server: FakeServer) -> None:
    async def use(channel: grpc.aio.Channel, get: Any) -> None:
        await channel.close()
        with pytest.raises(grpc.aio.UsageError, match="closed") as caught:
            await get(REQUEST)
        assert grpc_quirks.error_of_call(caught.value).reason == "CHANNEL_CLOSED"

    on_aio_channel(server, use)


@pytest.mark.parametrize("bare", [True, False])
def test_closing_an_aio_channel_cancels_its_calls(
    server: FakeServer, fake: FakeOperations, bare: bool
) -> None:
    async def awaited(call: Any) -> Any:
        return await call

    async def use(channel: grpc.aio.Channel, get: Any) -> None:
        make: Coroutine[Any, Any, Any] = (awaited if bare else grpc_quirks.await_call)(get(REQUEST))
        calling = asyncio.ensure_future(make)
        await asyncio.get_running_loop().run_in_executor(None, fake.arrived[GET].acquire)
        await channel.close()
        with pytest.raises(asyncio.CancelledError if bare else grpc.aio.UsageError):
            await calling

    fake.always(GET, fake.hang)
    on_aio_channel(server, use)


def test_bytes_that_are_no_message_are_none_of_grpc_aio(server: FakeServer) -> None:
    async def use(channel: grpc.aio.Channel, get: Any) -> None:
        assert await get(REQUEST) is None
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await grpc_quirks.await_call(get(REQUEST))
        assert caught.value.code() is grpc.StatusCode.INTERNAL

    server.broken.add(GET)
    on_aio_channel(server, use)


def test_an_rpc_error_of_somebody_else_has_no_code() -> None:
    assert not hasattr(grpc.RpcError(), "code")
    error = grpc_quirks.error_of_call(grpc.RpcError("refused"))
    assert error.code is Code.UNKNOWN
    assert isinstance(error, grpc.RpcError)
