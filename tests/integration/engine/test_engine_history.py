"""The history of attempts, as an engine makes it."""

from __future__ import annotations

from typing import Any

from engine_world import WORKER, Signal, Text, World, handler, response_of
from google.protobuf import any_pb2
from google.rpc import status_pb2

from lro.v1.operation_description_pb2 import OperationAttempt
from lro_grpc._errors import Code, RetryableError
from lro_grpc._operation import states
from lro_grpc.stores import AttemptRecord


async def told(world: World, name: str) -> list[AttemptRecord]:
    store = await world.open()
    _, attempts = await store.read_attempts(name)
    return [*attempts]


async def test_each_attempt_is_told_with_its_worker_and_its_outcome(world: World) -> None:
    began = {number: Signal() for number in range(1, 6)}
    is_paused, never = Signal(), Signal()

    async def run(request: Any, op: Any) -> Any:
        began[op.attempt].set()
        if op.attempt == 1:
            raise RetryableError("not this time")
        if op.attempt == 2:
            await is_paused
            await op.checkpoint(any_pb2.Any())
        if op.attempt in (3, 4):
            await never
        return Text(value="done")

    one = handler(run)
    await world.start(one)
    name = await world.create(pausable=True)
    await began[1]
    await world.pass_time(60)
    await began[2]
    await world.pause(name)
    is_paused.set()
    await world.until_in(name, states.PAUSED)
    await world.resume(name)
    await began[3]
    await world.stop(grace=0)
    await world.start(one)
    await began[4]
    await world.crash()
    await world.start(one)
    assert response_of(await world.done(name)) == "done"
    attempts = await told(world, name)
    assert [one.number for one in attempts] == [1, 2, 3, 4, 5]
    assert {one.worker for one in attempts} == {WORKER}
    assert [one.outcome for one in attempts] == [
        OperationAttempt.RETRIED,
        OperationAttempt.PAUSED,
        OperationAttempt.RELEASED,
        OperationAttempt.LOST,
        OperationAttempt.SUCCEEDED,
    ]
    error = status_pb2.Status.FromString(attempts[0].error)
    assert (error.code, error.message) == (Code.UNAVAILABLE, "not this time")
    assert not any(one.error for one in attempts[1:])
    times = [time for one in attempts for time in (one.start_time, one.end_time)]
    assert times == sorted(times)


async def test_an_attempt_that_a_cancel_has_stopped_was_cancelled(world: World) -> None:
    began, never = Signal(), Signal()

    async def run(request: Any, op: Any) -> Any:
        began.set()
        await never

    await world.start(run)
    name = await world.create()
    await began
    await world.cancel(name)
    await world.done(name)
    (attempt,) = await told(world, name)
    assert attempt.outcome == OperationAttempt.CANCELLED


async def test_an_attempt_at_its_time_limit_has_expired(world: World) -> None:
    began, never = Signal(), Signal()

    async def run(request: Any, op: Any) -> Any:
        began.set()
        await never

    await world.start(run)
    name = await world.create(timeout=5_000_000)
    await began
    await world.pass_time(6)
    await world.done(name)
    (attempt,) = await told(world, name)
    assert attempt.outcome == OperationAttempt.EXPIRED
