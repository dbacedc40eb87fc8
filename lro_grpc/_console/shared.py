"""Shares answers among those who ask for the same at once, or shortly after one another."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

ValueT = TypeVar("ValueT")

_MOST_KEYS = 256
"""The most answers that are kept at a time."""


class Shared(Generic[ValueT]):
    """Answers by key, each of them made once for all who ask for it within a time.

    Whoever comes while an answer is being made waits for it, whoever comes soon after gets it, and
    then it is forgotten. An error is shared as any answer is. Used on one event loop.

    Args:
        seconds: How long an answer is kept once it is made.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._made: dict[Hashable, asyncio.Future[ValueT]] = {}

    async def get(self, key: Hashable, make: Callable[[], Awaitable[ValueT]]) -> ValueT:
        """Returns the answer for a key; one who is cancelled meanwhile disturbs no other.

        Args:
            key: What the answer depends on, all of it.
            make: Makes the answer, in a task of its own, which needs a time limit of its own.
        """
        task = self._made.get(key)
        if task is None:
            task = asyncio.ensure_future(_made(make))
            self._add(key, task)
        return await asyncio.shield(task)

    def peek(self, key: Hashable) -> ValueT | None:
        """Returns the answer for a key; None if there is none yet, or any more."""
        task = self._made.get(key)
        if task is None or not task.done() or task.cancelled() or task.exception() is not None:
            return None
        return task.result()

    def put(self, key: Hashable, value: ValueT) -> None:
        """Replaces the answer for a key by a newer one; who waits already gets the older one."""
        task: asyncio.Future[ValueT] = asyncio.get_running_loop().create_future()
        task.set_result(value)
        self._add(key, task)

    def forget(self) -> None:
        """Forgets every answer: who asks from now on gets a new one."""
        self._made.clear()

    def _add(self, key: Hashable, task: asyncio.Future[ValueT]) -> None:
        if key not in self._made and len(self._made) >= _MOST_KEYS:
            self._made.pop(next(iter(self._made)))
        self._made[key] = task
        task.add_done_callback(lambda done: self._keep(key, done))

    def _keep(self, key: Hashable, task: asyncio.Future[ValueT]) -> None:
        if not task.cancelled():
            task.exception()  # it is looked at, though all who asked have gone
        task.get_loop().call_later(self._seconds, self._forget, key, task)

    def _forget(self, key: Hashable, task: asyncio.Future[ValueT]) -> None:
        if self._made.get(key) is task:
            del self._made[key]


async def _made(make: Callable[[], Awaitable[ValueT]]) -> ValueT:
    return await make()
