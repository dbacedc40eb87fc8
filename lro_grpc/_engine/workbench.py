"""Holds the attempts of one process, whatever engine has chosen their operations.

An engine says which operations to claim: by name, or the oldest of a method. For each that it
gets, the workbench begins an attempt and sees to the rest until the attempt is over:

* A claim is answered with a lease. On a store that others share, ``Leases`` renews it, and stops
  the attempt where it cannot.
* An ``Executor`` runs the handler, and makes one event of how it ended: the outcome.
* The ``Completer`` stores outcomes, the ``ProgressWriter`` progress on the way; both in groups, for
  a commit costs far more than the rows in it.
* ``time_limits`` stops attempts whose time is over, and gives up those that go on regardless.
* ``Maintenance`` does the same for operations that no living process holds.
* ``Watchdog`` tells of a handler that blocks the event loop, and so all of this; ``HeldSlots`` of
  those that may wait for their own method.

Two rules hold the parts together. There is one attempt of an operation here at most: a later claim
of the same name proves that the former attempt has lost its lease. And each attempt ends
exactly once, when its outcome is stored or cannot be: then the engine that claimed it is called.

What is asked of an operation meanwhile, such as to cancel it, reaches its attempt at once: from the
store's listeners where this process has asked it, and where another one has by following the
operation. Between the commit of a claim and its answer that may be heard before there is an attempt
to pass it on to. So the records heard while a claim is under way are kept until the attempts of
that claim have begun. What is lost is found by the answers to heartbeats, or by a sweep.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from types import MappingProxyType
from typing import cast

from lro_grpc._durations import Duration
from lro_grpc._engine import time_limits
from lro_grpc._engine.attempt import Attempt, StartWithin
from lro_grpc._engine.completer import Completer
from lro_grpc._engine.executor import Executor
from lro_grpc._engine.handler import Handler
from lro_grpc._engine.held_slots import HeldSlots
from lro_grpc._engine.leases import Leases
from lro_grpc._engine.maintenance import Maintenance
from lro_grpc._engine.progress_writer import ProgressWriter
from lro_grpc._engine.watchdog import Watchdog
from lro_grpc._errors import (
    LroError,
    OperationDamagedError,
    OperationNotFoundError,
    StopReason,
)
from lro_grpc._operation.events import Claim, Event, Succeed
from lro_grpc._operation.record import Record
from lro_grpc._operation.size import OPERATION_BYTES
from lro_grpc._operation.telemetry import NO_TELEMETRY, Telemetry
from lro_grpc._runtime import task_owners
from lro_grpc._runtime.clock import Clock, Micros, SystemClock, as_duration, micros
from lro_grpc._runtime.log import log_claimed, log_done
from lro_grpc._runtime.repeated_lines import PROCESS, RepeatedLines
from lro_grpc._runtime.rounds import repeat
from lro_grpc._stores.store import Claimed, KeyedClaims, Leased, SharedStore, Store

_log = logging.getLogger("lro_grpc")

_LAST_SECONDS = 0.1
"""The time in which a handler may end that was interrupted for the last time."""

_LEAST_FLUSH_SECONDS = 1.0
"""The time in which outcomes are stored, for those of handlers that end with the grace."""

OnEnd = Callable[[Record | None], None]
"""Is called with an operation after its attempt; with None if the attempt has lost it."""


def _nothing() -> None:
    pass


class Workbench:
    """Claims operations, and runs their handlers. Lives on one event loop.

    Args:
        store: An open store.
        handlers: The handlers, by the full names of the methods whose operations they run: their
            own and, where they have them, their former ones.
        clock: Measures leases and sweeps.
        lease: For how long an attempt holds its operation without a heartbeat.
        sweep: The pause between two sweeps, for what is lost, overdue or past its retention.
        operation_bytes: The most bytes of an operation.
        random: Gives numbers uniform in [0, 1), for pauses.
        telemetry: Observes the attempts.
        signal_margin: The time by which an error may come before the signal that it comes of;
            nothing unless signals announce a shutdown.
        worker: The name of this process in the history of attempts.
        start_within: Starts an operation for the handler of a record, given the other one's method
            and request, and the handler's key for it; handlers start none without.
    """

    def __init__(
        self,
        store: Store,
        handlers: Mapping[str, Handler],
        clock: Clock,
        *,
        lease: Duration,
        sweep: Duration,
        operation_bytes: int = OPERATION_BYTES,
        random: Callable[[], float] = random.random,
        telemetry: Telemetry = NO_TELEMETRY,
        signal_margin: timedelta = timedelta(0),
        worker: str = "",
        start_within: StartWithin | None = None,
    ) -> None:
        self.store = store
        """Where the operations are kept."""
        self.handlers = handlers
        """The handlers, by their methods' full names."""
        self.clock = clock
        """Measures leases and sweeps."""
        self.is_stopping = False
        """Whether no more attempts are to begin."""
        self.is_shutdown_announced = False
        """Whether this process is about to stop."""
        self.lease = as_duration("lease", lease).total_seconds()
        """For how many seconds an attempt holds its operation without a heartbeat."""
        self._sweep_pause = as_duration("sweep", sweep).total_seconds()
        self._operation_bytes = operation_bytes
        self.random = random
        """Gives numbers uniform in [0, 1), for pauses."""
        self._telemetry = telemetry
        self._signal_margin = signal_margin.total_seconds()
        self._worker = worker
        self._start_within = start_within
        self._attempts: dict[str, Attempt] = {}
        """The latest attempt of each operation that this process holds."""
        self._on_end: dict[Attempt, OnEnd] = {}
        self._running: set[Executor] = set()
        self._limits: dict[Attempt, Sequence[asyncio.Task[None]]] = {}
        self._claims: set[asyncio.Future[None]] = set()
        """The claims that are under way."""
        self._unfollow: dict[str, Callable[[], None]] = {}
        """Functions that end the following of operations, on a store that others share."""
        self._heard: dict[str, Record] = {}
        """The records that were heard of while a claim was under way."""
        self._leases: Leases | None = None
        self._watchdog: Watchdog | None = None
        self._maintenance = Maintenance(store, self._claims_end, self._holds, handlers)
        self._held_slots = HeldSlots(store, self._attempts)
        self._lines = RepeatedLines(_log)
        self._completer = Completer(store, clock, self._end, self._lines)
        self._loops: list[asyncio.Task[None]] = []
        self._terminated: set[Attempt] = set()
        """Those that run on, whose operations somebody has terminated."""

    async def start(self, on_sweep: Callable[[], None] = _nothing) -> int:
        """Takes over the operations of a former process, and begins to keep leases and time limits.

        Args:
            on_sweep: Is called when a sweep begins, to look for work whose notice was lost (R9).

        Returns:
            How many operations a former process had in its hands.
        """
        PROCESS.close()
        self._loop = asyncio.get_running_loop()
        self._on_sweep = on_sweep
        self._progress_writer = ProgressWriter(self.store, self._attempts)
        self.store.subscribe(self._on_change)
        recovered = await self._maintenance.take_over_all() if self.store.exclusive else 0
        if not self.store.exclusive:
            shared = cast("SharedStore", self.store)
            self._leases = Leases(shared, self._attempts, self.clock, self.lease)
            self._leases.start()
        if isinstance(self.clock, SystemClock):  # with any other, time is not the machine's
            self._watchdog = Watchdog()
            self._watchdog.start()
        self.repeat(self._progress_writer.store)
        self.repeat(self._let_time_pass)
        self._taking_over = self.repeat(partial(self._sweep, self._maintenance.take_over_lost))
        self.repeat(partial(self._sweep, self._call_on_sweep))
        self.repeat(partial(self._sweep, self._held_slots.look))
        if self.store.exclusive:
            self.repeat(partial(self._sweep, self._look_again))
        return recovered

    def repeat(self, one_round: Callable[[], Awaitable[None]]) -> asyncio.Task[None]:
        """Repeats a round of work until the workbench is stopped, whatever happens in one of them.

        Args:
            one_round: The round; it waits by itself until there is something to do.

        Returns:
            The task that does so.
        """
        task = asyncio.create_task(repeat("engine", one_round, self.clock, self._lines))
        self._loops.append(task)
        return task

    async def claim(
        self,
        names: Sequence[str],
        on_end: OnEnd,
        *,
        waited_for: Mapping[str, Micros] = MappingProxyType({}),
    ) -> Sequence[Record | LroError]:
        """Claims operations, and begins an attempt of each that it gets.

        Args:
            names: The operations' names; each is of a method that has a handler here.
            on_end: Is called once for each attempt that has begun, when it is over. It must not
                raise.
            waited_for: Of delayed ones, the ``scheduled_time`` that has come by the engine's own
                monotonic clock, whatever the time of day.

        Returns:
            The answer of the store to each claim, the operation, with a lease if an attempt
            has begun, and without one if it was overdue and has expired; or the refusal, which is
            an ``UnservedError`` where its handler's types do not fit. After an
            ``UnavailableError`` the claim may be made again.

        Raises:
            UnavailableError: If the store cannot answer.
        """
        with self._claiming(names):
            claim = Claim(micros(self.lease), self.handlers, worker=self._worker)
            claims = [
                (name, replace(claim, waited_for=time) if (time := waited_for.get(name)) else claim)
                for name in names
            ]
            claimed_at = self.clock.monotonic()
            answers = await self.store.apply_all(claims)
            return [self._claimed(answer, claimed_at, on_end) for answer in answers]

    async def claim_oldest(
        self,
        method: str,
        limit: int,
        on_end: OnEnd,
        *,
        left_out: Collection[str] = (),
        ready_before: Micros | None = None,
    ) -> Sequence[Claimed]:
        """Claims the oldest operations of a method, and begins an attempt of each that it gets.

        Args:
            method: The method, which has a handler here.
            limit: The most operations to claim.
            on_end: See :meth:`claim`.
            left_out: The names of operations that are not to be claimed.
            ready_before: Leaves out what has become ready since, too; see ``Store.claim``.

        Returns:
            What has become of each; see :meth:`claim`.

        Raises:
            UnavailableError: If the store cannot answer.
        """
        with self._claiming():
            claim = Claim(micros(self.lease), self.handlers, worker=self._worker)
            claimed_at = self.clock.monotonic()
            claimed = await self.store.claim(
                {method: limit}, claim, left_out=left_out, ready_before=ready_before
            )
            for one in claimed:
                self._claimed(one.outcome, claimed_at, on_end)
            return claimed

    async def claim_by_key(
        self,
        method: str,
        limit: int,
        on_end: OnEnd,
        *,
        after: str = "",
        left_out: Collection[str] = (),
        ready_before: Micros | None = None,
    ) -> KeyedClaims:
        """Claims operations of a method that have a concurrency key, and begins their attempts.

        Of each key no more are claimed than the handler's ``concurrency_per_key`` allows.

        Args:
            method: The method, which has a handler here.
            limit: The most operations to claim.
            on_end: See :meth:`claim`.
            after: The key behind which the turns begin; see ``Store.claim_by_key``.
            left_out: The names of operations that are not to be claimed.
            ready_before: Leaves out what has become ready since, too; see ``Store.claim``.

        Returns:
            What has become of each, see :meth:`claim`; and where the next turn is.

        Raises:
            UnavailableError: If the store cannot answer.
        """
        with self._claiming():
            claim = Claim(micros(self.lease), self.handlers, worker=self._worker)
            claimed_at = self.clock.monotonic()
            claims = await self.store.claim_by_key(
                method,
                limit,
                self.handlers[method].concurrency_per_key or 0,
                claim,
                after=after,
                left_out=left_out,
                ready_before=ready_before,
            )
            for one in claims.claimed:
                self._claimed(one.outcome, claimed_at, on_end)
            return claims

    @contextlib.contextmanager
    def _claiming(self, names: Sequence[str] = ()) -> Iterator[None]:
        """Surrounds a claim and the beginnings of its attempts.

        Args:
            names: The operations that it claims, as far as they are known.
        """
        under_way = self._loop.create_future()
        self._claims.add(under_way)
        named = names if self._leases is not None else ()
        for name in named:
            self._follow(name)
        try:
            yield
        finally:
            self._claims.remove(under_way)
            under_way.set_result(None)
            if not self._claims:
                self._heard.clear()
            for name in named:
                if name not in self._attempts:
                    self._end_follow(name)

    def _claimed(
        self, answer: Record | LroError, claimed_at: float, on_end: OnEnd
    ) -> Record | LroError:
        """Begins the attempt of an operation that was claimed; returns the answer to the claim."""
        if isinstance(answer, LroError):
            return answer
        if answer.lease_expire_time:
            self._begin(answer, claimed_at, on_end)
        else:
            log_done(answer)
        return answer

    def announce_shutdown(self) -> None:
        """Lets the handlers that run see that this process is about to stop; they go on."""
        self.is_shutdown_announced = True
        for attempt in self._attempts.values():
            attempt.announce_shutdown()

    def give_up(self) -> Sequence[Leased]:
        """Ends all attempts as if this worker were gone: nothing of theirs is stored any more.

        Returns:
            What they have held, and still hold in the store.
        """
        held = list(self._attempts.values())
        for attempt in held:
            attempt.stop(StopReason.LEASE_LOST)
        return [attempt.leased for attempt in held]

    async def lose_all(self) -> None:
        """Gives up all attempts, for others to begin, as if another worker had found them lost."""
        await self._maintenance.take_from(self.give_up())

    def stop_claiming(self) -> None:
        """Begins no more attempts: one whose claim is under way ends before its handler starts."""
        self.is_stopping = True

    async def stop(self, grace: timedelta) -> None:
        """Stops every attempt, and gives back the operations of those that end within the grace.

        The operation of a handler that goes on regardless stays this process's until its lease
        is over, or another process takes the store over.

        Args:
            grace: The time that handlers are given to unwind, and their outcomes to be stored.
        """
        self.stop_claiming()
        end = self._loop.time() + grace.total_seconds()
        if self._claims:  # they become attempts first
            _, late = await asyncio.wait(self._claims, timeout=grace.total_seconds())
            if late:
                _log.warning("the store did not answer a claim within %s", grace)
        for attempt in list(self._attempts.values()):
            attempt.shut_down()
        limits = [task for tasks in self._limits.values() for task in tasks]
        for task in limits:
            task.cancel()  # a handler that unwinds may make no progress, and be late
        if self._running:
            left = max(0.0, end - self._loop.time())
            _, stuck = await asyncio.wait(self._running, timeout=left)
            self._taking_over.cancel()  # it would take from the stuck what they have not let go of
            for executor in stuck:
                attempt = executor.attempt
                text = (
                    f"{attempt.name}: attempt {attempt.number} did not stop within {grace}; the"
                    " operation is run again by the next process"
                )
                kind = ("did not stop", attempt.handler.method)
                self._lines.say(logging.WARNING, text, kind=kind, log=attempt.log)
                attempt.stop(StopReason.LEASE_LOST)
                executor.cancel()
            if stuck:
                await asyncio.wait(stuck, timeout=_LAST_SECONDS)
                task_owners.abandon([executor.attempt for executor in stuck])
        left = max(_LEAST_FLUSH_SECONDS, end - self._loop.time())
        await self._completer.flush(0 if self.store.is_lost else left)
        if self._leases is not None:
            await self._leases.stop()
        if self._watchdog is not None:
            self._watchdog.stop()
        for task in self._loops:
            task.cancel()
        await asyncio.gather(*self._loops, *limits, return_exceptions=True)
        self._lines.close()
        PROCESS.close()

    def _begin(self, record: Record, claimed_at: float, on_end: OnEnd) -> None:
        attempt = Attempt(
            record,
            self.handlers[record.method],
            self.store,
            self.clock,
            lease=self.lease,
            claimed_at=claimed_at,
            operation_bytes=self._operation_bytes,
            telemetry=self._telemetry,
            on_progress=self._progress_writer.add,
            random=self.random,
            signal_margin=self._signal_margin,
            start_within=self._start_within,
        )
        log_claimed(record)
        former = self._attempts.get(record.name)
        if former is not None:
            former.stop(StopReason.LEASE_LOST)
        self._attempts[record.name] = attempt
        self._on_end[attempt] = on_end
        if self._leases is not None:
            self._follow(record.name)
        executor = Executor(attempt)
        self._running.add(executor)
        executor.add_done_callback(self._executed)
        is_late = self._leases is not None and attempt.lease_is_over
        if self.is_stopping or is_late:  # another one may have it by now: it is given back
            attempt.stop(StopReason.SHUTDOWN)
        else:
            heard = self._heard.get(record.name, record)
            is_later = heard is not record and heard.attempt >= record.attempt
            if is_later and heard.create_time == record.create_time:
                self._see(attempt, heard)
            limits = time_limits.watch(attempt, self.clock, self.store.now, self.lease)
            if limits:
                self._limits[attempt] = limits

    def _executed(self, executor: asyncio.Task[Event]) -> None:
        """Passes on the outcome of a run, or ends an attempt that has none."""
        assert isinstance(executor, Executor)
        attempt = executor.attempt
        self._running.discard(executor)
        for task in self._limits.pop(attempt, ()):
            task.cancel()
        error = None if executor.cancelled() else executor.exception()
        was_stopped = executor.cancelled() or (error and not isinstance(error, Exception))
        if was_stopped or attempt.stop_reason is StopReason.LEASE_LOST:
            self._say_ended(attempt)
            self._end(attempt, None)
        else:
            attempt.has_outcome = True
            outcome = error if isinstance(error, Exception) else executor.result()
            if isinstance(outcome, Succeed) and attempt.progress.looks_like_fractions:
                self._lines.say(
                    logging.WARNING,
                    f"the handler of {attempt.handler.method} has reported progress of 1 at most,"
                    " in fractions; op.progress takes percent, from 0 to 100",
                )
            self._completer.add(attempt, outcome)

    def _say_ended(self, attempt: Attempt) -> None:
        """Logs that an attempt has no outcome, and whose doing that is."""
        name, number, method = attempt.name, attempt.number, attempt.handler.method
        if attempt in self._terminated:
            self._terminated.discard(attempt)
            text = f"{name}: attempt {number} has ended, for the operation was terminated"
            self._lines.say(logging.INFO, text, kind=("terminated", method), log=attempt.log)
            return
        text = f"{name}: attempt {number} ended without an outcome"
        self._lines.say(logging.WARNING, text, kind=("no outcome", method), log=attempt.log)

    def _end(self, attempt: Attempt, record: Record | None) -> None:
        """Lets go of an attempt, with the operation after its outcome, or without one."""
        attempt.end(record)
        if self._attempts.get(attempt.name) is attempt:
            del self._attempts[attempt.name]
            if self._leases is not None:
                self._end_follow(attempt.name)
        self._on_end.pop(attempt)(record)

    def _on_change(self, _before: Record | None, record: Record) -> None:
        """Takes what has become of an operation, by a call of this process or of another one."""
        attempt = self._attempts.get(record.name)
        if attempt is not None and attempt.number <= record.attempt and not attempt.has_outcome:
            self._see(attempt, record)
        if self._claims and record.attempt:
            self._heard[record.name] = record

    def _follow(self, name: str) -> None:
        """Begins to hear what other processes make of an operation, on a store that they share."""
        if name not in self._unfollow:
            self._unfollow[name] = self.store.follow(name, partial(self._on_follow, name))

    def _end_follow(self, name: str) -> None:
        end = self._unfollow.pop(name, None)
        if end is not None:
            end()

    def _on_follow(self, name: str, record: Record | None) -> None:
        if record is not None:
            self._on_change(None, record)
        elif (attempt := self._attempts.get(name)) is not None and not attempt.has_outcome:
            attempt.stop(StopReason.LEASE_LOST)  # it has ended, and is gone

    def _see(self, attempt: Attempt, record: Record) -> None:
        """Tells an attempt what has become of its operation."""
        if attempt.is_in(record):
            attempt.see(record)
        else:
            if attempt.was_terminated(record):
                self._terminated.add(attempt)
            attempt.stop(StopReason.LEASE_LOST)

    async def _claims_end(self) -> None:
        """Waits until all claims that are under way have ended; what they get is held then."""
        if self._claims:
            await asyncio.wait(self._claims)

    def _holds(self, leased: Leased) -> bool:
        """Tells whether an operation is held here."""
        attempt = self._attempts.get(leased.name)
        return (
            attempt is not None
            and attempt.number == leased.attempt
            and attempt.stop_reason is not StopReason.LEASE_LOST
        )

    # A sweep has parts, each in rounds of its own: none waits for another one, or fails with it.

    async def _let_time_pass(self) -> None:
        # Time has passed before the first sweep, too: no process may have been there for long.
        await self._maintenance.let_time_pass()
        await self._rest()

    async def _sweep(self, part: Callable[[], Awaitable[None]]) -> None:
        await self._rest()
        await part()

    async def _call_on_sweep(self) -> None:
        self._on_sweep()

    async def _rest(self) -> None:
        """Lets the pause between two sweeps pass; not all processes are to sweep at once."""
        jitter = 1 if self.store.exclusive else 0.8 + 0.4 * self.random()
        await self.clock.sleep(self._sweep_pause * jitter)

    async def _look_again(self) -> None:
        """Reads what the attempts hold, for a notice may be lost where a commit has failed (R9).

        On a shared store the answers to heartbeats tell it.
        """
        failure: Exception | None = None
        for attempt in list(self._attempts.values()):
            await asyncio.sleep(0)  # they may be many
            try:
                self._see(attempt, await self.store.read(attempt.name))
            except (OperationNotFoundError, OperationDamagedError):
                pass  # it may be deleted, and goes on; or damaged, and its outcome will tell
            except Exception as error:  # noqa: BLE001 - raised below: the others have their turn
                failure = error
        if failure is not None:
            raise failure
