"""The database's time, as a process knows it that has asked for it a while ago."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lro_grpc._errors import UnavailableError
from lro_grpc._stores.postgres.database_clock import DatabaseClock, tolerance

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lro_grpc._runtime.clock import Micros

SECOND: Micros = 1_000_000
BEGIN: Micros = 1_700_000_000 * SECOND
DRIFT = 0.0005


class World:
    """Two clocks, and the way between them.

    Args:
        drift: The share of the time by which the database's clock gains on this process's.
    """

    def __init__(self, drift: float = 0.0) -> None:
        self.monotonic = 1000.0
        self.database: float = BEGIN
        self.trips = itertools.cycle([(0.0005, 0.0005)])
        """The seconds to the database, and back from it."""
        self.is_down = False
        self.reads = 0
        self._pace = SECOND * (1 + drift)
        self.clock = DatabaseClock(self.read, lambda: self.monotonic)

    def pass_(self, seconds: float) -> None:
        self.monotonic += seconds
        self.database += seconds * self._pace

    def measure(self) -> None:
        asyncio.run(self.clock.measure())

    async def read(self) -> Micros:
        there, back = next(self.trips)
        self.reads += 1
        self.pass_(there)
        time = int(self.database)
        self.pass_(back)
        if self.is_down:
            raise UnavailableError("down")
        return time

    @property
    def lag(self) -> float:
        """The microseconds by which this process is behind."""
        return self.database - self.clock.now()


trips = st.tuples(st.floats(0, 0.3), st.floats(0, 0.3))


@given(
    st.floats(-DRIFT, DRIFT),
    st.lists(trips, min_size=1, max_size=8),
    st.lists(st.floats(0, 100), max_size=20),
)
def test_it_is_never_ahead_of_the_database(
    drift: float, ways: Sequence[tuple[float, float]], pauses: Sequence[float]
) -> None:
    """And behind by no more than the quickest round trip and what the clocks may have parted."""
    world = World(drift)
    world.trips = itertools.cycle(ways)
    world.measure()
    for pause in pauses:
        assert world.lag >= 0
        world.pass_(pause)
        assert world.lag >= 0
        world.measure()
        longest = max(there + back for there, back in ways)
        assert world.lag <= longest * SECOND * (1 + 10 * DRIFT) + 3


def test_of_samples_the_quickest_tells_most() -> None:
    world = World()
    world.trips = itertools.cycle([(0.0, 0.2), (0.1, 0.1), (0.0, 0.001), (0.0, 0.2)])
    world.measure()
    assert world.lag < 2_000
    assert world.reads == 3  # the third is good enough


def test_a_quick_round_trip_needs_no_second_one() -> None:
    world = World()
    world.measure()
    assert world.reads == 1


def test_what_a_sample_has_told_is_known_after_a_worse_one() -> None:
    world = World()
    world.measure()
    world.trips = itertools.cycle([(0.1, 0.9)])
    world.measure()
    assert world.lag < 10_000


@pytest.mark.parametrize("jump", [-3600.0, -0.5, 0.5, 3600.0])
def test_after_a_jump_the_latest_sample_counts(
    jump: float, caplog: pytest.LogCaptureFixture
) -> None:
    """Whichever clock has jumped: a suspended machine's stands still meanwhile."""
    world = World()
    world.measure()
    world.pass_(5)
    world.database += jump * SECOND
    assert abs(world.lag) > 0.4 * SECOND
    world.measure()
    assert 0 <= world.lag < 2_000
    assert caplog.text.count("clock has moved by") == 1
    assert f"{jump:+.1f}" in caplog.text


def test_a_jump_that_nobody_has_to_know_of_is_no_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = World()
    world.measure()
    world.database -= 0.05 * SECOND
    world.measure()
    assert 0 <= world.lag < 2_000
    assert not [one for one in caplog.records if one.levelno >= logging.WARNING]


def test_without_an_answer_it_counts_on() -> None:
    world = World()
    world.measure()
    world.is_down = True
    with pytest.raises(UnavailableError):
        world.measure()
    world.pass_(10)
    assert 0 <= world.lag < 20_000


def test_it_is_measured_regularly_through_an_outage() -> None:
    world = World()
    world.measure()
    lags = []

    async def sleep(seconds: float) -> None:
        world.pass_(seconds)
        lags.append(world.lag)
        world.is_down = 3 <= len(lags) < 6
        if len(lags) == 10:
            raise asyncio.CancelledError

    with contextlib.suppress(asyncio.CancelledError):
        asyncio.run(world.clock.keep(sleep))
    assert world.reads == 10
    assert max(lags[:3]) < 5_000
    assert max(lags[3:6]) > 5_000  # nothing has narrowed the bounds
    assert max(lags[6:]) < 20_000
    assert lags[-1] < 5_000


@pytest.mark.parametrize(
    ("lease", "off"),
    [
        (SECOND, SECOND // 20),
        (15 * SECOND, 750_000),
        (20 * SECOND, SECOND),
        (3600 * SECOND, SECOND),
    ],
)
def test_the_longer_a_lease_the_more_its_time_may_be_off(lease: Micros, off: Micros) -> None:
    assert tolerance(lease) == off
