"""One attempt at an operation: what its handler has said, and why it has to stop."""

from __future__ import annotations

import asyncio
import concurrent.futures
import dataclasses
import functools
import threading
from collections.abc import Callable, Sequence
from typing import Any

from google.protobuf.message import Message
from google.rpc import status_pb2

from lro_grpc._engine.handler import Handler
from lro_grpc._engine.stop_state import StopState
from lro_grpc._errors import (
    AttemptStopped,
    OperationNotFoundError,
    StaleAttemptError,
    StopReason,
    UnavailableError,
)
from lro_grpc._operation.events import Event, Report
from lro_grpc._operation.metadata import message_class
from lro_grpc._operation.record import Record
from lro_grpc._operation.telemetry import Telemetry
from lro_grpc._runtime.clock import Clock, micros
from lro_grpc._runtime.log import OperationLog
from lro_grpc._stores.store import Store

_RETRY_SECONDS = 0.2
_LEASE_MARGIN = 0.1
"""The share of a lease by which it ends here before it ends in the store (R10)."""


class Attempt:
    """A claimed operation in the hands of its handler.

    What the handler says may come from any thread; everything else is called on the event loop.

    Args:
        record: The record right after its claim.
        handler: The method's handler.
        store: Where the operation is kept.
        clock: Measures what is left of the lease.
        lease: Seconds for which a claim or a heartbeat holds the operation.
        claimed_at: The clock's ``monotonic`` before the claim was sent.
        random: Gives numbers uniform in [0, 1).
        telemetry: Is told of the attempt.
        on_report: Is called, from the handler's thread, when there is something to store again.
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
        random: Callable[[], float],
        telemetry: Telemetry,
        on_report: Callable[[Attempt], None],
    ) -> None:
        self.record = record
        self.handler = handler
        self.random = random
        self.telemetry = telemetry.attempt(record)
        self.loop = asyncio.get_running_loop()
        self.cancel_requested = record.cancel_requested
        self.pause_requested = record.pause_requested
        claim_time = record.lease_expire_time - micros(lease)
        self.is_timed_out = record.is_to_undo and record.is_overdue(claim_time)
        """Whether the operation's own time is over."""
        self.claimed_to_undo = record.cancel_requested or self.is_timed_out
        """Whether the attempt was begun only to undo what earlier ones have done."""
        self.stopping = StopState()
        """Why it has to stop, if it has to."""
        self.last_progress = clock.monotonic()
        """When the handler last gave a sign, by the clock's ``monotonic``."""
        self.task: asyncio.Task[Any] | None = None
        """The task to interrupt when the attempt has to stop; None outside an async handler."""
        self.undo: Callable[[status_pb2.Status], Any] | None = None
        """Undoes a batch that was created, given the operation's error; of the handler's stack."""
        self.batch_is_driven = False
        """Whether the handler has come to its batch, so that its states are being seen to."""
        self._store = store
        self._clock = clock
        self._lease = lease
        self._claimed_at = claimed_at
        self.lease_renewed(claimed_at)
        self._on_report = on_report
        self._lock = threading.Lock()
        self._metadata: Message | None = None
        self._latest = Report(record.attempt)
        self._has_news = False

    @functools.cached_property
    def log(self) -> OperationLog:
        """The log, with the fields of this operation and attempt."""
        return OperationLog(self.record)

    @property
    def name(self) -> str:
        """The operation's name."""
        return self.record.name

    @property
    def number(self) -> int:
        """The attempt's number: the fencing token."""
        return self.record.attempt

    @property
    def stop_reason(self) -> StopReason | None:
        """Why the attempt has to stop; None while it may go on."""
        return self.stopping.reason

    @property
    def is_stuck(self) -> bool:
        """Whether the handler has made no progress for too long."""
        return self.stopping.is_stuck

    @property
    def is_undoing(self) -> bool:
        """Whether what the handler has done is being undone, which no cancel stops."""
        return self.stopping.is_undoing

    @property
    def ending(self) -> StopReason | None:
        """Why the operation is to end, whatever its handler could still do; None if it is not."""
        if self.cancel_requested:
            return StopReason.CANCEL
        return StopReason.TIMEOUT if self.is_timed_out else None

    @property
    def leaves_a_batch(self) -> bool:
        """Whether an earlier attempt has begun a batch, and this one has not come to it."""
        return bool(self.record.batch) and not self.batch_is_driven

    @property
    def metadata(self) -> Any:
        """The handler's own metadata message; starts as the attempt before has left it."""
        if self._metadata is None:
            kind = message_class(self.record.metadata_type)  # a later release may declare another
            self._metadata = kind.FromString(self.record.handler_metadata)
        return self._metadata

    @property
    def has_partial_failures(self) -> bool:
        """Whether the handler's metadata tells of partial failures."""
        touched = self._metadata is not None or self.record.handler_metadata
        return bool(touched and getattr(self.metadata, "partial_failures", ()))

    def report(self, percent: float | None, detail: str | None) -> None:
        """Keeps the latest progress, to be stored soon.

        Raises:
            TypeError: If the detail is no text, or the percentage no number.
            ValueError: If they cannot be stored: not a finite number, not Unicode.
        """
        if detail is not None:
            if not isinstance(detail, str):
                raise TypeError(f"the detail is {detail!r}; give a text")
            detail.encode()
        self.last_progress = self._clock.monotonic()
        with self._lock:
            former = self._latest
            self._latest = Report(
                self.number,
                former.progress_percent if percent is None else max(0, min(100, int(percent))),
                former.status_detail if detail is None else detail,
                self._metadata.SerializeToString() if self._metadata is not None else None,
            )
        self.report_again()

    def report_again(self) -> None:
        """Lets what the handler has said last be stored soon, though it may have been before."""
        with self._lock:
            had_news, self._has_news = self._has_news, True
        if not had_news:
            self._on_report(self)

    def take_report(self, *, final: bool = False) -> Report:
        """Returns the last of everything that the handler has said, be it stored or not.

        Args:
            final: Whether the handler is through, so that its metadata may be read.
        """
        with self._lock:
            self._has_news = False
            if final and self._metadata is not None:
                handler_metadata = self._metadata.SerializeToString()
                self._latest = dataclasses.replace(self._latest, handler_metadata=handler_metadata)
            return self._latest

    def stop(self, reason: StopReason) -> None:
        """Makes the handler unwind. A lost lease comes before everything else, then a shutdown."""
        if self._note_stop(reason) and self.task is not None:
            self.task.cancel()

    def pause_here(self) -> None:
        """Stops the attempt if someone asked to pause; the caller raises, so it interrupts none."""
        if self.pause_requested:
            self._note_stop(StopReason.PAUSE)

    def _note_stop(self, reason: StopReason) -> bool:
        with self._lock:
            return self.stopping.give(reason)

    def see(self, record: Record) -> None:
        """Notes what others have asked of the operation meanwhile."""
        self.pause_requested = record.pause_requested
        if record.cancel_requested and not record.done:
            self.cancel()

    def cancel(self) -> None:
        """Tells the handler, once, that someone cancelled the operation."""
        if not self.cancel_requested:
            self.cancel_requested = True
            self.stop(StopReason.CANCEL)

    def time_out(self) -> None:
        """Tells the handler that the operation's own time is over."""
        self.is_timed_out = True
        self.stop(StopReason.TIMEOUT)

    def call_stuck(self) -> None:
        """Tells the handler that it was silent for too long."""
        self.stopping.is_stuck = True
        self.stop(StopReason.TIMEOUT)

    def end(self, record: Record | None) -> None:
        """Notes that the attempt is over; what it has come to first is what is told of it.

        Args:
            record: The operation after its outcome; None if it has none.
        """
        self.telemetry.ended(record, self._clock.monotonic() - self._claimed_at)

    def begin_undo(self) -> None:
        """Lets what ends the operation not stop what undoes the work, be it there or to come."""
        with self._lock:
            self.stopping.begin_undo()

    def raise_if_stopped(self) -> None:
        """Raises if the attempt has to stop."""
        if self.stop_reason is not None:
            raise AttemptStopped(self.stop_reason)

    def lease_renewed(self, sent_at: float) -> None:
        """Notes that the claim or a heartbeat was stored.

        Args:
            sent_at: The clock's ``monotonic`` before it was sent: the store's lease ends later.
        """
        self._lease_end = sent_at + self._lease * (1 - _LEASE_MARGIN)

    @property
    def lease_is_over(self) -> bool:
        """Whether the lease has all but run out by this process's own clock (R10)."""
        return self._clock.monotonic() >= self._lease_end

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
                # It may have been stored all the same; then the fence refuses the next try.
                if self.lease_is_over:
                    self.stop(StopReason.LEASE_LOST)
                    raise AttemptStopped(StopReason.LEASE_LOST) from cause
                await self._clock.sleep(_RETRY_SECONDS)
            else:
                self.record = record
                self.last_progress = self._clock.monotonic()
                self.see(record)
                if getattr(event, "report", self._latest) is not self._latest:
                    self.report_again()  # what was said meanwhile may have been stored before
                return

    def write_from_thread(self, event: Event) -> None:
        """Does what ``write`` does, for a handler in a thread.

        Raises:
            AttemptStopped: As ``write``; also if the event loop is gone, and with it the engine.
        """
        written: concurrent.futures.Future[None] = concurrent.futures.Future()
        writing: list[asyncio.Task[None]] = []  # the loop itself keeps no task alive

        def begin() -> None:
            writing.append(self.loop.create_task(self.write(event)))
            writing[0].add_done_callback(functools.partial(_settle, written))

        try:
            self.loop.call_soon_threadsafe(begin)
        except RuntimeError as cause:
            raise AttemptStopped(StopReason.SHUTDOWN) from cause
        written.result()


async def write_all(store: Store, attempts: Sequence[Attempt], events: Sequence[Event]) -> None:
    """Stores one event of each of some attempts; stops those that have lost their operation.

    Raises:
        UnavailableError: If the store cannot answer.
    """
    if not attempts:
        return
    changes = [(one.name, event) for one, event in zip(attempts, events, strict=True)]
    for attempt, answer in zip(attempts, await store.apply_all(changes), strict=True):
        if isinstance(answer, Record):
            attempt.see(answer)
        else:
            attempt.stop(StopReason.LEASE_LOST)


def _settle(written: concurrent.futures.Future[None], writing: asyncio.Task[None]) -> None:
    if writing.cancelled():
        written.set_exception(AttemptStopped(StopReason.SHUTDOWN))
    elif (error := writing.exception()) is not None:
        written.set_exception(error)
    else:
        written.set_result(None)
