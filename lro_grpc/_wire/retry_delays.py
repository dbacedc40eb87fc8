"""Delays that a server which refused a call asks for, read from the headers of its answer.

``google.rpc`` has a message for them, ``RetryInfo``, which travels among the details of an error.
Front ends and rate limiters say the same in a header; here it becomes that message, so that an
error has it in one place.
"""

from __future__ import annotations

import email.utils
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from google.rpc import error_details_pb2

from lro_grpc._errors import LroError

_MILLISECONDS = "grpc-retry-pushback-ms"
"""gRPC's own header (gRFC A6), in trailing metadata."""
_SECONDS_OR_DATE = "retry-after"
"""HTTP's header (RFC 9110)."""
_MOST_DIGITS = 9
"""More digits are more than anyone waits."""


def add_retry_info(
    error: LroError, headers: Iterable[tuple[str, Any]], *, now: datetime | None = None
) -> None:
    """Adds the delay that the headers of an answer ask for to the details of its error.

    Args:
        error: The error; one that has a ``RetryInfo`` already keeps it.
        headers: The headers; their names may be of any case.
        now: The present time, if a header may give a date.
    """
    if any(isinstance(one, error_details_pb2.RetryInfo) for one in error.details):
        return
    for key, value in headers:
        delay = _delay(key.lower(), value.strip(), now) if isinstance(value, str) else None
        if delay is not None:  # zero says that the next call may come at once
            info = error_details_pb2.RetryInfo()
            info.retry_delay.FromTimedelta(delay)
            error.details = (*error.details, info)
            return


def _delay(key: str, value: str, now: datetime | None) -> timedelta | None:
    if key == _MILLISECONDS and value.isdecimal():
        return timedelta(milliseconds=int(value[:_MOST_DIGITS]))
    if key != _SECONDS_OR_DATE:
        return None
    if value.isdecimal():
        return timedelta(seconds=int(value[:_MOST_DIGITS]))
    if now is None:
        return None
    try:
        return max(email.utils.parsedate_to_datetime(value) - now, timedelta(0))
    except (TypeError, ValueError, OverflowError):  # it is no date, or has no time zone
        return None
