"""Runs what Temporal delivers: claims each operation by its name, and waits for its attempt.

An activity has the type of the operation's method and is given its name. It never fails an
operation: if an attempt cannot begin or has not brought the end, the activity is tried again, at
the time that the store says. It completes when the operation needs no worker: it is done, gone, or
paused, to be submitted again when it is resumed.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta

from temporalio import activity, worker
from temporalio.client import Client
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory

from lro_grpc._engine.handler import Handler
from lro_grpc._engine.temporal.options import Temporal
from lro_grpc._engine.temporal.workflow import OperationWorkflow
from lro_grpc._engine.workbench import Workbench
from lro_grpc._errors import (
    LroError,
    OperationNotFoundError,
    StaleAttemptError,
    UnavailableError,
    UnservedError,
)
from lro_grpc._operation.record import Record
from lro_grpc._operation.states import JOB
from lro_grpc._runtime.clock import seconds
from lro_grpc._runtime.repeated_lines import RepeatedLines

_SOON = 1.0
"""The seconds after which an operation is tried again that could not be claimed for now."""

_LATER = 15.0
"""The same of one that has to wait for another release, or cannot be read."""

_LEAST_PAUSE = 0.01
"""A pause of nothing would be the retry policy's."""

_BUILD = "lro-grpc"
"""Temporal would make one of the code of all modules, for which the event loop stands still."""

_UNTIL_STOPPED = timedelta(days=365)
"""The grace of Temporal's worker; that of the handlers is the engine's to keep."""


class Worker:
    """Runs the handlers of one process; see the module.

    Args:
        options: The options.
        queues: The task queue of each method.
        workbench: Claims and runs the operations.
        on_unserved: Is called with the error of a claim whose operation no handler here can go on
            with.
        lines: Logs what fails.
    """

    def __init__(
        self,
        options: Temporal,
        queues: Mapping[str, str],
        workbench: Workbench,
        on_unserved: Callable[[UnservedError], None],
        lines: RepeatedLines,
    ) -> None:
        self._options = options
        self._queues = queues
        self._workbench = workbench
        self._on_unserved = on_unserved
        self._lines = lines
        self._handlers = {one.method: one for one in workbench.handlers.values()}
        self._free = {method: one.slots for method, one in self._handlers.items()}
        """The slots of each method that no attempt has."""
        self._ends: set[asyncio.Future[Record | None]] = set()
        """The ends of attempts that activities wait for."""
        self._workers: dict[str, worker.Worker] = {}
        """Temporal's workers, by their task queues."""
        self._shutdowns: list[asyncio.Task[None]] = []

    async def run(self, client: Client) -> None:
        """Works on all task queues until it is stopped."""
        queues: dict[str, list[Handler]] = defaultdict(list)
        for method, handler in self._handlers.items():
            queues[self._queues[method]].append(handler)
        await asyncio.gather(*(self._work(client, *queue) for queue in queues.items()))

    async def _work(self, client: Client, queue: str, handlers: list[Handler]) -> None:
        """Works on one task queue, whatever ends Temporal's worker."""
        clock = self._workbench.clock
        while not self._workbench.is_stopping:
            try:
                self._workers[queue] = worker.Worker(
                    client,
                    task_queue=queue,
                    activities=[self._activity(name, of) for of in handlers for name in of.names],
                    workflows=[OperationWorkflow],
                    max_concurrent_activities=sum(one.slots for one in handlers),
                    max_task_queue_activities_per_second=(
                        self._options.max_task_queue_activities_per_second
                    ),
                    build_id=_BUILD,
                    graceful_shutdown_timeout=_UNTIL_STOPPED,
                )
                await self._workers[queue].run()
            except Exception as error:  # noqa: BLE001 - whatever it is, operations wait
                text = f"Temporal gives no work of {queue!r}; trying again: {error}"
                self._lines.say(logging.WARNING, text)
                await clock.sleep(_SOON)
            finally:
                self._workers.pop(queue, None)

    def stop_polling(self) -> None:
        """Takes no more operations; the activities of those that run go on."""
        shutdowns = [asyncio.create_task(one.shutdown()) for one in self._workers.values()]
        self._shutdowns.extend(shutdowns)

    def release(self) -> None:
        """Ends the activities whose attempts have not ended, after the workbench has stopped."""
        for ended in self._ends:
            if not ended.done():
                ended.set_result(None)

    async def stop(self) -> None:
        """Waits no longer for Temporal's workers to have shut down."""
        for task in self._shutdowns:
            task.cancel()
        await asyncio.gather(*self._shutdowns, return_exceptions=True)

    def _activity(self, name: str, handler: Handler) -> Callable[[str], Awaitable[str]]:
        """Returns the activity of a method, under its own name or a former one."""

        async def run(operation: str) -> str:
            return await self._run(handler.method, operation)

        return activity.defn(name=name)(run)

    async def _run(self, method: str, name: str) -> str:
        """Claims an operation and waits for the end of its attempt; returns its state then."""
        if self._workbench.is_stopping:
            raise _again("this worker is stopping")
        if self._free[method] <= 0:  # methods that share a queue share its slots
            raise _again("all slots of this worker are taken", _SOON)
        ended: asyncio.Future[Record | None] = asyncio.get_running_loop().create_future()
        self._ends.add(ended)
        try:
            # Temporal may cancel the activity, but no claim that is under way: it may be stored.
            answer = await asyncio.shield(asyncio.ensure_future(self._claim(method, name, ended)))
            if not (isinstance(answer, Record) and answer.lease_expire_time):
                return await self._refused(name, answer)
            pause = self._workbench.lease / 3
            while not (await asyncio.wait({ended}, timeout=pause))[0]:
                activity.heartbeat()
        except asyncio.CancelledError:
            if activity.is_cancelled():  # such as after an outage of Temporal
                raise _again(
                    "Temporal has taken the operation for lost; its attempt goes on"
                ) from None
            raise
        finally:
            self._ends.discard(ended)
        record = ended.result()
        if record is None:
            raise _again("the attempt has lost the operation", _SOON)
        return self._state(record)

    async def _claim(
        self, method: str, name: str, ended: asyncio.Future[Record | None]
    ) -> Record | LroError:
        """Claims an operation; the slot that it takes is free again after its attempt."""

        def on_end(record: Record | None) -> None:
            self._free[method] += 1
            if not ended.done():
                ended.set_result(record)

        self._free[method] -= 1
        try:
            (answer,) = await self._workbench.claim([name], on_end)
        except LroError as error:
            answer = error
        except BaseException:
            self._free[method] += 1
            raise
        if not (isinstance(answer, Record) and answer.lease_expire_time):
            self._free[method] += 1
        return answer

    async def _refused(self, name: str, answer: Record | LroError) -> str:
        """Returns the state of an operation that needs no attempt, or has it tried again."""
        try:
            if isinstance(answer, StaleAttemptError):
                answer = await self._workbench.store.read(name)
        except LroError as error:
            answer = error
        if isinstance(answer, Record):
            return self._state(answer)
        if isinstance(answer, OperationNotFoundError):
            return "GONE"
        if isinstance(answer, UnservedError):
            self._on_unserved(answer)
        elif not isinstance(answer, UnavailableError):
            text = f"{name} cannot be claimed: {answer}"
            self._lines.say(logging.ERROR, text, kind=("claim", type(answer)))
        raise _again(answer.message, _SOON if isinstance(answer, UnavailableError) else _LATER)

    def _state(self, record: Record) -> str:
        """Returns the state of an operation without work to do, or has it tried when there is."""
        left = seconds(record.lease_expire_time - self._workbench.store.now())
        if record.lease_expire_time:
            raise _again("another attempt has the operation", max(left, _SOON))
        if record.claimable:
            rest = seconds(record.scheduled_time - self._workbench.store.now())
            raise _again("the operation waits for its next attempt", rest)
        return JOB.spoken(record.state)


def _again(why: str, pause: float = 0) -> ApplicationError:
    """Returns the error after which Temporal tries an activity again; it is no failure."""
    return ApplicationError(
        why,
        type="LroAgain",
        next_retry_delay=timedelta(seconds=max(pause, _LEAST_PAUSE)),
        category=ApplicationErrorCategory.BENIGN,
    )
