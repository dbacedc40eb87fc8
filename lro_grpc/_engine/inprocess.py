"""The engine that runs handlers in the server's own process: tasks and threads."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from lro_grpc._engine import time_limits
from lro_grpc._engine.attempt import Attempt
from lro_grpc._engine.claim_queue import ClaimQueue
from lro_grpc._engine.completer import Completer
from lro_grpc._engine.executor import Executor
from lro_grpc._engine.handler import Handler
from lro_grpc._engine.leases import Attempts, Leases
from lro_grpc._engine.maintenance import Maintenance
from lro_grpc._engine.progress_writer import ProgressWriter
from lro_grpc._errors import (
    AttemptStopped,
    OperationNotFoundError,
    StaleAttemptError,
    StopReason,
    UnavailableError,
)
from lro_grpc._operation.events import Claim, Event
from lro_grpc._operation.record import Record
from lro_grpc._operation.telemetry import NO_TELEMETRY, Telemetry
from lro_grpc._runtime.clock import Clock, micros
from lro_grpc._runtime.log import log_claimed, log_done, log_outcome
from lro_grpc._stores.store import Store

_log = logging.getLogger("lro_grpc")

_RETRY_SECONDS = 0.5
"""After the store could not answer, it is asked again this much later."""


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """How the engine holds operations."""

    lease: timedelta
    """For how long an attempt holds its operation without a heartbeat."""
    sweep: timedelta
    """How often what is lost, overdue or expired is looked for."""
    random: Callable[[], float] = random.random
    """Gives numbers uniform in [0, 1), for the pauses between attempts."""
    telemetry: Telemetry = NO_TELEMETRY
    """Is told of attempts."""


class InProcessEngine:
    """Claims operations and runs their handlers.

    Args:
        store: An open store.
        handlers: The handlers, by their methods' full names.
        clock: Measures leases and sweeps.
        options: How operations are held.
    """

    def __init__(
        self, store: Store, handlers: Mapping[str, Handler], clock: Clock, options: EngineOptions
    ) -> None:
        self._store = store
        self._handlers = handlers
        self._clock = clock
        self._options = options
        self._lease = options.lease.total_seconds()
        self._free = {method: handler.slots for method, handler in handlers.items()}
        self._attempts = Attempts(store)
        self._leases = Leases(self._attempts, clock, self._lease)
        self._maintenance = Maintenance(store, clock, self._attempts.hold)
        self._queue = ClaimQueue(store, clock, handlers, self._wake_up)
        self._completer = Completer(store, clock, self._release)
        self._runs: dict[asyncio.Task[Event], Attempt] = {}
        self._limits: dict[Attempt, list[asyncio.Task[None]]] = {}
        self._seen_early: dict[str, Record] = {}
        self._loops: list[asyncio.Task[None]] = []
        self._stopping = False

    async def start(self) -> int:
        """Takes over what a former process has left, and begins to claim.

        Returns:
            How many operations a former process had in its hands.
        """
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        self._claiming = asyncio.Lock()
        self._progress_writer = ProgressWriter(self._attempts)
        self._store.subscribe(self._on_change)
        recovered = await self._maintenance.take_over() if self._store.exclusive else 0
        self._wake.set()
        loops = (
            self._claim,
            self._progress_writer.store,
            self._leases.renew,
            self._leases.watch,
            self._sweep_all,
        )
        self._loops += [asyncio.create_task(self._survive(forever)) for forever in loops]
        return recovered

    def stop_claiming(self) -> None:
        """Begins no more attempts."""
        self._stopping = True

    async def stop(self, grace: timedelta) -> None:
        """Stops every attempt, and gives back those that have ended within the grace.

        The operation of a thread that goes on regardless stays this process's until its lease
        is over.
        """
        self.stop_claiming()
        end = self._loop.time() + grace.total_seconds()
        if self._claiming.locked():  # what is being claimed becomes an attempt first
            try:
                await asyncio.wait_for(self._claiming.acquire(), grace.total_seconds())
            except asyncio.TimeoutError:
                _log.warning("the store did not answer a claim within %s", grace)
            else:
                self._claiming.release()
        for attempt in self._attempts:
            attempt.stop(StopReason.SHUTDOWN)
        limits = [task for tasks in self._limits.values() for task in tasks]
        for task in limits:
            task.cancel()  # a handler that unwinds may make no progress, and be late
        if self._runs:
            left = max(0.0, end - self._loop.time())
            _, stuck = await asyncio.wait(self._runs, timeout=left)
            for run in stuck:
                attempt = self._runs[run]
                attempt.log.warning("%s did not stop within %s", attempt.name, grace)
                attempt.stop(StopReason.LEASE_LOST)
                run.cancel()
        await self._completer.flush(grace.total_seconds())
        for task in self._loops:
            task.cancel()
        await asyncio.gather(*self._loops, *limits, return_exceptions=True)
        await self._queue.stop()

    def _on_change(self, _before: Record | None, record: Record) -> None:
        if record.claimable:
            self._queue.add(record)
        if record.lease_expire_time:
            attempt = self._attempts.of(record.name, record.attempt)
            if attempt is not None:
                attempt.see(record)
            else:
                self._seen_early[record.name] = record  # it may be one that is being claimed

    def _wake_up(self) -> None:
        self._wake.set()

    async def _survive(self, forever: Callable[[], Awaitable[None]]) -> None:
        """Repeats one of the engine's loops, whatever happens in one of its rounds."""
        while True:
            try:
                await forever()
            except UnavailableError as error:
                _log.warning("%s; trying again", error)
                await self._clock.sleep(_RETRY_SECONDS)
            except Exception:  # noqa: BLE001 - one bad round must not end the engine
                _log.exception("the engine met an unexpected error; going on")
                await self._clock.sleep(_RETRY_SECONDS)

    async def _claim(self) -> None:
        """Begins attempts wherever a method has both a free slot and something that waits."""
        await self._wake.wait()
        self._wake.clear()
        claim = Claim(micros(self._lease))
        for method in self._handlers:
            async with self._claiming:
                if not self._queue.may_have(method) or not self._free[method] or self._stopping:
                    continue
                try:
                    names = await self._queue.take(method, self._free[method])
                    claimed_at = self._clock.monotonic()
                    outcomes = await self._store.apply_all([(name, claim) for name in names])
                except BaseException:
                    self._queue.read_again(method)
                    raise
                for name, outcome in zip(names, outcomes, strict=True):
                    if isinstance(outcome, Record) and outcome.lease_expire_time:
                        self._begin(outcome, claimed_at)
                    elif isinstance(outcome, Record):
                        log_done(outcome)
                    elif not isinstance(outcome, (StaleAttemptError, OperationNotFoundError)):
                        fields = {"operation": name, "method": method}
                        _log.error("%s cannot be claimed: %s", name, outcome, extra=fields)
                self._seen_early.clear()
            if self._queue.may_have(method) and self._free[method]:
                self._wake.set()  # there is more, after the other methods

    def _begin(self, record: Record, claimed_at: float) -> None:
        handler = self._handlers[record.method]
        attempt = Attempt(
            record,
            handler,
            self._store,
            self._clock,
            lease=self._lease,
            claimed_at=claimed_at,
            random=self._options.random,
            telemetry=self._options.telemetry,
            on_report=self._progress_writer.add,
        )
        log_claimed(record)
        self._free[record.method] -= 1
        self._attempts.add(attempt)
        run = Executor(attempt)
        self._runs[run] = attempt
        run.add_done_callback(self._ended)
        if attempt.lease_is_over:  # the answer to the claim was that late: another one may have it
            attempt.stop(StopReason.LEASE_LOST)
        elif self._stopping:  # it was claimed while the engine was asked to stop
            attempt.stop(StopReason.SHUTDOWN)
        else:
            early = self._seen_early.get(record.name)
            if early is not None and early.attempt == record.attempt:
                attempt.see(early)
            self._limit(attempt)

    def _limit(self, attempt: Attempt) -> None:
        """Sees to it that an attempt keeps its time limits."""
        limits: list[Callable[[], Awaitable[Event | None]]] = []
        if attempt.record.deadline_time and not attempt.claimed_to_undo:
            limits.append(partial(time_limits.expire, attempt, self._clock, self._lease))
        silence = attempt.handler.progress_timeout
        if silence is not None:
            seconds = silence.total_seconds()
            limits.append(
                partial(time_limits.lose_stuck, attempt, self._clock, seconds, self._lease)
            )
        if limits:
            self._limits[attempt] = [
                asyncio.create_task(self._give_up_after(attempt, one)) for one in limits
            ]

    async def _give_up_after(
        self, attempt: Attempt, limit: Callable[[], Awaitable[Event | None]]
    ) -> None:
        """Takes an operation from an attempt that does not stop although its time is over."""
        event = await limit()
        if event is not None:
            attempt.log.warning(
                "%s: attempt %d does not stop, and is given up", attempt.name, attempt.number
            )
            with contextlib.suppress(AttemptStopped):
                await attempt.write(event)
                log_outcome(event, attempt.record)
            attempt.end(None)
            attempt.stop(StopReason.LEASE_LOST)

    def _ended(self, run: asyncio.Task[Event]) -> None:
        """Notes what has come of a run."""
        attempt = self._runs.pop(run)
        for task in self._limits.pop(attempt, ()):
            task.cancel()
        error = None if run.cancelled() else run.exception()
        was_stopped = run.cancelled() or (error and not isinstance(error, Exception))
        if was_stopped or attempt.stop_reason is StopReason.LEASE_LOST:
            attempt.log.warning(
                "%s: attempt %d ended without an outcome", attempt.name, attempt.number
            )
            self._release(attempt, None)
        else:
            self._completer.add(attempt, error if isinstance(error, Exception) else run.result())

    def _release(self, attempt: Attempt, record: Record | None) -> None:
        """Makes room for another attempt, after one with an outcome or without."""
        attempt.end(record)
        self._free[attempt.record.method] += 1
        self._attempts.discard(attempt)
        self._wake.set()

    async def _sweep_all(self) -> None:
        """Sees to what time does to operations, and to notices that were lost (R9)."""
        await self._clock.sleep(self._options.sweep.total_seconds())
        self._queue.read_all_again()
        await self._maintenance.rescue()
        await self._maintenance.expire_and_prune()
