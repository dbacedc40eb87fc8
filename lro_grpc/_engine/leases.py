"""The leases of this process's attempts: renewed in time, and given up in time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lro_grpc._engine.attempt import Attempt
from lro_grpc._errors import LroError, StopReason
from lro_grpc._operation.events import Event, Heartbeat
from lro_grpc._operation.record import Record
from lro_grpc._runtime.clock import Clock, micros
from lro_grpc._stores.store import Leased, Store


class Attempts:
    """One attempt of each operation at most: the latest that this process has claimed.

    Args:
        store: Where the operations are kept.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._by_name: dict[str, Attempt] = {}

    def __iter__(self) -> Iterator[Attempt]:
        return iter(list(self._by_name.values()))

    def __contains__(self, attempt: object) -> bool:
        return isinstance(attempt, Attempt) and self._by_name.get(attempt.name) is attempt

    def add(self, attempt: Attempt) -> None:
        """Adds an attempt; a former one of its operation has lost it."""
        former = self._by_name.get(attempt.name)
        if former is not None:
            former.stop(StopReason.LEASE_LOST)
        self._by_name[attempt.name] = attempt

    def discard(self, attempt: Attempt) -> None:
        """Removes an attempt, unless a later one has taken its place."""
        if attempt in self:
            del self._by_name[attempt.name]

    def of(self, name: str, number: int) -> Attempt | None:
        """Returns the attempt of an operation and a number, if it is this process's."""
        attempt = self._by_name.get(name)
        return attempt if attempt is not None and attempt.number == number else None

    def hold(self, leased: Leased) -> bool:
        """Tells whether one of these holds an operation, by this process's own clock."""
        attempt = self.of(leased.name, leased.attempt)
        return attempt is not None and not attempt.lease_is_over

    async def apply_all(self, attempts: Sequence[Attempt], events: Sequence[Event]) -> None:
        """Stores one event of each of some attempts; stops those that turn out not to be held.

        Raises:
            UnavailableError: If the store cannot answer.
        """
        if not attempts:
            return
        changes = [(one.name, event) for one, event in zip(attempts, events, strict=True)]
        outcomes = await self._store.apply_all(changes)
        for attempt, outcome in zip(attempts, outcomes, strict=True):
            if isinstance(outcome, Record):
                attempt.see(outcome)
            elif isinstance(outcome, LroError) and attempt in self:
                attempt.stop(StopReason.LEASE_LOST)


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
        beats = [Heartbeat(one.number, micros(self._lease)) for one in held]
        sent_at = self._clock.monotonic()
        await self._attempts.apply_all(held, beats)
        for attempt in held:
            attempt.lease_renewed(sent_at)
        self._pause = self._lease / 3

    async def watch(self) -> None:
        """Stops attempts whose lease is over, whether or not the store answers (R10)."""
        await self._clock.sleep(self._lease / 20)
        for attempt in self._attempts:
            if attempt.lease_is_over:
                attempt.stop(StopReason.LEASE_LOST)
