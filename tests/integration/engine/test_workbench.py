"""A workbench under another engine than the in-process one: one that claims a single, named one."""

from __future__ import annotations

import asyncio
import copy
import gc
import threading
import weakref
from datetime import timedelta
from typing import cast

import pytest
from engine_world import (
    LEASE,
    SWEEP,
    Link,
    Signal,
    Text,
    World,
    handler,
    response_of,
)

from lro_grpc import Code, LroError, OperationNotFoundError, StaleAttemptError, UnavailableError
from lro_grpc._operation import states
from lro_grpc._operation.events import Claim
from lro_grpc._operation.telemetry import NO_TELEMETRY, AttemptTelemetry, Telemetry
from lro_grpc.engines import Handler, Workbench
from lro_grpc.stores import Record


class ByName:
    """Runs a named operation, when it is asked to, and returns what has become of it."""

    def __init__(self, workbench: Workbench) -> None:
        self._workbench = workbench
        self.sweeps = 0

    async def start(self) -> int:
        return await self._workbench.start(self._count)

    def _count(self) -> None:
        self.sweeps += 1

    def stop_claiming(self) -> None:
        self._workbench.stop_claiming()

    async def stop(self, grace: timedelta) -> None:
        await self._workbench.stop(grace)

    async def run(self, name: str) -> Record | LroError | None:
        ended = asyncio.get_running_loop().create_future()
        (answer,) = await self._workbench.claim([name], ended.set_result)
        if isinstance(answer, LroError) or not answer.lease_expire_time:
            return answer
        outcome: Record | None = await ended
        return outcome


class Watching(type(NO_TELEMETRY)):  # type: ignore[misc]
    """Sees which attempts are in memory: each has an observer to itself."""

    def __init__(self) -> None:
        self.observers: weakref.WeakSet[object] = weakref.WeakSet()

    def attempt(self, record: Record) -> AttemptTelemetry:
        observer = copy.copy(super().attempt(record))
        self.observers.add(observer)
        return cast("AttemptTelemetry", observer)


async def by_name(
    world: World,
    one: Handler,
    kind: type[ByName] = ByName,
    telemetry: Telemetry = NO_TELEMETRY,
) -> ByName:
    world.link = Link(await world.open(), lambda: None, is_shared=world.is_shared)
    engine = kind(
        Workbench(
            world.link,
            {one.method: one},
            world.clock,
            lease=timedelta(seconds=LEASE),
            sweep=timedelta(seconds=SWEEP),
            telemetry=telemetry,
        )
    )
    await engine.start()
    world._engine = engine
    return engine


async def test_nothing_is_claimed_but_by_name(world):
    engine = await by_name(world, handler(lambda request, op: request))
    first, second = await world.create("a"), await world.create("b")
    outcome = await engine.run(second)
    assert isinstance(outcome, Record)
    assert outcome.done
    assert response_of(await world.get(second)) == "b"
    await world.pass_time(2 * SWEEP)
    assert (await world.record(first)).state == states.QUEUED


async def test_an_attempt_that_is_over_is_freed_at_once(world):
    """Python's search for cycles takes the longer, the more there is for it to free."""
    watching = Watching()
    held = []

    def work(request, op):
        held.append(len(watching.observers))
        return request

    engine = await by_name(world, handler(work), telemetry=watching)
    gc.disable()
    try:
        for _ in range(3):
            name = await world.create()
            await engine.run(name)
            for thread in threading.enumerate():
                if thread.name == name:  # it has what it was called with until its very end
                    thread.join()
    finally:
        gc.enable()
    assert held == [1, 1, 1]


async def test_the_engine_gets_the_operation_after_its_attempt(world):
    def work(request, op):
        raise LroError("no", code=Code.NOT_FOUND)

    engine = await by_name(world, handler(work))
    outcome = await engine.run(await world.create())
    assert isinstance(outcome, Record)
    assert outcome.error_code == Code.NOT_FOUND


async def test_the_engine_is_called_at_each_sweep(world):
    engine = await by_name(world, handler(lambda request, op: request))
    assert engine.sweeps == 0
    for number in (1, 2):
        await world.pass_time(SWEEP + 1)
        assert engine.sweeps == number


async def test_an_engine_that_raises_at_a_sweep_keeps_it_from_nothing_else(world, caplog):
    class Raising(ByName):
        def _count(self) -> None:
            raise RuntimeError("a bug")

    await by_name(world, handler(lambda request, op: request), Raising)
    lost = await world.create()
    await world.apply(lost, Claim(1))
    await world.pass_time(SWEEP + 1)
    assert (await world.record(lost)).failed_attempts == 1
    assert "a bug" in caplog.text


async def test_a_sweep_that_finds_nothing_writes_nothing(world):
    written = []

    async def note(events):
        written.append(events)

    engine = await by_name(world, handler(lambda request, op: request))
    world.link.before = note
    await world.create()
    await world.pass_time(3 * SWEEP)
    assert engine.sweeps >= 2
    assert written == []


async def test_a_claim_that_is_refused_is_answered_with_the_refusal(world):
    entered, go_on = Signal(), Signal()

    async def work(request, op):
        entered.set()
        await go_on
        return Text()

    engine = await by_name(world, handler(work))
    name = await world.create()
    running = asyncio.create_task(engine.run(name))
    await entered
    assert isinstance(await engine.run(name), StaleAttemptError)
    assert isinstance(await engine.run("operations/none"), OperationNotFoundError)
    go_on.set()
    outcome = await running
    assert isinstance(outcome, Record)
    assert outcome.done


async def test_an_overdue_operation_is_answered_as_expired(world):
    engine = await by_name(world, handler(lambda request, op: request))
    name = await world.create(timeout=1_000_000)
    world.clock.advance(timedelta(seconds=1))
    outcome = await engine.run(name)
    assert isinstance(outcome, Record)
    assert outcome.error_code == Code.DEADLINE_EXCEEDED


async def test_an_attempt_that_has_lost_its_operation_ends_without_an_outcome(shared_world):
    entered = Signal()

    async def work(request, op):
        entered.set()
        await asyncio.Event().wait()

    engine = await by_name(shared_world, handler(work))
    running = asyncio.create_task(engine.run(await shared_world.create()))
    await entered

    async def unavailable(events):
        raise UnavailableError("away")

    shared_world.link.before = unavailable
    await shared_world.pass_time(LEASE)
    assert await running is None


@pytest.mark.parametrize("ask", ["cancel", "pause"])
async def test_a_wish_that_comes_before_the_answer_to_the_claim_is_heard(world, ask):
    async def work(request, op):
        await op.checkpoint()
        await asyncio.Event().wait()

    engine = await by_name(world, handler(work))
    name = await world.create(pausable=True)

    async def meanwhile(events):
        world.link.after = ignore
        await getattr(world, ask)(name)

    async def ignore(events):
        pass

    world.link.after = meanwhile
    outcome = await engine.run(name)
    assert isinstance(outcome, Record)
    ends = {"cancel": states.CANCELLED, "pause": states.PAUSED}
    assert outcome.state == ends[ask]


async def test_a_claim_under_way_at_the_stop_is_given_back(world):
    sent, go_on = Signal(), Signal()

    async def slow(events):
        world.link.before = at_once
        sent.set()
        await go_on

    async def at_once(events):
        pass

    engine = await by_name(world, handler(lambda request, op: request))
    name = await world.create()
    world.link.before = slow
    running = asyncio.create_task(engine.run(name))
    await sent
    stopping = asyncio.create_task(engine.stop(timedelta(seconds=5)))
    go_on.set()
    await stopping
    outcome = await running
    assert isinstance(outcome, Record)
    assert (outcome.state, outcome.lease_expire_time) == (states.QUEUED, 0)
