"""The engine that has operations delivered by Temporal; see ``Temporal``, its options.

It has two sides, and a process may have either or both. The dispatcher submits the names of
operations, where they are served. The worker runs what it is given. Neither remembers anything that
the store does not know, and neither needs Temporal to be there: the connection is made in the
background, and what it takes is asked for again and again.

What time brings, such as the end of a lease or a pause, comes to pass in every process, as it does
with any engine: the workbench sees to it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import timedelta

from lro_grpc._engine.engine import WorkbenchEngine
from lro_grpc._engine.temporal.connection import Connection, connect, reason_of
from lro_grpc._engine.temporal.dispatcher import Dispatcher
from lro_grpc._engine.temporal.options import Temporal
from lro_grpc._engine.temporal.worker import Worker
from lro_grpc._engine.workbench import Workbench
from lro_grpc._errors import UnservedError
from lro_grpc._runtime.repeated_lines import RepeatedLines

_log = logging.getLogger("lro_grpc")

_PAUSE = 1.0
"""The seconds between two tries to connect."""

_LAST_SECONDS = 2.0
"""The time in which Temporal may be told of what has ended."""


class TemporalEngine(WorkbenchEngine):
    """Submits the operations of a process, and runs those that it is given.

    Args:
        options: The options.
        workbench: Claims and runs the operations.
        on_unserved: Is called with the error of a claim whose operation no handler here can go on
            with.
        dispatches: Whether it submits operations.
    """

    def __init__(
        self,
        options: Temporal,
        workbench: Workbench,
        on_unserved: Callable[[UnservedError], None],
        *,
        dispatches: bool,
    ) -> None:
        super().__init__(workbench)
        self._options = options
        self._lines = lines = RepeatedLines(_log)
        self._is_polling = False
        self._running: asyncio.Task[None] | None = None
        methods = {handler.method for handler in workbench.handlers.values()}
        queues = {method: options.queue_of(method) for method in methods}
        self._dispatcher = Dispatcher(queues, workbench, lines) if dispatches else None
        self._worker = (
            Worker(options, queues, workbench, on_unserved, lines)
            if options.runs_handlers
            else None
        )

    async def start(self) -> int:
        """Begins to keep the leases and time limits, and to connect.

        Returns:
            How many operations a former process had in its hands.
        """
        # What waits for a worker is Temporal's to tell: no other process need hear of it.
        self._unfollow = self.workbench.store.follow_work(lambda _: True, lambda _: None)
        recovered = await super().start()
        if self._dispatcher is not None:
            self._dispatcher.start()
        self._running = asyncio.create_task(self._run())
        return recovered

    def stop_claiming(self) -> None:
        """Begins no more attempts; those that run go on."""
        if not self.workbench.is_stopping:
            super().stop_claiming()
            if self._worker is not None:
                self._worker.stop_polling()

    async def stop(self, grace: timedelta) -> None:
        """Stops every attempt, and gives back the operations of those that end within the grace.

        Args:
            grace: The time that handlers are given to unwind.
        """
        self._unfollow()
        self.stop_claiming()
        await super().stop(grace)
        if self._running is not None:  # it has started
            if self._worker is not None and self._is_polling:
                self._worker.release()
                await asyncio.wait({self._running}, timeout=_LAST_SECONDS)
                await self._worker.stop()
            self._running.cancel()
            await asyncio.wait({self._running}, timeout=_LAST_SECONDS)
        self._lines.close()

    def look(self) -> None:
        """Has what waits submitted."""
        if self._dispatcher is not None:
            self._dispatcher.look()

    async def _run(self) -> None:
        connection = await self._connected()
        if self._dispatcher is not None:
            self._dispatcher.connected(connection)
        if self._worker is not None:
            self._is_polling = True
            await self._worker.run(connection.patient_client)

    async def _connected(self) -> Connection:
        """Connects, as soon as Temporal is there."""
        while True:
            try:
                return await connect(self._options)
            except Exception as error:  # noqa: BLE001 - whatever it is, operations wait
                text = (
                    f"Temporal cannot be used at {self._options.address}; operations wait in the"
                    f" store, trying again: {reason_of(error)}"
                )
                self._lines.say(logging.WARNING, text)
                await self.workbench.clock.sleep(_PAUSE)
