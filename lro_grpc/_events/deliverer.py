"""Tells the server's ``on_done`` of the operations that are done, at least once each.

It takes completions from the store's outbox, those that are due, and settles them there when they
were told, or could not be. Each process of a store does so: what one of them has taken, the others
leave alone until its lease is over.

* It looks when this process ends an operation, when few are left to be told, and each second, for
  what other processes have ended, or is due again.
* ``delivery_queue`` decides what is told next, ``completion`` what becomes of what could not be.
* Settlements that come together are stored together, and wait while the store cannot answer. If the
  lease is over by then, the event may be told twice: never not at all.

``on_done`` runs on the event loop if it is a coroutine function, and else in a thread. One that
takes too long has failed; until it ends, as a thread may not, it takes the place of another one.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
from collections.abc import Callable, Iterable
from datetime import timedelta
from functools import partial
from typing import Any, NamedTuple

from google.protobuf.message import DecodeError
from google.rpc import status_pb2

from lro.v1 import completion_event_pb2
from lro_grpc._engine.retries import words
from lro_grpc._errors import (
    LIBRARY_DOMAIN,
    Code,
    LroError,
    RetryableError,
    UnavailableError,
    UndeliverableError,
    to_status,
)
from lro_grpc._events.delivery_queue import Delivery, DeliveryQueue
from lro_grpc._operation.attempts import cut_error
from lro_grpc._operation.completion import (
    LEASE,
    Completion,
    Settlement,
    failed,
    given_up,
    put_back,
)
from lro_grpc._operation.completion_event import CompletionEvent, OnDone
from lro_grpc._operation.record import Record
from lro_grpc._runtime.clock import Clock, micros
from lro_grpc._runtime.interrupts import only_errors
from lro_grpc._runtime.repeated_lines import RepeatedLines
from lro_grpc._runtime.rounds import repeat
from lro_grpc._runtime.threads import run_in_thread
from lro_grpc._stores.store import Store
from lro_grpc._wire.plain_text import one_line

_log = logging.getLogger("lro_grpc")

_LOOK_SECONDS = 1.0
"""The interval at which the store is asked for what is due."""

_TELL_SECONDS = 30.0
"""The time that ``on_done`` has for one event."""

_FLUSH_SECONDS = 1.0
"""The time in which the last settlements are stored, at the end."""

_LAST_SECONDS = 0.5
"""The time that ``on_done`` has to end once it is cancelled."""

_PUT_BACK_SECONDS = (5.0, 15.0)
"""The least and the longest pause until one that had to wait for too long is due again."""


class _Telling(NamedTuple):
    """A completion that is being told."""

    completion: Completion
    late: asyncio.TimerHandle
    """Comes when its time is over."""


class Deliverer:
    """Tells ``on_done`` of what is done; see the module. Lives on one event loop.

    Args:
        store: Where the completions are.
        on_done: Is told. If it has a method ``destination``, that is called with each event, and
            few of the same destination are told at a time.
        clock: Measures pauses.
        random: Gives numbers uniform in [0, 1), for pauses.
    """

    def __init__(
        self, store: Store, on_done: OnDone, clock: Clock, random: Callable[[], float]
    ) -> None:
        self._store = store
        self._on_done = on_done
        self._destination: Callable[[CompletionEvent], Any] | None = getattr(
            on_done, "destination", None
        )
        self._clock = clock
        self._random = random
        of_call = getattr(on_done, "__call__", None)  # noqa: B004 - an object's is a method
        self._is_async = any(map(inspect.iscoroutinefunction, (on_done, of_call)))
        self._queue = DeliveryQueue()
        self._calls: set[asyncio.Task[None]] = set()
        """The calls of ``on_done``; one of a thread may go on though it has failed."""
        self._telling: dict[asyncio.Task[None], _Telling] = {}
        """Those of them whose time is not over."""
        self._settlements: list[Settlement] = []
        self._wake = asyncio.Event()
        self._taking = asyncio.Lock()
        """Whoever has it may take, and end the taking: what is taken is in the queue by then."""
        self._has_settlements = asyncio.Event()
        self._lines = RepeatedLines(_log)
        self._loops: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begins to tell what is due."""
        self._unsubscribe = self._store.subscribe(self._on_change)
        rounds = (self._tick, self._take, self._settle)
        self._loops = [
            asyncio.create_task(repeat("deliverer", one, self._clock, self._lines))
            for one in rounds
        ]
        self._wake.set()

    async def stop(self, grace: timedelta) -> None:
        """Takes no more, and ends: what is not told within the grace is due for others at once.

        Args:
            grace: The time that ``on_done`` is given to end.
        """
        if not self._loops:
            return
        self._unsubscribe()
        async with self._taking:
            await _cancelled(self._loops)
        for waiting in self._queue.clear():
            self._put_back(waiting.completion, self._store.now())
        if self._telling:
            await asyncio.wait(self._telling, timeout=grace.total_seconds())
        for completion, late in self._telling.values():
            late.cancel()
            self._settled(completion, completion._replace(next_time=self._store.now()))
        self._telling.clear()
        await _cancelled(self._calls)
        try:
            await asyncio.wait_for(self._settle(), _FLUSH_SECONDS)
        except (asyncio.TimeoutError, LroError) as error:
            _log.warning("some completion events may be told again: %s", one_line(str(error)))
        self._lines.close()

    def give_up(self) -> None:
        """Ends as if this process were gone: nothing is told or settled any more."""
        for telling in self._telling.values():
            telling.late.cancel()
        self._telling.clear()
        self._queue.clear()
        for task in (*self._loops, *self._calls):
            task.cancel()
        if self._loops:
            self._unsubscribe()
        self._loops = []

    def _on_change(self, before: Record | None, after: Record) -> None:
        if after.notify and after.done and not (before is not None and before.done):
            self._wake.set()

    async def _tick(self) -> None:
        await self._clock.sleep(_LOOK_SECONDS)
        self._wake.set()

    async def _take(self) -> None:
        """Takes what is due, as long as there is room."""
        await self._wake.wait()
        self._wake.clear()
        for late in self._queue.late(self._clock.monotonic()):
            least, longest = _PUT_BACK_SECONDS
            pause = least + (longest - least) * self._random()
            self._put_back(late.completion, self._store.now() + micros(pause))
        self._begin()
        while self._queue.is_low:
            async with self._taking:
                taken = await self._store.take_completions(self._queue.room, LEASE)
                taken_at = self._clock.monotonic()
                for completion in taken:
                    self._add(completion, taken_at)
            self._begin()
            if not taken:
                return

    def _add(self, completion: Completion, taken_at: float) -> None:
        """Lets a completion wait to be told, unless nobody is to be told of it."""
        if completion.given_up:  # its time to be described is over
            self._settled(completion, None)
            return
        try:
            data = completion_event_pb2.CompletionEvent.FromString(completion.event)
        except DecodeError as error:
            self._failed(completion, UndeliverableError(f"its event is damaged: {error}"))
            return
        event = CompletionEvent(completion.id, data, completion.attempt_count)
        destination = event.id
        if self._destination is not None:
            try:
                with only_errors("on_done.destination"):
                    destination = self._destination(event)
                hash(destination)
            except Exception as error:  # noqa: BLE001 - of this event alone
                self._failed(completion, error)
                return
        self._queue.add(Delivery(completion, event, destination, taken_at))

    def _begin(self) -> None:
        """Begins to tell what may be told now."""
        while delivery := self._queue.begin():
            call = asyncio.create_task(self._call(delivery.event))
            late = asyncio.get_running_loop().call_later(_TELL_SECONDS, self._be_late, call)
            self._telling[call] = _Telling(delivery.completion, late)
            call.add_done_callback(partial(self._ended, delivery))
            self._calls.add(call)

    async def _call(self, event: CompletionEvent) -> None:
        with only_errors("on_done"):
            if self._is_async:
                told = self._on_done(event)
            else:
                told = await run_in_thread("lro-on-done", self._on_done, event)
            if inspect.isawaitable(told):
                await told

    def _be_late(self, call: asyncio.Task[None]) -> None:
        """Takes a call for failed whose time is over; it keeps its place until it ends."""
        completion, _ = self._telling.pop(call)
        if self._is_async:
            call.cancel()
        late = f"on_done has not ended within {_TELL_SECONDS:g} s"
        self._failed(completion, LroError(late, code=Code.DEADLINE_EXCEEDED))

    def _ended(self, delivery: Delivery, call: asyncio.Task[None]) -> None:
        """Settles a completion whose call has ended, and gives its place to another one."""
        self._calls.discard(call)
        error = None if call.cancelled() else call.exception()
        telling = self._telling.pop(call, None)
        if telling is not None:  # it is in time
            telling.late.cancel()
            if isinstance(error, Exception):
                self._failed(telling.completion, error)
            elif not call.cancelled():  # as it is before it begins, at the end of the loop
                self._settled(telling.completion, None)
        self._queue.end(delivery)
        self._begin()
        if self._queue.is_low:
            self._wake.set()

    def _failed(self, completion: Completion, error: Exception) -> None:
        """Has a completion told again later, or gives it up."""
        status = cut_error(_status_of(error).SerializeToString())
        if isinstance(error, UndeliverableError):
            after = given_up(completion, status)
        else:
            pause = error.retry_after if isinstance(error, RetryableError) else None
            now, asked = self._store.now(), None if pause is None else micros(pause)
            after = failed(completion, status, now, self._random, pause=asked)
        said = one_line(words(error))
        if after.given_up:
            fields = {"operation": completion.name, "attempt_count": completion.attempt_count}
            text = (
                f"{completion.name}: its completion event is given up after"
                f" {completion.attempt_count} attempts: {said}"
            )
            kind = ("given up", type(error))
            self._lines.say(logging.WARNING, text, kind=kind, extra=fields)
        else:
            unexpected = None if isinstance(error, LroError) else error
            text = f"a completion event could not be told, and will be tried again: {said}"
            kind = ("not told", type(error))
            self._lines.say(logging.WARNING, text, kind=kind, error=unexpected)
        self._settled(completion, after)

    def _put_back(self, completion: Completion, next_time: int) -> None:
        self._settled(completion, put_back(completion, next_time))

    def _settled(self, completion: Completion, after: Completion | None) -> None:
        self._settlements.append((completion, after))
        self._has_settlements.set()

    async def _settle(self) -> None:
        """Stores the settlements that have come."""
        if self._loops:
            await self._has_settlements.wait()
        self._has_settlements.clear()
        settlements, self._settlements = self._settlements, []
        if not settlements:
            return
        try:
            await self._store.settle_completions(settlements)
        except (UnavailableError, asyncio.CancelledError):
            self._settlements = [*settlements, *self._settlements]
            self._has_settlements.set()
            raise


def _status_of(error: Exception) -> status_pb2.Status:
    """Returns what a description says of an error: of one that is none of ours, its type alone."""
    if isinstance(error, LroError):
        with contextlib.suppress(Exception):  # the service may have changed anything in it
            return to_status(error, domain=LIBRARY_DOMAIN)
    what = f"on_done has raised {type(error).__name__}; the server's log has more"
    return status_pb2.Status(code=Code.UNKNOWN, message=what)


async def _cancelled(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Cancels tasks, and waits for their ends, but not for long."""
    some = list(tasks)
    for task in some:
        task.cancel()
    if some:
        await asyncio.wait(some, timeout=_LAST_SECONDS)  # one may swallow its cancel
