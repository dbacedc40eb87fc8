"""Mistakes that other job queues have made, by name; none of them may be made here."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
from collections import Counter
from datetime import timedelta
from random import Random

import pytest
from engine_world import (
    LEASE,
    OTHER_METHOD,
    SWEEP,
    Signal,
    Text,
    bench,
    handler,
    response_of,
)

from lro_grpc import _anys
from lro_grpc._errors import (
    AttemptStopped,
    Code,
    LroError,
    OperationNotFoundError,
    StaleAttemptError,
    StopReason,
)
from lro_grpc._operation import states
from lro_grpc._operation.events import (
    Checkpoint,
    Claim,
    Heartbeat,
    LeaseLost,
    Report,
    Succeed,
    TimePassed,
)
from lro_grpc._operation.record import Record
from lro_grpc._stores.forwarding import ForwardingStore
from lro_grpc.engines import InProcess
from lro_grpc.stores import Query

MICROS = 1_000_000
ELSEWHERE = _anys.packed_bytes(Text(value="elsewhere"))


async def never(request, op):
    raise AssertionError("it is of another method")


async def lost_elsewhere(world, meanwhile, caplog):
    """Lets a worker's lease end, and something happen between the sweep's look and its write.

    The sweep that comes too late logs no loss, and no error of its own.
    """
    await world.start(handler(never, method=OTHER_METHOD))
    name = await world.create()
    await world.apply(name, Claim(int(LEASE * MICROS)))
    swept = Signal()

    async def before(events):
        if not swept.is_set() and any(isinstance(event, LeaseLost) for event in events):
            swept.set()
            await meanwhile(name)

    world.link.before = before
    await world.pass_time(LEASE + 5)
    assert swept.is_set()
    assert [one for one in caplog.records if one.levelno >= logging.WARNING] == []
    return name


async def test_a_finish_between_the_sweeps_look_and_its_write_stands(shared_world, caplog):
    """River #1302: the rescuer overwrote what had completed."""

    async def finish(name):
        await shared_world.apply(name, Succeed(Report(1), ELSEWHERE))

    name = await lost_elsewhere(shared_world, finish, caplog)
    await shared_world.pass_time(2 * LEASE)
    assert response_of(await shared_world.get(name)) == "elsewhere"
    ended = await shared_world.record(name)
    assert (ended.attempt, ended.failed_attempts) == (1, 0)


async def test_a_claim_between_the_sweeps_look_and_its_write_stands(shared_world, caplog):
    """River #1302 again: the rescuer took a job from its new worker."""

    async def claim_again(name):
        await shared_world.apply(name, LeaseLost(1))
        await shared_world.apply(name, Claim(10 * int(LEASE * MICROS)))

    name = await lost_elsewhere(shared_world, claim_again, caplog)
    held = await shared_world.record(name)
    assert (held.state, held.attempt, held.failed_attempts) == (states.RUNNING, 2, 1)
    await shared_world.apply(name, Succeed(Report(2), ELSEWHERE))
    assert response_of(await shared_world.get(name)) == "elsewhere"


async def test_a_lease_renewed_between_the_sweeps_look_and_its_write_stands(shared_world, caplog):
    async def renew(name):
        await shared_world.apply(name, Heartbeat(1, 10 * int(LEASE * MICROS)))

    name = await lost_elsewhere(shared_world, renew, caplog)
    held = await shared_world.record(name)
    assert (held.state, held.attempt, held.failed_attempts) == (states.RUNNING, 1, 0)


async def test_what_is_overdue_and_cannot_be_ended_keeps_no_sweep_busy(world):
    """The start and each sweep try it twice, once among what has to be undone; others go on."""
    tries = []

    class CannotEnd(ForwardingStore):
        async def apply_all(self, changes):
            tries.extend(name for name, event in changes if isinstance(event, TimePassed))
            taken = [one for one in changes if not isinstance(one[1], TimePassed)]
            answers = iter(await super().apply_all(taken))
            refusal = LroError("damaged", code=Code.DATA_LOSS)
            return [next(answers) if one in taken else refusal for one in changes]

    async def work(request, op):
        return Text(value="run")

    overdue = await world.create(timeout=MICROS, method=OTHER_METHOD)
    world.clock.advance(timedelta(seconds=2))
    await world.start(work, through=CannotEnd)
    for sweeps in (1, 2):
        await world.pass_time(SWEEP + 1)
        assert tries == [overdue] * 2 * (1 + sweeps)
    assert response_of(await world.done(await world.create())) == "run"


async def test_a_sweep_logs_each_loss_once(shared_world, caplog):
    await shared_world.start(handler(never, method=OTHER_METHOD))
    name = await shared_world.create()
    await shared_world.apply(name, Claim(int(LEASE * MICROS)))
    await shared_world.pass_time(LEASE + 2 * SWEEP)
    lost = [one for one in caplog.records if "lost its worker" in one.message]
    assert [vars(one)["operation"] for one in lost] == [name]


async def test_a_sweep_logs_an_end_once(world, caplog):
    """Not again when what has ended is removed."""
    caplog.set_level(logging.INFO)
    name = await world.create(timeout=MICROS, retention=60 * MICROS, method=OTHER_METHOD)
    await world.start(handler(never))
    await world.pass_time(SWEEP + 1)
    assert (await world.record(name)).state == states.EXPIRED
    world.clock.advance(timedelta(seconds=60))
    await world.pass_time(SWEEP + 1)
    with pytest.raises(OperationNotFoundError):
        await world.record(name)
    assert len([one for one in caplog.messages if "EXPIRED" in one]) == 1


async def test_an_operation_longer_than_ten_leases_runs_once_beside_another_worker(shared_world):
    """River #682: without a heartbeat, what takes long is run twice."""
    started, go_on = Signal(), Signal()
    begun = []

    async def work(request, op):
        begun.append(op.attempt)
        started.set()
        await go_on
        return Text(value="once")

    first = await shared_world.start(work)
    await shared_world.start(work)
    name = await shared_world.create()
    await started
    await shared_world.pass_time(11 * LEASE)
    go_on.set()
    done = await shared_world.done(name)
    await first.stop(timedelta(0))
    assert response_of(done) == "once"
    assert begun == [1]


async def test_a_zombie_finishes_in_vain(shared_world):
    """Unfenced queues take the outcome of a worker that was given up long ago (R5)."""
    started, frozen, thaw = Signal(), Signal(), Signal()
    sent = []

    async def work(request, op):
        started.set()
        await thaw
        return Text(value="zombie")

    await shared_world.start(work)
    name = await shared_world.create()
    await started

    async def freeze(events):
        frozen.set()
        await thaw

    async def listen(events):
        sent.extend(events)

    shared_world.link.before = freeze
    shared_world.link.after = listen
    await shared_world.pass_time(LEASE / 2)
    await frozen
    await shared_world.apply(name, LeaseLost(1, proven=True))
    await shared_world.apply(name, Claim(10 * int(LEASE * MICROS)))
    held = await shared_world.record(name)
    thaw.set()
    await shared_world.pass_time(1)
    assert sent  # what it has sent has arrived
    assert await shared_world.record(name) == held
    await shared_world.apply(name, Succeed(Report(2), ELSEWHERE))
    await shared_world.pass_time(LEASE)
    assert response_of(await shared_world.get(name)) == "elsewhere"


async def test_of_fifty_claimers_exactly_one_gets_each_attempt(world):
    """200 operations, each wanted by all of them at once, and once more when it is let go (R5)."""
    names = [await world.create() for _ in range(200)]
    store = await world.open()
    for attempt in (1, 2):

        async def claim(order: Random) -> list[Record | LroError]:
            wanted = order.sample(names, len(names))
            return list(await store.apply_all([(name, Claim(MICROS)) for name in wanted]))

        outcomes = await asyncio.gather(*(claim(Random(number)) for number in range(50)))
        claimed = [one for mine in outcomes for one in mine if isinstance(one, Record)]
        refused = [one for mine in outcomes for one in mine if isinstance(one, LroError)]
        assert sorted(one.name for one in claimed) == sorted(names)
        assert {one.attempt for one in claimed} == {attempt}
        assert {type(one) for one in refused} == {StaleAttemptError}
        await store.apply_all([(name, LeaseLost(attempt, proven=True)) for name in names])


async def test_of_fifty_engines_exactly_one_runs_each_operation(memory_world):
    begun = Counter()

    async def work(request, op):
        begun[op.name, op.attempt] += 1
        await asyncio.sleep(0)
        return Text()

    store = await memory_world.open()
    engines = [InProcess(bench(store, [handler(work)], memory_world.clock)) for _ in range(50)]
    for engine in engines:
        await engine.start()
    names = [await memory_world.create() for _ in range(200)]
    for name in names:
        await memory_world.done(name)
    for engine in engines:
        await engine.stop(timedelta(0))
    assert begun == {(name, 1): 1 for name in names}


@pytest.mark.parametrize("steps", range(6))
async def test_a_client_that_crashes_before_its_answer_finds_the_operation_it_has_started(
    sqlite_world, steps
):
    """Wherever it was cut off, the same request_id gives one operation, which is run once (R2)."""
    begun = []

    async def work(request, op):
        begun.append(op.name)
        return Text()

    creating = asyncio.create_task(sqlite_world.create(request_id="r", fingerprint=b"f"))
    for _ in range(steps):
        await asyncio.sleep(0)
    creating.cancel()
    await asyncio.wait({creating})
    await sqlite_world.stop()
    await sqlite_world.start(work)
    name = await sqlite_world.create(request_id="r", fingerprint=b"f")
    await sqlite_world.done(name)
    store = await sqlite_world.open()
    page = await store.page(Query("projects/p/locations/l"), position=b"", size=9)
    assert len(page.operations) == 1
    assert begun == [name]


async def test_operations_that_are_overdue_do_not_keep_the_engine_busy(world):
    """As many of them as there are slots; they are swept, and everything else goes on."""

    async def work(request, op):
        return Text(value="run")

    overdue = [await world.create(timeout=MICROS) for _ in range(2)]
    world.clock.advance(timedelta(seconds=2))
    await world.start(handler(work, concurrency=2))
    name = await world.create()
    assert response_of(await world.done(name)) == "run"
    await world.pass_time(SWEEP + 1)
    assert {(await world.record(one)).state for one in overdue} == {states.EXPIRED}


def test_a_thread_that_stores_a_state_when_its_loop_is_gone_is_stopped(
    memory_world,
):
    began, gate, ended = threading.Event(), threading.Event(), threading.Event()
    raised = []

    def run(request, op):
        began.set()
        gate.wait()
        try:
            op.checkpoint(Text(value="1"))
        except BaseException as error:
            raised.append(error)
            raise
        finally:
            ended.set()

    async def end_while_it_runs():
        await memory_world.start(run)
        await memory_world.create()
        await asyncio.to_thread(began.wait)

    asyncio.run(end_while_it_runs())
    gate.set()
    assert ended.wait(10)
    (stopped,) = raised
    assert isinstance(stopped, AttemptStopped)
    assert stopped.reason is StopReason.SHUTDOWN
    gc.collect()  # a coroutine that was never begun would warn now


def test_a_thread_whose_write_waits_when_its_loop_ends_is_stopped(memory_world):
    ended = threading.Event()
    raised = []

    def run(request, op):
        try:
            op.checkpoint(Text(value="1"))
        except BaseException as error:
            raised.append(error)
            raise
        finally:
            ended.set()

    async def end_while_it_writes():
        writes = asyncio.Event()

        async def never_write_it(events):
            if any(isinstance(event, Checkpoint) for event in events):
                writes.set()
                await asyncio.Event().wait()

        await memory_world.start(run)
        memory_world.link.before = never_write_it
        await memory_world.create()
        await writes.wait()

    asyncio.run(end_while_it_writes())
    assert ended.wait(10)
    (stopped,) = raised
    assert isinstance(stopped, AttemptStopped)
    assert stopped.reason is StopReason.SHUTDOWN
