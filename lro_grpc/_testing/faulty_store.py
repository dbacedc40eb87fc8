"""A store whose calls fail, as they do over a network: for tests of what uses a store."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from random import Random
from typing import Any, TypeVar

from lro_grpc._errors import UnavailableError
from lro_grpc._stores.forwarding import ForwardingStore
from lro_grpc._stores.store import Store

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Faults:
    """The chance of each fault at a call, from 0 to 1, and the time for which the faults last."""

    before: float = 0.02
    """It fails, and has done nothing."""
    after: float = 0.02
    """It fails, though everything was done (R11)."""
    delay: float = 0.02
    """It reaches the store late, or its answer comes back late."""
    disconnect: float = 0.01
    """It fails, has done nothing, and so do the calls that follow."""
    longest_delay: float = 0.05
    """In seconds."""
    longest_disconnect: int = 5
    """In calls."""


NO_FAULTS = Faults(before=0, after=0, delay=0, disconnect=0)


class FaultyStore(ForwardingStore):
    """Passes calls on to a store, and lets some of them fail with ``UnavailableError``.

    Opening and closing never fail.

    What a call answers, if it does, is the store's own answer; listeners get each change,
    as they get it from the store.

    Args:
        store: The store.
        random: Decides which calls meet a fault; the same seed, the same faults.
        faults: How often.
        sleep: Waits for that many seconds.
    """

    def __init__(
        self,
        store: Store,
        random: Random,
        faults: Faults = Faults(),  # noqa: B008 - it is immutable
        *,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        super().__init__(store)
        self.faults = faults
        """May be replaced at any time."""
        self.connected = True
        """Whether the store can be reached at all."""
        self.injected: Counter[str] = Counter()
        """The number of calls that have met each fault."""
        self._random = random
        self._sleep = sleep
        self._failing = 0

    def heal(self) -> None:
        """Lets every call through from now on."""
        self.faults = NO_FAULTS
        self.connected = True
        self._failing = 0

    async def _call(
        self, call: Callable[..., Coroutine[Any, Any, T]], *arguments: Any, **options: Any
    ) -> T:
        await self._go()
        answer = await super()._call(call, *arguments, **options)
        await self._come_back()
        return answer

    async def _go(self) -> None:
        """Takes a call to the store."""
        await self._travel()
        if self._happens("disconnect", self.faults.disconnect):
            self._failing = self._random.randint(1, self.faults.longest_disconnect)
        if self._failing:
            self._failing -= 1
            raise _unreachable("the store is disconnected for a while")
        if not self.connected:
            raise _unreachable("the store is disconnected")
        if self._happens("before", self.faults.before):
            raise _unreachable("the store has refused the call")

    async def _come_back(self) -> None:
        """Takes the answer back."""
        await self._travel()
        if not self.connected or self._happens("after", self.faults.after):
            raise _unreachable("the store's answer is lost")

    async def _travel(self) -> None:
        if self._happens("delay", self.faults.delay / 2):  # on the way there, and on the way back
            await self._sleep(self._random.uniform(0, self.faults.longest_delay))

    def _happens(self, fault: str, rate: float) -> bool:
        happens = rate > 0 and self._random.random() < rate
        self.injected[fault] += happens
        return happens


def _unreachable(why: str) -> UnavailableError:
    return UnavailableError(why, reason="STORE_UNAVAILABLE")
