"""The units of time, and the check of an option that is one."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from lro_grpc import LroError
from lro_grpc._runtime.clock import as_duration, micros, seconds
from lro_grpc._testing.clock import RunningClock


@pytest.mark.parametrize(
    ("duration", "expected"),
    [
        (timedelta(), 0),
        (timedelta(microseconds=1), 1),
        (timedelta(days=365_000), 365_000 * 24 * 3600 * 1_000_000),
        (0.0, 0),
        (1.5, 1_500_000),
        (1e300, round(1e306)),
    ],
)
def test_a_duration_in_microseconds(duration: timedelta | float, expected: int) -> None:
    assert micros(duration) == expected


def test_microseconds_in_seconds() -> None:
    assert seconds(1_500_000) == 1.5


@pytest.mark.parametrize("value", [None, timedelta(microseconds=1), timedelta(days=365_000)])
def test_a_fitting_duration(value: timedelta | None) -> None:
    as_duration("lease", value, optional=True)


@pytest.mark.parametrize(
    "value", [timedelta(), timedelta(days=-1), timedelta(days=365_000, microseconds=1), "3"]
)
def test_an_unfit_duration_is_refused_by_the_name_of_its_option(value: timedelta) -> None:
    with pytest.raises(LroError, match=r"lease is .*; give a timedelta, or seconds, of at least"):
        as_duration("lease", value)


@pytest.mark.parametrize(("pause", "moved"), [(0.01, 0), (3600, 3600), (3600.01, 3600)])
def test_a_running_clock_goes_on_by_itself_and_by_hand(pause: float, moved: float) -> None:
    clock = RunningClock()
    begin = clock.now(), clock.monotonic()

    async def rest() -> None:
        sleeping = asyncio.create_task(clock.sleep(pause))
        await asyncio.sleep(0)
        clock.advance(moved)
        await asyncio.wait_for(sleeping, 60)

    asyncio.run(rest())
    assert clock.monotonic() - begin[1] >= pause
    assert clock.now() - begin[0] >= micros(pause)
