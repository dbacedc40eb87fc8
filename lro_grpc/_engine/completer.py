"""Stores the outcomes of attempts in groups."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from lro_grpc._engine.attempt import Attempt
from lro_grpc._errors import LroError, StopReason, UnavailableError, UnexpectedError
from lro_grpc._operation.events import Event, Fail, Report
from lro_grpc._operation.record import Record
from lro_grpc._runtime.clock import Clock
from lro_grpc._runtime.log import log_outcome
from lro_grpc._runtime.public_error import status_of
from lro_grpc._runtime.repeated_lines import RepeatedLines
from lro_grpc._stores.store import Store

_OUTAGE_PAUSE = 0.5
"""The pause before the store is asked again, after it could not answer."""

Outcome = tuple[Attempt, Event]


class Completer:
    """Stores outcomes, those of one turn of the event loop together.

    An outcome is stored once, or not at all. Where the store's answer was lost, it is stored again:
    if the first write did arrive, the fence refuses the second one. Where the lease is lost first,
    the outcome is dropped, for the operation may be another attempt's by now (R5, R10).

    What the store cannot take waits, and is stored together: however many attempts end in an
    outage, it is asked once in a while.

    Args:
        store: Where the operations are kept.
        clock: Waits while the store cannot answer.
        on_end: Is called once for each attempt, with the operation after its outcome; with None
            if that is no longer the attempt's.
        lines: Logs that the store cannot take them.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        on_end: Callable[[Attempt, Record | None], None],
        lines: RepeatedLines,
    ) -> None:
        self._store = store
        self._clock = clock
        self._on_end = on_end
        self._lines = lines
        self._new: list[Outcome] = []
        self._waiting: list[Outcome] = []
        """Those that the store could not take."""
        self._storing: set[asyncio.Task[None]] = set()

    def add(self, attempt: Attempt, outcome: Event | Exception) -> None:
        """Adds the outcome of an attempt, or the error why it has none."""
        if not self._new:
            asyncio.get_running_loop().call_soon(self._begin)
        event = _failure(attempt, outcome) if isinstance(outcome, Exception) else outcome
        self._new.append((attempt, event))

    async def flush(self, seconds: float) -> None:
        """Waits until all are stored, or the time is over; then the rest is dropped."""
        self._begin()
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while self._storing and (left := end - loop.time()) > 0:
            await asyncio.wait(self._storing, timeout=left)
        late = list(self._storing)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)

    def _begin(self) -> None:
        if self._new:
            new, self._new = self._new, []
            self._run(self._store_all(new))

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        storing = asyncio.create_task(work)
        self._storing.add(storing)
        storing.add_done_callback(self._storing.discard)

    async def _store_all(self, outcomes: Sequence[Outcome]) -> None:
        """Stores outcomes, or lets them wait."""
        while outcomes:
            changes = [(attempt.name, event) for attempt, event in outcomes]
            try:
                answers = await self._store.apply_all(changes)
            except UnavailableError as error:
                self._let_wait(outcomes, error)
                return
            except Exception as error:  # noqa: BLE001 - a bug of the store's must keep no slots
                if len(outcomes) > 1:
                    for one in outcomes:
                        await self._store_all([one])
                    return
                answers = [_bug(error)]
            pairs = zip(outcomes, answers, strict=True)
            outcomes = [again for one, answer in pairs if (again := self._settle(one, answer))]

    def _let_wait(self, outcomes: Sequence[Outcome], error: UnavailableError) -> None:
        if not self._waiting:
            self._lines.say(logging.WARNING, f"{error.message}; trying again")
            self._run(self._store_waiting())
        self._waiting += outcomes

    async def _store_waiting(self) -> None:
        await self._clock.sleep(_OUTAGE_PAUSE)
        waiting, self._waiting = self._waiting, []
        await self._store_all(self._still_held(waiting))

    def _still_held(self, outcomes: Sequence[Outcome]) -> Sequence[Outcome]:
        over = {attempt for attempt, _ in outcomes if attempt.stop_reason is StopReason.LEASE_LOST}
        for attempt in over:
            self._on_end(attempt, None)
        return [one for one in outcomes if one[0] not in over]

    def _settle(self, outcome: Outcome, answer: Record | LroError) -> Outcome | None:
        """Takes the answer to an outcome; returns the outcome to store instead of a refused one."""
        attempt, event = outcome
        if isinstance(answer, Record):
            log_outcome(event, answer)
            self._on_end(attempt, answer)
            return None
        if isinstance(answer, UnavailableError):  # and no refusal
            self._let_wait([outcome], answer)
            return None
        text = f"{attempt.name}: attempt {attempt.number} ended: {answer}"
        kind = ("ended", attempt.handler.method, type(answer))
        self._lines.say(logging.WARNING, text, kind=kind, log=attempt.log)
        if isinstance(answer, UnexpectedError) and not isinstance(event, Fail):
            return attempt, _failure(attempt, answer)
        self._on_end(attempt, None)
        return None


def _bug(error: Exception) -> LroError:
    unexpected = UnexpectedError("the store has failed to store the outcome")
    unexpected.__cause__ = error
    return unexpected


def _failure(attempt: Attempt, error: Exception) -> Event:
    """Returns the failure to store in place of an outcome that was refused, or never came."""
    where = f"{attempt.handler.method} in {attempt.name}"
    cause = error.__cause__ or error
    status = status_of(cause, where, domain=attempt.handler.error_domain, log=attempt.log)
    attempt.telemetry.failed(cause, status.code)
    report = Report(attempt.number, create_time=attempt.record.create_time)
    return Fail(report, status.SerializeToString())
