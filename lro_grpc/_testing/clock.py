"""A clock that a test moves by hand."""

from __future__ import annotations

import asyncio
import threading
import time
from datetime import datetime, timedelta, timezone

from lro_grpc._durations import Duration, as_timedelta
from lro_grpc._runtime.clock import Micros, micros

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


class ManualClock:
    """Stands still until it is moved; see :class:`lro_grpc.Clock`.

    It may be moved from any thread.

    Args:
        start: The time of day to begin with.
    """

    def __init__(self, start: datetime = datetime(2030, 1, 1, tzinfo=timezone.utc)) -> None:
        self._now = micros(start - _EPOCH)
        self._passed = timedelta()
        self._lock = threading.Lock()
        self._sleepers: list[tuple[timedelta, asyncio.Future[None]]] = []

    def now(self) -> Micros:
        """Returns the time of day, in microseconds since 1970 UTC."""
        return self._now

    def monotonic(self) -> float:
        """Returns the seconds that have passed since the clock was made."""
        return self._passed.total_seconds()

    async def sleep(self, seconds: float) -> None:
        """Returns once the clock has moved by that much; at once for zero or less."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        woken = asyncio.get_running_loop().create_future()
        with self._lock:
            self._sleepers.append((self._passed + timedelta(seconds=seconds), woken))
        await woken

    def advance(self, by: Duration) -> None:
        """Moves the clock forward, and wakes every sleeper whose time has come."""
        passed = as_timedelta("by", by)
        with self._lock:
            self._now += micros(passed)
            self._passed += passed
            due = [woken for until, woken in self._sleepers if until <= self._passed]
            self._sleepers = [one for one in self._sleepers if one[0] > self._passed]
        for woken in due:
            _wake_from_any_thread(woken)


class RunningClock(ManualClock):
    """Goes on by itself, as time does, and can be moved forward besides.

    Args:
        start: The time of day to begin with.
    """

    def __init__(self, start: datetime = datetime(2030, 1, 1, tzinfo=timezone.utc)) -> None:
        super().__init__(start)
        self._begin = time.monotonic()
        self._waiting: set[asyncio.Future[None]] = set()

    def now(self) -> Micros:
        """Returns the time of day, in microseconds since 1970 UTC."""
        return super().now() + micros(time.monotonic() - self._begin)

    def monotonic(self) -> float:
        """Returns the seconds that have passed since the clock was made."""
        return super().monotonic() + time.monotonic() - self._begin

    async def sleep(self, seconds: float) -> None:
        """Returns once the clock has gone on by that much; at once for zero or less."""
        loop = asyncio.get_running_loop()
        until = self.monotonic() + seconds
        await asyncio.sleep(0)
        while (left := until - self.monotonic()) > 0:
            woken = loop.create_future()
            with self._lock:
                self._waiting.add(woken)
            timer = loop.call_later(left, _wake, woken)
            try:
                await woken
            finally:
                timer.cancel()
                with self._lock:
                    self._waiting.discard(woken)

    def advance(self, by: Duration) -> None:
        """Moves the clock forward, and wakes every sleeper whose time has come."""
        super().advance(by)
        with self._lock:
            waiting = tuple(self._waiting)
        for woken in waiting:  # each sees for itself
            _wake_from_any_thread(woken)


def _wake_from_any_thread(woken: asyncio.Future[None]) -> None:
    loop = woken.get_loop()
    if not loop.is_closed():
        loop.call_soon_threadsafe(_wake, woken)


def _wake(woken: asyncio.Future[None]) -> None:
    if not woken.done():
        woken.set_result(None)
