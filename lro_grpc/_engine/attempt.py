"""One attempt at an operation: the time between a claim and its outcome, in one handler's hands.

**The number.** A claim gives its attempt a number, the fencing token. Every event of the attempt
carries it, and the store refuses those of a former number. So an attempt can do no harm, however
late it is; all else here serves to end it early and in good order.

**Three values**, one for each question. ``stopping`` (a ``StopState``): has this attempt to stop,
and why? ``ending`` (an ``Ending``): is its operation to end or to rest, whatever becomes of the
attempt? ``progress`` (a ``Progress``): how far has the handler come?

**The stop of a handler.** Each part of the engine that has a reason calls ``stop``. If the reason
is accepted, the task of an ``async def`` handler is cancelled. A thread cannot be interrupted: a
``def`` handler finds the reason when it next asks for it, or writes. ``task`` is set only while
something may be interrupted, so that no cancel ever hits the code that makes the outcome. Functions
that the handler has given to ``op.on_stop`` are called once, at the first reason that is accepted.

**The lease.** It is measured from before the claim or the heartbeat was sent, and by a tenth less
than it is long: it ends here before it ends in the store. ``leases`` alone judges by it.

**Writes.** ``write`` stores an event, and goes on through an outage of the store for as long as the
operation is the attempt's. If the fence refuses the event, the attempt has lost its operation, and
stops. An event whose answer was lost is stored again: a state does no harm twice, and the fence
refuses an event of an attempt that was ended by the first write.

**Threads.** The event loop calls everything but ``progress``, ``pause_here``, ``begin_undo``,
``raise_if_stopped``, ``call_on_stop``, ``check_size`` and what ends in ``_from_thread``, which are
for the handler, wherever it runs, and ``lease_renewed``; the lock is for them. Any thread may read
the values.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import dataclasses
import functools
import inspect
import logging
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, TypeVar

from google.longrunning import operations_pb2
from google.rpc import status_pb2

from lro.v1.operation_description_pb2 import OperationAttempt
from lro_grpc._durations import Duration
from lro_grpc._engine.handler import Handler
from lro_grpc._engine.progress import Progress
from lro_grpc._engine.retries import words
from lro_grpc._engine.stop_state import Ending, StopState
from lro_grpc._errors import (
    AttemptStopped,
    ConfigurationError,
    LroError,
    OperationNotFoundError,
    OperationTooLargeError,
    StaleAttemptError,
    StopReason,
    UnavailableError,
)
from lro_grpc._operation import size
from lro_grpc._operation.batch_states import has_begun
from lro_grpc._operation.events import Event, LeaseLost, Report
from lro_grpc._operation.record import Record
from lro_grpc._operation.telemetry import Telemetry
from lro_grpc._runtime.clock import Clock, micros
from lro_grpc._runtime.interrupts import only_errors
from lro_grpc._runtime.log import OperationLog
from lro_grpc._runtime.repeated_lines import PROCESS
from lro_grpc._runtime.threads import start_thread
from lro_grpc._stores.store import Leased, Store
from lro_grpc._wire.plain_text import one_line

T = TypeVar("T")

OnStop = Callable[[StopReason], object]
"""A handler's function that is called with the reason why its attempt has to stop."""

Labels = Mapping[str, str] | None

StartWithin = Callable[
    [Record, str, Any, str, Labels, Duration | None],
    Coroutine[Any, Any, operations_pb2.Operation],
]
"""Starts an operation for the handler of a record: of a method, with a request, under a key, with
labels, and after a delay."""

_WRITE_PAUSE = 0.2
"""The pause before a write is tried again, after the store could not answer."""

_LEASE_MARGIN = 0.1
"""The share of a lease by which it ends here before it ends in the store (R10)."""


class Attempt:
    """A claimed operation in the hands of its handler.

    Args:
        record: The record right after its claim.
        handler: The method's handler.
        store: Where the operation is kept.
        clock: Measures the lease.
        lease: Seconds for which a claim or a heartbeat holds the operation.
        claimed_at: The clock's ``monotonic`` before the claim was sent.
        operation_bytes: The most bytes of the operation.
        telemetry: Observes the attempt.
        on_progress: Is called, from the handler's thread, when there is something to store.
        random: Gives numbers uniform in [0, 1), for pauses.
        signal_margin: Seconds by which an error may come before the signal that it comes of.
        start_within: Starts an operation for the handler; None where there is no server for it.
    """

    def __init__(
        self,
        record: Record,
        handler: Handler,
        store: Store,
        clock: Clock,
        *,
        lease: float,
        claimed_at: float,
        operation_bytes: int,
        telemetry: Telemetry,
        on_progress: Callable[[Attempt], None],
        random: Callable[[], float],
        signal_margin: float = 0.0,
        start_within: StartWithin | None = None,
    ) -> None:
        self.name = record.name
        """The operation's name."""
        self.number = record.attempt
        """The attempt's number: the fencing token."""
        self.record = record
        self.handler = handler
        self.telemetry = telemetry.attempt(record)
        self.loop = asyncio.get_running_loop()
        self.stopping = StopState()
        self.ending = Ending.at_claim(record, record.lease_expire_time - micros(lease))
        self.operation_bytes = operation_bytes
        """The most bytes of the operation."""
        self.progress = Progress(
            record, clock, functools.partial(on_progress, self), self.check_size
        )
        self.has_outcome = False
        """Whether its end is being stored; the change that makes of the operation is its own."""
        self.task: asyncio.Task[Any] | None = None
        """The task to interrupt when the attempt has to stop; None outside an async handler."""
        self.undo: Callable[[status_pb2.Status], Any] | None = None
        """Undoes a batch that was created, given the operation's error; async as the handler is."""
        self.left_over: list[str] = []
        """The targets of a batch that could not be deleted."""
        self.batch_is_driven = False
        """Whether the handler has come to its batch, so that its states are being seen to."""
        self.own_started = ""
        """The latest operation of its own method that the handler has started; empty for none."""
        self._start_within = start_within
        self._store = store
        self.clock = clock
        """Measures the lease and all pauses."""
        self.random = random
        """Gives numbers uniform in [0, 1), for pauses."""
        self._lease = lease
        self._signal_margin = signal_margin
        self._claimed_at = claimed_at
        self._rests: set[asyncio.Task[None]] = set()
        self._on_stop: dict[object, OnStop] = {}
        """The handler's functions to call when the attempt has to stop."""
        self._lock = threading.Lock()
        self.lease_renewed(claimed_at)

    @functools.cached_property
    def log(self) -> OperationLog:
        """The log, with the fields of this operation and attempt."""
        return OperationLog(self.record)

    @property
    def leased(self) -> Leased:
        """Its hold on the operation."""
        return Leased(self.name, self.number, self.record.create_time)

    @property
    def stop_reason(self) -> StopReason | None:
        """The reason why the attempt has to stop; None while it may go on."""
        return self.stopping.reason

    @property
    def leaves_a_batch(self) -> bool:
        """Whether an earlier attempt has begun a batch, and this one has not come to it."""
        return not self.batch_is_driven and has_begun(self.record.batch)

    def stop(self, reason: StopReason) -> None:
        """Makes the handler unwind, unless a reason holds that goes before this one."""
        if self._give(reason):
            self._interrupt()

    def announce_shutdown(self) -> None:
        """Lets the handler see that this process is about to stop; it goes on."""
        self._give(StopReason.SHUTDOWN)

    def shut_down(self) -> None:
        """Makes the handler unwind because this process stops, be that announced or not."""
        self._give(StopReason.SHUTDOWN)
        if self.stop_reason is StopReason.SHUTDOWN:
            self._interrupt()

    def rest(self, seconds: float, then: Callable[[], object]) -> None:
        """Begins a pause in the handler's work, which a stop ends early.

        Args:
            seconds: How long it is.
            then: Is called when it is over.
        """
        resting = asyncio.create_task(self.clock.sleep(seconds))
        self._rests.add(resting)

        def end(_: object) -> None:
            self._rests.discard(resting)
            if not self._rests:
                self.progress.rests_until = 0.0
            self.progress.touch()
            then()

        resting.add_done_callback(end)
        until = self.clock.monotonic() + seconds
        self.progress.rests_until = max(self.progress.rests_until, until)
        if self.stop_reason is not None:
            resting.cancel()

    def rest_from_thread(self, seconds: float, then: Callable[[], object]) -> None:
        """Begins a pause as ``rest`` does, for a handler in a thread.

        Raises:
            AttemptStopped: If the event loop is gone, and with it the engine.
        """

        async def begin() -> None:
            self.rest(seconds, then)

        self._from_thread(begin())

    def wake(self) -> None:
        """Ends all pauses now."""
        for resting in self._rests:
            resting.cancel()

    def _interrupt(self) -> None:
        self.wake()
        if self.task is not None:
            self.task.cancel()

    def pause_here(self) -> None:
        """Stops the attempt if someone asked to pause; the caller raises, so it interrupts none."""
        if self.ending.pause_requested:
            self._give(StopReason.PAUSE)

    def _give(self, reason: StopReason) -> bool:
        with self._lock:
            accepted = self.stopping.give(reason)
            callbacks = self._taken_callbacks() if accepted else []
        if callbacks and self.handler.is_async:
            self._call(callbacks, reason)
        elif callbacks:
            try:
                start_thread(f"{self.name} on_stop", self._call, callbacks, reason)
            except RuntimeError as error:  # it goes on: the handler may yet look at its reason
                text = f"{self.name}: op.on_stop calls nothing, for want of a thread"
                self._say(logging.ERROR, "no thread", text, error)
        return accepted

    def call_on_stop(self, callback: OnStop) -> Callable[[], None]:
        """Calls a function of the handler's once the attempt has to stop, or now if it has to.

        Args:
            callback: Is called on the loop for an async handler, else in a thread of its own.

        Returns:
            What takes it back.
        """
        key = object()
        with self._lock:
            reason = self.stopping.reason
            if reason is None:
                self._on_stop[key] = callback

        def take_back() -> None:
            with self._lock:
                self._on_stop.pop(key, None)

        if reason is not None:
            self._call([callback], reason)
        return take_back

    def handler_ended(self) -> None:
        """Takes back the task to interrupt, and all functions to call: the handler has ended."""
        self.task = None
        with self._lock:
            self._on_stop.clear()

    def _taken_callbacks(self) -> Sequence[OnStop]:
        callbacks = [*self._on_stop.values()]
        self._on_stop.clear()
        return callbacks

    def _call(self, callbacks: Sequence[OnStop], reason: StopReason) -> None:
        for callback in callbacks:
            try:
                with only_errors("the callback of op.on_stop"):
                    returned = callback(reason)
            except Exception as error:  # noqa: BLE001 - the others are called
                text = f"{self.name}: a callback of op.on_stop has failed"
                self._say(logging.ERROR, "on_stop", text, error)
                continue
            if inspect.iscoroutine(returned):
                returned.close()
                text = (
                    f"{self.name}: a callback of op.on_stop has returned a coroutine, which nobody"
                    f" awaits; give a plain function in place of {callback!r}"
                )
                self._say(logging.ERROR, "on_stop", text)

    def _say(self, level: int, what: str, text: str, error: BaseException | None = None) -> None:
        """Logs a line that attempts of one method may have in common."""
        PROCESS.say(level, text, kind=(what, self.handler.method), error=error, log=self.log)

    def see(self, record: Record) -> None:
        """Notes the wishes of others for the operation."""
        if self.ending.see(record):
            self.stop(StopReason.CANCEL)

    def time_out(self) -> None:
        """Stops the handler because the operation's own time is over."""
        self.ending.is_timed_out = True
        self.stop(StopReason.TIMEOUT)

    def call_stuck(self) -> None:
        """Stops the handler because it has made no progress for too long."""
        self.stopping.is_stuck = True
        self.stop(StopReason.TIMEOUT)

    def begin_undo(self) -> None:
        """Begins to undo a batch; neither a cancel nor the deadline stops that."""
        with self._lock:
            self.stopping.begin_undo()

    async def failure(self, error: BaseException) -> BaseException:
        """Returns an error as it counts: as a stop, if it may come of the end of this process.

        A signal to a group of processes ends the handler's own children as well, and the error that
        comes of that may be here before the signal. So the signal is waited for.
        """
        if self._signal_margin and self.stop_reason is not StopReason.SHUTDOWN:
            await self.clock.sleep(self._signal_margin)
        if self.stop_reason is not StopReason.SHUTDOWN:
            return error
        text = (
            f"{self.name}: attempt {self.number} fails while the server stops, and is given back:"
            f" {one_line(words(error))}"
        )
        shown = None if isinstance(error, LroError) else error  # whose words say it all
        self._say(logging.WARNING, "given back", text, shown)
        return AttemptStopped(StopReason.SHUTDOWN)

    def raise_if_stopped(self) -> None:
        """Raises if the attempt has to stop."""
        if self.stop_reason is not None:
            raise AttemptStopped(self.stop_reason)

    def check_size(self, event: Event, *, room: int = 0) -> None:
        """Refuses an event that would make the operation larger than may be stored.

        Args:
            event: The event.
            room: Bytes that have to be left.

        Raises:
            OperationTooLargeError: If it would.
        """
        size.check_event(event, self.record, self.operation_bytes, room=room)

    def was_terminated(self, record: Record) -> bool:
        """Returns whether a record is that of its operation after somebody has terminated it."""
        return (
            record.create_time == self.record.create_time
            and record.attempt == self.number
            and record.attempt_outcome == OperationAttempt.TERMINATED
        )

    def is_in(self, record: Record) -> bool:
        """Returns whether a record is that of its operation while it holds it."""
        return (
            record.create_time == self.record.create_time
            and record.attempt == self.number
            and record.lease_expire_time != 0
        )

    def stuck(self) -> LeaseLost:
        """Returns the event of its end for want of progress."""
        return LeaseLost(self.number, stuck=True, create_time=self.record.create_time)

    def last_report(self) -> Report:
        """Returns all that the handler has said at its end, without metadata that are too large."""
        report = self.progress.take(final=True)
        try:
            self.check_size(report)
        except OperationTooLargeError as error:
            text = f"the last metadata of {self.name} are not stored: {error.message}"
            self._say(logging.WARNING, "metadata", text)
            return dataclasses.replace(report, handler_metadata=None)
        return report

    def fitted(self, error: status_pb2.Status, report: Report) -> bytes:
        """Returns an error to end the operation with, serialized, and cut if it is too large."""
        return size.fitted(error, report, self.record, self.operation_bytes)

    def end(self, record: Record | None) -> None:
        """Notes that the attempt is over; of several calls the first one counts.

        Args:
            record: The operation after its outcome; None if it has none.
        """
        self.progress.end()
        self.telemetry.ended(record, self.clock.monotonic() - self._claimed_at)

    def lease_renewed(self, sent_at: float) -> None:
        """Notes that the claim or a heartbeat was stored.

        Args:
            sent_at: The clock's ``monotonic`` before it was sent: the store's lease ends later.
        """
        self._lease_end = sent_at + self._lease * (1 - _LEASE_MARGIN)

    @property
    def lease_is_over(self) -> bool:
        """Whether the lease has all but run out by this process's own clock (R10)."""
        return self.clock.monotonic() >= self._lease_end

    async def write(self, event: Event) -> None:
        """Stores an event of this attempt, through an outage of the store if there is one.

        Raises:
            AttemptStopped: If the operation is no longer this attempt's.
        """
        while True:
            try:
                record = await self._store.apply(self.name, event)
            except (StaleAttemptError, OperationNotFoundError) as cause:
                self.stop(StopReason.LEASE_LOST)
                raise AttemptStopped(StopReason.LEASE_LOST) from cause
            except UnavailableError as cause:
                if self.stop_reason is StopReason.LEASE_LOST:
                    raise AttemptStopped(StopReason.LEASE_LOST) from cause
                await self.clock.sleep(_WRITE_PAUSE)
            else:
                self.record = record
                self.progress.touch()
                self.see(record)
                report: Report | None = getattr(event, "report", None)
                if report is not None:
                    self.progress.stored(report)
                return

    def start_operation(
        self, method: str, request: Any, key: str, labels: Labels, delay: Duration | None
    ) -> Coroutine[Any, Any, operations_pb2.Operation]:
        """Checks a start by the handler, which is made when what this returns is awaited.

        Raises:
            AttemptStopped: If the attempt has to stop.
            LroError: If it cannot be made.
        """
        self.raise_if_stopped()
        if self._start_within is None:
            raise ConfigurationError(
                f"{self.name} is not run by lro_grpc.Operations, which start operations"
            )
        starting = self._start_within(self.record, method, request, key, labels, delay)
        return starting if method != self.handler.method else self._note_own(starting)

    async def _note_own(
        self, starting: Coroutine[Any, Any, operations_pb2.Operation]
    ) -> operations_pb2.Operation:
        """Makes a start of an operation of its own method, and notes that while it is not done."""
        started = await starting
        if not started.done:
            self.own_started = started.name
        return started

    def start_operation_from_thread(
        self, method: str, request: Any, key: str, labels: Labels, delay: Duration | None
    ) -> operations_pb2.Operation:
        """Starts an operation for a handler in a thread; see :meth:`start_operation`."""
        return self._from_thread(self.start_operation(method, request, key, labels, delay))

    def write_from_thread(self, event: Event) -> None:
        """Stores an event as ``write`` does, for a handler in a thread.

        Raises:
            AttemptStopped: As ``write``; also if the event loop is gone, and with it the engine.
        """
        self._from_thread(self.write(event))

    def failure_from_thread(self, error: BaseException) -> BaseException:
        """Returns an error as ``failure`` does, in a handler's thread.

        Raises:
            AttemptStopped: If the event loop is gone, and with it the engine.
        """
        return self._from_thread(self.failure(error))

    def _from_thread(self, coroutine: Coroutine[Any, Any, T]) -> T:
        try:
            running = asyncio.run_coroutine_threadsafe(coroutine, self.loop)
        except RuntimeError as cause:  # the loop is closed
            coroutine.close()
            raise AttemptStopped(StopReason.SHUTDOWN) from cause
        try:
            return running.result()
        except concurrent.futures.CancelledError as cause:  # the loop ends
            raise AttemptStopped(StopReason.SHUTDOWN) from cause


async def write_all(store: Store, attempts: Sequence[Attempt], events: Sequence[Event]) -> None:
    """Stores the progress of some attempts; stops those that have lost their operation.

    What cannot be stored for now is to be stored again.

    Raises:
        UnavailableError: If the store cannot answer.
    """
    if not attempts:
        return
    changes = [(one.name, event) for one, event in zip(attempts, events, strict=True)]
    for attempt, answer in zip(attempts, await store.apply_all(changes), strict=True):
        if isinstance(answer, Record):
            attempt.see(answer)
        elif isinstance(answer, UnavailableError):
            attempt.progress.store_again()
        else:
            attempt.stop(StopReason.LEASE_LOST)
