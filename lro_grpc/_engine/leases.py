"""Renews the leases of this process's attempts, and stops the attempts that have lost theirs.

Only a store that several processes share needs it. To have opened an exclusive store proves that no
other process is there to take an operation away; so there a lease says that an operation is held,
and its time means nothing, however long this process stands still.

**Renewal does not depend on the event loop.** It goes on in a thread with a loop of its own: a
handler that blocks the event loop costs none of the others its operation. Where a clock was given,
all of it is on the event loop, for that may be where the clock lives.

**The store's answer comes before the clock.** An attempt that the store still knows keeps its
operation, and one that it refuses has lost it. The clock judges only where there is no answer. Then
a lease ends here before it ends in the store (R10): the store counts it from the moment at which it
applies the claim or the heartbeat; this process counts from the moment before it sent that, by its
monotonic clock, and takes off another tenth. So an attempt that is cut off from its store is
stopped while the operation is still its own.

**After a pause a process beats first, and judges then.** All of it may have stood still: stopped by
a signal, or with the machine that it runs on. Its leases may be over by then, and its operations
others' already; or nobody has missed it. The store knows, and is asked at once. For a third of a
lease nobody is judged without its answer, and in that time a handler may go on that has lost its
operation. What protects the operation then, as ever, is the fence: an event carries its attempt's
number, and only the latest number counts (R5).

A lease is renewed three times in its own length, so two heartbeats may be lost before one matters.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import logging
from collections.abc import Callable, Mapping
from typing import TypeVar

from lro_grpc._engine.attempt import Attempt
from lro_grpc._errors import StopReason, UnavailableError
from lro_grpc._operation.record import Record
from lro_grpc._runtime.clock import Clock, SystemClock, micros
from lro_grpc._runtime.loop_thread import LoopThread
from lro_grpc._runtime.repeated_lines import RepeatedLines
from lro_grpc._runtime.threads import run_in_thread
from lro_grpc._stores.store import SharedStore

_log = logging.getLogger("lro_grpc")

T = TypeVar("T")

_LOOKS = 20
"""The looks for the end of a lease, in its length."""

_FAILURE_PAUSE = 0.5
"""The pause before the next heartbeat, after one that the store could not answer."""

_LAST_SECONDS = 1.0
"""The time in which the store may end the heartbeat that is under way at the stop."""


class Leases:
    """Keeps the leases of attempts on a shared store.

    Args:
        store: Where the operations are kept.
        attempts: The attempts of this process, by their operations' names.
        clock: Measures the leases.
        lease: Seconds for which a heartbeat holds an operation.
    """

    def __init__(
        self, store: SharedStore, attempts: Mapping[str, Attempt], clock: Clock, lease: float
    ) -> None:
        self._store = store
        self._attempts = attempts
        self._clock = clock
        self._lease = lease
        self._beat: asyncio.Task[None] | None = None
        self._lines = RepeatedLines(_log)

    def start(self) -> None:
        """Begins to renew leases."""
        self._loop = asyncio.get_running_loop()
        self._thread = LoopThread() if isinstance(self._clock, SystemClock) else None
        self._keeping: concurrent.futures.Future[None] | asyncio.Task[None] = (
            self._thread.submit(self._keep()) if self._thread else asyncio.create_task(self._keep())
        )

    async def stop(self) -> None:
        """Renews no more; leases that are not given back run out."""
        self._keeping.cancel()
        self._lines.close()
        if self._thread is None:
            return
        try:
            closing = run_in_thread("lro-leases", self._thread.close)
            await asyncio.wait_for(closing, _LAST_SECONDS)
        except asyncio.TimeoutError:
            _log.warning("the store has not answered the last heartbeat; nobody waits for it")

    async def _keep(self) -> None:
        look = self._lease / _LOOKS
        self._beat_at = self._clock.monotonic() + self._lease / 3
        judge_at = 0.0
        try:
            while True:
                begin = self._clock.monotonic()
                await self._clock.sleep(look)
                now = self._clock.monotonic()
                if now - begin > 2 * look:  # this process, all of it, has stood still
                    self._beat_at = now
                    judge_at = now + self._lease / 3
                if now >= self._beat_at:
                    self._renew_all(now)
                if now >= judge_at:
                    self._judge()
        finally:
            if self._beat is not None:
                self._beat.cancel()

    def _renew_all(self, now: float) -> None:
        """Sends the next heartbeat; the one before has had its time."""
        if self._beat is not None:
            self._beat.cancel()
        self._beat_at = now + self._lease / 3
        self._beat = asyncio.create_task(self._renew(now))

    async def _renew(self, sent_at: float) -> None:
        held = [one for one in list(self._attempts.values()) if _is_held(one)]
        if not held:
            return
        leased = [one.leased for one in held]
        try:
            answers = await self._store.renew(leased, micros(self._lease))
        except UnavailableError as error:
            self._lines.say(logging.WARNING, f"{error.message}; trying again")
            self._beat_at = self._clock.monotonic() + _FAILURE_PAUSE
        except Exception as error:  # noqa: BLE001 - a bug in one heartbeat must not end them all
            text = f"the leases could not be renewed; trying again: {error!r}"
            self._lines.say(logging.ERROR, text, error=error)
        else:
            for attempt, answer in zip(held, answers, strict=True):
                if isinstance(answer, Record):
                    attempt.lease_renewed(sent_at)
                    self._call_on_loop(attempt.see, answer)
                elif isinstance(answer, UnavailableError):  # and no refusal
                    self._beat_at = self._clock.monotonic() + _FAILURE_PAUSE
                else:
                    self._call_on_loop(attempt.stop, StopReason.LEASE_LOST)

    def _judge(self) -> None:
        """Stops attempts whose lease is over, whether or not the store answers (R10)."""
        for attempt in list(self._attempts.values()):
            if attempt.lease_is_over and _is_held(attempt):
                self._call_on_loop(attempt.stop, StopReason.LEASE_LOST)

    def _call_on_loop(self, call: Callable[[T], None], argument: T) -> None:
        with contextlib.suppress(RuntimeError):  # the event loop is closed, and with it the engine
            self._loop.call_soon_threadsafe(call, argument)


def _is_held(attempt: Attempt) -> bool:
    return attempt.stop_reason is not StopReason.LEASE_LOST
