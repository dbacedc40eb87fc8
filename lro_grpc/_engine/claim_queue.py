"""Names of the operations that wait for an attempt, as far as this process knows them.

The queue holds hints, not truth: the store decides which attempt gets an operation, when it is
claimed. So a name may be wrong, and may be missing; neither does harm, as long as the store is
asked at times.

Each method starts out unknown: its first names are read from the store. From then on the store's
listeners add each operation that becomes claimable, and no read is needed: so a start is fast. A
method is unknown again when more waits than is kept here, when a read was as long as its limit, and
at each sweep, for a notice may have been lost (R9). Then its next names are read once more.

An operation that no handler here can go on with waits for another release: it is left out here
until it has changed, so that it takes no turn of those behind it.

A delayed operation, such as a retry, is timed here, and is tried first once its pause is over. That
goes by the monotonic clock, and its claim says so: a time of day that is set back delays nothing.
The sweep finds those beyond the first thousand, and those of former processes: the store lists an
operation once its time has come.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence

from lro_grpc._engine.handler import Handler
from lro_grpc._operation.record import Record
from lro_grpc._runtime.clock import Clock, Micros, seconds
from lro_grpc._stores.store import Store

_MAX_NAMES = 1000
"""Names of one method that are kept here at most."""

_MAX_DELAYED = 1000
"""Operations that are timed one by one at most."""


class ClaimQueue:
    """Names to try and claim, by method, oldest first.

    Args:
        store: Where the operations are kept.
        clock: Tells the time.
        handlers: Those whose operations are claimed here. Operations of a handler's former names
            wait in the queue of its method.
        on_ready: Is called when there is something more to try.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        handlers: Iterable[Handler],
        on_ready: Callable[[], None],
    ) -> None:
        self._store = store
        self._clock = clock
        self._on_ready = on_ready
        self._stored_as = {handler.method: handler.names for handler in handlers}
        self._method_of = {
            name: method for method, names in self._stored_as.items() for name in names
        }
        self._names: dict[str, deque[str]] = {method: deque() for method in self._stored_as}
        self._unserved: dict[str, set[str]] = {method: set() for method in self._stored_as}
        self._unknown = set(self._names)
        self._rested: dict[str, deque[tuple[str, Micros]]] = {one: deque() for one in self._names}
        """Those whose pause is over, with the ``scheduled_time`` that they have waited for."""
        self._delayed: set[asyncio.Task[None]] = set()
        self._stopped = False

    def may_have(self, method: str) -> bool:
        """Tells whether an operation of the method may wait."""
        return method in self._unknown or bool(self._names[method] or self._rested[method])

    def add(self, record: Record) -> None:
        """Adds an operation that is claimable, now or at its ``scheduled_time``."""
        if record.method not in self._method_of:
            return
        if not record.scheduled_time:
            self._add(record.method, record.name)
        elif len(self._delayed) < _MAX_DELAYED and not self._stopped:
            later = self._add_later(record.method, record.name, record.scheduled_time)
            task = asyncio.create_task(later)  # without the record, which may be large
            self._delayed.add(task)
            task.add_done_callback(self._delayed.discard)

    async def _add_later(self, stored_as: str, name: str, scheduled_time: Micros) -> None:
        await self._clock.sleep(seconds(scheduled_time - self._clock.now()))
        self.add_rested(stored_as, name, scheduled_time)

    def add_rested(self, stored_as: str, name: str, scheduled_time: Micros) -> None:
        """Adds an operation whose pause is over, though the time of day may say otherwise."""
        method = self._method_of[stored_as]
        self._unserved[method].discard(name)
        self._rested[method].append((name, scheduled_time))
        self._on_ready()

    def _add(self, stored_as: str, name: str) -> None:
        method = self._method_of[stored_as]
        names = self._names[method]
        self._unserved[method].discard(name)
        if len(names) < _MAX_NAMES and method not in self._unknown:
            names.append(name)
        else:
            self._unknown.add(method)
        self._on_ready()

    def leave_out(self, method: str, name: str) -> None:
        """Notes that an operation cannot be gone on with here, until it is added again."""
        self._unserved[method].add(name)

    def read_again(self, method: str) -> None:
        """Lets the method's next names be read from the store, whatever is known here."""
        self._unknown.add(method)
        self._on_ready()

    def read_all_again(self) -> None:
        """Lets the next names of every method be read from the store."""
        self._unknown.update(self._names)
        self._on_ready()

    async def take(self, method: str, limit: int) -> Mapping[str, Micros]:
        """Returns names of the method to try, at most as many as the limit.

        Returns:
            The names; with each the ``scheduled_time`` that it has waited for, 0 for none.

        Raises:
            UnavailableError: If the store cannot answer.
        """
        rested = self._rested[method]
        if rested:
            return dict(rested.popleft() for _ in range(min(limit, len(rested))))
        return dict.fromkeys(await self._take(method, limit), 0)

    async def _take(self, method: str, limit: int) -> Sequence[str]:
        known = self._names[method]
        if method not in self._unknown:
            return [known.popleft() for _ in range(min(limit, len(known)))]
        known.clear()
        self._unknown.discard(method)
        unserved = self._unserved[method]
        most = limit + len(unserved)
        found = await self._store.claimable(dict.fromkeys(self._stored_as[method], most))
        unserved.intersection_update(found)
        names = [name for name in found if name not in unserved]
        if len(names) >= limit:
            self._unknown.add(method)
        return names[:limit]

    async def stop(self) -> None:
        """Adds no delayed operation any more."""
        self._stopped = True
        delayed = list(self._delayed)
        for task in delayed:
            task.cancel()
        await asyncio.gather(*delayed, return_exceptions=True)
