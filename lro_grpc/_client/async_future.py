"""The future of an operation, for asyncio."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any

from lro_grpc._client.calls import (
    cancel_call,
    delete_call,
    describe_call,
    pause_call,
    resume_call,
    terminate_call,
)
from lro_grpc._client.future_state import FutureState
from lro_grpc._client.lazy_coroutine import LazyCoroutine
from lro_grpc._client.payloads import MetadataT, ResponseT
from lro_grpc._client.plan import RPC_TIMEOUT
from lro_grpc._errors import LroError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Generator

    from google.longrunning import operations_pb2

    from lro.v1.operation_description_pb2 import DescribeOperationResponse
    from lro_grpc._client.core import ClientCore
    from lro_grpc._client.update import OperationUpdate
    from lro_grpc._durations import Duration

_logger = logging.getLogger(__name__)


class AsyncOperationFuture(FutureState[ResponseT, MetadataT]):
    """A running operation, and in time its result (AIP-151, C1).

    Made by ``AsyncOperationsClient.future`` and ``AsyncOperationsClient.attach``. May be awaited
    any number of times, and by many tasks of one event loop at once: all that wait for one
    operation, through one client, share its calls. It fits ``asyncio.ensure_future`` and any other
    function that takes an awaitable, and ``asyncio.wait``, whose ``FIRST_EXCEPTION`` is that of
    ``async_wait`` alone.

    Nothing is cancelled by forgetting a future, by a timeout, or by cancelling a task that awaits
    it: the operation lives at the server.
    """

    def __init__(
        self,
        core: ClientCore,
        operation: operations_pb2.Operation,
        response: type[ResponseT] | None,
        metadata: type[MetadataT] | None,
    ) -> None:
        super().__init__(core, operation, response, metadata)
        self._callbacks: dict[asyncio.Task[None], object] = {}
        self._has_failed = False

    def __await__(self) -> Generator[Any, None, ResponseT]:
        """Waits as long as it takes; the same as awaiting ``result()``."""
        return self.result().__await__()

    async def result(self, timeout: Duration | None = None) -> ResponseT:
        """Waits until the operation is done and returns its response.

        Arguments, result and errors are those of ``OperationFuture.result``.
        """
        await self._watcher.wait(timeout)
        return self._result()

    def exception(self, timeout: Duration | None = None) -> LazyCoroutine[LroError | None]:
        """Waits until the operation is done and returns the error that it ended with.

        Arguments, result and errors are those of ``OperationFuture.exception``.
        """

        async def wait() -> LroError | None:
            await self._watcher.wait(timeout)
            return self._exception()

        return LazyCoroutine(wait, known=self.operation.HasField("error"))

    def done(self) -> LazyCoroutine[bool]:
        """Whether the operation is done, by at most one Get, as ``OperationFuture.done``.

        Not awaited, it is true if the operation is known to be done, or a wait of a callback has
        failed: so ``asyncio.wait`` has it.
        """

        async def refresh() -> bool:
            await self._watcher.refresh()
            return self.operation.done

        return LazyCoroutine(refresh, known=self.operation.done or self._has_failed)

    async def running(self) -> bool:
        """Whether the operation is not done; refreshed as by ``done()``."""
        return not await self.done()

    def cancelled(self) -> LazyCoroutine[bool]:
        """Whether the operation ended by being cancelled; refreshed as by ``done()``."""

        async def refresh() -> bool:
            await self._watcher.refresh()
            return self._is_cancelled()

        return LazyCoroutine(refresh, known=self._is_cancelled())

    async def cancel(self) -> bool:
        """Asks the server to cancel the operation, as ``OperationFuture.cancel``."""
        if self.operation.done:
            return False
        await self._core.call(cancel_call(self.name, RPC_TIMEOUT))
        return True

    async def pause(self) -> None:
        """Asks the server to pause the operation, as ``OperationFuture.pause``."""
        await self._command(pause_call(self.name, RPC_TIMEOUT))

    async def resume(self) -> None:
        """Asks the server to go on with a paused operation, as ``OperationFuture.resume``."""
        await self._command(resume_call(self.name, RPC_TIMEOUT), once=True)

    async def terminate(self, reason: str) -> None:
        """Ends the operation by force, as ``OperationFuture.terminate``."""
        await self._command(terminate_call(self.name, reason, RPC_TIMEOUT))

    async def describe(self, *, with_request: bool = False) -> DescribeOperationResponse:
        """Returns all that the server knows of the operation, as ``OperationFuture.describe``."""
        call = describe_call(self.name, RPC_TIMEOUT, with_request=with_request)
        response: DescribeOperationResponse = await self._core.call(call)
        return response

    async def delete(self) -> None:
        """Asks the server to forget the operation; this does not cancel it (P7)."""
        await self._core.call(delete_call(self.name, RPC_TIMEOUT))

    async def updates(
        self, timeout: Duration | None = None
    ) -> AsyncIterator[OperationUpdate[MetadataT]]:
        """Yields the operation's present state, and each further one.

        Arguments, updates and errors are those of ``OperationFuture.updates``.
        """
        async with contextlib.aclosing(self._watcher.states(timeout)) as states:
            async for operation in states:
                yield self._update(operation)

    def concurrent(self, timeout: Duration | None = None) -> asyncio.Task[ResponseT]:
        """Returns a task of the running event loop that ends as ``result()`` does.

        Cancelling it ends the wait, not the operation.

        Args:
            timeout: As for ``result``.

        Raises:
            RuntimeError: If no event loop is running.
        """
        return asyncio.get_running_loop().create_task(self.result(timeout))

    def add_done_callback(
        self, callback: Callable[[AsyncOperationFuture[ResponseT, MetadataT]], object]
    ) -> None:
        """Adds a function to call once, with this future, when the wait for the operation is over.

        It is called in a task of the running event loop, never at once, also if the operation is
        done already. The rest is as for ``OperationFuture.add_done_callback``.

        Raises:
            RuntimeError: If no event loop is running.
        """
        task = asyncio.get_running_loop().create_task(self._call_back(callback))
        self._callbacks[task] = callback  # the loop itself keeps no task alive
        task.add_done_callback(self._callbacks.pop)

    def remove_done_callback(
        self, callback: Callable[[AsyncOperationFuture[ResponseT, MetadataT]], object]
    ) -> int:
        """Removes a function that was added, as often as it was, and has not been called yet.

        Returns:
            How often it was removed.
        """
        found = [task for task, one in self._callbacks.items() if one == callback]
        for task in found:
            task.cancel()
        return len(found)

    async def _call_back(
        self, callback: Callable[[AsyncOperationFuture[ResponseT, MetadataT]], object]
    ) -> None:
        fields = {"operation": self.name}
        try:
            await self._watcher.wait(None)
        except LroError as error:
            self._has_failed = True
            _logger.debug("the wait for %s ended with %r", self.name, error, extra=fields)
        try:
            callback(self)
        except Exception:
            _logger.exception("a callback of %s failed", self.name, extra=fields)
