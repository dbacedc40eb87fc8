"""Time limits of an attempt: each stops its handler, and gives the attempt up if that goes on.

There are two: the operation's deadline, and the longest time without progress. A handler that is
stopped has the time of one lease to unwind. After that its operation is taken from it, with an
event of the limit's own, and whatever the handler still does comes to nothing: a thread cannot be
ended from outside, but the fence refuses its events.

The deadline is a time of day, and holds whatever happens. All other time is counted only while the
handler could go on: of a time in which the event loop or the process stands still, a tenth at most.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Sequence
from typing import Any

from lro.v1.operation_description_pb2 import OperationAttempt
from lro_grpc._engine.attempt import Attempt
from lro_grpc._errors import AttemptStopped, StopReason
from lro_grpc._operation.batch_states import has_begun
from lro_grpc._operation.events import Event, Expire, Release
from lro_grpc._runtime.clock import Clock, seconds
from lro_grpc._runtime.log import log_outcome
from lro_grpc._runtime.repeated_lines import PROCESS
from lro_grpc._stores.store import Now

_NAPS = 10
"""The parts in which time is measured: a pause of the process costs one of them at most."""


def watch(attempt: Attempt, clock: Clock, now: Now, margin: float) -> Sequence[asyncio.Task[None]]:
    """Begins to watch the time limits of an attempt, if it has any.

    Args:
        attempt: The attempt.
        clock: Waits for time to pass.
        now: Returns the store's time, which the deadline is one of.
        margin: Seconds that the handler is given to stop.

    Returns:
        A task for each limit; cancel it once the attempt is over.
    """
    limits: list[Coroutine[Any, Any, None]] = []
    if attempt.record.deadline_time and not attempt.ending.claimed_to_undo:
        limits.append(_expire(attempt, clock, now, margin))
    if attempt.handler.progress_timeout is not None:
        longest = attempt.handler.progress_timeout.total_seconds()
        limits.append(_lose_stuck(attempt, clock, longest, margin))
    return [asyncio.create_task(limit) for limit in limits]


async def _expire(attempt: Attempt, clock: Clock, now: Now, margin: float) -> None:
    """Stops an attempt when the operation's own time is over."""
    while (left := attempt.record.deadline_time - now()) > 0:
        await clock.sleep(seconds(left))
    attempt.time_out()
    await _give_time(clock, margin)
    if attempt.stopping.is_undoing:
        return  # the rollback of a batch is not cut short
    report = attempt.progress.take()
    # A batch that it has begun is left to another attempt to undo.
    has_to_undo = has_begun(attempt.record.batch)
    await _give_up(
        attempt, Release(report, OperationAttempt.EXPIRED) if has_to_undo else Expire(report)
    )


async def _lose_stuck(attempt: Attempt, clock: Clock, longest: float, margin: float) -> None:
    """Stops an attempt that has made no progress for too long."""
    seen, left = attempt.progress.last_time, longest
    while left > 0:
        passed = await _nap(clock, min(left, longest / _NAPS))
        left -= passed
        if attempt.progress.last_time != seen:
            seen = attempt.progress.last_time
            left = longest - min(passed, clock.monotonic() - seen)
    attempt.call_stuck()
    await _give_time(clock, margin)
    await _give_up(attempt, attempt.stuck())


async def _give_time(clock: Clock, seconds: float) -> None:
    """Waits for some seconds in which this process goes on."""
    left = seconds
    while left > 0:
        left -= await _nap(clock, min(left, seconds / _NAPS))


async def _nap(clock: Clock, seconds: float) -> float:
    """Sleeps; returns the seconds that have passed, without those by which it woke up late."""
    loop = asyncio.get_running_loop()
    begin, at_loop = clock.monotonic(), loop.time()
    await clock.sleep(seconds)
    is_late = loop.time() - at_loop > seconds
    return seconds if is_late else max(seconds, clock.monotonic() - begin)


async def _give_up(attempt: Attempt, event: Event) -> None:
    method = attempt.handler.method
    text = f"{attempt.name}: attempt {attempt.number} does not stop, and is given up"
    PROCESS.say(logging.WARNING, text, kind=("given up", method), log=attempt.log)
    try:
        await attempt.write(event)
        log_outcome(event, attempt.record)
    except AttemptStopped:
        pass  # the operation is no longer its own
    except Exception as error:  # noqa: BLE001 - the log has it; the lease will end
        text = f"{attempt.name}: that it is given up is not stored"
        kind = ("not stored", method)
        PROCESS.say(logging.ERROR, text, kind=kind, error=error, log=attempt.log)
    attempt.end(None)
    attempt.stop(StopReason.LEASE_LOST)
