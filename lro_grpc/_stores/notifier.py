"""Wakes those who wait for an operation to change."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

from lro_grpc._operation.record import Record
from lro_grpc._stores.store import Store

_POLL_SECONDS = 10.0
"""A watcher looks by itself this often, so that no lost notice can keep it for ever (R9)."""


class Watcher:
    """One who waits. It is told that something has changed, not what: so nothing adds up."""

    def __init__(self) -> None:
        self._waker: asyncio.Future[None] | None = None
        self._changed = False
        self._urgent = False

    def notify(self, *, urgent: bool) -> None:
        """Tells that the operation has changed.

        Args:
            urgent: Whether it is not to be kept back.
        """
        self._changed = True
        self._urgent = self._urgent or urgent
        self._wake()

    async def wait(self, timeout: float, *, pause: float = 0.0) -> None:
        """Returns after the next change since the last call, or when it is time to look anyway.

        Args:
            timeout: In seconds.
            pause: For how many seconds a change that is not urgent is kept back.
        """
        loop = asyncio.get_running_loop()
        begin = loop.time() + pause
        end = max(begin, loop.time() + min(timeout, _POLL_SECONDS))
        while not self._urgent and loop.time() < (until := begin if self._changed else end):
            self._waker = loop.create_future()
            timer = loop.call_at(until, self._wake)
            try:
                await self._waker
            finally:
                timer.cancel()
        self._changed = self._urgent = False

    def _wake(self) -> None:
        if self._waker is not None and not self._waker.done():
            self._waker.set_result(None)


class Notifier:
    """Watchers by the names of their operations.

    Args:
        store: The store whose changes are told.
    """

    def __init__(self, store: Store) -> None:
        self.draining = False
        """Whether nobody is to wait any more."""
        self._watchers: dict[str, set[Watcher]] = {}
        store.subscribe(self._on_change)

    @contextlib.contextmanager
    def watch(self, name: str) -> Iterator[Watcher]:
        """Gives a watcher that sees every change from now on: so read after, not before.

        The end of the operation is urgent, and so are its removal and the drain.
        """
        watcher = Watcher()
        self._watchers.setdefault(name, set()).add(watcher)
        try:
            yield watcher
        finally:
            self._watchers[name].discard(watcher)
            if not self._watchers[name]:
                del self._watchers[name]

    def drain(self) -> None:
        """Wakes every watcher, whatever it waits for; nobody is to wait again."""
        self.draining = True
        for watchers in self._watchers.values():
            for watcher in watchers:
                watcher.notify(urgent=True)

    def _on_change(self, _before: Record | None, record: Record) -> None:
        for watcher in self._watchers.get(record.name, ()):
            watcher.notify(urgent=record.done or record.deleted)
