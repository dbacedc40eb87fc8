"""Hints on the operations that wait for an attempt, as far as this process knows them.

They are hints, not truth: the store decides which attempt gets an operation, when it is claimed. Of
each method there are four kinds:

* **A name** of an operation that this process has just made claimable. It is claimed by its name,
  and nothing is read: so a start is fast. Names of operations that others have started are never
  here; all that share a store would try them at once.
* **That there may be more**, whatever the names. Then the store is asked to claim the oldest. So it
  is at the start; when more waits than is kept here; as long as the store finds as many as were
  asked for; and when another process tells of work that it has left.
* **That one may be forgotten**, at each sweep, for a notice may have been lost (R9). A sweep spares
  what has become ready just now: another process is about to claim that, by its name or by a
  notice, and two that claim the same are in each other's way. Most sweeps find nothing. So the
  store is asked for one, which keeps one slot from others, and for more if there is one.
* **That an operation cannot be gone on with here**, for it waits for another release. It is left
  out until it becomes claimable anew, so that it takes no turn of those behind it. In another
  process that may go unheard, so a few of them are tried again at each sweep.

Operations with a concurrency key are hinted at apart (``key_rounds``), and never claimed by name.
Where both kinds may wait, they have the free slots in turn.

A delayed operation, such as a retry, is timed here, and is tried first once its pause is over. That
goes by the monotonic clock, and its claim says so: a time of day that is set back delays nothing.
One with a key is made ready then, and has its turn among the others.
The sweep finds those beyond the first thousand, those that are delayed for longer than ten minutes,
and those of other processes.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections import deque
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping
from typing import Any, NamedTuple

from lro_grpc._engine.handler import Handler
from lro_grpc._engine.key_rounds import KeyedTurn, KeyRounds
from lro_grpc._errors import LroError
from lro_grpc._operation.events import TimePassed
from lro_grpc._operation.record import Record
from lro_grpc._runtime.clock import Clock, Micros, seconds
from lro_grpc._stores.store import Store

_MOST_NAMES = 1000
"""Names of one method that are kept here at most."""

_MOST_DELAYED = 1000
"""Operations that are timed one by one at most."""

_TIMED_SECONDS = 600.0
"""The longest delay that is timed here: one of days is left to the sweep, so that a thousand of
those do not take the place of all that is to be retried soon."""

_LONGEST_PAUSE = 0.02
"""The seconds after which the store is asked at most for work of which another process tells. Each
process takes another pause, so that not all ask at once."""

_SPARED: Micros = 1_000_000
"""For how long a sweep spares what has become ready: as late as a notice of it may come
(``Store.follow``). Most come, and are acted on, within 30 ms, but not so on a busy machine."""

_MOST_LEFT_OUT = 10_000
"""Operations of one method that are left out at most, for each claim names them."""

_TRIED_AGAIN = 10
"""Operations of a method that were left out and are tried again, at each sweep."""


class Turn(NamedTuple):
    """The operations that are to be claimed of a method."""

    names: Mapping[str, Micros]
    """Names of operations; with each the ``scheduled_time`` that it has waited for, 0 for none.
    None at all if the store is to be asked for the oldest."""
    limit: int = 0
    """The most of these."""
    ready_before: Micros | None = None
    """They have been ready since before this time; None for any."""


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
        self._stored_as = {handler.method: handler.names for handler in handlers}
        self._method_of = {
            name: method for method, names in self._stored_as.items() for name in names
        }
        methods = self._stored_as.keys()
        self._names: dict[str, dict[str, None]] = {method: {} for method in methods}
        """Names of operations that wait, the first ones first."""
        self._left_out: dict[str, dict[str, None]] = {method: {} for method in methods}
        """Names of operations that cannot be gone on with here, the oldest first."""
        self._has_more: dict[str, Micros | None] = dict.fromkeys(methods)
        """Methods of which there may be more: that has been ready since before a time, or any."""
        self._swept: dict[str, Micros] = {}
        """Methods of which one may be forgotten that has been ready since before a time."""
        self._rested: dict[str, deque[tuple[str, Micros]]] = {one: deque() for one in methods}
        """Those whose pause is over, with the ``scheduled_time`` that they have waited for."""
        self.keys = KeyRounds(methods)
        """Hints on those that have a key."""
        self._had_keyed_turn = {*methods}
        """Methods whose last turn was of operations with a key: first come those without."""
        self._told: set[str] = set()
        """Methods of which another process has told just now."""
        self._later: set[asyncio.Task[None]] = set()
        self._delayed = 0
        self._stopped = False

    def may_have(self, method: str) -> bool:
        """Tells whether an operation of the method may wait."""
        return self._may_have_plain(method) or self.keys.may_have(method)

    def _may_have_plain(self, method: str) -> bool:
        is_to_ask = method in self._has_more or method in self._swept
        return is_to_ask or bool(self._names[method] or self._rested[method])

    def all_fit(self, stored_as: str, free: Mapping[str, int]) -> bool:
        """Tells whether all operations that wait have a slot here, as far as is known.

        Args:
            stored_as: The name of the method under which they are stored.
            free: The free slots of each method.
        """
        method = self._method_of.get(stored_as)
        if method is None or method in self._has_more:
            return False
        plain = len(self._names[method]) + len(self._rested[method])
        in_hand = self.keys.in_hand(method)
        if in_hand and not self.keys.is_used(method):
            # Nothing has a key, as far as is known: its slots are free again in a moment.
            return plain <= free[method] + in_hand
        keyed = self.keys.number(method) if self.keys.is_used(method) else 0
        forgotten = int(method in self._swept)
        return keyed is not None and plain + forgotten + keyed <= free[method]

    def add(self, record: Record) -> None:
        """Adds an operation that a call of this process has made claimable, now or for later."""
        method = self._method_of.get(record.method)
        if method is None:
            return
        self._left_out[method].pop(record.name, None)
        if record.is_ready and record.concurrency_key:
            self._add_keyed(method)
        elif record.is_ready and record.queue_order:
            self.has_more(method)  # others may have their turn before it, or after
        elif not record.scheduled_time:
            self._add(method, record.name)
        elif record.priority and record.is_delayed_start:
            pass  # the sweep makes it ready, and then it has its turn among the others
        elif self._delayed < _MOST_DELAYED and self._rest_of(record) <= _TIMED_SECONDS:
            self._delayed += 1  # without the record, which may be large
            add = self._make_ready_later if record.concurrency_key else self._add_later
            self._do_later(add(method, record.name, record.scheduled_time))

    def place_left(self, stored_as: str) -> None:
        """Takes a method of which an operation with a key is not held any more."""
        method = self._method_of.get(stored_as)
        if method is not None:
            self._add_keyed(method)

    def _add_keyed(self, method: str) -> None:
        self.keys.add(method)
        self._on_ready()

    def _rest_of(self, record: Record) -> float:
        return seconds(record.scheduled_time - self._store.now())

    async def _add_later(self, method: str, name: str, scheduled_time: Micros) -> None:
        await self._wait_until(scheduled_time)
        self.add_rested(method, name, scheduled_time)

    async def _make_ready_later(self, method: str, name: str, scheduled_time: Micros) -> None:
        del method
        await self._wait_until(scheduled_time)
        with contextlib.suppress(LroError):  # the sweep makes it ready, if it is still there
            await self._store.apply(name, TimePassed(waited_for=scheduled_time))

    async def _wait_until(self, time: Micros) -> None:
        try:
            await self._clock.sleep(seconds(time - self._store.now()))
        finally:
            self._delayed -= 1

    def add_rested(self, method: str, name: str, scheduled_time: Micros) -> None:
        """Adds an operation whose pause is over, though the time of day may say otherwise."""
        self._rested[method].append((name, scheduled_time))
        self._on_ready()

    def _add(self, method: str, name: str) -> None:
        names = self._names[method]
        if len(names) < _MOST_NAMES and self._has_more.get(method, 0) is not None:
            names[name] = None
        else:
            self._has_more[method] = None
        self._on_ready()

    def forget(self, method: str, name: str) -> None:
        """Forgets an operation that the store has found before its name had its turn."""
        self._names[method].pop(name, None)

    def left_out(self, method: str) -> Collection[str]:
        """Returns the names of operations that the store is not to claim."""
        return self._left_out[method].keys()

    def leave_out(self, method: str, name: str) -> None:
        """Notes that an operation cannot be gone on with here, until it has changed."""
        if not self.is_stuck(method):
            self._left_out[method][name] = None

    def leave_out_given_back(self, record: Record) -> None:
        """Leaves an operation to the next process, or to another one, as this one is about to stop.

        It has been given back because of that. Begun here again, it would be given back once more,
        or be lost with a handler that does not end in time, and that counts as a failed attempt.
        """
        method = self._method_of.get(record.method)
        if method is not None:
            self.leave_out(method, record.name)

    def is_stuck(self, method: str) -> bool:
        """Tells whether no more can be left out, so that the store finds the same ones again."""
        return len(self._left_out[method]) >= _MOST_LEFT_OUT

    def has_more(self, method: str, ready_before: Micros | None = None) -> None:
        """Lets the store be asked for operations of the method, whatever is known here.

        Args:
            method: The method.
            ready_before: Leaves out what has become ready since; None for nothing.
        """
        earlier = self._has_more.get(method, 0)
        if ready_before is None or earlier is None:
            self._has_more[method] = None
        else:
            self._has_more[method] = max(ready_before, earlier)
        self._on_ready()

    def sweep(self) -> None:
        """Lets the store be asked of every method for what has been forgotten."""
        for names in self._left_out.values():
            for name in list(itertools.islice(names, _TRIED_AGAIN)):
                del names[name]
        if self._store.exclusive:  # no other process claims
            for method in self._names:
                self._has_more[method] = None
                self.keys.has_more(method)
        else:
            ready_before = self._store.now() - _SPARED
            self._swept = dict.fromkeys(self._names, ready_before)
            self.keys.sweep([*self._names], ready_before)
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
        self.keys.has_more(method)
        self.has_more(method)

    def take(self, method: str, limit: int) -> Turn | KeyedTurn:
        """Returns what to claim of the method next, at most as much as the limit."""
        if not self.keys.may_have(method):
            return self._take_plain(method, limit)
        if self._may_have_plain(method):
            if self.keys.is_used(method):
                limit = (limit + 1) // 2
            if method in self._had_keyed_turn:
                self._had_keyed_turn.discard(method)
                return self._take_plain(method, limit)
        self._had_keyed_turn.add(method)
        return self.keys.take(method, self._stored_as[method], limit)

    def _take_plain(self, method: str, limit: int) -> Turn:
        rested, names = self._rested[method], self._names[method]
        if rested:
            return Turn(dict(rested.popleft() for _ in range(min(limit, len(rested)))))
        if method in self._has_more:
            ready_before = self._has_more.pop(method)
            if ready_before is None:  # the store finds them all, in their turn
                names.clear()
                self._swept.pop(method, None)
            return Turn({}, limit, ready_before)
        if method in self._swept:
            return Turn({}, 1, self._swept.pop(method))
        taken = list(itertools.islice(names, limit))
        for name in taken:
            del names[name]
        return Turn(dict.fromkeys(taken, 0))

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
