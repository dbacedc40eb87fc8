"""Turns: so many calls at a time, all others in the order in which they have come."""

from __future__ import annotations

import asyncio
from collections import deque


class Turns:
    """Gives so many turns at a time. Used on one event loop.

    A task that is cancelled while it waits leaves the queue.

    Args:
        most: The most turns at a time.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._free = most
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def waiting(self) -> int:
        """The number of those that wait."""
        return len(self._waiting)

    @property
    def is_free(self) -> bool:
        """Whether a turn can be taken at once."""
        return self._free > 0

    @property
    def is_unused(self) -> bool:
        """Whether nobody has a turn, or waits for one."""
        return self._free == self._most

    async def take(self) -> None:
        """Takes a turn, and waits for it if need be; it has to be given back."""
        if self._free:
            self._free -= 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():
                self.give_back()
            elif turn in self._waiting:
                self._waiting.remove(turn)
            raise

    def give_back(self) -> None:
        """Gives a turn to the next that waits."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():  # its task may have been cancelled, and not know it yet
                turn.set_result(None)
                return
        self._free += 1


class Pace:
    """Lets one of those that wait go on at a time, and the event loop go round before the next."""

    def __init__(self) -> None:
        self._turns = Turns(1)

    async def keep(self) -> None:
        """Waits until nobody else goes on in this round of the event loop."""
        await self._turns.take()
        asyncio.get_running_loop().call_soon(self._turns.give_back)
