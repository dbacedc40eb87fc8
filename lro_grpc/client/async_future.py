"""The future of an operation, for asyncio."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from lro_grpc import polling
from lro_grpc.client.calls import cancel_call
from lro_grpc.client.payloads import MetadataT, ResponseT
from lro_grpc.client.state import FutureState
from lro_grpc.errors import LroError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from datetime import timedelta

    from google.longrunning import operations_pb2

    from lro_grpc.client.connection import AsyncConnection

_logger = logging.getLogger(__name__)


class AsyncOperationFuture(FutureState[ResponseT, MetadataT]):
    """A running operation, and in time its result (AIP-151, C1).

    Made by ``AsyncOperationsClient.future`` and ``AsyncOperationsClient.attach``. May be awaited
    any number of times, and by many tasks of one event loop at once: one of them makes the calls.

    Nothing is cancelled by forgetting a future, by a timeout, or by cancelling a task that awaits
    it: the operation lives at the server.
    """

    def __init__(
        self,
        connection: AsyncConnection,
        operation: operations_pb2.Operation,
        *,
        response: type[ResponseT] | None,
        metadata: type[MetadataT] | None,
    ) -> None:
        super().__init__(operation, response, metadata)
        self._connection = connection
        self._turn: asyncio.Future[None] | None = None
        self._callbacks: list[Callable[[AsyncOperationFuture[ResponseT, MetadataT]], object]] = []
        self._notifier: asyncio.Task[None] | None = None

    def __await__(self) -> Generator[Any, None, ResponseT]:
        """Waits as long as it takes; the same as awaiting ``result()``."""
        return self.result().__await__()

    async def result(self, timeout: timedelta | None = None) -> ResponseT:
        """Waits until the operation is done and returns its response.

        Arguments, result and errors are those of ``OperationFuture.result``.
        """
        await self._drive(self._connection.wait_steps(self._latest, timeout))
        return self._result()

    async def exception(self, timeout: timedelta | None = None) -> LroError | None:
        """Waits until the operation is done and returns the error that it ended with.

        Arguments, result and errors are those of ``OperationFuture.exception``.
        """
        await self._drive(self._connection.wait_steps(self._latest, timeout))
        return self._exception()

    async def done(self) -> bool:
        """Takes a fresh look, as ``OperationFuture.done``: at most one Get."""
        await self._drive(polling.look_steps(self._latest))
        return self._operation.done

    async def running(self) -> bool:
        """Tells whether the operation is not done, with a look as by ``done()``."""
        return not await self.done()

    async def cancelled(self) -> bool:
        """Tells whether the operation ended by being cancelled, with a look as by ``done()``."""
        await self.done()
        return self._is_cancelled()

    async def cancel(self) -> bool:
        """Asks the server to cancel the operation, as ``OperationFuture.cancel``."""
        if self._operation.done:
            return False
        await self._connection.call(cancel_call(self.name, polling.RPC_TIMEOUT))
        return True

    def add_done_callback(
        self, callback: Callable[[AsyncOperationFuture[ResponseT, MetadataT]], object]
    ) -> None:
        """Has a function called once, with this future, when the wait for the operation is over.

        It is called from a task of the running event loop, never at once, also if the operation
        is done already. The rest is as for ``OperationFuture.add_done_callback``.

        Raises:
            RuntimeError: If no event loop is running.
        """
        loop = asyncio.get_running_loop()
        self._callbacks.append(callback)
        if self._notifier is None or self._notifier.done():
            self._notifier = loop.create_task(self._notify())

    async def _notify(self) -> None:
        fields = {"operation": self.name}
        try:
            await self._drive(self._connection.wait_steps(self._latest, None))
        except LroError as error:
            _logger.debug("the wait for %s ended with %r", self.name, error, extra=fields)
        except Exception:
            _logger.exception("the wait for %s ended unexpectedly", self.name, extra=fields)
        while self._callbacks:
            callback = self._callbacks.pop(0)
            try:
                callback(self)
            except Exception:
                _logger.exception("a callback of %s failed", self.name, extra=fields)

    async def _drive(self, steps: polling.Steps) -> None:
        trouble: LroError | None = None
        has_turn = False
        try:
            while True:
                try:
                    step = steps.send(trouble)
                except StopIteration:
                    return
                trouble = None
                match step:
                    case polling.Turn(seconds):
                        has_turn = await self._take_turn(seconds)
                    case polling.Pause(seconds):
                        await self._connection.sleep(seconds)
                    case polling.Call():
                        try:
                            self._learn(await self._connection.call(step))
                        except LroError as error:
                            trouble = error
        finally:
            if has_turn:
                self._pass_turn()

    async def _take_turn(self, seconds: float) -> bool:
        # Not an asyncio.Lock under wait_for: before Python 3.12 that can lose a cancellation.
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while self._turn is not None:
            finished, _ = await asyncio.wait({self._turn}, timeout=max(end - loop.time(), 0))
            if not finished:
                return False
        self._turn = loop.create_future()
        return True

    def _pass_turn(self) -> None:
        assert self._turn is not None
        self._turn.set_result(None)
        self._turn = None
