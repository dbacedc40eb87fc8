"""Runs the handler of one attempt, and makes an event of what comes of it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Callable
from typing import Any

from google.protobuf.message import Message
from google.rpc import status_pb2

from lro_grpc import _anys
from lro_grpc._engine.attempt import Attempt
from lro_grpc._engine.context import AsyncOperationContext, OperationContext
from lro_grpc._engine.handler import Handler
from lro_grpc._errors import AttemptStopped, Code, RetryableError, StopReason, WrongTypeError
from lro_grpc._operation.events import (
    Event,
    Expire,
    Fail,
    LeaseLost,
    Release,
    Report,
    Retry,
    Succeed,
    cancelled_status,
    expired_status,
)
from lro_grpc._runtime.clock import micros
from lro_grpc._runtime.log import AnyLog
from lro_grpc._runtime.public_error import status_of
from lro_grpc._runtime.threads import run_in_thread
from lro_grpc._wire.proto_plus import as_declared, protobuf_class, protobuf_message


def is_retryable(handler: Handler, error: BaseException, log: AnyLog) -> bool:
    """Tells whether another attempt may be spared an error.

    Args:
        handler: Whose error it is.
        error: What the attempt ended with.
        log: Where to log that the handler's own predicate has raised.
    """
    if isinstance(error, RetryableError):
        return True
    if handler.retry is None or not isinstance(error, Exception):
        return False
    try:
        return bool(handler.retry(error))
    except Exception:  # the operation fails with the handler's own error then
        log.exception("the retry predicate of %s has raised", handler.method)
        return False


def pause_after(
    handler: Handler, error: BaseException, failed_attempts: int, random: Callable[[], float]
) -> float:
    """Returns the seconds before the next attempt may begin.

    Args:
        handler: Whose backoff it is.
        error: What the attempt ended with.
        failed_attempts: How many attempts have failed before.
        random: Gives numbers uniform in [0, 1).
    """
    if isinstance(error, RetryableError) and error.retry_after is not None:
        return error.retry_after.total_seconds()
    pauses = handler.backoff.pauses(random)
    return next(itertools.islice(pauses, failed_attempts, None))


class Executor(asyncio.Task[Event]):
    """The task of one attempt; its result is the event that tells the outcome.

    It ends with ``AttemptStopped`` if the operation is no longer the attempt's, and is cancelled
    if the loop ends: neither is an outcome.

    Args:
        attempt: The attempt to run.
    """

    def __init__(self, attempt: Attempt) -> None:
        super().__init__(_outcome(attempt), loop=attempt.loop, name=attempt.name)
        self.attempt = attempt
        self.cancel_called = False
        """Whether someone has called ``cancel``, so that a CancelledError is not the handler's."""

    def cancel(self, msg: Any | None = None) -> bool:
        """Interrupts the handler, or whatever else the task awaits."""
        self.cancel_called = True
        return super().cancel(msg)


async def _outcome(attempt: Attempt) -> Event:
    with attempt.telemetry.current():
        try:
            response = await _call(attempt)
            packed = _packed(attempt, response)
            partial = attempt.has_partial_failures
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - whatever it is, the operation ends with it
            return await (_stopped if _is_stop(error) else _failed)(attempt, error)
        return Succeed(attempt.take_report(final=True), packed, partial)


def _is_stop(error: BaseException) -> bool:
    """Whether a handler was unwound, be it out of an ``asyncio.TaskGroup``."""
    group = getattr(error, "exceptions", ())  # of a BaseExceptionGroup, which Python 3.10 has not
    return isinstance(error, (AttemptStopped, asyncio.CancelledError)) or (
        isinstance(group, tuple) and len(group) > 0 and all(map(_is_stop, group))
    )


async def _call(attempt: Attempt) -> Any:
    attempt.raise_if_stopped()
    handler = attempt.handler
    body = protobuf_class(handler.request).FromString(attempt.record.request)
    request = as_declared(body, handler.request)
    if not handler.is_async:
        context = OperationContext[Any](attempt)
        return await run_in_thread(attempt.name, handler.run, request, context, log=attempt.log)
    attempt.task = asyncio.current_task()
    try:
        return await handler.run(request, AsyncOperationContext[Any](attempt))
    finally:
        await _interrupt_no_more(attempt)


async def _interrupt_no_more(attempt: Attempt) -> None:
    """Ends what a stop may interrupt; one that came too late must not end the task itself."""
    attempt.task = None
    if attempt.stop_reason or attempt.ending:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(0)


def _packed(attempt: Attempt, response: Any) -> bytes:
    expected = protobuf_class(attempt.handler.response).DESCRIPTOR
    message = protobuf_message(response)
    if not isinstance(message, Message) or message.DESCRIPTOR is not expected:
        raise WrongTypeError(
            f"the handler of {attempt.handler.method} returned {type(response).__qualname__};"
            f" its operation_info declares {expected.full_name}",
            metadata={"method": attempt.handler.method, "expected": expected.full_name},
        )
    return _anys.packed_bytes(message)


async def _stopped(attempt: Attempt, error: BaseException) -> Event:
    reason = attempt.stop_reason or attempt.ending
    if isinstance(error, AttemptStopped):
        reason = error.reason
    if reason is None:
        task = asyncio.current_task()
        if isinstance(task, Executor) and task.cancel_called:
            raise error  # not by the engine, which would have given a reason: the loop ends
        return await _failed(attempt, error)
    if reason is StopReason.LEASE_LOST:
        raise AttemptStopped(reason) from error
    if attempt.is_stuck:
        attempt.telemetry.failed(error, Code.ABORTED)
        return LeaseLost(attempt.number, stuck=True)
    undo_later = attempt.leaves_a_batch and not attempt.claimed_to_undo
    if reason in (StopReason.SHUTDOWN, StopReason.PAUSE) or undo_later:
        return Release(attempt.take_report(final=True))
    if reason is StopReason.TIMEOUT:
        return await _undone(attempt, expired_status(attempt.record), Expire)
    return await _ended_with(attempt, cancelled_status())


async def _failed(attempt: Attempt, error: BaseException) -> Event:
    handler, record = attempt.handler, attempt.record
    where = f"{handler.method} in {attempt.name}"
    status = status_of(error, where, domain=handler.error_domain, log=attempt.log)
    attempt.telemetry.failed(error, status.code)
    # What a batch has rolled back stays so: it has failed for good.
    is_last = record.failed_attempts + 1 >= record.max_attempts
    is_worth_it = is_retryable(handler, error, attempt.log) and not record.batch_error
    if is_worth_it and not is_last:
        pause = pause_after(handler, error, record.failed_attempts, attempt.random)
        report = attempt.take_report(final=True)
        return Retry(report, status.SerializeToString(), micros(pause))
    return await _ended_with(attempt, status)


async def _ended_with(attempt: Attempt, error: status_pb2.Status) -> Event:
    return await _undone(attempt, error, lambda report: Fail(report, error.SerializeToString()))


async def _undone(
    attempt: Attempt, error: status_pb2.Status, event: Callable[[Report], Event]
) -> Event:
    """Undoes a batch that was created, for with an error nothing of it may be left."""
    undo, attempt.undo = attempt.undo, None
    if undo is not None:
        try:
            if attempt.handler.is_async:
                attempt.task = asyncio.current_task()
                await undo(error)
            else:
                await run_in_thread(attempt.name, undo, error, log=attempt.log)
        except (AttemptStopped, asyncio.CancelledError) as stopped:
            return await _stopped(attempt, stopped)
        finally:
            await _interrupt_no_more(attempt)
    return event(attempt.take_report(final=True))
