"""Executes the handler of one attempt, and makes an event of how it ends: the outcome.

A handler returns, raises, or unwinds because it was stopped; ``stop_state`` has the outcome for
each reason to stop. An operation that ends with an error leaves no batch behind: the targets that
its handler has created are deleted first, and that may be stopped in turn. An error of the
handler's own counts as one even while it is being stopped: only ``AttemptStopped`` and a
cancellation are taken for the stop. But in a shutdown no error ends the operation: what the handler
needs, such as a process of its own, may have been stopped along with this one.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

from google.protobuf.message import Message
from google.rpc import status_pb2

from lro.v1.operation_description_pb2 import OperationAttempt
from lro_grpc import _anys
from lro_grpc._engine.attempt import Attempt
from lro_grpc._engine.batch import with_left_over
from lro_grpc._engine.context import AsyncOperationContext, OperationContext
from lro_grpc._engine.handler import Handler
from lro_grpc._engine.retries import pause_after, retryable
from lro_grpc._errors import AttemptStopped, Code, StopReason, WrongTypeError
from lro_grpc._operation.events import (
    Event,
    Expire,
    Fail,
    Release,
    Report,
    RetryLater,
    Succeed,
    cancelled_status,
    expired_status,
)
from lro_grpc._operation.size import READ_AT_ONCE
from lro_grpc._runtime.clock import micros
from lro_grpc._runtime.interrupts import is_ctrl_c
from lro_grpc._runtime.public_error import status_of
from lro_grpc._runtime.task_owners import OWNER
from lro_grpc._runtime.threads import run_in_thread
from lro_grpc._wire.proto_plus import protobuf_message

_OUTCOMES = {
    StopReason.SHUTDOWN: OperationAttempt.RELEASED,
    StopReason.PAUSE: OperationAttempt.PAUSED,
    StopReason.CANCEL: OperationAttempt.CANCELLED,
    StopReason.TIMEOUT: OperationAttempt.EXPIRED,
}
"""The outcomes of attempts that are stopped, and leave their operations to a later one."""


class Executor(asyncio.Task[Event]):
    """The task that executes one attempt; its result is the outcome.

    It ends with ``AttemptStopped`` if the operation is no longer the attempt's, and is cancelled
    if the loop ends: neither is an outcome.

    Args:
        attempt: The attempt.
    """

    __slots__ = ("_cancel_called", "attempt")

    def __init__(self, attempt: Attempt) -> None:
        self.attempt = attempt
        self._cancel_called = False  # so that a CancelledError is not the handler's own
        super().__init__(self._execute(), loop=attempt.loop, name=attempt.name)

    def cancel(self, msg: Any | None = None) -> bool:
        """Interrupts the handler, or whatever else the task awaits."""
        self._cancel_called = True
        return super().cancel(msg)

    async def _execute(self) -> Event:
        attempt = self.attempt
        OWNER.set(attempt)
        with attempt.telemetry.current():
            try:
                response = await self._call()
                packed = _packed(attempt.handler, response)
                partial = attempt.progress.has_partial_failures
                success = Succeed(attempt.progress.take(final=True), packed, partial)
                attempt.check_size(success)
            except BaseException as error:
                if asyncio.current_task(attempt.loop) is not self:
                    raise  # the loop has ended without it, and Python closes what is left
                if attempt.handler.is_async and is_ctrl_c(error):
                    raise  # it is meant for the program
                return await (self._stopped if _is_stop(error) else self._failed)(error)
            return success

    async def _call(self) -> Any:
        attempt, handler = self.attempt, self.attempt.handler
        attempt.raise_if_stopped()
        body, name = attempt.record.request, attempt.name
        try:
            if not handler.is_async:
                context: OperationContext[Any] = OperationContext(attempt)
                return await run_in_thread(
                    name,
                    lambda: handler.run(handler.parse_request(body), context),
                    log=attempt.log,
                )
            if len(body) > READ_AT_ONCE:
                request = await run_in_thread(name, handler.parse_request, body, log=attempt.log)
                attempt.raise_if_stopped()
            else:
                request = handler.parse_request(body)
            attempt.task = self
            async_context: AsyncOperationContext[Any] = AsyncOperationContext(attempt)
            return await handler.run(request, async_context)
        finally:
            await self._interrupt_no_more()

    async def _interrupt_no_more(self) -> None:
        """Takes back the task that a stop may cancel; a late stop must not end the task itself."""
        self.attempt.handler_ended()
        may_be_late = self.attempt.stop_reason or self.attempt.ending.reason
        if may_be_late and not self.attempt.loop.is_closed():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0)

    async def _stopped(self, error: BaseException) -> Event:
        attempt = self.attempt
        reason = attempt.stop_reason or attempt.ending.reason
        if isinstance(error, AttemptStopped):
            reason = error.reason
        if reason is None:
            if self._cancel_called:
                raise error  # not by the engine, which would have given a reason: the loop ends
            return await self._failed(error)
        if reason is StopReason.LEASE_LOST:
            raise AttemptStopped(reason) from error
        if attempt.stopping.is_stuck:
            attempt.telemetry.failed(error, Code.ABORTED)
            return attempt.stuck()
        undo_later = attempt.leaves_a_batch and not attempt.ending.claimed_to_undo
        if reason in (StopReason.SHUTDOWN, StopReason.PAUSE) or undo_later:
            return Release(attempt.last_report(), _OUTCOMES[reason])
        if reason is StopReason.TIMEOUT:
            return await self._undone(expired_status(attempt.record), Expire)
        return await self._ended_with(cancelled_status())

    async def _failed(self, error: BaseException) -> Event:
        attempt, handler, record = self.attempt, self.attempt.handler, self.attempt.record
        expected = retryable(handler, error, attempt.log)
        # A batch that was rolled back stays so: it has failed for good.
        is_last = record.failed_attempts + 1 >= record.max_attempts or bool(record.batch_error)
        if expected is None or is_last:
            failure = await attempt.failure(error)
            if isinstance(failure, AttemptStopped):
                return Release(attempt.last_report())
        where = f"{handler.method} in {attempt.name}"
        status = status_of(expected or error, where, domain=handler.error_domain, log=attempt.log)
        attempt.telemetry.failed(error, status.code)
        if expected is None or is_last:
            return await self._ended_with(status)
        pause = pause_after(handler, error, record.failed_attempts, attempt.random)
        report = attempt.last_report()
        return RetryLater(report, attempt.fitted(status, report), micros(pause))

    async def _ended_with(self, error: status_pb2.Status) -> Event:
        attempt = self.attempt

        def failed(report: Report) -> Event:
            return Fail(report, attempt.fitted(with_left_over(error, attempt.left_over), report))

        return await self._undone(error, failed)

    async def _undone(self, error: status_pb2.Status, event: Callable[[Report], Event]) -> Event:
        """Undoes a batch that was created, for with an error nothing of it may be left."""
        attempt = self.attempt
        undo, attempt.undo = attempt.undo, None
        if undo is not None:
            try:
                if attempt.handler.is_async:
                    attempt.task = self
                    await undo(error)
                else:
                    await run_in_thread(attempt.name, undo, error, log=attempt.log)
            except (AttemptStopped, asyncio.CancelledError) as stopped:
                return await self._stopped(stopped)
            finally:
                await self._interrupt_no_more()
        return event(attempt.last_report())


def _packed(handler: Handler, response: Any) -> bytes:
    expected = handler.response_class.DESCRIPTOR
    message = protobuf_message(response)
    if not isinstance(message, Message) or message.DESCRIPTOR is not expected:
        raise WrongTypeError(
            f"the handler of {handler.method} returned {type(response).__qualname__};"
            f" its operation_info declares {expected.full_name}",
            metadata={"method": handler.method, "expected": expected.full_name},
        )
    return _anys.packed_bytes(message)


def _is_stop(error: BaseException) -> bool:
    """Tells whether a handler was unwound, be it out of an ``asyncio.TaskGroup``."""
    if isinstance(error, (AttemptStopped, asyncio.CancelledError)):
        return True
    # By its name, for Python 3.10 has no BaseExceptionGroup of its own.
    is_group = any(kind.__name__ == "BaseExceptionGroup" for kind in type(error).__mro__)
    return is_group and all(map(_is_stop, getattr(error, "exceptions")))  # noqa: B009 - not typed
