"""Keeps the latest progress of one attempt, until it is stored.

A handler speaks from its own thread, as often as it likes, and never waits for the store. So only
the latest of everything is kept here, and the engine is woken once for it; it takes a report when
it next writes. A report has all that was said so far, be it stored or not: the next one makes good
a write that was lost, and the outcome brings everything along.
"""

from __future__ import annotations

import dataclasses
import math
import threading
from collections.abc import Callable
from numbers import Number
from typing import Any

from google.protobuf.message import Message

from lro_grpc._operation.events import Report
from lro_grpc._operation.metadata import message_class
from lro_grpc._operation.record import Record
from lro_grpc._runtime.clock import Clock


class Progress:
    """The latest progress of one attempt. May be used from any thread.

    Args:
        record: The record right after the claim.
        clock: Measures the time without progress.
        on_news: Is called, from the handler's thread, when there is something to store again.
        check_size: Raises if a report would make the operation larger than may be stored.
    """

    def __init__(
        self,
        record: Record,
        clock: Clock,
        on_news: Callable[[], None],
        check_size: Callable[[Report], None],
    ) -> None:
        self._record = record
        self._clock = clock
        self._on_news = on_news
        self._check_size = check_size
        self._lock = threading.Lock()
        self._metadata: Message | None = None
        self._latest = Report(record.attempt, create_time=record.create_time)
        self._has_news = False
        self._said: tuple[float, float] | None = None
        """The least percentage that was said, but for 0, and the greatest."""
        self._touched_at = clock.monotonic()
        self.rests_until = 0.0
        """Until when the handler makes none on purpose, by the clock's ``monotonic``."""

    @property
    def metadata(self) -> Any:
        """The handler's own metadata message; starts as the attempt before has left it."""
        if self._metadata is None:
            kind = message_class(self._record.metadata_type)  # a later release may declare another
            self._metadata = kind.FromString(self._record.handler_metadata)
        return self._metadata

    @property
    def has_partial_failures(self) -> bool:
        """Whether the handler's metadata has partial failures."""
        touched = self._metadata is not None or self._record.handler_metadata
        return bool(touched and getattr(self.metadata, "partial_failures", ()))

    @property
    def looks_like_fractions(self) -> bool:
        """Whether the handler seems to take 1 for the whole: it has said 0.5, and never 1.5."""
        return self._said is not None and self._said[0] < 1 and self._said[1] <= 1

    def say(self, percent: float | None, detail: str | None) -> None:
        """Keeps the latest progress, to be stored soon.

        Raises:
            TypeError: If the detail is no text, or the percentage no number.
            ValueError: If they cannot be stored: not a finite number, not Unicode.
            OperationTooLargeError: If they, or the metadata, are too large; nothing has changed.
        """
        if detail is not None:
            if not isinstance(detail, str):
                raise TypeError(f"the detail is {detail!r}; give a text")
            detail.encode()
        if percent is not None:
            if not isinstance(percent, Number):
                raise TypeError(f"the percentage is {percent!r}; give a number")
            if not math.isfinite(percent):
                raise ValueError(f"the percentage is {percent!r}; give a finite number")
        self.touch()
        with self._lock:
            former = self._latest
            latest = Report(
                former.attempt,
                former.progress_percent if percent is None else max(0, min(100, int(percent))),
                former.status_detail if detail is None else detail,
                self._metadata.SerializeToString() if self._metadata is not None else None,
                former.create_time,
            )
            self._check_size(latest)
            self._latest = latest
            if percent is not None and percent > 0:
                least, most = self._said or (percent, percent)
                self._said = min(least, percent), max(most, percent)
        self.store_again()

    @property
    def last_time(self) -> float:
        """When progress was last made, by the clock's ``monotonic``; a pause is no lack of it."""
        return max(self._touched_at, self.rests_until)

    def touch(self) -> None:
        """Notes that the handler has made progress."""
        self._touched_at = self._clock.monotonic()

    def store_again(self) -> None:
        """Lets the latest progress be stored soon, though it may have been before."""
        with self._lock:
            had_news, self._has_news = self._has_news, True
        if not had_news:
            self._on_news()

    def end(self) -> None:
        """Stores nothing that a handler says from now on: its attempt is over.

        Nothing here refers to the attempt any more, either: so both are freed at once, and not by
        Python's search for cycles, which takes longer than all else that ends an attempt.
        """
        self._on_news = self._check_size = _nothing

    def stored(self, report: Report) -> None:
        """Notes that a report was stored: if there is a later one, it has to be stored again."""
        if report is not self._latest:
            self.store_again()

    def take(self, *, final: bool = False) -> Report:
        """Returns the latest of everything that the handler has said, be it stored or not.

        Args:
            final: Whether the handler is through, so that its metadata may be read.
        """
        with self._lock:
            self._has_news = False
            if final and self._metadata is not None:
                handler_metadata = self._metadata.SerializeToString()
                self._latest = dataclasses.replace(self._latest, handler_metadata=handler_metadata)
            return self._latest


def _nothing(*_: object) -> None:
    pass
