"""Wakes the calls that wait for an operation to change.

A subscription learns that its operation has changed, and not what has changed; then its call reads
the store. That is the whole idea, and the rest follows:

* A call reads the latest state, never one that a later change has made old, however slow it is; and
  a slow one costs a flag, for nothing is queued for it.
* A notice may be early, double, or of a change that the call does not show: it costs a read.
* A notice may be lost, as those of other processes may, which the store is asked to follow: so a
  call also reads every ``POLL_SECONDS`` (R9).
* No change comes between the read and the wait: ``watch`` first, then read. A store calls its
  listeners before a read shows the change to be over, so a change after the read wakes the call.

A call may hold changes back, to read less often while an operation reports progress (``pause``), or
not be told of them at all (``ends_only``): thousands of calls that wait for ends then sleep through
all progress. An end is urgent, and wakes every call at once: of the operation, by its outcome or a
delete, or of the server. While nothing is watched, the notifier does not listen to the store.

A call that watches many operations has a :class:`Subscriber` of its own for each, in place of a
subscription; and one that is told of the drain, for it may watch none just then.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Protocol

from lro_grpc._operation.record import Record
from lro_grpc._stores.store import Store

POLL_SECONDS = 10.0
"""The longest time between two reads of a call, whatever notices it gets."""


class Subscriber(Protocol):
    """Is told of changes of one operation. Kept in sets: no two are equal."""

    def notify(self, *, urgent: bool) -> None:
        """Notes that the operation has changed; does not wait, and raises nothing.

        Args:
            urgent: Whether the change is not to be held back.
        """
        ...


class Subscription:
    """The wait of one call for changes of one operation; see the module."""

    def __init__(self) -> None:
        self._waker: asyncio.Future[None] | None = None
        self._changed = False
        self._urgent = False

    def notify(self, *, urgent: bool) -> None:
        """Notes that the operation has changed.

        Args:
            urgent: Whether the change is not to be held back.
        """
        self._changed = True
        self._urgent = self._urgent or urgent
        self._wake()

    async def wait(self, timeout: float, *, pause: float = 0.0) -> None:
        """Returns after the next change since the last call, or when it is time to read anyway.

        Args:
            timeout: In seconds.
            pause: The seconds for which a change that is not urgent is held back.
        """
        loop = asyncio.get_running_loop()
        begin = loop.time() + pause
        end = max(begin, loop.time() + min(timeout, POLL_SECONDS))
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
    """Subscriptions by the names of their operations.

    Args:
        store: The store to listen to.
    """

    def __init__(self, store: Store) -> None:
        self.draining = False
        """Whether the server stops, so that no call is to wait any more."""
        self._store = store
        self._subscribers: dict[tuple[str, bool], set[Subscriber]] = {}
        """By the name of the operation, and whether only its end matters."""
        self._unfollow: dict[str, Callable[[], None]] = {}
        """Functions that end the following of operations that are watched."""
        self._told_of_drain: set[Subscriber] = set()

    @contextlib.contextmanager
    def watch(self, name: str, *, ends_only: bool = False) -> Iterator[Subscription]:
        """Subscribes to an operation: every change from now on wakes it, so read after this.

        Args:
            name: The operation's name.
            ends_only: Whether only an end is to wake it: of the operation, or of the server.
        """
        subscription = Subscription()
        self.subscribe(name, subscription, ends_only=ends_only)
        try:
            yield subscription
        finally:
            self.unsubscribe(name, subscription, ends_only=ends_only)

    def subscribe(self, name: str, subscriber: Subscriber, *, ends_only: bool) -> None:
        """Tells a subscriber of every change from now on, so read after this; see :meth:`watch`."""
        if not self._subscribers:
            self._stop_listening = self._store.subscribe(self._on_change)
        self._subscribers.setdefault((name, ends_only), set()).add(subscriber)
        if name not in self._unfollow:
            self._unfollow[name] = self._store.follow(name, partial(self._on_follow, name))

    def unsubscribe(self, name: str, subscriber: Subscriber, *, ends_only: bool) -> None:
        """Tells a subscriber of nothing more."""
        key = (name, ends_only)
        self._subscribers[key].discard(subscriber)
        if not self._subscribers[key]:
            del self._subscribers[key]
            if (name, not ends_only) not in self._subscribers:
                self._unfollow.pop(name)()
        if not self._subscribers:
            self._stop_listening()

    @contextlib.contextmanager
    def telling_of_drain(self, subscriber: Subscriber) -> Iterator[None]:
        """Tells a subscriber of the drain alone while the context lasts, whatever it watches."""
        self._told_of_drain.add(subscriber)
        try:
            yield
        finally:
            self._told_of_drain.discard(subscriber)

    def drain(self) -> None:
        """Wakes every call at once, and lets none wait again."""
        self.draining = True
        for key in self._subscribers:
            self._notify(key, urgent=True)
        for subscriber in self._told_of_drain:
            subscriber.notify(urgent=True)

    def _on_change(self, _before: Record | None, record: Record) -> None:
        self._changed(record.name, is_end=record.done or record.deleted)

    def _on_follow(self, name: str, record: Record | None) -> None:
        self._changed(name, is_end=record is None or record.done or record.deleted)

    def _changed(self, name: str, *, is_end: bool) -> None:
        self._notify((name, False), urgent=is_end)
        if is_end:
            self._notify((name, True), urgent=True)

    def _notify(self, key: tuple[str, bool], *, urgent: bool) -> None:
        for subscriber in self._subscribers.get(key, ()):
            subscriber.notify(urgent=urgent)
