"""The units of time, and the check of an option that is one."""

from __future__ import annotations

from datetime import timedelta

import pytest

from lro_grpc import LroError
from lro_grpc._runtime.clock import as_duration, micros, seconds


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
