"""Finds the operations that time has passed over: lost, rested, overdue, or kept long enough."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from lro_grpc._operation.events import LeaseLost, TimePassed
from lro_grpc._operation.fit import Served
from lro_grpc._operation.record import Record
from lro_grpc._runtime.log import log_done, log_lost
from lro_grpc._stores.store import Leased, Store

_MAX_AT_ONCE = 500
"""Operations that expire, or are removed, in one commit at most."""


class Maintenance:
    """Rescues lost operations, lets delayed ones begin, expires overdue ones, and prunes old ones.

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
        self._time_passed = TimePassed(served if store.exclusive else None)

    async def take_over(self) -> int:
        """Rescues the operations of a former process that is known to be gone; returns how many."""
        leased = await self._store.leased()
        await self.take_from(leased)
        return len(leased)

    async def take_from(self, leased: Sequence[Leased]) -> None:
        """Takes operations from attempts whose worker is known to be gone."""
        await self._lose(leased, proven=True)

    async def rescue(self) -> None:
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
        # The same names twice are refused ones: the next round may have more luck with them.
        while (due := await self._store.expired(_MAX_AT_ONCE, to_undo=to_undo)) and due != former:
            for record in await self._store.apply_all([(name, self._time_passed) for name in due]):
                if isinstance(record, Record) and record.done and not record.deleted:
                    log_done(record)
            former = due

    async def _lose(self, leased: Sequence[Leased], *, proven: bool) -> None:
        lost = [
            (one.name, LeaseLost(one.attempt, proven, create_time=one.create_time))
            for one in leased
        ]
        outcomes = await self._store.apply_all(lost)
        log_lost(
            [
                (event, outcome)
                for (_, event), outcome in zip(lost, outcomes, strict=True)
                if isinstance(outcome, Record) and not outcome.lease_expire_time
            ]
        )
