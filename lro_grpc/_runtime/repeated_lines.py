"""Log lines that may come again and again: the first at once, then one for all of a minute.

What keeps failing is tried again several times a second, and what fails for one operation fails for
hundreds. The first lines say it; a count says that it lasts, and when it has ended.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import dataclasses
import logging
import threading
import time
from collections.abc import Callable, Hashable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lro_grpc._runtime.log import AnyLog

_SECONDS = 60.0

_AT_ONCE = 5
"""Lines of one kind that are logged before they are counted: so that of a few each is there."""

_MOST_KINDS = 1000
"""Kinds that are told apart; of more the count of the oldest is logged, and begins anew."""


@dataclasses.dataclass
class _Burst:
    """The lines of one kind.

    Attributes:
        log: The log of the latest line.
        level: The level of that.
        text: The text of that.
        tag: The tag of that.
        since: When lines were last logged.
        lines: How many of them there are.
        counted: How many there were since.
        is_due: Whether the count comes by itself.
    """

    log: AnyLog
    level: int
    text: str
    tag: str
    since: float
    lines: int = 1
    counted: int = 0
    is_due: bool = False


class RepeatedLines:
    """Logs a line at once, and its repetitions as a count; any thread may call it.

    Args:
        log: The log.
        seconds: The time for which they are counted.
    """

    def __init__(self, log: logging.Logger, seconds: float = _SECONDS) -> None:
        self._log = log
        self._seconds = seconds
        self._bursts: dict[Hashable, _Burst] = {}
        self._lock = threading.Lock()

    def say(
        self,
        level: int,
        text: str,
        *,
        kind: Hashable = None,
        error: BaseException | None = None,
        log: AnyLog | None = None,
        extra: Mapping[str, Any] | None = None,
        stack: str = "",
        tag: str = "",
    ) -> str:
        """Logs a line, or counts it.

        Args:
            level: Its level.
            text: Its text.
            kind: The kind of lines that it is counted with, where their texts differ, as of several
                operations: five of them are logged, and the others counted. Without one, a line
                with the same text is the same line, and is logged once.
            error: The error whose traceback it has.
            log: The log, if it is another one.
            extra: The fields of the line.
            stack: The stack that it has, of another thread, as ``stack_info`` is one's own.
            tag: A text by which the line can be found.

        Returns:
            The tag of the line; of one that is counted, that of the last line that is in the log.
        """
        at_once = 1 if kind is None else _AT_ONCE
        kind = (level, text) if kind is None else kind
        now = _now()
        with self._lock:
            burst = self._bursts.get(kind)
            if burst is not None and now() - burst.since < self._seconds:
                if burst.lines >= at_once:
                    burst.counted += 1
                    is_first, burst.is_due = not burst.is_due, True
                    if is_first:
                        self._expect(kind, burst)
                    return burst.tag
                burst.lines += 1
                burst.log, burst.level, burst.text, burst.tag = log or self._log, level, text, tag
                over = None
            else:
                over = self._bursts.pop(kind, None)
                if len(self._bursts) >= _MOST_KINDS:
                    over = self._bursts.pop(next(iter(self._bursts)))
                self._bursts[kind] = _Burst(log or self._log, level, text, tag, now())
        if over is not None:
            self._sum_up(over, over.counted)
        log = log or self._log
        if stack and log.isEnabledFor(level):
            logger = _logger_of(log)
            fields = {**(extra or {}), **(getattr(log, "extra", None) or {})}
            where = (logger.name, level, __file__, 0)
            logger.handle(logger.makeRecord(*where, "%s", (text,), None, extra=fields, sinfo=stack))
        elif not stack:
            log.log(level, "%s", text, exc_info=error, extra=extra)
        return tag

    def close(self) -> None:
        """Logs the counts that are still to come, and forgets what was said."""
        with self._lock:
            bursts, self._bursts = self._bursts, {}
        for burst in bursts.values():
            self._sum_up(burst, burst.counted, is_last=True)

    def _expect(self, kind: Hashable, burst: _Burst) -> None:
        """Has the count logged when its time is over: by the loop, or in a thread without one."""
        left = max(0.0, burst.since + self._seconds - _now()())
        try:
            asyncio.get_running_loop().call_later(left, self._over, kind, burst)
        except RuntimeError:
            timer = threading.Timer(left, self._over, [kind, burst])
            timer.daemon = True
            with contextlib.suppress(RuntimeError):  # for want of a thread: the next line tells
                timer.start()

    def _over(self, kind: Hashable, burst: _Burst) -> None:
        with self._lock:
            if self._bursts.get(kind) is not burst:
                return
            counted, burst.counted = burst.counted, 0
            burst.since, burst.is_due = _now()(), False
        self._sum_up(burst, counted)

    def _sum_up(self, burst: _Burst, counted: int, *, is_last: bool = False) -> None:
        if not counted:
            return
        often = f"{counted} time{'s' * (counted > 1)} more" + (
            "" if is_last else f" in {self._seconds:.0f} s"
        )
        log = _logger_of(burst.log)  # the line is of many operations
        log.log(burst.level, "%s (%s)", burst.text, often, extra={"repeated": counted})


def _logger_of(log: AnyLog) -> logging.Logger:
    return log if isinstance(log, logging.Logger) else log.logger


def _now() -> Callable[[], float]:
    """Returns the clock of the event loop, by which its timers go, or of the thread."""
    try:
        return asyncio.get_running_loop().time
    except RuntimeError:
        return time.monotonic


PROCESS = RepeatedLines(logging.getLogger("lro_grpc"))
"""The lines of what has no log of its own. The start of an engine has them told anew."""

atexit.register(PROCESS.close)
