"""Batches: several targets created as one operation, all or nothing.

The plan is one generator of steps, and knows neither threads nor tasks; two drivers carry it out.
Each change of a target's state is stored before what follows from it begins, so that an attempt
can go on where a former one was lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Awaitable, Callable, Coroutine, Generator, Sequence
from dataclasses import dataclass
from typing import Any

from google.rpc import status_pb2

from lro.v1 import batch_create_instances_pb2
from lro_grpc.engine.attempt import Attempt
from lro_grpc.engine.failure import as_lro_error
from lro_grpc.errors import (
    AttemptStopped,
    Code,
    LroError,
    StopReason,
    from_status,
    to_status,
)
from lro_grpc.lifecycle import BATCH_INSTANCE
from lro_grpc.record import SaveBatch, cancelled_status

_Status = batch_create_instances_pb2.BatchCreateInstanceStatus


@dataclass(frozen=True, slots=True)
class Save:
    """Store the states as they are now."""


@dataclass(frozen=True, slots=True)
class Begin:
    """Begin to create or to delete a target, and go on."""

    target: str
    undo: bool


@dataclass(frozen=True, slots=True)
class Await:
    """Wait until one of those begun has ended, and send what became of it."""


@dataclass(frozen=True, slots=True)
class Ended:
    """What became of a target that was begun."""

    target: str
    error: BaseException | None


Step = Save | Begin | Await
Plan = Generator[Step, Ended | None, None]


class Batch:
    """The states of a batch's targets.

    Args:
        attempt: The attempt that drives the batch; its record has the states so far.
        targets: The targets, in the order in which to create them.
        parallelism: How many to create, or to delete, at a time.

    Raises:
        ValueError: If a target stands there twice, or parallelism is not positive.
        LroError: If a former attempt had other targets.
    """

    def __init__(self, attempt: Attempt, targets: Sequence[str], parallelism: int) -> None:
        if len(set(targets)) != len(targets):
            raise ValueError(f"a batch's targets must differ from each other; got {list(targets)}")
        if parallelism < 1:
            raise ValueError(f"parallelism is {parallelism}; give a positive number")
        self._attempt = attempt
        self._parallelism = parallelism
        self._domain = attempt.handler.error_domain
        stored = attempt.record.batch
        self._message = batch_create_instances_pb2.BatchCreateInstancesMetadata.FromString(stored)
        self._error = status_pb2.Status.FromString(attempt.record.batch_error)
        if not stored:
            self._message.instance_targets.extend(targets)
            for target in targets:
                self._message.instance_statuses[target].state = _Status.PENDING_CREATE
        elif list(self._message.instance_targets) != list(targets):
            raise LroError(
                f"{attempt.name} was begun with the targets {list(self._message.instance_targets)},"
                f" and is now asked for {list(targets)}; a batch's targets must follow from the"
                " request alone",
                code=Code.INTERNAL,
                reason="BATCH_CHANGED",
            )

    def saved(self) -> SaveBatch:
        """Returns the event that stores the states as they are now."""
        return SaveBatch(
            self._attempt.take_report(),
            self._message.SerializeToString(deterministic=True),
            self._error.SerializeToString(),
        )

    def plan(self) -> Plan:
        """Creates every target, or undoes what was begun.

        Raises:
            LroError: The first failure, once everything is rolled back.
            AttemptStopped: If the attempt was stopped; with CANCEL, once everything is rolled
                back, else with the states left for the next attempt.
        """
        yield from self._create_all()
        if not self._failed and all(s == _Status.READY for s in self._states().values()):
            return
        self._attempt.begin_undo()
        self._attempt.raise_if_stopped()
        yield from self._undo_all()
        if self._failed:
            raise from_status(self._error)
        raise AttemptStopped(StopReason.CANCEL)

    def _create_all(self) -> Plan:
        waiting = [t for t, s in self._states().items() if s in _UNBEGUN or s == _Status.CREATING]
        begun = 0
        while True:
            picked = []
            if not self._failed and not self._attempt.cancel_requested and not self._stopped:
                picked = waiting[: self._parallelism - begun]
                del waiting[: len(picked)]
            for target in picked:
                if self._states()[target] != _Status.CREATING:
                    self._move(target, _Status.CREATING)
            yield Save()
            for target in picked:
                yield Begin(target, undo=False)
            begun += len(picked)
            if not begun:
                return
            ended = yield Await()
            assert ended is not None
            begun -= 1
            self._created(ended)

    def _created(self, ended: Ended) -> None:
        if ended.error is None:
            self._move(ended.target, _Status.READY)
        elif not self._interrupted(ended.error):
            error = self._status(ended.target, ended.error)
            self._move(ended.target, _Status.FAILED, error)
            if not self._failed:
                self._error.CopyFrom(error)
        elif self._attempt.cancel_requested:
            self._move(ended.target, _Status.FAILED, cancelled_status())

    def _undo_all(self) -> Plan:
        never_picked = self._never_picked()
        for target, state in self._states().items():
            if state in _UNBEGUN:
                self._move(target, _Status.FAILED, never_picked)
        waiting = [t for t, s in self._states().items() if s in _TO_UNDO][::-1]
        begun = 0
        while True:
            picked = [] if self._stopped else waiting[: self._parallelism - begun]
            del waiting[: len(picked)]
            for target in picked:
                if self._states()[target] != _Status.DELETING:
                    self._move(target, _Status.DELETING)
            yield Save()
            for target in picked:
                yield Begin(target, undo=True)
            begun += len(picked)
            if not begun:
                break
            ended = yield Await()
            assert ended is not None
            begun -= 1
            if ended.error is None:
                self._move(ended.target, _Status.ROLLED_BACK)
            elif not self._interrupted(ended.error):
                self._move(ended.target, _Status.FAILED, self._status(ended.target, ended.error))
        self._attempt.raise_if_stopped()

    @property
    def _failed(self) -> bool:
        return self._error.code != 0

    @property
    def _stopped(self) -> bool:
        return self._attempt.stop_reason is not None

    def _interrupted(self, error: BaseException) -> bool:
        """Whether a target was stopped with the attempt, and has not failed by itself.

        What was interrupted keeps its state for the next attempt, unless a cancel ends it.
        """
        return not isinstance(error, Exception) and (
            self._stopped or self._attempt.cancel_requested
        )

    def _states(self) -> dict[str, int]:
        statuses = self._message.instance_statuses
        return {target: statuses[target].state for target in self._message.instance_targets}

    def _move(
        self, target: str, state: _Status.State.ValueType, error: status_pb2.Status | None = None
    ) -> None:
        status = self._message.instance_statuses[target]
        BATCH_INSTANCE.check(status.state, state)
        status.state = state
        if error is not None:
            status.error.CopyFrom(error)
            status.error_msg = error.message

    def _status(self, target: str, error: BaseException) -> status_pb2.Status:
        shown = as_lro_error(error, f"{self._attempt.name}, target {target},")
        return to_status(shown, domain=self._domain)

    def _never_picked(self) -> status_pb2.Status:
        statuses = self._message.instance_statuses
        failed = [t for t in self._states() if self._failed and statuses[t].error == self._error]
        why = f"{failed[0]} failed" if failed else "the operation was cancelled"
        error = LroError(
            f"not begun, because {why}",
            code=Code.ABORTED,
            reason="BATCH_ABORTED",
            metadata={"failed": failed[0]} if failed else {},
        )
        return to_status(error, domain=self._domain)


_UNBEGUN = (_Status.STATE_UNSPECIFIED, _Status.PENDING_CREATE)
_TO_UNDO = (_Status.READY, _Status.CREATING, _Status.DELETING)


def drive(
    batch: Batch,
    attempt: Attempt,
    create: Callable[[str], object],
    delete: Callable[[str], object],
) -> None:
    """Carries out the plan with a thread for each target begun."""
    ended: queue.SimpleQueue[Ended] = queue.SimpleQueue()

    def run(step: Begin) -> None:
        try:
            (delete if step.undo else create)(step.target)
        except BaseException as error:  # noqa: BLE001 - the plan decides what it means
            ended.put(Ended(step.target, error))
        else:
            ended.put(Ended(step.target, None))

    def save() -> None:
        write = attempt.write(batch.saved())
        asyncio.run_coroutine_threadsafe(write, attempt.loop).result()

    plan = batch.plan()
    answer: Ended | None = None
    while True:
        try:
            step = plan.send(answer)
        except StopIteration:
            return
        answer = None
        if isinstance(step, Begin):
            threading.Thread(target=run, args=[step], name=step.target, daemon=True).start()
        elif isinstance(step, Await):
            answer = ended.get()
        elif attempt.stop_reason is not StopReason.LEASE_LOST:
            with contextlib.suppress(AttemptStopped):  # lost: the plan sees it, and winds up
                save()


async def drive_async(
    batch: Batch,
    attempt: Attempt,
    create: Callable[[str], Awaitable[object]],
    delete: Callable[[str], Awaitable[object]],
) -> None:
    """Carries out the plan with a task for each target begun."""
    ended: asyncio.Queue[Ended] = asyncio.Queue()
    tasks: set[asyncio.Task[None]] = set()

    async def run(step: Begin) -> None:
        try:
            await (delete if step.undo else create)(step.target)
        except BaseException as error:  # noqa: BLE001 - the plan decides what it means
            ended.put_nowait(Ended(step.target, error))
        else:
            ended.put_nowait(Ended(step.target, None))

    async def uninterrupted(step: Coroutine[Any, Any, Any]) -> Any:
        """Awaits to the end; a stop of the attempt is passed on to the targets begun."""
        waiting = asyncio.ensure_future(step)
        while not waiting.done():
            try:
                await asyncio.wait({waiting})
            except asyncio.CancelledError:
                for task in tasks:
                    task.cancel()
        return waiting.result()

    plan = batch.plan()
    answer: Ended | None = None
    while True:
        try:
            step = plan.send(answer)
        except StopIteration:
            return
        answer = None
        if isinstance(step, Begin):
            task = asyncio.create_task(run(step), name=step.target)
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        elif isinstance(step, Await):
            answer = await uninterrupted(ended.get())
        elif attempt.stop_reason is not StopReason.LEASE_LOST:
            with contextlib.suppress(AttemptStopped):  # lost: the plan sees it, and winds up
                await uninterrupted(attempt.write(batch.saved()))
