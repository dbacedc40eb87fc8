"""What handlers say of their progress, on its way to the store."""

from __future__ import annotations

import asyncio
import contextlib

from lro_grpc._engine.attempt import Attempt
from lro_grpc._engine.leases import Attempts
from lro_grpc._errors import UnavailableError

_PAUSE_SECONDS = 0.1
"""Progress is stored at most this often."""


class Reports:
    """Stores what attempts have to report, many at a time. Made on the event loop.

    Args:
        attempts: The attempts that hold their operations.
    """

    def __init__(self, attempts: Attempts) -> None:
        self._attempts = attempts
        self._loop = asyncio.get_running_loop()
        self._told: dict[Attempt, None] = {}  # in the order in which they spoke
        self._any = asyncio.Event()

    def note(self, attempt: Attempt) -> None:
        """Notes that an attempt has something to report; from any thread."""
        with contextlib.suppress(RuntimeError):  # the server has stopped; its thread goes on
            self._loop.call_soon_threadsafe(self._note, attempt)

    def _note(self, attempt: Attempt) -> None:
        self._told[attempt] = None
        self._any.set()

    async def store(self) -> None:
        """Stores what was said since the last call, once there is something.

        Raises:
            UnavailableError: If the store cannot answer; it is stored later.
        """
        await self._any.wait()
        self._any.clear()
        told, self._told = self._told, {}
        held = [one for one in told if one in self._attempts]
        try:
            await self._attempts.tell(held, [one.take_report() for one in held])
        except UnavailableError:
            for attempt in held:
                attempt.report_again()
            raise
        await asyncio.sleep(_PAUSE_SECONDS)
