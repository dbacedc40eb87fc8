"""The future of an operation, for threads."""

from __future__ import annotations

import logging
import sys
import threading
from typing import TYPE_CHECKING

from lro_grpc._client.calls import (
    cancel_call,
    delete_call,
    describe_call,
    pause_call,
    resume_call,
    terminate_call,
)
from lro_grpc._client.future_state import FutureState
from lro_grpc._client.payloads import MetadataT, ResponseT
from lro_grpc._client.plan import RPC_TIMEOUT
from lro_grpc._client.scheduler import SCHEDULER
from lro_grpc._durations import as_timeout
from lro_grpc._errors import LroError

if TYPE_CHECKING:
    import concurrent.futures
    from collections.abc import AsyncGenerator, Callable, Iterator

    from google.longrunning import operations_pb2

    from lro.v1.operation_description_pb2 import DescribeOperationResponse
    from lro_grpc._client.core import ClientCore
    from lro_grpc._client.update import OperationUpdate
    from lro_grpc._durations import Duration

_logger = logging.getLogger(__name__)


class OperationFuture(FutureState[ResponseT, MetadataT]):
    """A running operation, and in time its result (AIP-151, C1).

    Made by ``OperationsClient.future`` and ``OperationsClient.attach``. May be used by many
    threads at once: all that wait for one operation, through one client, share its calls. The
    waits of all futures of a process go on in one thread.

    Nothing is cancelled by forgetting a future, or by a timeout: the operation lives at the
    server.
    """

    def __init__(
        self,
        core: ClientCore,
        operation: operations_pb2.Operation,
        response: type[ResponseT] | None,
        metadata: type[MetadataT] | None,
    ) -> None:
        super().__init__(core, operation, response, metadata)
        self._lock = threading.Lock()
        self._callbacks: list[Callable[[OperationFuture[ResponseT, MetadataT]], object]] = []
        self._will_notify = False

    def result(self, timeout: Duration | None = None) -> ResponseT:
        """Waits until the operation is done and returns its response.

        Makes no RPC once the operation is known to be done. A server that is away for a while
        is waited for.

        Args:
            timeout: How long to wait; None for as long as it takes. When it is over, a last Get
                decides, which may take half a second. So zero, too, finds what is done.

        Returns:
            The message inside ``Operation.response``: ``Empty`` for a method without data (P3),
            and None if the operation ended with neither response nor error (P2).

        Raises:
            OperationCancelledError: If the operation was cancelled (P8).
            OperationFailedError: If the operation failed; with its code, reason and details.
            OperationTimeoutError: If it is not done in time; with the last state that was seen.
            WrongTypeError: If the response is not a message of the declared type.
            LroError: If a call failed for good, with the RPC's code and details.
        """
        self._wait(timeout)
        return self._result()

    def exception(self, timeout: Duration | None = None) -> LroError | None:
        """Waits until the operation is done and returns the error that it ended with.

        Args:
            timeout: As for ``result``.

        Returns:
            The OperationFailedError or WrongTypeError that ``result()`` raises; None if it
            returns.

        Raises:
            OperationTimeoutError: If the operation is not done in time.
            LroError: If a call failed for good.
        """
        self._wait(timeout)
        return self._exception()

    def done(self) -> bool:
        """Whether the operation is done, by one Get unless it is known to be.

        While the server is away, the answer is that of the latest state that was seen.

        Raises:
            LroError: If the call failed for good.
        """
        if not self.operation.done:
            SCHEDULER.run(self._watcher.refresh())
        return self.operation.done

    def running(self) -> bool:
        """Whether the operation is not done; refreshed as by ``done()``."""
        return not self.done()

    def cancelled(self) -> bool:
        """Whether the operation ended by being cancelled; refreshed as by ``done()``."""
        self.done()
        return self._is_cancelled()

    def cancel(self) -> bool:
        """Asks the server to cancel the operation.

        It is a request: the operation may still succeed, as ``result()`` shows then (P8, C8).

        Returns:
            True if the server took the request; False, without an RPC, if the operation is known
            to be done.

        Raises:
            LroError: If the call failed; UNIMPLEMENTED if the server cannot cancel (P6).
        """
        if self.operation.done:
            return False
        SCHEDULER.run(self._core.call(cancel_call(self.name, RPC_TIMEOUT)))
        return True

    def pause(self) -> None:
        """Asks the server to pause the operation; its state shows when it is paused.

        The state that the server answers with is the latest that was seen.

        Raises:
            LroError: If the call failed: FAILED_PRECONDITION if the operation cannot be paused,
                UNIMPLEMENTED if the server does not have ``lro.v1.OperationControlService``.
        """
        SCHEDULER.run(self._command(pause_call(self.name, RPC_TIMEOUT)))

    def resume(self) -> None:
        """Asks the server to go on with a paused operation, or takes back a pause.

        Raises:
            LroError: If the call failed, as from ``pause()``.
        """
        SCHEDULER.run(self._command(resume_call(self.name, RPC_TIMEOUT), once=True))

    def terminate(self, reason: str) -> None:
        """Ends the operation by force: for operators, where a cancel does not end it.

        It fails at once, with ABORTED and the reason ``OPERATION_TERMINATED``. What it has done is
        not undone, and its handler may go on for a while, though nothing of that is kept.

        Args:
            reason: The cause, as all who see the operation are told it; at most 1,024 characters.

        Raises:
            LroError: If the call failed: FAILED_PRECONDITION if the operation is done otherwise,
                PERMISSION_DENIED, or UNIMPLEMENTED as from ``pause()``.
        """
        SCHEDULER.run(self._command(terminate_call(self.name, reason, RPC_TIMEOUT)))

    def describe(self, *, with_request: bool = False) -> DescribeOperationResponse:
        """Returns all that the server knows of the operation, for those who run the service.

        That is its method and its caller, its attempts with their errors, why it waits, and what
        may be requested.

        Args:
            with_request: Whether to ask for its request, too, which takes another permission. The
                server leaves out what its proto marks as sensitive; and all of it, if it cannot
                tell what is.

        Raises:
            LroError: If the call failed: PERMISSION_DENIED, or UNIMPLEMENTED as from ``pause()``.
        """
        call = describe_call(self.name, RPC_TIMEOUT, with_request=with_request)
        response: DescribeOperationResponse = SCHEDULER.run(self._core.call(call))
        return response

    def delete(self) -> None:
        """Asks the server to forget the operation; this does not cancel it (P7).

        Raises:
            LroError: If the call failed; UNIMPLEMENTED if the server cannot delete (P6).
        """
        SCHEDULER.run(self._core.call(delete_call(self.name, RPC_TIMEOUT)))

    def updates(self, timeout: Duration | None = None) -> Iterator[OperationUpdate[MetadataT]]:
        """Yields the operation's present state, and each further one.

        A server with ``WatchOperation`` pushes them; one with WaitOperation alone is called every
        second, and any other is polled. A slow reader may miss states in between, but never the
        last one, which is ``done``. An error of the operation is raised by ``result()`` alone.

        Args:
            timeout: How long to go on in all; None for as long as it takes.

        Raises:
            OperationTimeoutError: If the operation is not done in time.
            WrongTypeError: If its metadata is not a message of the declared type.
            LroError: If a call failed for good.
        """
        as_timeout(timeout)
        if self.operation.done:
            yield self._update(self.operation)
            return
        states = self._watcher.states(timeout)

        async def next_state() -> operations_pb2.Operation | None:
            return await anext(states, None)

        try:
            while (operation := SCHEDULER.run(next_state())) is not None:
                yield self._update(operation)
        finally:
            # At the interpreter's very end there is no thread, and none can begin.
            if not sys.is_finalizing():
                SCHEDULER.submit(_close(states))

    def concurrent(self, timeout: Duration | None = None) -> concurrent.futures.Future[ResponseT]:
        """Returns a future of the standard library that ends as ``result()`` does.

        It fits ``concurrent.futures.wait`` and the like; in asyncio, ``asyncio.wrap_future``
        makes it awaitable. Cancelling it ends the wait, not the operation.

        Args:
            timeout: As for ``result``.
        """
        return SCHEDULER.submit(self._ended(as_timeout(timeout)))

    def add_done_callback(
        self, callback: Callable[[OperationFuture[ResponseT, MetadataT]], object]
    ) -> None:
        """Adds a function to call once, with this future, when the wait for the operation is over.

        It is called in a daemon thread, also if the operation is done already. An error that it
        raises is logged, and the other callbacks are called all the same. They are called, too, if
        a call to the server fails for good; ``result()`` then tries again.
        """
        with self._lock:
            self._callbacks.append(callback)
            if self._will_notify:
                return
            self._will_notify = True
        self.concurrent().add_done_callback(self._notify_in_thread)

    def remove_done_callback(
        self, callback: Callable[[OperationFuture[ResponseT, MetadataT]], object]
    ) -> int:
        """Removes a function that was added, as often as it was, and has not been called yet.

        Returns:
            How often it was removed.
        """
        with self._lock:
            kept = [one for one in self._callbacks if one != callback]
            removed = len(self._callbacks) - len(kept)
            self._callbacks = kept
        return removed

    def _notify_in_thread(self, _: object) -> None:
        name = f"lro callbacks of {self.name}"
        threading.Thread(target=self._notify, name=name, daemon=True).start()

    def _notify(self) -> None:
        while True:
            with self._lock:
                if not self._callbacks:
                    self._will_notify = False
                    return
                callback = self._callbacks.pop(0)
            try:
                callback(self)
            except Exception:
                fields = {"operation": self.name}
                _logger.exception("a callback of %s failed", self.name, extra=fields)

    def _wait(self, timeout: Duration | None) -> None:
        as_timeout(timeout)
        if not self.operation.done:
            SCHEDULER.run(self._watcher.wait(timeout))

    async def _ended(self, timeout: Duration | None) -> ResponseT:
        await self._watcher.wait(timeout)
        return self._result()


async def _close(states: AsyncGenerator[operations_pb2.Operation, None]) -> None:
    await states.aclose()
