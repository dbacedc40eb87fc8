"""Log lines that may come again and again: the first at once, then one for all of a minute.

What keeps failing is tried again several times a second, with the same words. The first line says
it; a count says that it lasts.
"""

from __future__ import annotations

import asyncio
import logging

_SECONDS = 60.0


class RepeatedLines:
    """Logs a line at once, and its repetitions as a count; on one event loop.

    Args:
        log: The log.
        seconds: The time for which they are counted.
    """

    def __init__(self, log: logging.Logger, seconds: float = _SECONDS) -> None:
        self._log = log
        self._seconds = seconds
        self._counts: dict[tuple[int, str], int] = {}
        """The repetitions of each line, by its level and text, since it was last logged."""

    def say(self, level: int, text: str, *, error: BaseException | None = None) -> None:
        """Logs a line, or counts it.

        Args:
            level: Its level.
            text: Its text; two lines are the same by that.
            error: The error whose traceback it has.
        """
        line = (level, text)
        if line in self._counts:
            self._counts[line] += 1
            return
        self._log.log(level, "%s", text, exc_info=error)
        self._count(line)

    def close(self) -> None:
        """Logs the counts that are still to come: the loop may end before their time is over."""
        counts, self._counts = self._counts, {}
        for (level, text), times in counts.items():
            if times:
                self._log.log(level, "%s (%s)", text, _often(times))

    def _count(self, line: tuple[int, str]) -> None:
        self._counts[line] = 0
        asyncio.get_running_loop().call_later(self._seconds, self._sum_up, line)

    def _sum_up(self, line: tuple[int, str]) -> None:
        level, text = line
        times = self._counts.pop(line, 0)
        if times:
            self._log.log(level, "%s (%s in %.0f s)", text, _often(times), self._seconds)
            self._count(line)


def _often(times: int) -> str:
    return f"{times} time{'s' * (times > 1)} more"
