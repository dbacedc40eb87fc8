"""Lines of the log that would be repeated: one at once, then counts."""

from __future__ import annotations

import asyncio
import logging

import pytest

from lro_grpc._runtime.repeated_lines import RepeatedLines

log = logging.getLogger("test.repeated")


def lines_of(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    return [(one.levelname, one.getMessage()) for one in caplog.records]


def test_the_first_line_comes_at_once_and_the_others_as_counts(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        lines = RepeatedLines(log, seconds=0.01)
        for _ in range(205):
            lines.say(logging.WARNING, "the disk is full")
        assert lines_of(caplog) == [("WARNING", "the disk is full")]
        lines.say(logging.WARNING, "another thing")
        while len(caplog.records) < 3:  # noqa: ASYNC110 - a line of a log wakes nobody
            await asyncio.sleep(0)
        lines.say(logging.WARNING, "the disk is full")
        while len(caplog.records) < 4:  # noqa: ASYNC110 - likewise
            await asyncio.sleep(0)

    asyncio.run(main())
    assert lines_of(caplog) == [
        ("WARNING", "the disk is full"),
        ("WARNING", "another thing"),
        ("WARNING", "the disk is full (204 times more in 0 s)"),
        ("WARNING", "the disk is full (1 time more in 0 s)"),
    ]


def test_a_line_that_has_been_quiet_comes_at_once_again(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        lines = RepeatedLines(log, seconds=0)
        lines.say(logging.ERROR, "gone", error=ValueError("why"))
        for _ in range(3):  # turns of the loop, in the first of which its time is over
            await asyncio.sleep(0)
        lines.say(logging.ERROR, "gone")

    asyncio.run(main())
    assert lines_of(caplog) == [("ERROR", "gone")] * 2
    assert "ValueError: why" in caplog.text


def test_at_the_end_the_count_comes_before_its_time(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        lines = RepeatedLines(log, seconds=0)
        for text in ("gone", "gone", "another thing", "gone"):
            lines.say(logging.WARNING, text)
        lines.close()
        for _ in range(3):  # turns of the loop, in which its time would be over
            await asyncio.sleep(0)

    asyncio.run(main())
    assert [text for _, text in lines_of(caplog)] == [
        "gone",
        "another thing",
        "gone (2 times more)",
    ]
