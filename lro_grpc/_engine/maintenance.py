"""Finds the operations that time has passed over: lost, rested, overdue, or kept long enough.

They may be many, and have megabytes each, which the store gives back with each event. So it is sent
few events at a time, and more if that was little; and of an operation nothing is kept but what the
log says of it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TypeVar

from lro_grpc._errors import LroError
from lro_grpc._operation.events import Event, LeaseLost, TimePassed
from lro_grpc._operation.fit import Served
from lro_grpc._operation.record import Record
from lro_grpc._runtime.log import log_done, log_lost, without_bytes
from lro_grpc._stores.store import Leased, Store

E = TypeVar("E", bound=Event)

_MOST_AT_ONCE = 500
"""Operations that expire, or are removed, in one commit at most."""

_FEW = 16
"""The events that are sent at first, for nobody knows how large their operations are."""

_MANY_BYTES = 8 * 1024 * 1024
"""The bytes of operations above which fewer events are sent next."""

_MOST_VAIN = 40
"""The rounds in a row that change nothing, until the rest is left to the next sweep. So many get
past all the damaged rows that a store sets aside."""


class Maintenance:
    """Takes over lost operations, lets delayed ones begin, expires overdue ones, removes old ones.

    Every process that shares a store does so. The events are refused where another process has
    been faster, so none has to know of the others.

    Args:
        store: Where the operations are kept.
        claims_end: Waits until the claims of this process that are under way have ended: what is
            leased may be theirs.
        is_held: Tells whether an operation that an attempt holds is in the hands of this process:
            whatever the time of day, and however long the process has stood still, it does not
            take an operation from itself.
        served: All that this process serves.
    """

    def __init__(
        self,
        store: Store,
        claims_end: Callable[[], Awaitable[None]],
        is_held: Callable[[Leased], bool],
        served: Served,
    ) -> None:
        self._store = store
        self._claims_end = claims_end
        self._is_held = is_held
        self._at_once = _FEW
        self._time_passed = TimePassed(served if store.exclusive else None)

    async def take_over_all(self) -> int:
        """Takes over what a former process had that is known to be gone; returns how many."""
        leased = await self._store.leased()
        await self.take_from(leased)
        return len(leased)

    async def take_from(self, leased: Sequence[Leased]) -> None:
        """Takes operations from attempts whose worker is known to be gone."""
        await self._lose(leased, proven=True)

    async def take_over_lost(self) -> None:
        """Takes operations from attempts that have lost them, for another one to go on (R6).

        On a shared store those are the attempts whose lease is over. On an exclusive one all that
        this process does not hold are, such as one whose claim was stored and not answered.

        Raises:
            UnavailableError: If the store cannot answer.
        """
        exclusive = self._store.exclusive
        leased = await self._store.leased(until=None if exclusive else self._store.now())
        # To spare what a claim may get would do, too, but often one is under way at every sweep.
        await self._claims_end()
        lost = [one for one in leased if not self._is_held(one)]
        if lost:
            await self._lose(lost, proven=exclusive)

    async def let_time_pass(self) -> None:
        """Applies ``TimePassed`` to the operations that it makes ready, expires or removes.

        Raises:
            UnavailableError: If the store cannot answer.
        """
        await self._let_pass(to_undo=False)
        if self._store.exclusive:  # what no handler here can undo, nobody undoes
            await self._let_pass(to_undo=True)

    async def _let_pass(self, *, to_undo: bool) -> None:
        former: Sequence[str] = ()
        vain = 0
        # The same names twice are refused ones: the next round may have more luck with them.
        while (due := await self._store.expired(_MOST_AT_ONCE, to_undo=to_undo)) and due != former:
            vain += 1
            async for _, record in self._applied([(name, self._time_passed) for name in due]):
                if isinstance(record, Record):
                    vain = 0
                    if record.done and not record.deleted:
                        log_done(record)
            if vain == _MOST_VAIN:
                return
            former = due

    async def _lose(self, leased: Sequence[Leased], *, proven: bool) -> None:
        lost = [
            (one.name, LeaseLost(one.attempt, proven, create_time=one.create_time))
            for one in leased
        ]
        logged: list[tuple[LeaseLost, Record]] = []
        try:
            async for event, outcome in self._applied(lost):
                if isinstance(outcome, Record) and not outcome.lease_expire_time:
                    logged.append((event, without_bytes(outcome)))
        finally:
            log_lost(logged)

    async def _applied(
        self, changes: Sequence[tuple[str, E]]
    ) -> AsyncIterator[tuple[E, Record | LroError]]:
        """Applies events, a few at a time, and yields each with what it has made.

        The store is called for none, too, and answers after all that it was given before.
        """
        is_over = False
        while not is_over:
            some, changes = changes[: self._at_once], changes[self._at_once :]
            is_over = not changes
            outcomes = await self._store.apply_all(some)
            taken = sum(one.large_bytes for one in outcomes if isinstance(one, Record))
            if taken > _MANY_BYTES:
                self._at_once = max(1, self._at_once // 4)
            elif len(some) == self._at_once:
                self._at_once = min(2 * self._at_once, _MOST_AT_ONCE)
            for (_, event), outcome in zip(some, outcomes, strict=True):
                yield event, outcome
