"""Hints on the operations that wait for an attempt, as far as this process knows them.

They are hints, not truth: the store decides which attempt gets an operation, when it is claimed. Of
each method there are three kinds:

* **A name** of an operation that this process has just made claimable. It is claimed by its name,
  and nothing is read: so a start is fast. Names of operations that others have started are never
  here; all that share a store would try them at once.
* **That there may be more**, whatever the names. Then the store is asked to claim the oldest. So it
  is at the start; when more waits than is kept here; as long as the store finds as many as were
  asked for; when another process tells of work that it has left; and at each sweep, for a notice
  may have been lost (R9).
* **That an operation cannot be gone on with here**, for it waits for another release. It is left
  out until it becomes claimable anew, so that it takes no turn of those behind it. In another
  process that may go unheard, so a few of them are tried again at each sweep.

A delayed operation, such as a retry, is timed here, and is tried first once its pause is over. That
goes by the monotonic clock, and its claim says so: a time of day that is set back delays nothing.
The sweep finds those beyond the first thousand, and those of other processes.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping
from typing import Any

from lro_grpc._engine.handler import Handler
from lro_grpc._operation.record import Record
from lro_grpc._runtime.clock import Clock, Micros, seconds
from lro_grpc._stores.store import Store

_MAX_NAMES = 1000
"""Names of one method that are kept here at most."""

_MAX_DELAYED = 1000
"""Operations that are timed one by one at most."""

_LONGEST_PAUSE = 0.02
"""The seconds after which the store is asked at most for work of which another process tells. Each
process takes another pause, so that not all ask at once."""

_MAX_LEFT_OUT = 10_000
"""Operations of one method that are left out at most, for each claim names them."""

_TRIED_AGAIN = 10
"""Operations of a method that were left out and are tried again, at each sweep."""


class ClaimQueue:
    """Hints on what to claim, by method; see the module.

    Args:
        store: Where the operations are kept.
        clock: Tells the time.
        handlers: Those whose operations are claimed here. Operations of a handler's former names
            wait in the queue of its method.
        on_ready: Is called when there is something more to try.
        random: Gives numbers uniform in [0, 1), for pauses.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        handlers: Iterable[Handler],
        on_ready: Callable[[], None],
        random: Callable[[], float],
    ) -> None:
        self._store = store
        self._clock = clock
        self._on_ready = on_ready
        self._random = random
        self._method_of = {name: handler.method for handler in handlers for name in handler.names}
        methods = set(self._method_of.values())
        self._names: dict[str, deque[str]] = {method: deque() for method in methods}
        self._left_out: dict[str, dict[str, None]] = {method: {} for method in methods}
        """Names of operations that cannot be gone on with here, the oldest first."""
        self._has_more = set(methods)
        self._rested: dict[str, deque[tuple[str, Micros]]] = {one: deque() for one in methods}
        """Those whose pause is over, with the ``scheduled_time`` that they have waited for."""
        self._told: set[str] = set()
        """Methods of which another process has told just now."""
        self._later: set[asyncio.Task[None]] = set()
        self._delayed = 0
        self._stopped = False

    def may_have(self, method: str) -> bool:
        """Tells whether an operation of the method may wait."""
        return method in self._has_more or bool(self._names[method] or self._rested[method])

    def all_fit(self, stored_as: str, free: Mapping[str, int]) -> bool:
        """Tells whether all operations that wait have a slot here, as far as is known.

        Args:
            stored_as: The name of the method under which they are stored.
            free: The free slots of each method.
        """
        method = self._method_of.get(stored_as)
        if method is None or method in self._has_more:
            return False
        return len(self._names[method]) + len(self._rested[method]) <= free[method]

    def add(self, record: Record) -> None:
        """Adds an operation that a call of this process has made claimable, now or for later."""
        method = self._method_of.get(record.method)
        if method is None:
            return
        self._left_out[method].pop(record.name, None)
        if not record.scheduled_time:
            self._add(method, record.name)
        elif self._delayed < _MAX_DELAYED:
            self._delayed += 1  # without the record, which may be large
            self._do_later(self._add_later(method, record.name, record.scheduled_time))

    async def _add_later(self, method: str, name: str, scheduled_time: Micros) -> None:
        try:
            await self._clock.sleep(seconds(scheduled_time - self._store.now()))
        finally:
            self._delayed -= 1
        self.add_rested(method, name, scheduled_time)

    def add_rested(self, method: str, name: str, scheduled_time: Micros) -> None:
        """Adds an operation whose pause is over, though the time of day may say otherwise."""
        self._rested[method].append((name, scheduled_time))
        self._on_ready()

    def _add(self, method: str, name: str) -> None:
        names = self._names[method]
        if len(names) < _MAX_NAMES and method not in self._has_more:
            names.append(name)
        else:
            self._has_more.add(method)
        self._on_ready()

    def left_out(self, method: str) -> Collection[str]:
        """Returns the names of operations that the store is not to claim."""
        return self._left_out[method].keys()

    def leave_out(self, method: str, name: str) -> None:
        """Notes that an operation cannot be gone on with here, until it has changed."""
        if not self.is_stuck(method):
            self._left_out[method][name] = None

    def is_stuck(self, method: str) -> bool:
        """Tells whether no more can be left out, so that the store finds the same ones again."""
        return len(self._left_out[method]) >= _MAX_LEFT_OUT

    def has_more(self, method: str) -> None:
        """Lets the store be asked for operations of the method, whatever is known here."""
        self._has_more.add(method)
        self._on_ready()

    def sweep(self) -> None:
        """Lets the store be asked for operations of every method."""
        self._has_more.update(self._names)
        for names in self._left_out.values():
            for name in list(itertools.islice(names, _TRIED_AGAIN)):
                del names[name]
        self._on_ready()

    def told(self, stored_as: str) -> None:
        """Takes a method of which another process may have left an operation."""
        method = self._method_of.get(stored_as)
        if method is not None and method not in self._told:
            self._told.add(method)
            self._do_later(self._ask_later(method))

    async def _ask_later(self, method: str) -> None:
        await self._clock.sleep(_LONGEST_PAUSE * self._random())
        self._told.discard(method)
        self.has_more(method)

    def take(self, method: str, limit: int) -> Mapping[str, Micros]:
        """Returns names of the method to try, at most as many as the limit.

        Returns:
            The names; with each the ``scheduled_time`` that it has waited for, 0 for none. None at
            all if the store is to be asked now.
        """
        rested = self._rested[method]
        if rested:
            return dict(rested.popleft() for _ in range(min(limit, len(rested))))
        names = self._names[method]
        if method in self._has_more:
            names.clear()  # the store finds them, in their turn
            self._has_more.discard(method)
        return {names.popleft(): 0 for _ in range(min(limit, len(names)))}

    def _do_later(self, work: Coroutine[Any, Any, None]) -> None:
        if self._stopped:
            work.close()
            return
        task = asyncio.create_task(work)
        self._later.add(task)
        task.add_done_callback(self._later.discard)

    async def stop(self) -> None:
        """Adds nothing any more after a pause."""
        self._stopped = True
        later = list(self._later)
        for task in later:
            task.cancel()
        await asyncio.gather(*later, return_exceptions=True)
