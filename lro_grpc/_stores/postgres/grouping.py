"""Makes the calls that wait for the database together: one group at a time, one task for all.

The calls that arrive while a group is under way are the next one; so the slower the database, the
larger the groups, and a thousand calls cost about as much as one. A call that nobody waits for any
more when its turn comes is not made: its caller may have made it again.

The task outlives whatever makes the groups. It ends with the store, or with the event loop, and by
no exception: what a group raises is the answer to those of its calls that have none yet.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Generic, Protocol, TypeVar

from lro_grpc._errors import LroError, UnavailableError
from lro_grpc._runtime.repeated_lines import RepeatedLines
from lro_grpc._stores.postgres.failures import RefusedError, closed, in_full, refused

_log = logging.getLogger("lro_grpc")


class GroupedCall(Protocol):
    """A call that waits."""

    @property
    def is_over(self) -> bool:
        """Whether nobody waits for it any more: it has its answer, or its caller has gone."""
        ...

    def fail(self, error: Exception) -> None:
        """Answers it with an error, unless it has its answer."""
        ...


MOST_CALLS = 1000
"""The most calls in a group of writes."""

C = TypeVar("C", bound=GroupedCall)


class Answered:
    """A call with one answer."""

    def __init__(self) -> None:
        self.answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    @property
    def is_over(self) -> bool:
        """Whether it has its answer, or its caller was cancelled."""
        return self.answer.done()

    def give(self, value: object) -> None:
        """Answers the call; its caller may have been cancelled meanwhile."""
        if not self.is_over:
            self.answer.set_result(value)

    def fail(self, error: Exception) -> None:
        """Answers it with an error, unless it has its answer."""
        if not self.is_over:
            self.answer.set_exception(error)


class Groups(Generic[C]):
    """Hands the calls that wait to a function, group by group; see the module.

    Args:
        name: Of the task.
        make: Makes the calls of one group, and answers each.
        most: The most calls in a group.
    """

    def __init__(
        self, name: str, make: Callable[[Sequence[C]], Awaitable[None]], most: int
    ) -> None:
        self._make = make
        self._most = most
        self._waiting: deque[C] = deque()
        self._more = asyncio.Event()
        self._closing = False
        self._lines = RepeatedLines(_log)
        self._task = asyncio.create_task(self._run(), name=name)

    def add(self, call: C) -> None:
        """Takes a call.

        Raises:
            UnavailableError: If the store is closed.
        """
        if self._closing:
            raise closed()
        self._waiting.append(call)
        self._more.set()

    def put_back(self, calls: Iterable[C]) -> None:
        """Takes calls again that are to be made before all others, in their order."""
        self._waiting.extendleft(reversed(list(calls)))
        self._more.set()

    async def close(self) -> None:
        """Makes the calls that wait, and ends."""
        self._closing = True
        self._more.set()
        await self._task
        self._lines.close()

    async def _run(self) -> None:
        try:
            while self._waiting or not self._closing:
                if not self._waiting:
                    self._more.clear()
                    await self._more.wait()
                number = min(len(self._waiting), self._most)
                taken = [self._waiting.popleft() for _ in range(number)]
                if group := [call for call in taken if not call.is_over]:
                    await self._make_one(group)
                    await asyncio.sleep(0)  # those that were just answered may have more for it
        finally:
            self._closing = True  # the loop may end before anyone has closed the store
            for call in self._waiting:
                call.fail(closed())

    async def _make_one(self, group: Sequence[C]) -> None:
        """Makes one group; each of its calls gets an answer, or is put back."""
        try:
            await self._make(group)
        except Exception as error:  # noqa: BLE001 - it must not touch the other groups
            self.fail(group, error)
        except BaseException:
            for call in group:
                call.fail(closed())
            raise

    def fail(self, calls: Iterable[C], error: Exception) -> None:
        """Answers calls with an error, those that have no answer yet, and logs what has failed."""
        if isinstance(error, RefusedError):
            error = refused(error)
            self._lines.say(logging.ERROR, in_full(error))
        elif isinstance(error, UnavailableError):
            self._lines.say(logging.WARNING, f"{in_full(error)}; the calls get UNAVAILABLE for it")
        elif not isinstance(error, LroError):
            self._lines.say(logging.ERROR, f"the store has failed: {error!r}", error=error)
        for call in calls:
            call.fail(error)
