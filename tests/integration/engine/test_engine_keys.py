"""Operations with a concurrency key: how many of one run at a time, and whose turn is next."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from random import Random
from typing import Any

import pytest
from engine_world import LEASE, METHOD, SWEEP, Text, World, handler
from replica import Replica

from lro_grpc import LroError, RetryableError
from lro_grpc._conformance.samples import RESPONSE
from lro_grpc._operation import publication
from lro_grpc._operation.events import Cancel, Claim, Report, Succeed, Terminate
from lro_grpc._runtime.backoff import Backoff
from lro_grpc.stores import Change, ForwardingStore, KeyedClaims, MemoryStore, Record

SOON = Backoff(10.0, 1.0, 10.0)


class Held:
    """A handler whose attempts go on until they are let go, and what has begun of them."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.most: Counter[str] = Counter()
        """The most that have run at a time, by what their requests begin with."""
        self._running: dict[str, asyncio.Future[None]] = {}
        self._more = asyncio.Event()

    async def run(self, request: Any, op: Any) -> Text:
        value = request.value
        self.begun.append(value)
        self._running[value] = asyncio.get_running_loop().create_future()
        for key, number in Counter(one[:1] for one in self._running).items():
            self.most[key] = max(self.most[key], number)
        self._more.set()
        try:
            await self._running[value]
        finally:
            del self._running[value]
        return Text(value=value)

    @property
    def running(self) -> list[str]:
        return sorted(self._running)

    async def until(self, number: int) -> list[str]:
        """Waits until so many have begun, and returns them."""
        while len(self.begun) < number:
            self._more.clear()
            await asyncio.wait_for(self._more.wait(), 20)
        return self.begun

    def let_go(self, *values: str) -> None:
        for value in values:
            self._running[value].set_result(None)


@pytest.fixture
def held() -> Held:
    return Held()


async def make(world: World, *values: str) -> dict[str, str]:
    """Starts operations whose keys are the first letters of their values."""
    return {value: await world.create(value, concurrency_key=value[:1]) for value in values}


@pytest.fixture(params=["waiting", "starting"])
def begin(request: pytest.FixtureRequest) -> Any:
    """Starts an engine, before operations are or after."""

    async def begin(world: World, made: Any, *values: str) -> dict[str, str]:
        if request.param == "starting":
            await world.start(made)
        names = await make(world, *values)
        if request.param == "waiting":
            await world.start(made)
        return names

    return begin


async def test_one_key_does_not_wait_behind_another(world: World, held: Held, begin: Any) -> None:
    """Though 1,000 of that were there before."""
    made = handler(held.run, concurrency=3, concurrency_per_key=2)
    await begin(world, made, *(f"a{number}" for number in range(1000)), "b0", "b1", "b2")
    assert sorted(await held.until(3)) == ["a0", "a1", "b0"]
    for number, value in enumerate(("a0", "b0"), 4):
        held.let_go(value)
        await held.until(number)
    assert sorted(held.begun[3:]) == ["a2", "b1"]


async def test_the_end_of_an_attempt_begins_the_next_of_its_key(world: World, held: Held) -> None:
    """With slots to spare; those of one key in the order of their starts."""
    await world.start(handler(held.run, concurrency=100, concurrency_per_key=1))
    names = await make(world, "a0", "a1", "a2", "b0")
    assert await held.until(2) == ["a0", "b0"]
    held.let_go("a0")
    assert (await held.until(3))[2:] == ["a1"]
    await world.apply(names["a1"], Terminate("enough"))
    assert (await held.until(4))[3:] == ["a2"]
    held.let_go("a2", "b0")
    await world.done(names["a2"])
    assert held.most == {"a": 1, "b": 1}


async def test_keys_without_a_bound_take_turns(world: World, held: Held) -> None:
    await make(world, "a0", "a1", "a2", "b0", "c0")
    await world.start(handler(held.run, concurrency=4))
    assert await held.until(4) == ["a0", "b0", "c0", "a1"]
    held.let_go("b0")
    assert (await held.until(5))[4:] == ["a2"]


async def test_those_with_a_key_and_those_without_have_slots_in_turn(
    world: World, held: Held
) -> None:
    for number in range(8):
        await make(world, f"a{number}", f"b{number}")
        await world.create(f"_{number}")
    await world.start(handler(held.run, concurrency=1))
    for number in range(24):
        held.let_go((await held.until(number + 1))[-1])
    assert Counter(one[0] for one in held.begun) == {"a": 8, "b": 8, "_": 8}
    while_all_wait = [one[0] == "_" for one in held.begun[:15]]
    assert while_all_wait in ([True, False] * 7 + [True], [False, True] * 7 + [False])


async def test_none_with_a_key_is_claimed_by_its_name(world: World, held: Held) -> None:
    """Or another process could claim one of its key at the same time."""
    named: list[str] = []

    class Noting(ForwardingStore):
        async def apply_all(self, changes: Sequence[Change]) -> Sequence[Record | LroError]:
            named.extend(name for name, event in changes if isinstance(event, Claim))
            return await super().apply_all(changes)

    made = handler(held.run, concurrency=5, concurrency_per_key=2, backoff=SOON)
    await world.start(made, through=Noting)
    names = await make(world, "a0", "a1")
    await held.until(2)
    held._running["a0"].set_exception(RetryableError("later"))
    await world.until(names["a0"], lambda one: one.scheduled_time > 0)
    await world.pass_time(11)
    await held.until(3)
    assert named == []
    plain = await world.create("_")
    await held.until(4)
    assert named == [plain]


async def test_a_retry_waits_for_its_pause_whatever_the_time_of_day(
    world: World, held: Held
) -> None:
    """As one without a key does; and then for a place."""
    await world.start(handler(held.run, concurrency_per_key=1, backoff=SOON))
    names = await make(world, "a0", "a1")
    await held.until(1)
    held._running["a0"].set_exception(RetryableError("later"))
    assert (await held.until(2))[1:] == ["a1"]
    await world.until(names["a0"], lambda one: one.scheduled_time > 0)
    world.clock.offset -= type(world.clock.offset)(hours=1)
    await world.pass_time(11)
    assert held.running == ["a1"]
    assert (await world.record(names["a0"])).is_ready
    held.let_go("a1")
    assert (await held.until(3))[2:] == ["a0"]


async def test_what_is_cancelled_or_paused_leaves_its_turn_to_the_next(
    world: World, held: Held
) -> None:
    await world.start(handler(held.run, concurrency_per_key=1))
    names = await make(world, "a0", "a1")
    names["a2"] = await world.create("a2", concurrency_key="a", pausable=True)
    await make(world, "a3")
    await held.until(1)
    await world.apply(names["a1"], Cancel())
    await world.pause(names["a2"])
    held.let_go("a0")
    assert (await held.until(2))[1:] == ["a3"]
    await world.resume(names["a2"])
    held.let_go("a3")
    assert (await held.until(3))[2:] == ["a2"]


async def test_a_high_priority_has_the_first_turn_of_its_key(world: World, held: Held) -> None:
    await make(world, "a0", "a1")
    await world.create("a2", concurrency_key="a", priority=1)
    await world.start(handler(held.run, concurrency_per_key=1))
    assert await held.until(1) == ["a2"]


async def test_one_that_cannot_be_gone_on_with_keeps_none_of_its_key_waiting(
    world: World, held: Held
) -> None:
    store = await world.open()
    for number in range(3):
        newer = publication.create(
            parent="projects/p",
            operation_id=f"op-newer{number}",
            method=METHOD,
            request=b"\xff",
            request_understood=True,
            metadata_type="lro.v1.OperationMetadata",
            now=world.clock.now(),
            concurrency_key="a",
        )
        await store.create(newer)
    await make(world, "a0", "a1")
    await world.start(handler(held.run, concurrency_per_key=1))
    assert await held.until(1) == ["a0"]
    held.let_go("a0")
    assert (await held.until(2))[1:] == ["a1"]


async def test_each_former_name_of_a_method_is_counted_by_itself(world: World, held: Held) -> None:
    former = "/test.v0.Tests/Run"
    for number in range(2):
        await world.create(f"a{number}", concurrency_key="a", method=former)
        await make(world, f"b{number}")
    made = handler(held.run, concurrency_per_key=1, former_names=(former,))
    await world.start(made)
    assert sorted(await held.until(2)) == ["a0", "b0"]
    held.let_go("a0", "b0")
    assert sorted((await held.until(4))[2:]) == ["a1", "b1"]


class Counting(ForwardingStore):
    """Counts the claims by key."""

    claims = 0

    async def claim_by_key(self, *arguments: Any, **options: Any) -> KeyedClaims:
        self.claims += 1
        return await super().claim_by_key(*arguments, **options)


async def test_keys_that_are_all_full_are_looked_at_once(world: World, held: Held) -> None:
    """However many they are; then one that has a place is found among them."""
    store = await world.open()
    keys = [f"k{number:03}" for number in range(300)]
    for key in keys:
        held_by_another = await world.create("x", concurrency_key=key)
        await store.apply(held_by_another, Claim(int(LEASE * 1e9)))
        await world.create(f"y{key}", concurrency_key=key)
    counting: list[Counting] = []

    def through(store: Any) -> Any:
        counting.append(Counting(Shared(store)))
        return counting[0]

    await world.start(handler(held.run, concurrency_per_key=1), through=through)
    await world.pass_time(1)
    assert held.begun == []
    assert 5 <= counting[0].claims <= 12
    seen = counting[0].claims
    await world.create("z", concurrency_key="z")
    await held.until(1)
    assert counting[0].claims <= seen + 12


class Shared(ForwardingStore):
    """A store whose leases are others' as far as they are not known here."""

    exclusive = False


async def test_an_attempt_that_ends_on_another_replica_leaves_its_place(
    held: Held,
) -> None:
    """Whose process may have no slot for the next one of the key."""
    world = World(lambda: MemoryStore(world.clock.now), is_shared=True)
    store = await world.open()
    first = await world.create("a0", concurrency_key="a")
    await store.apply(first, Claim(int(LEASE * 1e6)))
    await world.start(handler(held.run, concurrency_per_key=1), through=Replica)
    await make(world, "a1")
    await world.pass_time(0.5)
    assert held.begun == []
    await store.apply(first, Succeed(Report(1), RESPONSE))
    await world.pass_time(0.5)
    assert await held.until(1) == ["a1"]
    await world.close()


async def test_the_place_of_a_process_that_is_gone_is_free_after_its_lease(held: Held) -> None:
    world = World(lambda: MemoryStore(world.clock.now), is_shared=True)
    store = await world.open()
    first = await world.create("a0", concurrency_key="a")
    await store.apply(first, Claim(int(LEASE * 1e6)))
    await world.start(handler(held.run, concurrency_per_key=1), through=Replica)
    await make(world, "a1")
    await world.pass_time(LEASE - SWEEP)
    assert held.begun == []
    await world.pass_time(3 * SWEEP)
    assert await held.until(1) == ["a0"]
    await world.close()


async def test_never_do_more_run_of_a_key_than_may(world: World, held: Held) -> None:
    """Whatever begins and ends, and in whichever order."""
    random = Random(7)
    await world.start(handler(held.run, concurrency=6, concurrency_per_key=2))
    for number in range(500):
        if number < 60:
            value = f"{random.choice('aaab_')}{number}"
            key = "" if value[0] == "_" else value[0]
            await world.create(value, concurrency_key=key)
        for value in random.sample(held.running, random.randint(0, len(held.running))):
            held.let_go(value)
        await world.pass_time(0.5)
        if len(held.begun) == 60 and not held.running:
            break
    assert len(held.begun) == 60
    assert held.most["a"] == 2
    assert held.most["b"] <= 2
