"""The client of google.longrunning.Operations, for asyncio."""

from __future__ import annotations

import random as random_module
from typing import TYPE_CHECKING

from google.longrunning import operations_pb2

from lro_grpc._client.async_future import AsyncOperationFuture
from lro_grpc._client.calls import (
    cancel_call,
    delete_call,
    describe_call,
    operation_of,
    pause_call,
    rerun_call,
    resume_call,
    single_wait_call,
    summarize_call,
    terminate_call,
)
from lro_grpc._client.connection import AsyncConnection, CallMetadata
from lro_grpc._client.core import ChannelCore, ClientCore, WaitMode
from lro_grpc._client.listing import Listing
from lro_grpc._client.plan import RPC_TIMEOUT, get_call
from lro_grpc._durations import as_timeout
from lro_grpc._runtime.backoff import DEFAULT_BACKOFF, DEFAULT_RETRY, Backoff, Retry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from datetime import timedelta

    import grpc.aio

    from lro.v1.operation_description_pb2 import DescribeOperationResponse
    from lro.v1.operation_summary_pb2 import SummarizeOperationsResponse
    from lro_grpc._client.payloads import MetadataT, ResponseT
    from lro_grpc._durations import Duration
    from lro_grpc._runtime.clock import Clock


class AsyncOperationsClient:
    """Follows operations of any server that has google.longrunning.Operations.

    Every method is that of ``OperationsClient``, with its arguments, results and errors.

    Args:
        channel: The channel on which the operations were started; it stays the caller's to close.
        call_metadata: gRPC metadata that is sent with every call.
        backoff: The pauses between polls, and after UNAVAILABLE.
        retry: When a single call that failed is made again, None for never; its codes are outlived
            by a future's wait, too. ``wait``, and a resume, which is not the same when it is
            repeated, are made once in any case.
        wait: How a future waits: ``"auto"`` by WatchOperations, WatchOperation or WaitOperation
            where the server has them, ``"poll"`` by GetOperation alone, for a server whose others
            are not to be trusted.
        clock: The clock; for tests.
        random: Gives numbers uniform in [0, 1); for tests.
    """

    def __init__(
        self,
        channel: grpc.aio.Channel,
        *,
        call_metadata: CallMetadata = (),
        backoff: Backoff = DEFAULT_BACKOFF,
        retry: Retry | None = DEFAULT_RETRY,
        wait: WaitMode = "auto",
        clock: Clock | None = None,
        random: Callable[[], float] = random_module.random,
    ) -> None:
        self._core = ChannelCore(
            AsyncConnection(channel, call_metadata),
            backoff=backoff,
            retry=retry,
            wait=wait,
            clock=clock,
            random=random,
        )

    def future(
        self,
        operation: operations_pb2.Operation,
        *,
        response: type[ResponseT] | None = None,
        metadata: type[MetadataT] | None = None,
        call_metadata: CallMetadata = (),
    ) -> AsyncOperationFuture[ResponseT, MetadataT]:
        """Returns the future of an operation that a method has returned. Makes no RPC."""
        core = self._core.sending(call_metadata)
        return AsyncOperationFuture(core, operation, response, metadata)

    def attach(
        self,
        name: str,
        *,
        response: type[ResponseT] | None = None,
        metadata: type[MetadataT] | None = None,
        call_metadata: CallMetadata = (),
    ) -> AsyncOperationFuture[ResponseT, MetadataT]:
        """Returns the future of an operation that was started before, elsewhere. Makes no RPC."""
        operation = operations_pb2.Operation(name=name)
        return self.future(
            operation, response=response, metadata=metadata, call_metadata=call_metadata
        )

    async def get(
        self, name: str, *, timeout: Duration | None = RPC_TIMEOUT
    ) -> operations_pb2.Operation:
        """Returns the latest state of an operation."""
        operation: operations_pb2.Operation = await self._core.call(get_call(name, timeout))
        return operation

    async def wait(self, name: str, *, timeout: Duration | None = None) -> operations_pb2.Operation:
        """Makes one WaitOperation call; a future's ``result()`` makes as many as it takes."""
        operation: operations_pb2.Operation = await self._core.call(
            single_wait_call(name, timeout), once=True
        )
        return operation

    def list(
        self,
        parent: str,
        *,
        filter: str = "",  # noqa: A002 - the field's name
        page_size: int = 0,
        page_token: str = "",
        return_partial_success: bool = False,
        timeout: Duration | None = RPC_TIMEOUT,
        total_timeout: Duration | None = None,
    ) -> AsyncOperationPager:
        """Lists operations, for ``async for``. It is not awaited, for it makes no RPC by itself."""
        request = operations_pb2.ListOperationsRequest(
            name=parent,
            filter=filter,
            page_size=page_size,
            page_token=page_token,
            return_partial_success=return_partial_success,
        )
        return AsyncOperationPager(
            self._core,
            request,
            as_timeout(timeout),
            as_timeout(total_timeout, "total_timeout"),
        )

    async def cancel(self, name: str, *, timeout: Duration | None = RPC_TIMEOUT) -> None:
        """Asks the server to cancel an operation, which may succeed nevertheless (P8)."""
        await self._core.call(cancel_call(name, timeout))

    async def delete(self, name: str, *, timeout: Duration | None = RPC_TIMEOUT) -> None:
        """Asks the server to forget an operation; this does not cancel it (P7)."""
        await self._core.call(delete_call(name, timeout))

    async def pause(
        self, name: str, *, timeout: Duration | None = RPC_TIMEOUT
    ) -> operations_pb2.Operation:
        """Asks the server to pause an operation."""
        return operation_of(await self._core.call(pause_call(name, timeout)), name)

    async def resume(
        self, name: str, *, timeout: Duration | None = RPC_TIMEOUT
    ) -> operations_pb2.Operation:
        """Asks the server to go on with a paused operation."""
        response = await self._core.call(resume_call(name, timeout), once=True)
        return operation_of(response, name)

    async def terminate(
        self, name: str, reason: str, *, timeout: Duration | None = RPC_TIMEOUT
    ) -> operations_pb2.Operation:
        """Ends an operation by force."""
        response = await self._core.call(terminate_call(name, reason, timeout))
        return operation_of(response, name)

    async def rerun(
        self,
        name: str,
        *,
        request_id: str = "",
        validate_only: bool = False,
        timeout: Duration | None = RPC_TIMEOUT,
    ) -> operations_pb2.Operation:
        """Has an operation that is done run again; see ``OperationsClient.rerun``."""
        call = rerun_call(name, request_id, validate_only, timeout)
        response = await self._core.call(call)
        operation: operations_pb2.Operation = response.operation
        return operation

    async def describe(
        self, name: str, *, with_request: bool = False, timeout: Duration | None = RPC_TIMEOUT
    ) -> DescribeOperationResponse:
        """Returns all that is known of an operation."""
        response: DescribeOperationResponse = await self._core.call(
            describe_call(name, timeout, with_request=with_request)
        )
        return response

    async def summarize(
        self,
        parent: str,
        *,
        filter: str = "",  # noqa: A002 - the field's name
        timeout: Duration | None = RPC_TIMEOUT,
    ) -> SummarizeOperationsResponse:
        """Returns how many operations of a parent there are, by their methods and states."""
        response: SummarizeOperationsResponse = await self._core.call(
            summarize_call(parent, filter, timeout)
        )
        return response


class AsyncOperationPager:
    """The operations of a list, fetched as needed; made by ``AsyncOperationsClient.list``."""

    def __init__(
        self,
        core: ClientCore,
        request: operations_pb2.ListOperationsRequest,
        timeout: timedelta | None,
        total_timeout: timedelta | None,
    ) -> None:
        self._core = core
        self._request = request
        self._timeout = timeout
        self._total_timeout = total_timeout

    async def __aiter__(self) -> AsyncIterator[operations_pb2.Operation]:
        """Yields every operation, page after page."""
        async for page in self.pages():
            for operation in page.operations:
                yield operation

    async def pages(self) -> AsyncIterator[operations_pb2.ListOperationsResponse]:
        """Yields every page as the server sent it; one may be empty before the end (S12)."""
        listing = Listing(self._core, self._request, self._timeout, self._total_timeout)
        while (page := await listing.page()) is not None:
            yield page
