"""The times that a service author sets, checked before anything depends on them."""

from __future__ import annotations

from datetime import timedelta

from lro_grpc._errors import ConfigurationError

LONGEST = timedelta(days=365_000)
"""A thousand years: what ends then is still a ``google.protobuf.Timestamp``."""


def check_time(option: str, value: timedelta | None, *, least: timedelta | None = None) -> None:
    """Checks one option.

    Args:
        option: Its name.
        value: Its value; None if it is not set.
        least: The least value; one microsecond unless given.

    Raises:
        ConfigurationError: If it is no time, or too short or too long.
    """
    least = timedelta.resolution if least is None else least
    if value is None or (isinstance(value, timedelta) and least <= value <= LONGEST):
        return
    raise ConfigurationError(
        f"{option} is {value!r}; give a timedelta of at least {least} and at most {LONGEST.days}"
        " days"
    )
