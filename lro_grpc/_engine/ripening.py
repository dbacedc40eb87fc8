"""Operations between two attempts, each of which becomes ready at its own time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from lro_grpc._operation.record import Record
from lro_grpc._runtime.clock import Clock

_MAX = 1000
"""Operations that are timed one by one at most; of more, the sweep takes care."""


class Ripening:
    """Tells of operations once they are ready.

    Args:
        clock: Tells the time.
        ready: Is called with each.
    """

    def __init__(self, clock: Clock, ready: Callable[[Record], None]) -> None:
        self._clock = clock
        self._ready = ready
        self._timed: set[asyncio.Task[None]] = set()
        self._stopped = False

    def add(self, record: Record) -> None:
        """Adds an operation that waits for its ``scheduled_time``."""
        if len(self._timed) < _MAX and not self._stopped:
            task = asyncio.create_task(self._time(record))
            self._timed.add(task)
            task.add_done_callback(self._timed.discard)

    async def _time(self, record: Record) -> None:
        await self._clock.sleep((record.scheduled_time - self._clock.now()) / 1_000_000)
        self._ready(record)

    async def stop(self) -> None:
        """Tells of no more."""
        self._stopped = True
        timed = list(self._timed)
        for task in timed:
            task.cancel()
        await asyncio.gather(*timed, return_exceptions=True)
