"""The engine that runs handlers in the server's own process: tasks and threads."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from lro_grpc.clock import Clock
from lro_grpc.engine import time_limits
from lro_grpc.engine.attempt import Attempt
from lro_grpc.engine.backlog import Backlog
from lro_grpc.engine.failure import status_of
from lro_grpc.engine.handler import Handler
from lro_grpc.engine.log import log_claimed, log_done, log_outcome
from lro_grpc.engine.run import Run
from lro_grpc.errors import (
    AttemptStopped,
    LroError,
    OperationNotFoundError,
    StaleAttemptError,
    StopReason,
    UnavailableError,
    UnexpectedError,
)
from lro_grpc.events import Claim, Elapse, Event, Fail, Heartbeat, Lose, Report
from lro_grpc.record import Record
from lro_grpc.stores import Held, Store
from lro_grpc.telemetry import NO_TELEMETRY, Telemetry

_log = logging.getLogger("lro_grpc")

_REPORT_SECONDS = 0.1
"""Progress is stored at most this often."""

_MAX_RIPENING = 1000
"""Operations between two attempts that are timed one by one at most."""

_MAX_SWEPT = 500
"""Operations that expire, or are removed, in one commit at most."""

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
        self._random = options.random
        self._telemetry = options.telemetry
        self._lease = options.lease.total_seconds()
        self._sweep = options.sweep.total_seconds()
        self._backlogs = {method: Backlog(method) for method in handlers}
        self._free = {method: handler.slots for method, handler in handlers.items()}
        self._attempts: dict[str, Attempt] = {}
        self._runs: dict[asyncio.Task[Event], Attempt] = {}
        self._outcomes: list[tuple[Attempt, Event]] = []
        self._storing: set[asyncio.Task[None]] = set()
        self._told: dict[Attempt, None] = {}  # in the order in which they spoke
        self._seen_early: dict[str, Record] = {}
        self._limits: dict[Attempt, list[asyncio.Task[None]]] = {}
        self._ripening: set[asyncio.Task[None]] = set()
        self._beat_in = self._lease / 3
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
            await self._lose([(one.name, Lose(one.attempt, proven=True)) for one in held])
            recovered = len(held)
        self._wake.set()
        for forever in (
            self._claim,
            self._store_reports,
            self._heartbeat,
            self._watch_leases,
            self._sweep_all,
        ):
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
        end = self._loop.time() + grace.total_seconds()
        if self._claiming.locked():  # what is being claimed becomes an attempt first
            try:
                await asyncio.wait_for(self._claiming.acquire(), grace.total_seconds())
            except asyncio.TimeoutError:
                _log.warning("the store did not answer a claim within %s", grace)
            else:
                self._claiming.release()
        for attempt in self._attempts.values():
            attempt.stop(StopReason.SHUTDOWN)
        limits = [task for tasks in self._limits.values() for task in tasks]
        for task in limits:
            task.cancel()  # who is told to unwind may be silent, and late
        if self._runs:
            left = max(0.0, end - self._loop.time())
            _, stuck = await asyncio.wait(self._runs, timeout=left)
            for run in stuck:
                attempt = self._runs[run]
                attempt.log.warning("%s did not stop within %s", attempt.name, grace)
                attempt.stop(StopReason.LEASE_LOST)
                run.cancel()
        if self._outcomes:
            self._store_ended()
        if self._storing:
            await asyncio.wait(self._storing, timeout=grace.total_seconds())
        tasks = [*self._loops, *self._ripening]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, *limits, return_exceptions=True)

    def _on_change(self, record: Record) -> None:
        if record.claimable and record.method in self._backlogs:
            if record.ready_time:
                self._ripen(record)
            else:
                self._note_claimable(record)
        if record.lease_time:
            attempt = self._attempts.get(record.name)
            if attempt is not None and attempt.number == record.attempt:
                attempt.see(record)
            else:
                self._seen_early[record.name] = record  # it may be one that is being claimed

    def _note_claimable(self, record: Record) -> None:
        self._backlogs[record.method].add(record.name)
        self._wake.set()

    def _ripen(self, record: Record) -> None:
        """Notes an operation that waits once it is ready; of too many, the sweep takes care."""
        if len(self._ripening) < _MAX_RIPENING and not self._stopping:
            task = asyncio.create_task(self._note_when_ready(record))
            self._ripening.add(task)
            task.add_done_callback(self._ripening.discard)

    async def _note_when_ready(self, record: Record) -> None:
        await self._clock.sleep((record.ready_time - self._clock.now()) / 1_000_000)
        self._note_claimable(record)

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
                    claimed_at = self._clock.monotonic()
                    outcomes = await self._store.apply_all([(name, claim) for name in names])
                except BaseException:
                    backlog.ask_again()
                    self._wake.set()
                    raise
                refused = []
                for name, outcome in zip(names, outcomes, strict=True):
                    if isinstance(outcome, Record):
                        self._begin(outcome, claimed_at)
                    elif isinstance(outcome, StaleAttemptError):
                        refused.append(name)
                    elif not isinstance(outcome, OperationNotFoundError):
                        fields = {"operation": name, "method": method}
                        _log.error("%s cannot be claimed: %s", name, outcome, extra=fields)
                self._seen_early.clear()
            if backlog and self._free[method]:
                self._wake.set()  # there is more, after the other methods
            if refused:
                self._wake.set()
                # What is overdue ends here, or it would be found and refused again and again.
                await self._store.apply_all([(name, Elapse()) for name in refused])

    def _begin(self, record: Record, claimed_at: float) -> None:
        handler = self._handlers[record.method]
        attempt = Attempt(
            record,
            handler,
            self._store,
            self._clock,
            lease=self._lease,
            claimed_at=claimed_at,
            random=self._random,
            telemetry=self._telemetry,
            on_report=self._on_report,
        )
        log_claimed(record)
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
        """Notes what has come of a run; those that end in one turn are stored together."""
        attempt = self._runs.pop(run)
        for task in self._limits.pop(attempt, ()):
            task.cancel()
        error = None if run.cancelled() else run.exception()
        was_stopped = run.cancelled() or (error and not isinstance(error, Exception))
        if was_stopped or attempt.stop_reason is StopReason.LEASE_LOST:
            attempt.log.warning(
                "%s: attempt %d ended without an outcome", attempt.name, attempt.number
            )
            self._let_go(attempt)
        else:
            if not self._outcomes:
                self._loop.call_soon(self._store_ended)
            outcome = self._unstorable(attempt, error) if error else run.result()
            self._outcomes.append((attempt, outcome))

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
                over = {attempt for attempt, _ in outcomes if attempt.lease_is_over}
                for attempt in over:
                    self._let_go(attempt)
                outcomes = [one for one in outcomes if one[0] not in over]
                await self._clock.sleep(_RETRY_SECONDS)
                continue
            pairs = list(zip(outcomes, answers, strict=True))
            outcomes = [
                (attempt, self._unstorable(attempt, answer))
                for (attempt, event), answer in pairs
                if isinstance(answer, UnexpectedError) and not isinstance(event, Fail)
            ]
            again = {attempt for attempt, _ in outcomes}
            for (attempt, event), answer in pairs:
                if isinstance(answer, Record):
                    log_outcome(event, answer)
                    self._let_go(attempt, answer)
                    continue
                attempt.log.warning(
                    "%s: attempt %d ended: %s", *(attempt.name, attempt.number, answer)
                )
                if attempt not in again:
                    self._let_go(attempt)

    def _unstorable(self, attempt: Attempt, error: BaseException) -> Event:
        """Returns what to store in place of an outcome that cannot be, or could not be told."""
        where = f"{attempt.handler.method} in {attempt.name}"
        cause = error.__cause__ or error
        status = status_of(cause, where, domain=attempt.handler.error_domain, log=attempt.log)
        attempt.telemetry.failed(cause, status.code)
        return Fail(Report(attempt.number), status.SerializeToString())

    def _let_go(self, attempt: Attempt, record: Record | None = None) -> None:
        """Makes room for another attempt, after one with an outcome or without."""
        attempt.end(record)
        self._free[attempt.record.method] += 1
        if self._attempts.get(attempt.name) is attempt:
            del self._attempts[attempt.name]
        self._wake.set()

    def _on_report(self, attempt: Attempt) -> None:
        with contextlib.suppress(RuntimeError):  # the server has stopped; its thread goes on
            self._loop.call_soon_threadsafe(self._note_report, attempt)

    def _note_report(self, attempt: Attempt) -> None:
        self._told[attempt] = None
        self._reported.set()

    async def _store_reports(self) -> None:
        """Stores what handlers have said since the last round."""
        await self._reported.wait()
        self._reported.clear()
        told, self._told = self._told, {}
        held = [one for one in told if self._attempts.get(one.name) is one]
        reports = [one.take_report() for one in held]
        try:
            await self._tell(held, reports)
        except UnavailableError:
            for attempt in held:
                attempt.report_again()
            raise
        await asyncio.sleep(_REPORT_SECONDS)

    async def _heartbeat(self) -> None:
        """Renews the leases of all attempts, three times in a lease."""
        await self._clock.sleep(self._beat_in)
        self._beat_in = 0.0  # should the store not answer, the next one comes after a retry's pause
        attempts = self._attempts.values()
        held = [one for one in attempts if one.stop_reason is not StopReason.LEASE_LOST]
        beats = [Heartbeat(one.number, int(self._lease * 1_000_000)) for one in held]
        sent_at = self._clock.monotonic()
        await self._tell(held, beats)
        for attempt in held:
            attempt.beaten(sent_at)
        self._beat_in = self._lease / 3

    async def _watch_leases(self) -> None:
        """Stops attempts whose lease is over, whether or not the store answers (R10)."""
        await self._clock.sleep(self._lease / 20)
        for attempt in self._attempts.values():
            if attempt.lease_is_over:
                attempt.stop(StopReason.LEASE_LOST)

    async def _tell(self, attempts: Iterable[Attempt], events: Iterable[Event]) -> None:
        """Stores one event of each attempt, and stops those that turn out not to be held."""
        pairs = list(zip(attempts, events, strict=True))
        if not pairs:
            return
        outcomes = await self._store.apply_all([(one.name, event) for one, event in pairs])
        for (attempt, _), outcome in zip(pairs, outcomes, strict=True):
            if isinstance(outcome, LroError) and self._attempts.get(attempt.name) is attempt:
                attempt.stop(StopReason.LEASE_LOST)
            elif isinstance(outcome, Record):
                attempt.see(outcome)

    async def _sweep_all(self) -> None:
        """Sees to what is lost, overdue or expired."""
        await self._clock.sleep(self._sweep)
        for backlog in self._backlogs.values():
            backlog.ask_again()  # should a notice have been lost (R9)
        self._wake.set()
        held = await self._store.held(until=self._clock.now())
        lost = [(one.name, Lose(one.attempt)) for one in held if not self._is_healthy(one)]
        if lost:
            await self._lose(lost)
        while due := await self._store.due(_MAX_SWEPT):
            elapsed = await self._store.apply_all([(name, Elapse()) for name in due])
            for record in elapsed:
                if isinstance(record, Record) and record.done and not record.deleted:
                    log_done(record)
            if len(due) < _MAX_SWEPT:
                break

    async def _lose(self, lost: Sequence[tuple[str, Lose]]) -> None:
        """Takes operations from attempts whose lease is over, or whose process is gone."""
        outcomes = await self._store.apply_all(lost)
        for (_, event), outcome in zip(lost, outcomes, strict=True):
            if isinstance(outcome, Record) and not outcome.lease_time:
                log_outcome(event, outcome)

    def _is_healthy(self, held: Held) -> bool:
        """Whether it is an attempt of this process, whose lease is only over by the time of day."""
        attempt = self._attempts.get(held.name)
        return attempt is not None and attempt.number == held.attempt and not attempt.lease_is_over
