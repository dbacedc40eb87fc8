"""Renews the leases of this process's attempts in time, and ends the attempts it cannot renew.

A lease ends here before it ends in the store (R10). The store counts it from the moment at which it
applies the claim or the heartbeat; this process counts from the moment before it sent that, by its
monotonic clock, and takes off another tenth. So whatever happens in between, be it a slow answer, a
frozen process or a time of day that is set, an attempt is stopped while the operation is still its
own, and no other attempt has begun. What a stopped handler does all the same is refused by the
fence: an event carries its attempt's number, and only the latest number counts (R5).

A lease is renewed three times in its own length, so two heartbeats may be lost before one matters.
While the store cannot answer, handlers go on, until the lease that they have runs out.
"""

from __future__ import annotations

from collections.abc import Mapping

from lro_grpc._engine.attempt import Attempt, write_all
from lro_grpc._errors import StopReason
from lro_grpc._operation.events import Heartbeat
from lro_grpc._runtime.clock import Clock, micros
from lro_grpc._stores.store import Store


class Leases:
    """Keeps the leases of attempts.

    Args:
        store: Where the operations are kept.
        attempts: The attempts of this process, by their operations' names.
        clock: Measures the leases.
        lease: Seconds for which a heartbeat holds an operation.
    """

    def __init__(
        self, store: Store, attempts: Mapping[str, Attempt], clock: Clock, lease: float
    ) -> None:
        self._store = store
        self._attempts = attempts
        self._clock = clock
        self._lease = lease
        self._pause = lease / 3

    async def renew(self) -> None:
        """Renews the leases of all attempts, three times in a lease.

        Raises:
            UnavailableError: If the store cannot answer; the next call tries again at once.
        """
        await self._clock.sleep(self._pause)
        self._pause = 0.0
        held = [
            attempt
            for attempt in self._attempts.values()
            if attempt.stop_reason is not StopReason.LEASE_LOST
        ]
        lease = micros(self._lease)
        sent_at = self._clock.monotonic()
        await write_all(self._store, held, [Heartbeat(one.number, lease) for one in held])
        for attempt in held:
            attempt.lease_renewed(sent_at)
        self._pause = self._lease / 3

    async def watch(self) -> None:
        """Stops attempts whose lease is over, whether or not the store answers (R10)."""
        await self._clock.sleep(self._lease / 20)
        for attempt in list(self._attempts.values()):
            if attempt.lease_is_over:
                attempt.stop(StopReason.LEASE_LOST)
