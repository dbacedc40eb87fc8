"""The engine's ways through a store whose calls fail now and then, after they have happened too."""

from __future__ import annotations

import asyncio
import logging
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from engine_world import OTHER_METHOD, SWEEP, Signal, Text, World, handler, response_of, states_of

from lro_grpc._engine import claim_queue
from lro_grpc._errors import Code, LroError, RetryableError, UnavailableError, UnservedError
from lro_grpc._operation.events import Claim, Event, Fail, Pause, Report, Resume, Succeed
from lro_grpc._operation.states import PAUSED
from lro_grpc._testing.faulty_store import NO_FAULTS, Faults, FaultyStore
from lro_grpc.stores import Claimed, ForwardingStore

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence

    from lro_grpc._engine.handler import Handler
    from lro_grpc.stores import Change, Record, Store

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


class Broken(ForwardingStore):
    """Raises what no store should, for the outcome of one operation and all that comes with it."""

    broken = ""

    async def apply_all(self, changes: Sequence[Change]) -> Sequence[Record | LroError]:
        if any(name == self.broken and isinstance(one, (Succeed, Fail)) for name, one in changes):
            raise ValueError("a bug")
        return await self._store.apply_all(changes)


async def test_a_store_that_breaks_over_an_outcome_keeps_no_other_and_no_slot(world, caplog):
    stores = []
    go_on = Signal()

    def through(store):
        stores.append(Broken(store))
        return stores[0]

    async def run(request, op):
        await go_on
        return Text(value=request.value)

    await world.start(handler(run, concurrency=2), through=through)
    names = [await world.create(value) for value in ("broken", "sound", "next", "last")]
    stores[0].broken = names[0]
    for name in names[:2]:
        await world.until(name, lambda record: record.attempt == 1)
    go_on.set()
    for name in names[1:]:
        await world.until(name, lambda record: record.done)
    assert [response_of(await world.get(name)) for name in names[1:]] == ["sound", "next", "last"]
    assert any(
        one.levelno == logging.ERROR and one.exc_info and "a bug" in str(one.exc_info[1])
        for one in caplog.records
    )


class Contended(ForwardingStore):
    """Cannot make the first change of some kind, though it makes the others of the same call."""

    def __init__(self, store: Store, kind: type[Event]) -> None:
        super().__init__(store)
        self._kind = kind
        self.refused: list[str] = []

    async def apply_all(self, changes: Sequence[Change]) -> Sequence[Record | LroError]:
        outcomes: list[Record | LroError] = []
        for name, event in changes:
            if isinstance(event, self._kind) and not self.refused:
                self.refused.append(name)
                outcomes.append(UnavailableError("others are at it"))
            else:
                outcomes += await self._store.apply_all([(name, event)])
        return outcomes


@pytest.mark.parametrize("kind", [Claim, Report, Succeed])
async def test_a_change_that_cannot_be_made_for_now_is_made_again(world, kind, caplog):
    """It says nothing of the attempt, which goes on; and it waits for no sweep."""
    stores = []
    reported = Signal()

    def through(store):
        stores.append(Contended(store, kind))
        return stores[0]

    async def run(request, op):
        op.progress(50, request.value)
        await reported
        return Text(value=request.value)

    await world.start(run, through=through)
    await world.pass_time(0.5)
    names = [await world.create(value) for value in ("a", "b")]

    def is_reported(record):
        return record.progress_percent == 50

    for name in names:
        await world.until(name, is_reported)
    reported.set()
    await world.pass_time(SWEEP / 2)
    assert stores[0].refused
    assert [response_of(await world.get(name)) for name in names] == ["a", "b"]
    assert [(await world.record(name)).attempt for name in names] == [1, 1]
    assert [one for one in caplog.records if one.levelno >= logging.ERROR] == []


class OfAnotherRelease(ForwardingStore):
    """Has operations that no handler here can go on with."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.left_out: list[int] = []

    async def claim(
        self,
        limits: Mapping[str, int],
        claim: Claim,
        *,
        left_out: Collection[str] = (),
        **how: Any,
    ) -> Sequence[Claimed]:
        self.left_out.append(len(left_out))
        ((method, limit),) = limits.items()
        ready = await self._store.claimable({method: 99})
        names = [name for name in ready if name not in left_out][:limit]
        why = UnservedError("of another release")
        return [Claimed(await self._store.read(name), why) for name in names]


async def test_what_is_left_out_has_a_bound_and_is_not_asked_for_without_end(world, monkeypatch):
    monkeypatch.setattr(claim_queue, "_MOST_LEFT_OUT", 3)
    stores = []

    def through(store):
        stores.append(OfAnotherRelease(store))
        return stores[0]

    for _ in range(9):
        await world.create()
    await world.start(handler(lambda request, op: request, concurrency=2), through=through)
    await world.pass_time(SWEEP - 1)
    assert stores[0].left_out == [0, 2]
    await world.pass_time(2 * SWEEP)
    assert max(stores[0].left_out) <= 3


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
