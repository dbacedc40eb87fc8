"""The engine that needs nothing but the store: it fills its free slots from the claim queue.

One loop claims. It sleeps until something has changed: an operation became claimable, an attempt
has ended and left its slot, or it is time to ask the store again. Then it goes once through the
methods and claims for each as many operations as there are free slots, in one write: by the names
that the queue has, or, without any, whatever the store finds. A method that could use more has its
turn after the others, so that none starves. An operation whose notice was lost waits for a sweep at
most (R9).

It expects a start: the claim waits in the store behind that, and both are made in one commit. Where
other processes share the store, each claims for itself what it has started, as long as it has a
slot for it. Of the rest it lets the others know.

A lease begins with the claim, and an attempt with its answer, which takes long where operations are
large and many. So a claim is of no more of them than take a small part of a lease, as far as the
claims before it tell: what comes late has to be given back, and would be late the next time, too.

A method whose slots are all taken, by attempts none of which ends, is reported while it lasts: its
handlers may be slow, or wait for operations that wait for their slots.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import partial

from lro_grpc._engine.claim_queue import ClaimQueue, Turn
from lro_grpc._engine.engine import WorkbenchEngine
from lro_grpc._engine.key_rounds import KeyedTurn
from lro_grpc._engine.workbench import Workbench
from lro_grpc._errors import (
    LroError,
    OperationNotFoundError,
    StaleAttemptError,
    UnavailableError,
    UnservedError,
)
from lro_grpc._operation.record import Record
from lro_grpc._runtime.clock import Micros
from lro_grpc._runtime.repeated_lines import PROCESS

_log = logging.getLogger("lro_grpc")

_FULL_SECONDS = 60.0
"""For how long all slots are taken, and no attempt ends, before it is first reported."""

_MOST_COUNTED = 100
"""Operations that wait, as far as they are counted."""

_FIRST_CLAIM = 100
"""The most operations of a method that are claimed at once at first."""

_PART_OF_LEASE = 1 / 8
"""The part of a lease that a claim is to take at most."""

_TO_BE_EXPECTED = (Record, StaleAttemptError, OperationNotFoundError, UnavailableError)
"""Answers to claims that nobody need be told of."""


class InProcess(WorkbenchEngine):
    """Claims operations for the handlers of its own process.

    Args:
        workbench: The workbench that claims and runs the operations.
        on_unserved: Is called with the error of a claim whose operation no handler here can go on
            with. It waits for another release.
    """

    def __init__(
        self,
        workbench: Workbench,
        on_unserved: Callable[[UnservedError], None] = lambda _: None,
    ) -> None:
        super().__init__(workbench)
        self._on_unserved = on_unserved
        handlers = {handler.method: handler for handler in workbench.handlers.values()}
        self._queue = ClaimQueue(
            workbench.store, workbench.clock, handlers.values(), self._wake_up, workbench.random
        )
        self._full_since: dict[str, float] = {}
        """When each method last took its last free slot."""
        self._report_after = dict.fromkeys(handlers, _FULL_SECONDS)
        """For how many seconds all slots of each method are taken when it is next reported."""
        self._free = {method: handler.slots for method, handler in handlers.items()}
        """The slots that neither an attempt has nor a claim that is under way."""
        self._at_once = dict.fromkeys(handlers, _FIRST_CLAIM)
        """The most operations of each method that are claimed at once."""
        self._claiming: dict[str, Record | None] = {}
        """The names of operations whose claims are under way; with the record of one that has been
        created meanwhile."""

    async def start(self) -> int:
        """Takes over the operations of a former process, and begins to claim.

        Returns:
            How many operations a former process had in its hands.
        """
        self._wake = asyncio.Event()
        self.workbench.store.subscribe(self._on_change)
        self._unfollow = self.workbench.store.follow_work(self._has_room, self._queue.told)
        recovered = await super().start()
        self._wake_up()
        self.workbench.repeat(self._fill_slots)
        self.workbench.repeat(self._report_full)
        return recovered

    def look(self) -> None:
        """Has the store asked for operations of every method."""
        self._queue.sweep()

    async def stop(self, grace: timedelta) -> None:
        """Stops every attempt, and gives back the operations of those that end within the grace.

        Args:
            grace: The time that handlers are given to unwind.
        """
        self._unfollow()
        await super().stop(grace)
        await self._queue.stop()

    def expect(self, record: Record) -> None:
        """Takes a new operation that this process is about to store; see :class:`Engine`.

        It is claimed by its name as soon as it is stored, if a slot is free for it.
        """
        if self._free.get(record.method, 0) > 0 and record.is_ready and not record.queue_order:
            self._queue.add(record)

    def _on_change(self, before: Record | None, record: Record) -> None:
        was_held = before is not None and before.lease_expire_time
        if record.concurrency_key and was_held and not record.lease_expire_time:
            self._queue.place_left(record.method)
        if not record.claimable:
            return
        if before is None and record.name in self._claiming:
            self._claiming[record.name] = record
            return  # it was expected
        if self.workbench.is_shutdown_announced and before is not None and before.lease_expire_time:
            self._queue.leave_out_given_back(record)
        else:
            self._queue.add(record)

    def _has_room(self, stored_as: str) -> bool:
        return not self.workbench.is_stopping and self._queue.all_fit(stored_as, self._free)

    def _wake_up(self) -> None:
        self._wake.set()

    async def _fill_slots(self) -> None:
        """Claims wherever a method has both a free slot and something that waits."""
        await self._wake.wait()
        self._wake.clear()
        failure: Exception | None = None
        for method in self._free:
            try:
                if self._can_claim(method):
                    await self._claim(method)
            except Exception as error:  # noqa: BLE001 - raised below: the others have their turn
                failure = error
            if self._can_claim(method):
                self._wake_up()  # there is more, after the other methods
        if failure is not None:
            raise failure

    def _can_claim(self, method: str) -> bool:
        is_stopping = self.workbench.is_stopping
        return not is_stopping and self._free[method] > 0 and self._queue.may_have(method)

    async def _claim(self, method: str) -> None:
        turn = self._queue.take(method, min(self._free[method], self._at_once[method]))
        if isinstance(turn, KeyedTurn):
            await self._claim_by_key(method, turn)
        elif turn.names:
            await self._claim_named(method, turn.names)
        else:
            await self._claim_oldest(method, turn)
        if not self._free[method]:
            self._full_since[method] = self.workbench.clock.monotonic()

    async def _claim_named(self, method: str, names: Mapping[str, Micros]) -> None:
        self._free[method] -= len(names)
        self._claiming.update(dict.fromkeys(names))
        begin = self.workbench.clock.monotonic()
        try:
            answers = await self.workbench.claim(
                [*names], partial(self._free_slot, method), waited_for=names
            )
        except BaseException:
            self._free[method] += len(names)
            self._try_again(method, names)
            raise
        finally:
            created = {name: self._claiming.pop(name) for name in names}
        self._claim_took(method, len(names), begin)
        late = {}
        for (name, scheduled_time), answer in zip(names.items(), answers, strict=True):
            self._claimed(method, name, answer)
            if isinstance(answer, UnavailableError):
                late[name] = scheduled_time
            elif isinstance(answer, OperationNotFoundError) and (record := created[name]):
                self._queue.add(record)  # the store has looked for it too early
        self._try_again(method, late)

    def _try_again(self, method: str, names: Mapping[str, Micros]) -> None:
        """Has operations tried again that the store could not claim for now."""
        if names:
            self._queue.has_more(method)
        for name, scheduled_time in names.items():
            if scheduled_time:
                self._queue.add_rested(method, name, scheduled_time)

    async def _claim_oldest(self, method: str, turn: Turn) -> None:
        """Claims what the store finds: first what is stored under former names of the method."""
        failure: Exception | None = None
        for stored_as in self.workbench.handlers[method].names:
            if self.workbench.is_stopping:
                break
            try:
                if await self._claim_stored_as(stored_as, method, turn):
                    break
            except Exception as error:  # noqa: BLE001 - raised below: the others have their turn
                failure = error
        if failure is not None:
            raise failure

    async def _claim_stored_as(self, stored_as: str, method: str, turn: Turn) -> bool:
        """Claims what is stored under one name of a method; returns whether there may be more."""
        limit = min(self._free[method], turn.limit)
        self._free[method] -= limit
        begin = self.workbench.clock.monotonic()
        try:
            claimed = await self.workbench.claim_oldest(
                stored_as,
                limit,
                partial(self._free_slot, method),
                left_out=self._queue.left_out(method),
                ready_before=turn.ready_before,
            )
        except BaseException:
            self._free[method] += limit
            self._queue.has_more(method, turn.ready_before)
            raise
        self._free[method] += limit - len(claimed)
        self._claim_took(method, len(claimed), begin)
        for before, outcome in claimed:
            self._queue.forget(method, before.name)
            self._claimed(method, before.name, outcome)
        has_begun = any(isinstance(outcome, Record) for _, outcome in claimed)
        is_full = len(claimed) == limit and (has_begun or not self._queue.is_stuck(method))
        if is_full:
            self._queue.has_more(method, turn.ready_before)
        return is_full

    async def _claim_by_key(self, method: str, turn: KeyedTurn) -> None:
        """Claims what the store finds of some of the keys."""
        self._free[method] -= turn.limit
        begin = self.workbench.clock.monotonic()
        try:
            claims = await self.workbench.claim_by_key(
                turn.stored_as,
                turn.limit,
                partial(self._free_slot, method),
                after=turn.after,
                left_out=self._queue.left_out(method),
                ready_before=turn.ready_before,
            )
        except BaseException:
            self._free[method] += turn.limit
            self._queue.keys.failed(method)
            raise
        self._free[method] += turn.limit - len(claims.claimed)
        self._claim_took(method, len(claims.claimed), begin)
        for before, outcome in claims.claimed:
            self._claimed(method, before.name, outcome)
        self._queue.keys.took(method, claims, is_stuck=self._queue.is_stuck(method))

    def _claim_took(self, method: str, number: int, begin: float) -> None:
        """Has the next claim be of as many operations as its part of a lease is enough for."""
        took = self.workbench.clock.monotonic() - begin
        longest = self.workbench.lease * _PART_OF_LEASE
        if took > longest:
            self._at_once[method] = max(1, int(number * longest / took))
        elif number == self._at_once[method]:
            self._at_once[method] = 2 * number

    def _claimed(self, method: str, name: str, answer: Record | LroError) -> None:
        """Takes the answer to the claim of an operation, for which there is a slot."""
        if isinstance(answer, Record) and answer.lease_expire_time:
            return
        self._free[method] += 1
        if isinstance(answer, UnservedError):
            self._queue.leave_out(method, name)
            self._on_unserved(answer)
        elif not isinstance(answer, _TO_BE_EXPECTED):
            PROCESS.say(
                logging.ERROR,
                f"{name} cannot be claimed: {answer}",
                kind=("claim", type(answer)),
                extra={"operation": name, "method": method},
            )
            self._queue.leave_out(method, name)

    def _free_slot(self, method: str, outcome: Record | None) -> None:
        del outcome
        self._free[method] += 1
        self._report_after[method] = _FULL_SECONDS
        self._wake_up()

    async def _report_full(self) -> None:
        """Reports each method that gets nowhere while operations wait; ever more rarely."""
        clock = self.workbench.clock
        await clock.sleep(_FULL_SECONDS / 4)
        for method, since in list(self._full_since.items()):
            seconds = clock.monotonic() - since
            if self._free[method] or seconds < self._report_after[method]:
                continue
            self._report_after[method] = 2 * seconds
            handler = self.workbench.handlers[method]
            counted = dict.fromkeys(handler.names, _MOST_COUNTED)
            waiting = len(await self.workbench.store.claimable(counted))
            if waiting:
                _log.warning(
                    "all %d slots of %s have been taken for %.0f s, no attempt has ended, and"
                    " %s wait; see whether its handlers wait for operations of their own method,"
                    " or give it more concurrency",
                    *(handler.slots, method, seconds),
                    waiting if waiting < _MOST_COUNTED else f"{waiting} or more",
                    extra={"method": method},
                )
