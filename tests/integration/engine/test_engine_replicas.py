"""An engine among others on one store, which work in other processes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import pytest
from engine_world import LEASE, OTHER_METHOD, SWEEP, Signal, Text, World, handler, response_of
from replica import Replica

from lro.v1.batch_create_instances_pb2 import BatchCreateInstanceStatus
from lro_grpc import LroError, RetryableError, StaleAttemptError
from lro_grpc._operation import publication, states
from lro_grpc._operation.batch_states import BatchStates
from lro_grpc._operation.events import (
    Cancel,
    Claim,
    Delete,
    Heartbeat,
    LeaseLost,
    Pause,
    Release,
    Report,
    SaveBatch,
    Terminate,
)
from lro_grpc._runtime.clock import micros
from lro_grpc.stores import Change, Claimed, Leased, MemoryStore, Notifier, Record, Store
from lro_grpc.testing import ManualClock

METHOD = "/test.v1.Tests/Run"
FIRST = Text(value="first").SerializeToString()


@pytest.fixture
def world() -> World:
    world = World(lambda: MemoryStore(world.clock.now), is_shared=True)
    return world


class Worker:
    """A handler that says when it is started, and stops when it has to."""

    def __init__(self) -> None:
        self.started = Signal()
        self.has_stopped = Signal()
        self.stopped: list[str] = []

    async def run(self, request: Any, op: Any) -> Any:
        self.started.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.stopped.append(op.stop_reason.name)
            self.has_stopped.set()


async def test_a_cancel_on_another_replica_reaches_the_handler_at_once(world: World) -> None:
    worker = Worker()
    await world.start(worker.run, through=Replica)
    name = await world.create()
    await world.pass_time(0.5)
    await worker.started
    await world.apply(name, Cancel())
    assert (await world.done(name)).error.code == 1
    assert worker.stopped == ["CANCEL"]


async def test_what_another_replica_asks_before_the_claim_is_answered_is_heard(
    world: World,
) -> None:
    """The operation is this process's own, so it is claimed by its name."""
    worker, replicas = Worker(), []

    def through(store: Any) -> Replica:
        replicas.append(Replica(store))
        return replicas[0]

    await world.start(worker.run, through=through)
    await world.pass_time(0.5)

    async def cancel(events: Any) -> None:
        if any(isinstance(event, Claim) for event in events):
            await world.apply(name, Cancel())
            await asyncio.sleep(0)  # the followers are told
            await asyncio.sleep(0)

    world.link.after = cancel
    name = (await replicas[0].create(new(world))).name
    assert (await world.done(name)).error.code == 1


def new(world: World, operation_id: str = "op-own") -> Record:
    return publication.create(
        parent="projects/p/locations/l",
        operation_id=operation_id,
        method=METHOD,
        request=Text(value="x").SerializeToString(),
        metadata_type="lro.v1.OperationMetadata",
        now=world.clock.now(),
    )


async def test_an_attempt_does_nothing_to_a_later_operation_of_the_same_name(
    world: World,
) -> None:
    """A ``new_id`` may repeat an id; the attempt of the new one has the same number (R5)."""
    started, go_on, replicas = Signal(), Signal(), []

    def through(store: Any) -> Replica:
        replicas.append(Replica(store))
        return replicas[0]

    async def work(request: Any, op: Any) -> Any:
        started.set()
        await go_on
        return Text(value="of the former one")

    await world.start(work, through=through)
    store = await world.open()
    former = await store.create(new(world))
    await world.pass_time(0.5)
    await started
    replicas[0].hears = False
    await world.apply(former.name, Terminate("it hangs"))
    await world.apply(former.name, Delete())
    world.clock.advance(timedelta(microseconds=1))
    await store.create(new(world))
    claimed = await world.apply(former.name, Claim(micros(LEASE)))
    assert claimed.attempt == 1
    beats = [Leased(former.name, 1, former.create_time), Leased(former.name, 1)]
    refused, renewed = await world.link.renew(beats, micros(2 * LEASE))
    assert isinstance(refused, StaleAttemptError)
    go_on.set()
    await world.pass_time(1)
    assert await world.record(former.name) == renewed


async def test_a_pause_on_another_replica_reaches_the_handler_at_once(world: World) -> None:
    started, asked = Signal(), Signal()

    async def work(request: Any, op: Any) -> Any:
        started.set()
        await asked
        await op.checkpoint(Text(value="half"))
        raise AssertionError("it was not paused")

    await world.start(handler(work), through=Replica)
    name = await world.create(pausable=True)
    await world.pass_time(0.5)
    await started
    await world.apply(name, Pause())
    asked.set()
    assert (await world.until_in(name, states.PAUSED)).attempt == 1


@pytest.mark.parametrize("ends", [[Terminate("it is stuck")], [Terminate("it is stuck"), Delete()]])
async def test_an_operation_that_another_replica_ends_is_lost_at_once(
    world: World, ends: list[Any]
) -> None:
    """Be it gone by then."""
    worker = Worker()
    await world.start(worker.run, through=Replica)
    name = await world.create()
    await world.pass_time(0.5)
    await worker.started
    await (await world.open()).apply_all([(name, event) for event in ends])
    await worker.has_stopped
    assert worker.stopped == ["LEASE_LOST"]


# Notices that are lost.


class Deaf(Replica):
    hears = False


async def take_over(world: World, name: str) -> None:
    """Has another process take an operation from the attempt that runs, and begin the next one."""
    store = await world.open()
    await store.apply_all([(name, LeaseLost(1, proven=True)), (name, Claim(10**9))])


async def test_an_attempt_learns_from_its_heartbeat_that_another_process_has_taken_over(
    world: World,
) -> None:
    worker = Worker()
    await world.start(worker.run, through=Deaf)
    name = await world.create()
    await world.pass_time(SWEEP * 1.5)
    await worker.started
    await take_over(world, name)
    await world.pass_time(LEASE / 3 + 1)
    await worker.has_stopped
    assert worker.stopped == ["LEASE_LOST"]
    assert (await world.record(name)).attempt == 2


async def test_an_attempt_learns_from_its_heartbeat_that_it_is_cancelled(world: World) -> None:
    worker = Worker()
    await world.start(worker.run, through=Deaf)
    name = await world.create()
    await world.pass_time(SWEEP * 1.5)
    await worker.started
    await world.cancel(name)
    await world.pass_time(LEASE / 3 + 1)
    assert (await world.done(name)).error.code == 1
    assert worker.stopped == ["CANCEL"]


async def test_an_attempt_learns_from_its_progress_that_another_process_has_taken_over(
    world: World,
) -> None:
    """Before its next heartbeat, if what it reports is refused."""
    worker, taken = Worker(), Signal()

    async def work(request: Any, op: Any) -> Any:
        op.progress(10)
        await taken
        op.progress(20)
        await worker.run(request, op)

    await world.start(work, through=Deaf)
    name = await world.create()
    await world.pass_time(SWEEP * 1.5)
    await world.until(name, lambda one: one.progress_percent == 10)
    await take_over(world, name)
    taken.set()
    await worker.has_stopped
    assert worker.stopped == ["LEASE_LOST"]
    assert (await world.record(name)).progress_percent == 10


# Work.


async def test_work_that_another_replica_leaves_is_claimed_without_a_sweep(world: World) -> None:
    """After a short pause, which is another one in each process."""
    await world.start(lambda request, op: request, through=Replica, random=lambda: 0.5)
    await world.pass_time(0.5)
    asked = []

    async def note(events: Any) -> None:
        asked.extend(events)

    world.link.before = note
    names = [await world.create(f"{n}") for n in range(3)]
    assert asked == []
    await world.pass_time(1)
    assert [response_of(await world.done(name)) for name in names] == ["0", "1", "2"]
    assert len([one for one in asked if isinstance(one, Claim)]) == 1


async def test_a_sweep_leaves_what_another_process_has_just_made_ready_to_that_process(
    world: World,
) -> None:
    """Had it gone, the next sweep would find it."""
    await world.start(lambda request, op: request, through=Deaf, random=lambda: 0.5)
    await world.pass_time(SWEEP - 1.5)
    older = await world.create("older")
    await world.pass_time(1)
    newer = await world.create("newer")
    await world.pass_time(1)
    assert response_of(await world.done(older)) == "older"
    assert (await world.record(newer)).state == states.QUEUED
    await world.pass_time(SWEEP)
    assert response_of(await world.done(newer)) == "newer"


@pytest.mark.parametrize("age", [0.5, 2])
async def test_what_a_process_has_made_ready_itself_waits_for_no_second_sweep(
    world: World, age: float
) -> None:
    """It keeps the name over the sweep, and claims it once: the older one is found by then."""
    replicas, claims, busy = [], [], Signal()

    def through(store: Any) -> Replica:
        replicas.append(Replica(store))
        return replicas[0]

    async def work(request: Any, op: Any) -> Any:
        if request.value == "first":
            await busy
        return request

    async def note(events: Any) -> None:
        claims.extend(event for event in events if isinstance(event, Claim))

    await world.start(handler(work, concurrency=1), through=through, random=lambda: 0.5)
    await world.pass_time(SWEEP - age)
    first = await replicas[0].create(new(world, "op-0")._replace(request=FIRST))
    await world.until_in(first.name, states.RUNNING)
    second = await replicas[0].create(new(world, "op-1"))
    await world.pass_time(age + 0.5)
    world.link.before = note
    busy.set()
    assert response_of(await world.done(second.name)) == "x"
    await world.pass_time(0.5)
    assert len(claims) == 2


async def test_a_process_has_room_for_what_it_has_a_slot_for(world: World) -> None:
    """Then the others need not be told of it; of what they start it keeps no names."""
    replicas, go_on = [], Signal()

    def through(store: Any) -> Replica:
        replicas.append(Replica(store))
        return replicas[0]

    async def work(request: Any, op: Any) -> Any:
        await go_on
        return request

    await world.start(handler(work, concurrency=2), through=through)
    await world.pass_time(0.5)
    replica = replicas[0]
    assert replica.has_room(METHOD)
    assert not replica.has_room("/test.v1.Tests/Unknown")
    for number, has_room in ((1, True), (2, True), (3, False)):
        await replica.create(new(world, f"op-own-{number}"))
        assert replica.has_room(METHOD) is has_room
    await world.pass_time(0.5)
    assert not replica.has_room(METHOD)
    go_on.set()
    for number in (1, 2, 3):
        await world.done(f"projects/p/locations/l/operations/op-own-{number}")
    await world.pass_time(0.5)
    assert replica.has_room(METHOD)


async def test_what_only_another_process_can_undo_is_left_to_it(world: World) -> None:
    """Though its time is over: it waits for a server that has its handler."""
    name = await world.create(method=OTHER_METHOD, timeout=6_000_000, pausable=True)
    begun = BatchStates.begin(["a"])
    begun.move("a", BatchCreateInstanceStatus.CREATING)
    for event in (
        Claim(10**9),
        SaveBatch(Report(1), begun.serialized(), b""),
        Pause(),
        Release(Report(1)),
    ):
        await world.apply(name, event)
    assert (await world.record(name)).state == states.PAUSED
    await world.start(lambda request, op: request)
    await world.pass_time(6 + 2 * SWEEP)
    assert (await world.record(name)).state == states.QUEUED


@pytest.mark.parametrize(
    "meanwhile", [[Heartbeat(1, 10**9)], [Terminate("it is stuck"), Delete()]], ids=["held", "gone"]
)
async def test_what_others_make_of_a_lost_operation_first_is_no_loss(
    world: World, meanwhile: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    name = await world.create()
    await world.apply(name, Claim(1_000_000))
    rescues = []

    async def be_faster(events: Any) -> None:
        if any(isinstance(event, LeaseLost) for event in events):
            rescues.append(events)
            await (await world.open()).apply_all([(name, event) for event in meanwhile])

    await world.start(lambda request, op: request)
    world.link.before = be_faster
    await world.pass_time(2 * SWEEP)
    assert len(rescues) == 1
    assert [one.getMessage() for one in caplog.records if one.levelno >= logging.WARNING] == []


async def test_what_ends_is_not_followed_any_more(world: World) -> None:
    replicas = []

    def through(store: Any) -> Replica:
        replicas.append(Replica(store))
        return replicas[0]

    engine = await world.start(lambda request, op: request, through=through)
    names = [await world.create(f"{n}") for n in range(3)]
    await world.pass_time(0.5)
    for name in names:
        await world.done(name)
    await world.pass_time(0.5)
    (replica,) = replicas
    assert replica.followers == {}
    assert len(replica.workers) == 1
    await world.stop()
    assert replica.workers == []
    del engine


async def test_a_call_that_waits_is_woken_by_what_another_replica_does() -> None:
    store = MemoryStore(lambda: 1_800_000_000_000_000)
    replica = Replica(store)
    notifier = Notifier(replica)
    name = (
        await store.create(
            publication.create(
                parent="",
                operation_id="op-1",
                method=METHOD,
                request=b"",
                metadata_type="lro.v1.OperationMetadata",
                now=store.now(),
            )
        )
    ).name
    with notifier.watch(name) as every, notifier.watch(name, ends_only=True) as end:
        await store.apply(name, Claim(15_000_000))
        await asyncio.wait_for(every.wait(60), 40)
        ending = asyncio.create_task(end.wait(60))
        await store.apply(name, Terminate("it is stuck"))
        await store.apply(name, Delete())
        await asyncio.wait_for(ending, 40)
    assert replica.followers == {}


# The store's time counts, whatever this process's clock says.


@pytest.fixture
def late_world() -> World:
    """The clock of its process is an hour behind that of the store."""
    world = World(lambda: MemoryStore(lambda: world.clock.now() + 3_600_000_000), is_shared=True)
    return world


async def test_a_deadline_is_one_of_the_stores_time(late_world: World) -> None:
    world, worker = late_world, Worker()
    await world.start(worker.run)
    store = await world.open()
    made = new(world)._replace(create_time=store.now(), deadline_time=store.now() + 5_000_000)
    await store.create(made)
    await worker.started
    await world.pass_time(4)
    assert (await world.record(made.name)).state == states.RUNNING
    await world.pass_time(2)
    assert (await world.record(made.name)).state == states.EXPIRED
    assert worker.stopped == ["TIMEOUT"]


async def test_a_lease_is_over_by_the_stores_time(late_world: World) -> None:
    world = late_world
    name = await world.create("x")
    await world.apply(name, Claim(1_000_000))
    await world.start(lambda request, op: request)
    await world.pass_time(2 * SWEEP)
    assert response_of(await world.done(name)) == "x"
    assert (await world.record(name)).attempt == 2


async def test_a_pause_before_a_retry_is_one_of_the_stores_time(late_world: World) -> None:
    world = late_world
    attempts = []

    async def work(request: Any, op: Any) -> Any:
        attempts.append(op.attempt)
        if op.attempt == 1:
            raise RetryableError("not yet", retry_after=3)
        return request

    await world.start(work)
    name = await world.create("x", max_attempts=2)
    await world.pass_time(2)
    assert attempts == [1]
    await world.pass_time(2)
    assert response_of(await world.done(name)) == "x"


class ClaimsTakeLonger(Replica):
    """One whose claims are answered only after the leases were looked at."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self._looked = asyncio.Event()

    async def claim(self, limits: Mapping[str, int], claim: Claim, **how: Any) -> Sequence[Claimed]:
        self._looked.clear()
        await self._looked.wait()
        return await super().claim(limits, claim, **how)

    async def leased(self, *, until: int | None = None) -> Sequence[Leased]:
        leased = await super().leased(until=until)
        self._looked.set()
        return leased


class EachClaimTakesTime(Replica):
    """One to which each operation is half a second of a claim, as large ones may be."""

    def __init__(self, store: Store, clock: ManualClock) -> None:
        super().__init__(store)
        self._clock = clock

    async def claim(self, limits: Mapping[str, int], claim: Claim, **how: Any) -> Sequence[Claimed]:
        claimed = await super().claim(limits, claim, **how)
        self._clock.advance(timedelta(seconds=len(claimed) / 2))
        return claimed

    async def apply_all(self, changes: Sequence[Change]) -> Sequence[Record | LroError]:
        outcomes = await super().apply_all(changes)
        claims = [event for _, event in changes if isinstance(event, Claim)]
        self._clock.advance(timedelta(seconds=len(claims) / 2))
        return outcomes


@pytest.mark.parametrize("starts_first", [True, False])
async def test_no_more_is_claimed_at_once_than_a_lease_is_long_enough_for(
    world: World, starts_first: bool
) -> None:
    """The leases of all are over before their claim is answered, and that must not go on."""

    async def work(request: Any, op: Any) -> Any:
        return request

    async def start() -> None:
        await world.start(work, through=lambda one: EachClaimTakesTime(one, world.clock))

    if starts_first:
        await start()
    names = await asyncio.gather(*(world.create(str(number)) for number in range(40)))
    if not starts_first:
        await start()
    await world.pass_time(SWEEP)
    assert [response_of(await world.done(name)) for name in names] == [str(n) for n in range(40)]
    assert max([(await world.record(name)).attempt for name in names]) == 2


async def test_a_claim_that_is_always_under_way_keeps_nothing_from_being_rescued(
    world: World,
) -> None:
    """Each sweep claims, and looks for lost operations at the same time."""
    name = await world.create()
    await world.apply(name, Claim(micros(timedelta(seconds=LEASE))))
    await world.start(lambda request, op: request, through=ClaimsTakeLonger)
    await world.pass_time(LEASE + 5 * SWEEP)
    await world.done(name)
    assert (await world.record(name)).attempt == 2
