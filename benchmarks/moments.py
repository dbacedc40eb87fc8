"""The moments at which a process could not go on, as spans of ``time.monotonic_ns``."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import resource
import time
from collections.abc import Iterator

_LOOK_SECONDS = 0.005

Spans = list[tuple[int, int]]
"""The begin and the end of each."""


class Moments:
    """Notes what holds up a process with an event loop, while its context lasts."""

    def __init__(self) -> None:
        self.spans: dict[str, Spans] = {"gc": [], "loop": []}
        """By their causes: the garbage collector; the loop, that was late for whatever reason."""

    @contextlib.contextmanager
    def noted(self) -> Iterator[None]:
        """Notes them; to be entered on the loop."""
        begin = 0

        def collect(phase: str, info: dict[str, int]) -> None:
            nonlocal begin
            del info
            if phase == "start":
                begin = time.monotonic_ns()
            else:
                self.spans["gc"].append((begin, time.monotonic_ns()))

        before = resource.getrusage(resource.RUSAGE_SELF)
        gc.callbacks.append(collect)
        looking = asyncio.ensure_future(self._look())
        try:
            yield
        finally:
            looking.cancel()
            gc.callbacks.remove(collect)
            after = resource.getrusage(resource.RUSAGE_SELF)
            self.switches = after.ru_nivcsw - before.ru_nivcsw
            """How often it was put off a core although it had more to do."""

    async def _look(self) -> None:
        while True:
            due = time.monotonic_ns() + int(_LOOK_SECONDS * 1e9)
            await asyncio.sleep(_LOOK_SECONDS)
            self.spans["loop"].append((due, max(due, time.monotonic_ns())))


def overlap(spans: Spans, begin: int, end: int) -> int:
    """Returns the nanoseconds from one moment to another that are within spans."""
    return sum(max(0, min(end, last) - max(begin, first)) for first, last in spans)
