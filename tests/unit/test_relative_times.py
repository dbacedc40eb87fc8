"""``now-1h`` in the filter of a command is the time that it was an hour ago."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest

from lro_grpc import InvalidFilterError
from lro_grpc._filtering.parser import parse
from lro_grpc._filtering.relative_times import expanded

NOW = datetime(2026, 5, 3, 8, 0, 0, 250_000, timezone.utc)


@pytest.mark.parametrize(
    ("written", "sent"),
    [
        ("create_time > now-1h", 'create_time > "2026-05-03T07:00:00.250000Z"'),
        ("create_time>now-90s", 'create_time>"2026-05-03T07:58:30.250000Z"'),
        ("(end_time<now-30m)", '(end_time<"2026-05-03T07:30:00.250000Z")'),
        ("end_time < now-2d done=true", 'end_time < "2026-05-01T08:00:00.250000Z" done=true'),
        ("expire_time < now+1d", 'expire_time < "2026-05-04T08:00:00.250000Z"'),
        ("start_time:now-0s", 'start_time:"2026-05-03T08:00:00.250000Z"'),
        ('verb="a\\"b" end_time>now-0s', 'verb="a\\"b" end_time>"2026-05-03T08:00:00.250000Z"'),
        (
            "update_time = (now-1s OR now-2s)",
            'update_time = ("2026-05-03T07:59:59.250000Z" OR "2026-05-03T07:59:58.250000Z")',
        ),
    ],
)
def test_it_becomes_a_time(written: str, sent: str) -> None:
    assert expanded(written, NOW) == sent
    parse(sent)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "verb = now",
        'target = "now-1h"',
        "target = 'a now-1h'",
        r'target = "\" now-1h"',
        'target = "now-1h',
        "target = projects/now-1h",
        "now-1hour",
        "create_time > now-1w",
        "create_time > now-h",
        "create_time > now-1.5h",
        "create_time > Now-1h",
        "know-1h",
        "now-1h.x",
        "create_time > now-1234567890s",
    ],
)
def test_all_else_is_left_to_the_server(text: str) -> None:
    assert expanded(text, NOW) == text


@pytest.mark.parametrize("text", ["create_time > now-999999999d", "create_time < now+9999999d"])
def test_a_time_beyond_all_times_is_refused(text: str) -> None:
    with pytest.raises(InvalidFilterError, match="is not within the years 1 to 9999"):
        expanded(text, NOW)
