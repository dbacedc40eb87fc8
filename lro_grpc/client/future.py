"""The future of an operation, for threads."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from lro_grpc import polling
from lro_grpc.client.calls import cancel_call
from lro_grpc.client.payloads import MetadataT, ResponseT
from lro_grpc.client.state import FutureState
from lro_grpc.errors import LroError

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta

    from google.longrunning import operations_pb2

    from lro_grpc.client.connection import Connection

_logger = logging.getLogger(__name__)


class OperationFuture(FutureState[ResponseT, MetadataT]):
    """A running operation, and in time its result (AIP-151, C1).

    Made by ``OperationsClient.future`` and ``OperationsClient.attach``. May be used by many
    threads at once: of those that wait for one future, one makes the calls.

    Nothing is cancelled by forgetting a future, or by a timeout: the operation lives at the
    server.
    """

    def __init__(
        self,
        connection: Connection,
        operation: operations_pb2.Operation,
        *,
        response: type[ResponseT] | None,
        metadata: type[MetadataT] | None,
    ) -> None:
        super().__init__(operation, response, metadata)
        self._connection = connection
        self._turn = threading.Lock()
        self._callbacks: list[Callable[[OperationFuture[ResponseT, MetadataT]], object]] = []
        self._notifier: threading.Thread | None = None

    def result(self, timeout: timedelta | None = None) -> ResponseT:
        """Waits until the operation is done and returns its response.

        Makes no RPC once the operation is known to be done. A server that is away for a while
        is waited for.

        Args:
            timeout: How long to wait, all calls included; None for as long as it takes. Zero
                makes no RPC.

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
        self._drive(self._connection.wait_steps(self._latest, timeout))
        return self._result()

    def exception(self, timeout: timedelta | None = None) -> LroError | None:
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
        self._drive(self._connection.wait_steps(self._latest, timeout))
        return self._exception()

    def done(self) -> bool:
        """Takes a fresh look: at most one Get, and none once the operation is known to be done.

        A server that is away is no news: the answer is then what was seen last.

        Raises:
            LroError: If the call failed for good.
        """
        self._drive(polling.look_steps(self._latest))
        return self._operation.done

    def running(self) -> bool:
        """Tells whether the operation is not done, with a look as by ``done()``."""
        return not self.done()

    def cancelled(self) -> bool:
        """Tells whether the operation ended by being cancelled, with a look as by ``done()``."""
        self.done()
        return self._is_cancelled()

    def cancel(self) -> bool:
        """Asks the server to cancel the operation.

        It is a request: the operation may still succeed. ``result()`` tells (P8, C8).

        Returns:
            True if the server took the request; False, without an RPC, if the operation is known
            to be done.

        Raises:
            LroError: If the call failed; UNIMPLEMENTED if the server cannot cancel (P6).
        """
        if self._operation.done:
            return False
        self._connection.call(cancel_call(self.name, polling.RPC_TIMEOUT))
        return True

    def add_done_callback(
        self, callback: Callable[[OperationFuture[ResponseT, MetadataT]], object]
    ) -> None:
        """Has a function called once, with this future, when the wait for the operation is over.

        It is called from a daemon thread, also if the operation is done already. An error that it
        raises is logged and keeps no other callback from being called. Should a call to the
        server fail for good, the callbacks are called too, and find that error in ``result()``.
        """
        with self._lock:
            self._callbacks.append(callback)
            if self._notifier is None:
                self._notifier = threading.Thread(
                    target=self._notify, name=f"lro-grpc callbacks of {self.name}", daemon=True
                )
                self._notifier.start()

    def _notify(self) -> None:
        fields = {"operation": self.name}
        try:
            self._drive(self._connection.wait_steps(self._latest, None))
        except LroError as error:
            _logger.debug("the wait for %s ended with %r", self.name, error, extra=fields)
        except Exception:
            _logger.exception("the wait for %s ended unexpectedly", self.name, extra=fields)
        while True:
            with self._lock:
                if not self._callbacks:
                    self._notifier = None
                    return
                callback = self._callbacks.pop(0)
            try:
                callback(self)
            except Exception:
                _logger.exception("a callback of %s failed", self.name, extra=fields)

    def _drive(self, steps: polling.Steps) -> None:
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
                        has_turn = self._turn.acquire(
                            timeout=min(max(seconds, 0), threading.TIMEOUT_MAX)
                        )
                    case polling.Pause(seconds):
                        self._connection.sleep(seconds)
                    case polling.Call():
                        try:
                            self._learn(self._connection.call(step))
                        except LroError as error:
                            trouble = error
        finally:
            if has_turn:
                self._turn.release()
