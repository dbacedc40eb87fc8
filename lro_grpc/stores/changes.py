"""Wakes those who wait for an operation to change."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

from lro_grpc.record import Record
from lro_grpc.stores.store import Store


class Watcher:
    """One who waits. What it holds is always the latest; what came between is not kept."""

    def __init__(self) -> None:
        self._changed: asyncio.Future[None] | None = None
        self._pending = False

    def notify(self) -> None:
        """Tells that the operation has changed."""
        self._pending = True
        if self._changed is not None and not self._changed.done():
            self._changed.set_result(None)

    async def wait(self, timeout: float) -> None:
        """Returns after the next change since the last call, or when the time is over.

        Args:
            timeout: In seconds.
        """
        if not self._pending and timeout > 0:
            loop = asyncio.get_running_loop()
            self._changed = loop.create_future()
            timer = loop.call_later(timeout, self.notify)
            try:
                await self._changed
            finally:
                timer.cancel()
        self._pending = False


class Changes:
    """Watchers by the names of their operations.

    Args:
        store: The store whose changes are told.
    """

    def __init__(self, store: Store) -> None:
        self._watchers: dict[str, set[Watcher]] = {}
        store.subscribe(self._on_change)

    @contextlib.contextmanager
    def watch(self, name: str) -> Iterator[Watcher]:
        """Gives a watcher that sees every change from now on: so read after, not before."""
        watcher = Watcher()
        self._watchers.setdefault(name, set()).add(watcher)
        try:
            yield watcher
        finally:
            self._watchers[name].discard(watcher)
            if not self._watchers[name]:
                del self._watchers[name]

    def wake_all(self) -> None:
        """Wakes every watcher, whatever it waits for."""
        for watchers in self._watchers.values():
            for watcher in watchers:
                watcher.notify()

    def _on_change(self, record: Record) -> None:
        for watcher in self._watchers.get(record.name, ()):
            watcher.notify()
