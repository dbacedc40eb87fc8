"""The log of Temporal's SDK, which is written in Rust: sent to Python's log, a few lines at a time.

The SDK would write it to stderr by itself, in colours, two lines or so a second while Temporal is
away. A program that has made a runtime of its own, with telemetry as it wants it, keeps that.
"""

from __future__ import annotations

import contextlib
import functools
import logging

from temporalio.runtime import (
    LogForwardingConfig,
    LoggingConfig,
    Runtime,
    TelemetryConfig,
    TelemetryFilter,
)

from lro_grpc._runtime.repeated_lines import PROCESS
from lro_grpc._wire.plain_text import one_line

_NAME = "temporalio"


class _CoreLog(logging.Logger):
    """Takes the lines of the SDK, and passes them on to the logger of its name."""

    def __init__(self) -> None:
        super().__init__(_NAME)
        self._passed_to = logging.getLogger(_NAME)

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802 - the name is logging's
        """Tells whether lines of a level are logged."""
        return self._passed_to.isEnabledFor(level)

    def handle(self, record: logging.LogRecord) -> None:
        """Logs a line, or counts it: those of one part of the SDK are alike."""
        kind = (record.name, record.levelno)
        text = one_line(record.getMessage())
        PROCESS.say(record.levelno, text, kind=kind, log=self._passed_to)


@functools.cache  # a runtime has threads, and a process needs one
def send_to_python() -> None:
    """Has the SDK log to Python, unless the program has made its runtime already."""
    levels = TelemetryFilter(core_level="WARN", other_level="ERROR")
    lines = LoggingConfig(levels, forwarding=LogForwardingConfig(_CoreLog()))
    with contextlib.suppress(RuntimeError):  # there is one
        Runtime.set_default(Runtime(telemetry=TelemetryConfig(logging=lines)))
