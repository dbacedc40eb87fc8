"""Submits operations to Temporal, and submits them again as long as none has begun.

Of what this process makes ready it hears at once, and submits it. All else is found by a look at
the store, which is the outbox: what was started while Temporal was away, or by a process that has
died since, and what Temporal has lost. A look leaves alone what was submitted a short time ago, for
it is on its way, and longer each time that it finds it: much may wait there for a worker. After a
submission that fails, nothing is submitted until the next look.

Temporal delivers by itself again an operation that a worker has given back, such as to be retried
later. A delayed start is submitted once it is ready. One that becomes ready in another way may have
a submission there that is of no use: that of an operation which is resumed the moment it has paused
is still ending, and a retry that is cancelled has to be undone before its time. Such a submission
is replaced.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from datetime import timedelta

from temporalio.service import RPCError, RPCStatusCode

from lro_grpc._engine.temporal.connection import Connection
from lro_grpc._engine.workbench import Workbench
from lro_grpc._errors import OperationNotFoundError
from lro_grpc._operation.record import Record
from lro_grpc._runtime.repeated_lines import RepeatedLines

_LEFT_ALONE = 10.0
"""The seconds for which an operation is left alone after its first submission."""

_LONGEST_LEFT_ALONE = 300.0

_MOST_QUEUED = 1000
"""Operations that wait to be submitted."""

_MOST_LOOKED_AT = 2000
"""Operations of a method that a look finds, the oldest; those beyond come when these have begun."""

_AT_ONCE = 32
"""Submissions at a time."""


class Dispatcher:
    """Submits the operations of one server; see the module.

    Args:
        queues: The task queue of each method.
        workbench: Has the store, and the methods.
        lines: Logs what fails.
    """

    def __init__(
        self, queues: Mapping[str, str], workbench: Workbench, lines: RepeatedLines
    ) -> None:
        self._queues = queues
        self._workbench = workbench
        self._lines = lines
        self._connection: Connection | None = None
        self._queue: asyncio.Queue[tuple[str, str, str, bool]] = asyncio.Queue(_MOST_QUEUED)
        """The names, methods and targets of operations to submit; and whether anew."""
        self._queued: set[str] = set()
        """The names in the queue, and of submissions under way."""
        self._submitted: dict[str, tuple[float, float]] = {}
        """Until when each operation is left alone, by the monotonic clock; and for how long."""
        self._is_away = False
        """Whether a submission has failed since the last look."""
        self._look = asyncio.Event()

    def start(self) -> None:
        """Begins to submit, as soon as there is a connection."""
        self._workbench.store.subscribe(self._on_change)
        self._workbench.repeat(self._look_at_store)
        for _ in range(_AT_ONCE):
            self._workbench.repeat(self._submit_one)

    def connected(self, connection: Connection) -> None:
        """Takes the connection."""
        self._connection = connection
        self.look()

    def look(self) -> None:
        """Has the store looked at, for what was not submitted or got lost."""
        self._look.set()

    def _on_change(self, before: Record | None, record: Record) -> None:
        if not record.is_ready or record.method not in self._workbench.handlers:
            return
        is_delivered = before is not None and (
            before.lease_expire_time
            or before.is_ready
            or (before.attempt and before.has_rested(self._workbench.store.now()))
        )
        if not is_delivered:
            self._submitted.pop(record.name, None)
            anew = before is not None
            self._add(record.name, record.method, record.target, anew=anew)

    def _add(self, name: str, method: str, target: str, *, anew: bool) -> None:
        """Has an operation submitted; beyond those that may wait, a later look finds it again."""
        if self._connection is None or self._is_away:
            return
        if name in self._queued or self._queue.full():
            return
        self._queued.add(name)
        self._queue.put_nowait((name, method, target, anew))

    async def _submit_one(self) -> None:
        name, method, target, anew = await self._queue.get()
        assert self._connection is not None
        try:
            if self._is_away:
                return
            await self._connection.submit(
                name,
                method,
                target,
                queue=self._queues[self._workbench.handlers[method].method],
                lease=timedelta(seconds=self._workbench.lease),
                anew=anew,
            )
        except RPCError as error:
            text = f"Temporal has not taken an operation; trying again: {error.message}"
            self._lines.say(logging.WARNING, text)
            self._is_away = error.status is not RPCStatusCode.INVALID_ARGUMENT
            if error.status is not RPCStatusCode.UNAVAILABLE:
                self._leave_alone(name)  # it may have been taken, by a server that is slow
        else:
            self._leave_alone(name)
        finally:
            self._queued.discard(name)

    def _leave_alone(self, name: str) -> None:
        """Leaves an operation alone that was submitted: each time for twice as long."""
        _, pause = self._submitted.get(name, (0.0, _LEFT_ALONE / 2))
        pause = min(2 * pause, _LONGEST_LEFT_ALONE)
        self._submitted[name] = (self._workbench.clock.monotonic() + pause, pause)

    async def _look_at_store(self) -> None:
        await self._look.wait()
        self._look.clear()
        self._is_away = False
        if self._connection is None:
            return
        waiting: dict[str, str] = {}
        for method in self._workbench.handlers:
            found = await self._workbench.store.claimable({method: _MOST_LOOKED_AT})
            waiting.update(dict.fromkeys(found, method))
        now = self._workbench.clock.monotonic()
        self._forget(waiting, now)
        for name, method in waiting.items():
            due, _ = self._submitted.get(name, (0.0, 0.0))
            if due <= now and name not in self._queued and not self._queue.full():
                self._add(name, method, await self._target(name), anew=False)

    def _forget(self, waiting: Mapping[str, str], now: float) -> None:
        """Forgets what has begun, as soon as it need not be left alone any more."""
        self._submitted = {
            name: (due, pause)
            for name, (due, pause) in self._submitted.items()
            if due > now or name in waiting
        }

    async def _target(self, name: str) -> str:
        """Returns an operation's target, if the search attributes have it."""
        if self._connection is None or not self._connection.has_attributes:
            return ""
        try:
            return (await self._workbench.store.read(name)).target
        except OperationNotFoundError:
            return ""
