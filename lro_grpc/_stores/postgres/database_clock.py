r"""The database's time, by the monotonic clock of this process.

The times of records are the database's: it has the one clock that all processes of a store share.
To ask for it at each event would take a round trip; so it is measured now and then, and in between
this process counts on by its monotonic clock, which nobody sets.

**Each sample is a bound from both sides.** The database reads its clock after it is asked, and
before its answer is here::

    this process    sent ------------------------ received
                         \                      /
    the database          ------- time --------

When the answer is here, the database's clock shows ``time`` at least, and the length of the round
trip more at most. The best bounds of all samples count. They part slowly, for two clocks may drift.

**This process is never ahead.** ``now()`` is the lower bound. So it never takes a lease for over
that the database still holds, and a lease that it gives ends early rather than late, by the width
of the bounds: about a round trip.

**Bounds that exclude each other show a jump**: the database's clock has been set, another machine
is the database now, or this machine has been suspended, for then a monotonic clock stands still.
From then on the latest sample alone counts. After a jump forward leases end early, and the fence
keeps their late owners out; after a jump back they last longer. No time of a record goes back:
events see to that.

**The database judges.** A jump between two samples is unknown here. So the statement that stores a
change carries the time that its event was applied with, and stores nothing if that is off by more
than ``tolerance``: as it is after a jump, and when a process has stood still between the event and
the statement. Whoever is refused calls ``measure``, and applies the event again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from lro_grpc._errors import UnavailableError
from lro_grpc._runtime.clock import Micros, seconds
from lro_grpc._stores.postgres.failures import RefusedError
from lro_grpc._stores.store import Now

_log = logging.getLogger("lro_grpc")

END_OF_TIME: Micros = 2**63 - 1
"""The latest time that a column can have."""

TIME_QUERY = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::int8"
"""Answers with the database's time, in microseconds since 1970 UTC."""

_PERIOD_SECONDS = 5.0
"""The time from one measurement to the next."""

_DRIFT = 0.0005
"""The most that two clocks part, as a share of the time: as far as NTP corrects a clock's pace."""

_SLOWEST, _FASTEST = 1_000_000 * (1 - _DRIFT), 1_000_000 * (1 + _DRIFT)
"""The microseconds by which the database's clock may move in a second of this process's."""

_PRECISE: Micros = 2_000
"""Bounds that are no wider than this need no further sample."""

_MOST_SAMPLES = 5
"""The most samples of one measurement: of slow round trips, the quickest tells most."""

_MOST_TOLERANCE: Micros = 1_000_000

_NOTABLE: Micros = 100_000
"""A jump that an operator is told of."""


def tolerance(lease: Micros) -> Micros:
    """Returns how far the time of an event may be off from the database's.

    Half of what the owner of a lease takes off from it by its own clock.

    Args:
        lease: The shortest lease that the event may give or renew.
    """
    return min(_MOST_TOLERANCE, lease // 20)


class DatabaseClock:
    """Bounds of the database's time; see the module.

    Args:
        read: Asks the database for its time, with ``TIME_QUERY``.
        monotonic: Returns seconds since some fixed moment.
    """

    def __init__(
        self,
        read: Callable[[], Awaitable[Micros]],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._read = read
        self._monotonic = monotonic
        self._moment = 0.0
        """By the monotonic clock: when the bounds were these."""
        self._lower: Micros = 0
        self._upper: Micros = 0
        self._is_measured = False

    def now(self) -> Micros:
        """Returns the time that the database's clock shows at least; ``measure`` comes first."""
        return self._lower + int((self._monotonic() - self._moment) * _SLOWEST)

    async def measure(self) -> None:
        """Takes samples until the bounds are narrow.

        Raises:
            UnavailableError: If the database does not answer; the bounds stay as they are.
        """
        for _ in range(_MOST_SAMPLES):
            sent = self._monotonic()
            time_ = await self._read()
            self._narrow(sent, time_, self._monotonic())
            if self._upper - self._lower <= _PRECISE:
                return

    async def keep(self, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        """Measures regularly until it is cancelled, whatever the database answers.

        Args:
            sleep: Returns after that many seconds.
        """
        while True:
            await sleep(_PERIOD_SECONDS)
            try:
                await self.measure()
            except Exception as error:  # noqa: BLE001 - an outage: the clock counts on without it
                _log.debug("the database's time cannot be measured now: %s", error)

    def _narrow(self, sent: float, time_: Micros, received: float) -> None:
        lower, upper = time_, time_ + int((received - sent) * _FASTEST) + 1
        if self._is_measured:
            since = received - self._moment
            least = self._lower + int(since * _SLOWEST)
            most = self._upper + int(since * _FASTEST) + 1
            if lower <= most and least <= upper:
                lower, upper = max(lower, least), min(upper, most)
            else:
                jump = lower - least
                _log.log(
                    logging.DEBUG if abs(jump) < _NOTABLE else logging.WARNING,
                    "the database's clock has moved by %+.1f s against this process's: one of them"
                    " was set, or this machine has slept; the database's counts as it is now",
                    seconds(jump),
                )
        self._is_measured = True
        self._moment, self._lower, self._upper = received, lower, upper


@dataclass(frozen=True)
class StoreTime:
    """The time of a store, and what keeps it right."""

    now: Now
    """Returns the time in microseconds since 1970 UTC, in any thread."""
    tolerance: Callable[[int], int]
    """Returns how far the time of a change may be off, by the shortest lease that it gives."""
    measure: Callable[[], Awaitable[None]]
    """Has the time measured anew."""
    keep: Callable[[], Coroutine[Any, Any, None]]
    """Measures it now and then."""

    def is_late(self, at: Micros, lease: Micros) -> bool:
        """Returns whether a change would be too late by now.

        Args:
            at: The time that it was made for.
            lease: The shortest lease that it gives.
        """
        return self.now() - at > self.tolerance(lease)

    async def try_to_measure(self) -> None:
        """Has the time measured anew; if that fails, so does what is made next."""
        with contextlib.suppress(UnavailableError, RefusedError):
            await self.measure()


def database_time(
    read: Callable[[], Awaitable[Micros]], monotonic: Callable[[], float] = time.monotonic
) -> StoreTime:
    """Returns the database's time.

    Args:
        read: Asks the database for it, with ``TIME_QUERY``.
        monotonic: Returns seconds since some fixed moment.
    """
    clock = DatabaseClock(read, monotonic)
    return StoreTime(clock.now, tolerance, clock.measure, clock.keep)


def given_time(now: Now) -> StoreTime:
    """Returns a time that a test gives: nothing is measured, and nothing is ever late."""
    return StoreTime(now, lambda _: END_OF_TIME, _nothing, _nothing)


async def _nothing() -> None:
    """Measures nothing."""
