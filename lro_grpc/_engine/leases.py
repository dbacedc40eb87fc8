"""The leases of this process's attempts: renewed in time, and given up in time."""

from __future__ import annotations

from lro_grpc._engine.attempts import Attempts
from lro_grpc._errors import StopReason
from lro_grpc._operation.events import Heartbeat
from lro_grpc._runtime.clock import Clock


class Leases:
    """Keeps the leases of attempts.

    Args:
        attempts: The attempts.
        clock: Measures the leases.
        lease: Seconds for which a heartbeat holds an operation.
    """

    def __init__(self, attempts: Attempts, clock: Clock, lease: float) -> None:
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
        held = [one for one in self._attempts if one.stop_reason is not StopReason.LEASE_LOST]
        beats = [Heartbeat(one.number, int(self._lease * 1_000_000)) for one in held]
        sent_at = self._clock.monotonic()
        await self._attempts.tell(held, beats)
        for attempt in held:
            attempt.beaten(sent_at)
        self._pause = self._lease / 3

    async def watch(self) -> None:
        """Stops attempts whose lease is over, whether or not the store answers (R10)."""
        await self._clock.sleep(self._lease / 20)
        for attempt in self._attempts:
            if attempt.lease_is_over:
                attempt.stop(StopReason.LEASE_LOST)
