"""A limit on the time for which something is awaited, by an injected clock."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

from lro_grpc._runtime.clock import Clock


async def ends_within(clock: Clock, seconds: float | None, awaitable: Awaitable[object]) -> bool:
    """Waits for at most that long, and returns whether the awaitable has ended by then.

    Args:
        clock: The clock.
        seconds: The longest time; None for as long as it takes.
        awaitable: What is awaited; it is cancelled if it has not ended.
    """
    if seconds is None:  # no task more for each of thousands that wait as long as it takes
        await awaitable
        return True
    awaited = asyncio.ensure_future(awaitable)
    both = (awaited, asyncio.ensure_future(clock.sleep(seconds)))
    try:
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        return awaited.done()
    finally:
        for one in both:
            one.cancel()
        await asyncio.gather(*both, return_exceptions=True)
