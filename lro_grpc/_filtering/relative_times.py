"""Times in filters that are as long ago as a person says: ``now-1h``.

A server knows no such times: they become RFC 3339 times before a filter is sent, once for all its
pages. What stands in quotes stays as it is.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta

from lro_grpc._errors import InvalidFilterError

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_TIME = re.compile(
    r"""
    "(?:[^"\\]|\\.)*"? | '(?:[^'\\]|\\.)*'?
    | (?<![^\s(<>=!:]) now (?P<sign>[+-]) (?P<number>[0-9]{1,9}) (?P<unit>[smhd]) (?![^\s)])
    """,
    re.VERBOSE | re.DOTALL,
)


def expanded(text: str, now: datetime) -> str:
    """Returns a filter with RFC 3339 times in place of its ``now-1h``, ``now+2d`` and the like.

    Args:
        text: The filter.
        now: The present time, in UTC.

    Raises:
        InvalidFilterError: If there is no such time.
    """

    def time(found: re.Match[str]) -> str:
        if found["unit"] is None:
            return found[0]
        try:
            away = timedelta(**{_UNITS[found["unit"]]: int(found["number"])})
            then = now - away if found["sign"] == "-" else now + away
        except OverflowError as cause:
            message = f"{found[0]} is not within the years 1 to 9999"
            raise InvalidFilterError(message) from cause
        return f'"{then.isoformat().replace("+00:00", "Z")}"'  # bare it could not be anywhere

    return _TIME.sub(time, text)
