"""Time that has passed over operations: leases, time limits, retentions."""

from __future__ import annotations

from collections.abc import Sequence

from lro_grpc._engine.leases import Attempts
from lro_grpc._operation.events import LeaseLost, TimePassed
from lro_grpc._operation.record import Record
from lro_grpc._runtime.clock import Clock
from lro_grpc._runtime.log import log_done, log_outcome
from lro_grpc._stores.store import Store

_MAX_AT_ONCE = 500
"""Operations that expire, or are removed, in one commit at most."""


class Sweep:
    """Sees to what is lost, overdue or kept for long enough.

    Args:
        store: Where the operations are kept.
        attempts: The attempts of this process.
        clock: Tells the time.
    """

    def __init__(self, store: Store, attempts: Attempts, clock: Clock) -> None:
        self._store = store
        self._attempts = attempts
        self._clock = clock

    async def take_over(self) -> int:
        """Takes what a process holds that is known to be gone; returns how many operations."""
        held = await self._store.leased()
        await self._lose([(one.name, LeaseLost(one.attempt, proven=True)) for one in held])
        return len(held)

    async def run(self) -> None:
        """Looks once at everything.

        Raises:
            UnavailableError: If the store cannot answer.
        """
        held = await self._store.leased(until=self._clock.now())
        lost = [one for one in held if not self._attempts.is_healthy(one)]
        if lost:
            await self._lose([(one.name, LeaseLost(one.attempt)) for one in lost])
        former: Sequence[str] = ()
        while (due := await self._store.expired(_MAX_AT_ONCE)) and due != former:
            for record in await self._store.apply_all([(name, TimePassed()) for name in due]):
                if isinstance(record, Record) and record.done and not record.deleted:
                    log_done(record)
            former = due

    async def _lose(self, lost: Sequence[tuple[str, LeaseLost]]) -> None:
        outcomes = await self._store.apply_all(lost)
        for (_, event), outcome in zip(lost, outcomes, strict=True):
            if isinstance(outcome, Record) and not outcome.lease_expire_time:
                log_outcome(event, outcome)
