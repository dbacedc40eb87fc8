"""Drivers of a batch's plan: with a thread, or with a task, for each target that is begun."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import queue
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from lro_grpc._engine.attempt import Attempt
from lro_grpc._engine.batch import Await, Batch, Begin, Ended, Plan, Rest, Step, Wake
from lro_grpc._errors import AttemptStopped, StopReason
from lro_grpc._runtime.interrupts import is_ctrl_c
from lro_grpc._runtime.steps import async_drive, drive
from lro_grpc._runtime.threads import start_thread


def drive_batch(
    plan: Plan,
    batch: Batch,
    attempt: Attempt,
    create: Callable[[str], object],
    delete: Callable[[str], object],
) -> None:
    """Performs the steps of a plan with a thread for each target begun."""
    ended: queue.SimpleQueue[Ended] = queue.SimpleQueue()

    def run(step: Begin) -> None:
        try:
            try:
                returned = (delete if step.undo else create)(step.target)
                _check_ended(returned)
            except Exception as error:  # noqa: BLE001 - the plan decides what it means
                ended.put(Ended(step.target, attempt.failure_from_thread(error)))
            else:
                ended.put(Ended(step.target, None))
        except BaseException as error:  # noqa: BLE001 - likewise
            ended.put(Ended(step.target, error))

    def perform(step: Step) -> Ended | None:
        if isinstance(step, Await):
            return ended.get()
        if isinstance(step, Begin):
            start_thread(step.target, run, step)
        elif isinstance(step, Rest):
            attempt.rest_from_thread(step.seconds, lambda: ended.put(Ended(step.target, None)))
        elif isinstance(step, Wake):
            attempt.loop.call_soon_threadsafe(attempt.wake)
        elif attempt.stop_reason is not StopReason.LEASE_LOST:
            with contextlib.suppress(AttemptStopped):  # lost: the plan sees it, and winds up
                attempt.write_from_thread(batch.saved())
        return None

    drive(plan, perform)


def _check_ended(returned: object) -> None:
    """Refuses a coroutine, in which nothing has happened yet, for an end.

    Raises:
        TypeError: If it is one.
    """
    if inspect.iscoroutine(returned):
        returned.close()
        name = returned.__qualname__
        raise TypeError(f"a coroutine of {name} was returned, which a def has nobody to await")


async def async_drive_batch(
    plan: Plan,
    batch: Batch,
    attempt: Attempt,
    create: Callable[[str], Awaitable[object]],
    delete: Callable[[str], Awaitable[object]],
) -> None:
    """Performs the steps of a plan with a task for each target begun."""
    ended: asyncio.Queue[Ended] = asyncio.Queue()
    tasks: set[asyncio.Task[None]] = set()

    async def run(step: Begin) -> None:
        try:
            try:
                await (delete if step.undo else create)(step.target)
            except Exception as error:  # noqa: BLE001 - the plan decides what it means
                ended.put_nowait(Ended(step.target, await attempt.failure(error)))
            else:
                ended.put_nowait(Ended(step.target, None))
        except BaseException as error:
            if is_ctrl_c(error):
                raise  # it is meant for the program
            ended.put_nowait(Ended(step.target, error))

    async def uninterrupted(waited_for: Coroutine[Any, Any, Any]) -> Any:
        """Awaits to the end; a stop of the attempt is passed on to the targets begun."""
        waiting = asyncio.ensure_future(waited_for)
        while not waiting.done():
            try:
                await asyncio.wait({waiting})
            except asyncio.CancelledError:
                for task in tasks:
                    task.cancel()
                if attempt.stop_reason is None and not attempt.ending.reason:
                    raise  # the loop itself ends
        return waiting.result()

    async def perform(step: Step) -> Ended | None:
        if isinstance(step, Await):
            one: Ended = await uninterrupted(ended.get())
            return one
        if isinstance(step, Begin):
            task = asyncio.create_task(run(step), name=step.target)
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        elif isinstance(step, Rest):
            attempt.rest(step.seconds, lambda: ended.put_nowait(Ended(step.target, None)))
        elif isinstance(step, Wake):
            attempt.wake()
        elif attempt.stop_reason is not StopReason.LEASE_LOST:
            with contextlib.suppress(AttemptStopped):  # lost: the plan sees it, and winds up
                await uninterrupted(attempt.write(batch.saved()))
        return None

    await async_drive(plan, perform)
