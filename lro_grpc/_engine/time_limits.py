"""The time limits of an attempt: each stops it, and tells what to store if it does not stop."""

from __future__ import annotations

from lro_grpc._engine.attempt import Attempt
from lro_grpc._operation.events import Event, Expire, LeaseLost, Release
from lro_grpc._runtime.clock import Clock, seconds


async def expire(attempt: Attempt, clock: Clock, patience: float) -> Event | None:
    """Stops an attempt when the operation's own time is over.

    Args:
        attempt: The attempt.
        clock: Tells the time.
        patience: Seconds that the handler is given to stop.

    Returns:
        What gives the attempt up; None if it still undoes its batch, which is not cut short. A
        batch that it has begun is left to another attempt to undo.
    """
    while (left := attempt.record.deadline_time - clock.now()) > 0:
        await clock.sleep(seconds(left))
    attempt.time_out()
    await clock.sleep(patience)
    if attempt.is_undoing:
        return None
    report = attempt.take_report()
    return Release(report) if attempt.record.batch else Expire(report)


async def lose_stuck(attempt: Attempt, clock: Clock, limit: float, patience: float) -> Event:
    """Stops an attempt that has made no progress for too long.

    Args:
        attempt: The attempt.
        clock: Measures the time.
        limit: Seconds without progress.
        patience: Seconds that the handler is given to stop.

    Returns:
        What gives the attempt up.
    """
    while (left := attempt.last_progress + limit - clock.monotonic()) > 0:
        await clock.sleep(left)
    attempt.call_stuck()
    await clock.sleep(patience)
    return LeaseLost(attempt.number, stuck=True)
