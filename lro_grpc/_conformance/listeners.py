"""Listeners that note the changes that a store announces."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from lro_grpc._operation.record import Record
from lro_grpc._stores.store import Store

_PATIENCE_SECONDS = 30
"""For what one store tells another, which takes a second at most, however busy the machine is."""


class Announced:
    """The changes that a store has announced to a listener, in order."""

    def __init__(self, store: Store) -> None:
        self.befores: list[Record | None] = []
        self.records: list[Record] = []
        store.subscribe(self._note)

    def _note(self, before: Record | None, after: Record) -> None:
        self.befores.append(before)
        self.records.append(after)

    def clear(self) -> None:
        """Forgets them."""
        self.befores.clear()
        self.records.clear()


class Told:
    """The news that a follower was told, to be awaited."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        self._more = asyncio.Event()

    def __call__(self, value: object) -> None:
        self.values.append(value)
        self._more.set()

    def has(self, record: Record) -> bool:
        """Whether a state was told."""
        return record in self.values

    def has_gone(self) -> bool:
        """Whether it was told that an operation is gone; it may still run, and be hidden."""
        return any(value is None or value.deleted for value in self.values)

    async def until(self, is_so: Callable[[], bool]) -> None:
        """Returns once something is true of what was told."""
        try:
            await asyncio.wait_for(self._wait(is_so), _PATIENCE_SECONDS)
        except asyncio.TimeoutError as cause:
            raise AssertionError(f"it was not told; the last was {self.values[-3:]!r}") from cause

    async def _wait(self, is_so: Callable[[], bool]) -> None:
        while not is_so():
            self._more.clear()
            await self._more.wait()
