"""Lines of the log that would be repeated: the first at once, then counts."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import threading
from typing import Any

import pytest

from lro_grpc._errors import ConfigurationError
from lro_grpc._runtime import repeated_lines
from lro_grpc._runtime.public_error import status_of
from lro_grpc._runtime.repeated_lines import PROCESS, RepeatedLines

log = logging.getLogger("test.repeated")


def lines_of(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    return [(one.levelname, one.getMessage()) for one in caplog.records]


def test_the_first_line_comes_at_once_and_the_others_as_counts(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        lines = RepeatedLines(log, seconds=0.2)
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
    assert [getattr(one, "repeated", None) for one in caplog.records] == [None, None, 204, 1]


def test_of_several_texts_of_a_kind_five_are_logged_and_the_others_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    lines = RepeatedLines(log)
    tags = [
        lines.say(logging.ERROR, f"{number} has failed", kind="failed", tag=f"tag {number}")
        for number in range(300)
    ]
    lines.say(logging.ERROR, "something else")
    lines.close()
    texts = [text for _, text in lines_of(caplog)]
    assert texts == [
        *(f"{number} has failed" for number in range(5)),
        "something else",
        "4 has failed (295 times more)",
    ]
    assert tags == [f"tag {min(number, 4)}" for number in range(300)]


def test_in_a_thread_the_count_comes_as_well(caplog: pytest.LogCaptureFixture) -> None:
    lines = RepeatedLines(log, seconds=0.2)
    is_told = threading.Event()

    class Told(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if hasattr(record, "repeated"):
                is_told.set()

    handler = Told()
    logging.getLogger().addHandler(handler)  # behind that of caplog, which has the line by then
    try:
        threads = [
            threading.Thread(target=lines.say, args=(logging.WARNING, "gone")) for _ in range(20)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert is_told.wait(30)
    finally:
        logging.getLogger().removeHandler(handler)
    lines.close()
    first, *counts = lines_of(caplog)
    assert first == ("WARNING", "gone")
    assert sum(getattr(one, "repeated", 0) for one in caplog.records) == 19
    assert all("gone (" in text for _, text in counts)


def test_a_line_that_has_been_quiet_comes_at_once_again(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr(repeated_lines, "_now", lambda: lambda: now)
    lines = RepeatedLines(log)
    lines.say(logging.ERROR, "gone", error=ValueError("why"))
    now = 60.0
    lines.say(logging.ERROR, "gone")
    assert lines_of(caplog) == [("ERROR", "gone")] * 2
    assert "ValueError: why" in caplog.text


def test_a_count_whose_loop_has_ended_comes_with_the_next_line(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr(repeated_lines, "_now", lambda: lambda: now)
    lines = RepeatedLines(log)

    async def main() -> None:
        lines.say(logging.ERROR, "gone")
        lines.say(logging.ERROR, "gone")

    asyncio.run(main())
    now = 61.0
    lines.say(logging.ERROR, "gone")
    texts = [text for _, text in lines_of(caplog)]
    assert texts == ["gone", "gone (1 time more in 60 s)", "gone"]


def test_at_the_end_the_count_comes_before_its_time(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        lines = RepeatedLines(log)
        for text in ("gone", "gone", "another thing", "gone"):
            lines.say(logging.WARNING, text)
        lines.close()

    asyncio.run(main())
    assert [text for _, text in lines_of(caplog)] == [
        "gone",
        "another thing",
        "gone (2 times more)",
    ]


def test_the_kinds_that_are_told_apart_have_a_bound(caplog: pytest.LogCaptureFixture) -> None:
    lines = RepeatedLines(log)
    for number in range(2500):
        lines.say(logging.WARNING, f"line {number}")
        lines.say(logging.WARNING, f"line {number}")
    lines.close()
    assert len(caplog.records) == 5000
    assert sum(getattr(one, "repeated", 0) for one in caplog.records) == 2500


@pytest.fixture
def told_anew() -> Any:
    PROCESS.close()
    yield
    PROCESS.close()


def raised(number: int) -> Exception:
    with pytest.raises(ValueError, match=str(number)) as raised:
        int(f"{number} is none")
    return raised.value


@pytest.mark.usefixtures("told_anew")
def test_every_caller_has_an_incident_that_the_log_has(caplog: pytest.LogCaptureFixture) -> None:
    statuses = [status_of(raised(n), f"operations/{n}", domain="d") for n in range(200)]
    logged = {getattr(one, "incident", "") for one in caplog.records}
    assert len(caplog.records) == 5
    for status in statuses:
        assert status.message.rpartition(" ")[2] in logged
    PROCESS.close()
    assert caplog.records[-1].getMessage().endswith(" (195 times more)")


@pytest.mark.usefixtures("told_anew")
def test_what_is_raised_elsewhere_is_another_kind(caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(50):
        status_of(raised(1), "here", domain="d")
    status_of(KeyError("other"), "there", domain="d")
    assert "there raised unexpectedly" in caplog.records[-1].getMessage()


@pytest.mark.usefixtures("told_anew")
def test_a_misconfiguration_is_said_a_few_times(caplog: pytest.LogCaptureFixture) -> None:
    for number in range(100):
        status_of(ConfigurationError("authorize returned None"), f"m{number}", domain="d")
    assert len(caplog.records) == 5


AT_EXIT = """
import logging
from lro_grpc._runtime.repeated_lines import PROCESS

logging.basicConfig()
for _ in range(9):
    PROCESS.say(logging.WARNING, "gone")
"""


def test_the_count_is_told_when_the_process_ends() -> None:
    done = subprocess.run([sys.executable, "-c", AT_EXIT], capture_output=True, text=True)
    assert done.stderr == "WARNING:lro_grpc:gone\nWARNING:lro_grpc:gone (8 times more)\n"


def test_a_line_with_the_stack_of_another_thread_is_counted_as_well(
    caplog: pytest.LogCaptureFixture,
) -> None:
    lines = RepeatedLines(log)
    for number in range(7):
        fields = {"operation": "it"}
        lines.say(logging.WARNING, f"stands {number}", kind="x", extra=fields, stack="a\nb")
    lines.close()
    assert [one.stack_info for one in caplog.records] == [*["a\nb"] * 5, None]
    assert vars(caplog.records[0])["operation"] == "it"
