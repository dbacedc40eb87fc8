"""Delays that a refusal asks for, in headers of any form."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from google.rpc import error_details_pb2

from lro_grpc._errors import Code, LroError
from lro_grpc._wire.retry_delays import add_retry_info

NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)


def delay(*headers: tuple[str, Any], now: datetime | None = NOW, details: Any = ()) -> Any:
    error = LroError("busy", code=Code.UNAVAILABLE, details=details)
    add_retry_info(error, headers, now=now)
    found = [one.retry_delay.ToTimedelta() for one in error.details]
    assert len(found) <= 1
    return found[0] if found else None


@pytest.mark.parametrize(
    ("name", "value", "seconds"),
    [
        ("retry-after", "7", 7),
        ("Retry-After", " 7 ", 7),
        ("retry-after", "Thu, 01 Jan 2026 00:00:30 GMT", 30),
        ("grpc-retry-pushback-ms", "1500", 1.5),
        ("retry-after", "9" * 5000, 999_999_999),
        ("retry-after", "0", 0),
        ("retry-after", "Thu, 01 Jan 1970 00:00:30 GMT", 0),
        ("grpc-retry-pushback-ms", "0", 0),
    ],
)
def test_a_header_becomes_a_detail(name: str, value: str, seconds: float) -> None:
    assert delay(("other", "1"), (name, value)) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "value", ["", "-1", "1.5", "soon", "Thu, 01 Jan 1970 00:00:30", b"7", "²", None]
)
@pytest.mark.parametrize("name", ["retry-after", "grpc-retry-pushback-ms"])
def test_a_header_that_says_no_time_adds_nothing(name: str, value: Any) -> None:
    assert delay((name, value)) is None


def test_a_date_says_nothing_to_one_who_does_not_know_the_time() -> None:
    assert delay(("retry-after", "Thu, 01 Jan 2026 00:00:30 GMT"), now=None) is None


def test_the_detail_of_the_error_comes_first() -> None:
    info = error_details_pb2.RetryInfo()
    info.retry_delay.seconds = 3
    assert delay(("retry-after", "7"), details=[info]) == timedelta(seconds=3)
