"""Times as the text of RFC 3339, as the dialects write it."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from google.protobuf.timestamp_pb2 import Timestamp

from lro_grpc._errors import InvalidArgumentError, cut

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def with_seven_digits(micros: int) -> str:
    """Returns a time such as ``2018-12-25T11:41:02.2331410Z``; empty for one that is unset."""
    return with_offset(micros).replace("+00:00", "0Z")


def with_offset(micros: int) -> str:
    """Returns a time such as ``2019-04-29T18:08:32.190000+00:00``; empty for one that is unset."""
    if not micros:
        return ""
    return (_EPOCH + timedelta(microseconds=micros)).isoformat(timespec="microseconds")


def parsed(field: str, text: str) -> int:
    """Returns the microseconds since 1970 UTC of a time in any of these ways.

    Args:
        field: The name of the time's field, for the error.
        text: The time, with at most nine digits after the point and any offset; empty for unset.

    Raises:
        InvalidArgumentError: If the text is no such time.
    """
    if not text:
        return 0
    timestamp = Timestamp()
    try:
        timestamp.FromJsonString(text)
    except ValueError as cause:
        raise InvalidArgumentError(
            f"{field} is {cut(text)!r}; give a time such as 2018-12-25T11:41:02.233141Z",
            metadata={"field": field},
        ) from cause
    return timestamp.ToMicroseconds()
