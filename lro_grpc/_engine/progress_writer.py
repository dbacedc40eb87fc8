"""Stores the progress of attempts in groups, ten times a second at most."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping

from lro_grpc._engine.attempt import Attempt, write_all
from lro_grpc._stores.store import Store

_PAUSE_SECONDS = 0.1
"""Progress is stored at most this often."""


class ProgressWriter:
    """Stores the latest progress of every attempt that has said something. Made on the event loop.

    Args:
        store: Where the operations are kept.
        attempts: The attempts of this process, by their operations' names.
    """

    def __init__(self, store: Store, attempts: Mapping[str, Attempt]) -> None:
        self._store = store
        self._attempts = attempts
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[Attempt, None] = {}  # in the order in which they spoke
        self._any = asyncio.Event()

    def add(self, attempt: Attempt) -> None:
        """Adds an attempt whose progress is to be stored; from any thread."""
        with contextlib.suppress(RuntimeError):  # the server has stopped; its thread goes on
            self._loop.call_soon_threadsafe(self._add, attempt)

    def _add(self, attempt: Attempt) -> None:
        self._waiting[attempt] = None
        self._any.set()

    async def store(self) -> None:
        """Stores the progress since the last call, once there is some.

        Raises:
            UnavailableError: If the store cannot answer. After this or any other error, it is
                stored later.
        """
        await self._any.wait()
        self._any.clear()
        waiting, self._waiting = self._waiting, {}
        held = [one for one in waiting if self._attempts.get(one.name) is one]
        try:
            await write_all(self._store, held, [one.progress.take() for one in held])
        except Exception:
            for attempt in held:
                attempt.progress.store_again()
            raise
        await asyncio.sleep(_PAUSE_SECONDS)
