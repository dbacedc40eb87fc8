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
        self._made: dict[Hashable, asyncio.Task[ValueT]] = {}

    async def get(self, key: Hashable, make: Callable[[], Awaitable[ValueT]]) -> ValueT:
        """Returns the answer for a key; one who is cancelled meanwhile disturbs no other.

        Args:
            key: What the answer depends on, all of it.
            make: Makes the answer, in a task of its own, which needs a time limit of its own.
        """
        task = self._made.get(key)
        if task is None:
            task = asyncio.ensure_future(_made(make))
            if len(self._made) >= _MOST_KEYS:
                self._made.pop(next(iter(self._made)))
            self._made[key] = task
            task.add_done_callback(lambda done: self._keep(key, done))
        return await asyncio.shield(task)

    def forget(self) -> None:
        """Forgets every answer: who asks from now on gets a new one."""
        self._made.clear()

    def _keep(self, key: Hashable, task: asyncio.Task[ValueT]) -> None:
        if not task.cancelled():
            task.exception()  # it is looked at, though all who asked have gone
        task.get_loop().call_later(self._seconds, self._forget, key, task)

    def _forget(self, key: Hashable, task: asyncio.Task[ValueT]) -> None:
        if self._made.get(key) is task:
            del self._made[key]


async def _made(make: Callable[[], Awaitable[ValueT]]) -> ValueT:
    return await make()
