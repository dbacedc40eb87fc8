"""Time: the clock that everything else reads, and the units it is counted in.

A time of day is a whole number of microseconds, as records and stores keep it. A pause is a number
of seconds, as ``asyncio`` takes it. Users give a ``timedelta``, or seconds. Each is made of another
one here.
"""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from typing import Literal, Protocol, overload

from lro_grpc._durations import Duration, as_timedelta
from lro_grpc._errors import ConfigurationError

Micros = int
"""Microseconds: since 1970 UTC, or from one time to another."""

LONGEST = timedelta(days=365_000)
"""A thousand years: an operation that ends then still fits a ``google.protobuf.Timestamp``."""


def micros(duration: timedelta | float) -> Micros:
    """Returns a duration, given as such or in seconds, in whole microseconds."""
    if isinstance(duration, timedelta):
        return duration // timedelta.resolution
    return round(duration * 1_000_000)


def seconds(duration: Micros) -> float:
    """Returns a duration in seconds."""
    return duration / 1_000_000


@overload
def as_duration(
    option: str, value: Duration, *, least: timedelta | None = None, most: timedelta = LONGEST
) -> timedelta: ...


@overload
def as_duration(
    option: str,
    value: Duration | None,
    *,
    least: timedelta | None = None,
    most: timedelta = LONGEST,
    optional: Literal[True],
) -> timedelta | None: ...


def as_duration(
    option: str,
    value: Duration | None,
    *,
    least: timedelta | None = None,
    most: timedelta = LONGEST,
    optional: bool = False,
) -> timedelta | None:
    """Returns an option that is a duration.

    Args:
        option: Its name.
        value: Its value.
        least: The least value; one microsecond unless given.
        most: The longest value.
        optional: Whether it may be None, for not set.

    Raises:
        ConfigurationError: If it is no duration, or too short or too long.
    """
    least = timedelta.resolution if least is None else least
    if value is None and optional:
        return None
    wrong = ConfigurationError(
        f"{option} is {value!r}; give a timedelta, or seconds, of at least {least}"
        f" and at most {most.days} days"
    )
    try:
        duration = as_timedelta(option, value)
    except (TypeError, ValueError) as cause:
        raise wrong from cause
    if not least <= duration <= most:
        raise wrong
    return duration


class Clock(Protocol):
    """Tells the time and waits for it to pass."""

    def now(self) -> Micros:
        """Returns the time of day, in microseconds since 1970 UTC."""
        ...

    def monotonic(self) -> float:
        """Returns seconds since some fixed moment; never goes back."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Returns after that many seconds."""
        ...


class SystemClock:
    """The clocks of the operating system."""

    def now(self) -> Micros:
        """Returns the time of day, in microseconds since 1970 UTC."""
        return time.time_ns() // 1000

    def monotonic(self) -> float:
        """Returns seconds since some fixed moment; never goes back."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Returns after that many seconds."""
        await asyncio.sleep(seconds)
