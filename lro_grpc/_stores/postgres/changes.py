"""Changes operations in groups: one statement stores what the events of a thousand calls make.

**No two processes wait for each other.** A change is stored if the row has the version that it was
made of, and is in nobody else's hands at that moment (``compare_and_set``). Otherwise the operation
is *contended*: its changes are set aside for a moment, and are then made before all others, of the
row as it is by then. Meanwhile other changes go on; those of the same operation line up behind. The
pauses are random, and grow, so that processes which meet once do not meet again and again. After
``_PATIENCE_SECONDS`` the outcome of these changes is UNAVAILABLE, and that of no others.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lro_grpc._errors import LroError, UnavailableError
from lro_grpc._operation.events import Event
from lro_grpc._operation.record import Record
from lro_grpc._stores.postgres.compare_and_set import compare_and_set
from lro_grpc._stores.postgres.connections import Session
from lro_grpc._stores.postgres.failures import RefusedError, unavailable
from lro_grpc._stores.postgres.grouping import MOST_CALLS, Answered, Groups
from lro_grpc._stores.postgres.writer_parts import WriterParts
from lro_grpc._stores.store import Change

_PATIENCE_SECONDS = 5.0
"""The time for which changes of a contended operation are tried."""

_PAUSE_SECONDS = 0.002
"""The longest pause before the first repetition; that before the nth is n times as long."""

_MOST_PAUSES = 25
"""Pauses grow no more after so many."""


class _Call(Answered):
    """A call that changes operations."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self._outcomes: dict[int, Record | LroError] = {}
        self._number = number

    def settle(self, index: int, outcome: Record | LroError) -> None:
        """Takes the outcome of one change, unless it has one; the last one is the answer."""
        self._outcomes.setdefault(index, outcome)
        if len(self._outcomes) < self._number:
            return
        outcomes = [self._outcomes[index] for index in range(self._number)]
        outages = [one for one in outcomes if isinstance(one, UnavailableError)]
        if len(outages) == self._number:
            self.fail(outages[0])
        else:
            self.give(outcomes)


@dataclass
class _Contention:
    """The time for which some changes of one operation have been tried."""

    since: float
    rounds: int = 0


@dataclass
class WaitingChange:
    """One change of a call, until it is made."""

    call: _Call
    index: int
    name: str
    event: Event
    contention: _Contention | None = None
    """None until another process was at its operation."""

    @property
    def is_over(self) -> bool:
        """Whether nobody waits for it any more."""
        return self.call.is_over

    def fail(self, error: Exception) -> None:
        """Makes an error its outcome; a bug answers the whole call."""
        if isinstance(error, LroError):
            self.call.settle(self.index, error)
        else:
            self.call.fail(error)


class Changes:
    """Changes operations; see the module.

    Args:
        parts: The parts of the store.
        session: A session for this alone.
    """

    def __init__(self, parts: WriterParts, session: Session) -> None:
        self._parts = parts
        self._session = session
        self._loop = asyncio.get_running_loop()
        self._aside: dict[str, list[WaitingChange]] = {}
        """The changes that wait to be made again, by the names of contended operations."""
        self._answers: set[asyncio.Future[object]] = set()
        """Those that calls wait for."""
        self._groups = Groups[WaitingChange]("lro-postgres-changes", self._change, MOST_CALLS)

    async def apply_all(
        self, changes: Sequence[Change], takes: Callable[[WaitingChange], bool]
    ) -> Sequence[Record | LroError]:
        """Applies events; see ``Store.apply_all``.

        Args:
            changes: The operations' names, and the events.
            takes: Takes a change of an operation that is not there yet, and returns whether it did:
                it makes the change along with the operation, or adds it here when that is there.
        """
        if not changes:
            return []
        call = _Call(len(changes))
        for index, (name, event) in enumerate(changes):
            change = WaitingChange(call, index, name, event)
            if not takes(change):
                self.add(change)
        self._answers.add(call.answer)
        call.answer.add_done_callback(self._answers.discard)
        outcomes: Sequence[Record | LroError] = await call.answer
        return outcomes

    def add(self, change: WaitingChange) -> None:
        """Takes one change of a call."""
        self._groups.add(change)

    async def close(self) -> None:
        """Makes the calls that wait, and ends."""
        try:
            if self._answers:  # some changes may be set aside, for a moment or for several
                await asyncio.wait(self._answers)
            await self._groups.close()
        finally:
            await self._session.close()

    async def _change(self, group: Sequence[WaitingChange]) -> None:
        left = group
        while left := [change for change in left if not self._is_set_aside(change)]:
            left = await self._try(left)

    async def _try(self, changes: Sequence[WaitingChange]) -> Sequence[WaitingChange]:
        """Makes some changes, and returns those for which there was no room."""
        try:
            result = await compare_and_set(
                self._parts.table,
                self._session,
                self._parts.remembered,
                self._parts.time,
                [(change.name, change.event) for change in changes],
                self._parts.table.read_some,
            )
        except Exception as error:  # noqa: BLE001 - it is the answer to these changes alone
            for change in changes:
                self._parts.remembered.drop(change.name)  # nobody knows whether it was stored
            if isinstance(error, RefusedError) and len(changes) > 1:
                await self._change_in_halves(changes)
                return ()
            self._groups.fail(changes, error)
            return ()
        if result.is_late and len(changes) > 1:
            await self._change_in_halves(changes)
            return ()
        self._parts.publish(result.stored, result.transitions)
        contended: dict[str, list[WaitingChange]] = {name: [] for name in result.contended}
        left: list[WaitingChange] = []
        for change, outcome in zip(changes, result.outcomes, strict=True):
            if change.name in contended:
                contended[change.name].append(change)
            elif change.name in result.left:
                left.append(change)
            else:
                change.call.settle(change.index, outcome)
        for name, aside in contended.items():
            self._set_aside(name, aside)
        if result.is_untimely:
            await self._parts.time.try_to_measure()
        return left

    async def _change_in_halves(self, changes: Sequence[WaitingChange]) -> None:
        middle = len(changes) // 2
        await self._change(changes[:middle])
        await self._change(changes[middle:])

    def _is_set_aside(self, change: WaitingChange) -> bool:
        """Returns whether a change waits with others of its operation, and lines it up there."""
        aside = self._aside.get(change.name)
        if aside is None:
            return False
        aside.append(change)
        return True

    def _set_aside(self, name: str, changes: list[WaitingChange]) -> None:
        """Has the changes of a contended operation wait for a moment."""
        self._parts.remembered.drop(name)
        now = self._loop.time()
        contention = changes[0].contention or _Contention(now)
        contention.rounds += 1
        if now - contention.since > _PATIENCE_SECONDS:
            for change in changes:
                change.fail(unavailable(f"other processes are at {name} all the time"))
            return
        for change in changes:
            change.contention = contention
        self._aside[name] = changes
        longest = _PAUSE_SECONDS * min(contention.rounds, _MOST_PAUSES)
        self._loop.call_later(random.random() * longest, self._take_up, name)  # noqa: S311

    def _take_up(self, name: str) -> None:
        """Has changes that were set aside made before all others."""
        self._groups.put_back(self._aside.pop(name))
