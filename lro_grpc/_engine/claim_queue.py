"""Which operations of one method wait for an attempt, as far as this process knows."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from lro_grpc._operation.record import Record
from lro_grpc._runtime.clock import Clock, seconds
from lro_grpc._stores.store import Store

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
        await self._clock.sleep(seconds(record.scheduled_time - self._clock.now()))
        self._ready(record)

    async def stop(self) -> None:
        """Tells of no more."""
        self._stopped = True
        timed = list(self._timed)
        for task in timed:
            task.cancel()
        await asyncio.gather(*timed, return_exceptions=True)


_MAX_HINTS = 1000


class Backlog:
    """Names to try and claim, oldest first.

    What the store told of by itself is tried without asking it again. When there was more than
    fits, the store is asked. A name may be wrong; the claim decides.

    Args:
        method: ``/pkg.Service/Method``.
    """

    def __init__(self, method: str) -> None:
        self._method = method
        self._hints: deque[str] = deque()
        self._ask = True

    def __bool__(self) -> bool:
        """Whether anything may wait."""
        return self._ask or bool(self._hints)

    def add(self, name: str) -> None:
        """Notes an operation that waits."""
        if len(self._hints) < _MAX_HINTS and not self._ask:
            self._hints.append(name)
        else:
            self._ask = True

    def ask_again(self) -> None:
        """Lets the store be asked next time, whatever is known here."""
        self._ask = True

    async def take(self, store: Store, limit: int) -> list[str]:
        """Returns names to try, at most as many as the limit."""
        if not self._ask:
            return [self._hints.popleft() for _ in range(min(limit, len(self._hints)))]
        self._hints.clear()
        self._ask = False
        names = await store.claimable({self._method: limit})
        self._ask = self._ask or len(names) == limit
        return list(names)
