"""The engine that runs handlers in the server's own process: tasks and threads."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from lro_grpc.clock import Clock
from lro_grpc.engine.attempt import Attempt
from lro_grpc.engine.backlog import Backlog
from lro_grpc.engine.failure import status_of
from lro_grpc.engine.handler import Handler
from lro_grpc.engine.run import Run
from lro_grpc.errors import (
    AttemptStopped,
    LroError,
    StaleAttemptError,
    StopReason,
    UnavailableError,
    UnexpectedError,
)
from lro_grpc.record import (
    Claim,
    Event,
    Fail,
    Heartbeat,
    Lose,
    Record,
    Report,
)
from lro_grpc.stores import Held, Store

_log = logging.getLogger("lro_grpc")

_REPORT_SECONDS = 0.1
"""Progress is stored at most this often."""

_RETRY_SECONDS = 0.5
"""After the store could not answer, it is asked again this much later."""


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """How the engine holds operations."""

    lease: timedelta
    """For how long an attempt holds its operation without a heartbeat."""
    sweep: timedelta
    """How often operations whose worker is lost are looked for."""


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
        self._lease = options.lease.total_seconds()
        self._sweep = options.sweep.total_seconds()
        self._backlogs = {method: Backlog(method) for method in handlers}
        self._free = {method: handler.slots for method, handler in handlers.items()}
        self._attempts: dict[str, Attempt] = {}
        self._runs: dict[asyncio.Task[Event], Attempt] = {}
        self._outcomes: list[tuple[Attempt, Event]] = []
        self._storing: set[asyncio.Task[None]] = set()
        self._told: set[Attempt] = set()
        self._cancelled_early: set[str] = set()
        self._loops: list[asyncio.Task[None]] = []
        self._stopping = False

    async def start(self) -> int:
        """Takes over what a former process has left, and begins to claim.

        Returns:
            How many operations a former process had in its hands.
        """
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        self._reported = asyncio.Event()
        self._claiming = asyncio.Lock()
        self._store.subscribe(self._on_change)
        recovered = 0
        if self._store.exclusive:
            held = await self._store.held()
            await self._store.apply_all([(h.name, Lose(h.attempt, proven=True)) for h in held])
            recovered = len(held)
        self._wake.set()
        for forever in (self._claim, self._store_reports, self._heartbeat, self._sweep_lost):
            self._loops.append(asyncio.create_task(self._survive(forever)))
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
        async with self._claiming:  # what is being claimed becomes an attempt first
            pass
        for attempt in self._attempts.values():
            attempt.stop(StopReason.SHUTDOWN)
        if self._runs:
            _, stuck = await asyncio.wait(self._runs, timeout=grace.total_seconds())
            for run in stuck:
                _log.warning("%s did not stop within %s", self._runs[run].name, grace)
                self._runs[run].stop(StopReason.LEASE_LOST)
                run.cancel()
        if self._outcomes:
            self._store_ended()
        if self._storing:
            await asyncio.wait(self._storing, timeout=grace.total_seconds())
        for task in self._loops:
            task.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)

    def _on_change(self, record: Record) -> None:
        if record.claimable and record.method in self._backlogs:
            self._backlogs[record.method].add(record.name)
            self._wake.set()
        if record.cancel_requested and record.lease_time:
            attempt = self._attempts.get(record.name)
            if attempt is not None and attempt.number == record.attempt:
                attempt.cancel()
            else:
                self._cancelled_early.add(record.name)  # it may be one that is being claimed

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
        claim = Claim(int(self._lease * 1_000_000))
        for method, backlog in self._backlogs.items():
            async with self._claiming:
                if not backlog or not self._free[method] or self._stopping:
                    continue
                try:
                    names = await backlog.take(self._store, self._free[method])
                    outcomes = await self._store.apply_all([(name, claim) for name in names])
                except BaseException:
                    backlog.ask_again()
                    self._wake.set()
                    raise
                for outcome in outcomes:
                    if isinstance(outcome, Record):
                        self._begin(outcome)
                    elif not isinstance(outcome, StaleAttemptError):
                        _log.error("an operation cannot be claimed: %s", outcome)
                self._cancelled_early.clear()
            if backlog and self._free[method]:
                self._wake.set()  # there is more, after the other methods

    def _begin(self, record: Record) -> None:
        handler = self._handlers[record.method]
        attempt = Attempt(
            record,
            handler,
            self._store,
            self._clock,
            lease=self._lease,
            on_report=self._on_report,
        )
        self._free[record.method] -= 1
        former = self._attempts.get(record.name)
        if former is not None:
            former.stop(StopReason.LEASE_LOST)
        self._attempts[record.name] = attempt
        run = Run(attempt)
        self._runs[run] = attempt
        run.add_done_callback(self._ended)
        if self._stopping:  # it was claimed while the engine was told to stop
            attempt.stop(StopReason.SHUTDOWN)
        elif record.name in self._cancelled_early and not record.cancel_requested:
            attempt.cancel()

    def _ended(self, run: asyncio.Task[Event]) -> None:
        """Notes what has come of a run; those that end in one turn are stored together."""
        attempt = self._runs.pop(run)
        stopped = run.cancelled() or isinstance(run.exception(), AttemptStopped)
        if stopped or attempt.stop_reason is StopReason.LEASE_LOST:
            _log.info("%s: attempt %d ended without an outcome", attempt.name, attempt.number)
            self._let_go(attempt)
        else:
            if not self._outcomes:
                self._loop.call_soon(self._store_ended)
            self._outcomes.append((attempt, run.result()))

    def _store_ended(self) -> None:
        outcomes, self._outcomes = self._outcomes, []
        storing = asyncio.create_task(self._store_outcomes(outcomes))
        self._storing.add(storing)
        storing.add_done_callback(self._storing.discard)

    async def _store_outcomes(self, outcomes: Sequence[tuple[Attempt, Event]]) -> None:
        """Stores what has come of attempts, through an outage of the store if there is one."""
        while outcomes:
            changes = [(attempt.name, event) for attempt, event in outcomes]
            try:
                answers = await self._store.apply_all(changes)
            except UnavailableError as error:
                # They may have been stored all the same; then the fence refuses the next try.
                _log.warning("%s; trying again", error)
                for attempt, _ in outcomes:
                    if attempt.lease_is_over:
                        self._let_go(attempt)
                outcomes = [one for one in outcomes if not one[0].lease_is_over]
                await self._clock.sleep(_RETRY_SECONDS)
                continue
            pairs = list(zip(outcomes, answers, strict=True))
            outcomes = [
                (attempt, self._unstorable(attempt, answer))
                for (attempt, event), answer in pairs
                if isinstance(answer, UnexpectedError) and not isinstance(event, Fail)
            ]
            again = {attempt for attempt, _ in outcomes}
            for (attempt, _), answer in pairs:
                if isinstance(answer, LroError):
                    _log.info("%s: attempt %d ended: %s", attempt.name, attempt.number, answer)
                if attempt not in again:
                    self._let_go(attempt)

    def _unstorable(self, attempt: Attempt, error: LroError) -> Event:
        """Returns what to store in place of an outcome that cannot be."""
        where = f"{attempt.handler.method} in {attempt.name}"
        status = status_of(error.__cause__ or error, where, domain=attempt.handler.error_domain)
        return Fail(Report(attempt.number), status.SerializeToString())

    def _let_go(self, attempt: Attempt) -> None:
        self._free[attempt.record.method] += 1
        if self._attempts.get(attempt.name) is attempt:
            del self._attempts[attempt.name]
        self._wake.set()

    def _on_report(self, attempt: Attempt) -> None:
        with contextlib.suppress(RuntimeError):  # the server has stopped; its thread goes on
            self._loop.call_soon_threadsafe(self._note_report, attempt)

    def _note_report(self, attempt: Attempt) -> None:
        self._told.add(attempt)
        self._reported.set()

    async def _store_reports(self) -> None:
        """Stores what handlers have said since the last round."""
        await self._reported.wait()
        self._reported.clear()
        told, self._told = self._told, set()
        held = [one for one in told if self._attempts.get(one.name) is one]
        reports = [one.take_report() for one in held]
        try:
            await self._tell(held, reports)
        except UnavailableError:
            for attempt, report in zip(held, reports, strict=True):
                attempt.give_back(report)
            raise
        await asyncio.sleep(_REPORT_SECONDS)

    async def _heartbeat(self) -> None:
        """Renews the leases of all attempts, three times in a lease."""
        await self._clock.sleep(self._lease / 3)
        attempts = self._attempts.values()
        held = [one for one in attempts if one.stop_reason is not StopReason.LEASE_LOST]
        beats = [Heartbeat(one.number, int(self._lease * 1_000_000)) for one in held]
        try:
            await self._tell(held, beats)
        except UnavailableError:
            for attempt in held:
                if attempt.lease_is_over:
                    attempt.stop(StopReason.LEASE_LOST)
            raise
        for attempt in held:
            attempt.beaten()

    async def _tell(self, attempts: Iterable[Attempt], events: Iterable[Event]) -> None:
        """Stores one event of each attempt, and stops those that turn out not to be held."""
        pairs = list(zip(attempts, events, strict=True))
        if not pairs:
            return
        outcomes = await self._store.apply_all([(one.name, event) for one, event in pairs])
        for (attempt, _), outcome in zip(pairs, outcomes, strict=True):
            if isinstance(outcome, LroError) and self._attempts.get(attempt.name) is attempt:
                attempt.stop(StopReason.LEASE_LOST)
            elif isinstance(outcome, Record) and outcome.cancel_requested and not outcome.done:
                attempt.cancel()

    async def _sweep_lost(self) -> None:
        """Takes operations from workers whose lease is over."""
        await self._clock.sleep(self._sweep)
        for backlog in self._backlogs.values():
            backlog.ask_again()  # should a notice have been lost (R9)
        self._wake.set()
        held = await self._store.held(until=self._clock.now())
        lost = [(one.name, Lose(one.attempt)) for one in held if not self._is_healthy(one)]
        if lost:
            await self._store.apply_all(lost)

    def _is_healthy(self, held: Held) -> bool:
        """Whether it is an attempt of this process, whose lease is only over by the time of day."""
        attempt = self._attempts.get(held.name)
        return attempt is not None and attempt.number == held.attempt and not attempt.lease_is_over
