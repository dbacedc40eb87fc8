"""The engine's ways through a store whose calls fail now and then, after they have happened too."""

from __future__ import annotations

import asyncio
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from engine_world import OTHER_METHOD, Text, World, handler, response_of, states_of

from lro_grpc._errors import Code, LroError, RetryableError
from lro_grpc._operation.events import Pause, Resume
from lro_grpc._operation.states import PAUSED
from lro_grpc._testing.faulty_store import NO_FAULTS, Faults, FaultyStore

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from lro_grpc._engine.handler import Handler
    from lro_grpc.stores import Store

    Start = Callable[[Callable[[Any, Any], Any] | Handler], Awaitable[None]]

FAULTS = Faults(before=0.05, after=0.05, delay=0.05, disconnect=0.02, longest_delay=0.0)


@pytest.fixture(params=range(5))
def start(request: pytest.FixtureRequest, world: World) -> Start:
    """Starts an engine whose store fails from then on."""
    seed = Random(request.param)

    async def start_engine(run: Callable[[Any, Any], Any] | Handler) -> None:
        stores: list[FaultyStore] = []

        def through(store: Store) -> Store:
            stores.append(FaultyStore(store, seed, NO_FAULTS))
            return stores[0]

        await world.start(run, through=through)
        stores[0].faults = FAULTS

    return start_engine


async def finish(world: World, *names: str) -> list[Any]:
    """Lets time pass until the operations are done."""
    for _ in range(400):
        records = [await world.record(name) for name in names]
        if all(one.done for one in records):
            break
        await world.pass_time(0.5)
    return [await world.get(name) for name in names]


async def test_each_operation_comes_to_its_one_outcome(world, start):
    """Whatever it is, and no attempt of it is run twice."""
    begun = []

    async def run(request, op):
        begun.append((op.name, op.attempt))
        for percent in (10, 50, 90):
            op.progress(percent)
            await asyncio.sleep(0)
        if request.value == "fail":
            raise LroError("it broke", code=Code.DATA_LOSS)
        if request.value == "retry" and op.attempt < 3:
            raise RetryableError("not yet")
        return Text(value=request.value)

    await start(run)
    values = ["succeed", "fail", "retry"] * 5
    names = [await world.create(value) for value in values]
    done = await finish(world, *names)
    for value, operation in zip(values, done, strict=True):
        assert operation.error.code == (Code.DATA_LOSS if value == "fail" else 0)
        if value != "fail":
            assert response_of(operation) == value
    assert len(begun) == len(set(begun))


async def test_a_cancel_reaches_its_handler(world, start):
    async def run(request, op):
        await asyncio.Event().wait()

    await start(run)
    names = [await world.create() for _ in range(5)]
    await world.pass_time(2)
    for name in names:
        await world.cancel(name)
    done = await finish(world, *names)
    assert [one.error.code for one in done] == [Code.CANCELLED] * 5


async def test_a_batch_is_created_or_rolled_back(world, start):
    there = set()

    async def run(request, op):
        targets = [f"{op.id}-{number}" for number in range(3)]

        async def create(target):
            if target == targets[2] and request.value == "fail":
                raise LroError("no room", code=Code.RESOURCE_EXHAUSTED)
            there.add(target)

        async def delete(target):
            there.discard(target)

        await op.batch(targets, create=create, delete=delete)
        return Text()

    await start(handler(run, method=OTHER_METHOD))
    good, bad = [await world.create(value, method=OTHER_METHOD) for value in ("", "fail")]
    created, failed = await finish(world, good, bad)
    assert states_of(created) == ["READY"] * 3
    assert failed.error.code == Code.RESOURCE_EXHAUSTED
    assert there == {f"{good.rpartition('/')[2]}-{number}" for number in range(3)}


async def test_a_pause_holds_at_a_checkpoint_and_goes_on_from_it(world, start):
    reached = []
    resumed = asyncio.Event()

    async def run(request, op):
        step = op.checkpoint_state[0] if op.checkpoint_state else 0
        while not resumed.is_set():
            step += 1
            await op.checkpoint(bytes([step]))
            reached.append(step)
            await world.clock.sleep(0.5)
        return Text(value=str(step))

    await start(run)
    name = await world.create(pausable=True)
    await world.pass_time(2)
    await world.apply(name, Pause())
    while (await world.record(name)).state != PAUSED:
        await world.pass_time(0.5)
    resumed.set()
    await world.apply(name, Resume())
    (done,) = await finish(world, name)
    assert reached == sorted(set(reached))
    assert int(response_of(done)) >= max(reached, default=0)
