"""Durations that a program gives: a timedelta, or seconds as every other function of Python has."""

from __future__ import annotations

import math
from datetime import timedelta
from numbers import Real
from typing import TypeAlias

Duration: TypeAlias = timedelta | float
"""A ``timedelta``, or a number of seconds."""


def as_timedelta(option: str, value: object) -> timedelta:
    """Returns a duration as a timedelta; a number that is too large for one becomes the longest.

    Args:
        option: Its name.
        value: Its value.

    Raises:
        TypeError: If it is neither a timedelta nor a number; ``True`` is none.
        ValueError: If it is NaN or infinite.
    """
    if isinstance(value, timedelta):
        return value
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{option} is {value!r}; give a timedelta, or seconds")
    try:
        if math.isfinite(value):
            return timedelta(seconds=float(value))
    except OverflowError:
        return timedelta.max if abs(value) == value else timedelta.min
    raise ValueError(f"{option} is {value!r}; give a timedelta, or a finite number of seconds")


def as_timeout(timeout: Duration | None, option: str = "timeout") -> timedelta | None:
    """Returns the timeout of a call or a wait; None for none.

    One below zero is over already, as zero is: so the futures of the standard library have it, and
    so it may be the rest of a longer time.

    Args:
        timeout: Its value.
        option: Its name.

    Raises:
        TypeError: If it is neither a timedelta nor a number nor None.
        ValueError: If it is NaN or infinite.
    """
    return None if timeout is None else max(as_timedelta(option, timeout), timedelta(0))
