"""Tests of concurrency keys: of each so many attempts at a time, and one key in turn."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Sequence
from random import Random

from lro_grpc._conformance.cases import StoreCases, sync_test, with_store
from lro_grpc._conformance.listeners import Announced
from lro_grpc._conformance.samples import ERROR, LEASE, OTHER_METHOD, RESPONSE
from lro_grpc._errors import UnservedError
from lro_grpc._operation import states
from lro_grpc._operation.events import (
    Cancel,
    Claim,
    Delete,
    Event,
    Fail,
    LeaseLost,
    Pause,
    Release,
    Report,
    Resume,
    RetryLater,
    Succeed,
    Terminate,
    TimePassed,
)
from lro_grpc._operation.record import Record
from lro_grpc._stores.store import MOST_KEYS, Claimed, KeyedClaims, Query, Store


class _ChoosyClaim(Claim):
    """A claim that no operation takes whose number is even."""

    def apply(self, record: Record, now: int) -> Record:
        if int(record.name[-1]) % 2 == 0:
            raise UnservedError("this one is of another release")
        return super().apply(record, now)


class Fairness(StoreCases):
    """Promises of the operations that have a ``concurrency_key``."""

    async def _make(self, store: Store, *keys: str, first: int = 0) -> list[Record]:
        """Stores an operation of each key, in their order."""
        return [
            await store.create(self.record(f"op-{number}", concurrency_key=key))
            for number, key in enumerate(keys, first)
        ]

    async def _claim(
        self, store: Store, limit: int, per_key: int = 1, after: str = ""
    ) -> tuple[list[str], KeyedClaims]:
        """Claims operations; returns the last parts of their names, too."""
        claims = await store.claim_by_key(self.METHOD, limit, per_key, Claim(LEASE), after=after)
        return _ids(claims.claimed), claims

    # What is of a key.

    @with_store
    async def test_an_operation_keeps_its_key(self, store: Store) -> None:
        """Whatever becomes of it."""
        (made,) = await self._make(store, "tenants/ä – 1")
        assert made.concurrency_key == "tenants/ä – 1"
        await self._is(store, made)
        await self._claim(store, 1)
        done = await store.apply(made.name, Succeed(Report(1), RESPONSE))
        assert done.concurrency_key == made.concurrency_key
        await self._is(store, done)

    @with_store
    async def test_what_has_a_key_waits_as_all_others_do(self, store: Store) -> None:
        """It is counted, and found by who looks for what is ready; no plain claim takes it."""
        made = await self._make(store, "a", "", "b", "a")
        ready = [made[1].name, made[0].name, made[3].name, made[2].name]
        assert sorted(await store.claimable({self.METHOD: 9})) == sorted(ready)
        assert len(await store.claimable({self.METHOD: 3})) == 3
        assert dict(await store.waiting(self.METHOD, 9)) == {"": 4}
        assert dict(await store.waiting_methods()) == {self.METHOD: 4}
        counts = await store.counts(Query("-"))
        assert [(one.state, one.number) for one in counts.counts] == [(states.QUEUED, 4)]
        assert counts.oldest_ready[self.METHOD].since == self.time
        claimed = await store.claim({self.METHOD: 9}, Claim(LEASE))
        assert _ids(claimed) == ["op-1"]
        assert dict(await store.waiting(self.METHOD, 9)) == {"": 3}
        assert (await self._claim(store, 9, per_key=0))[0] == ["op-0", "op-2", "op-3"]
        assert dict(await store.waiting_methods()) == {}
        assert len(await store.leased()) == 4

    @with_store
    async def test_what_is_held_of_a_key_is_counted(self, store: Store) -> None:
        """Of one method, as far as one asks; neither what waits nor what is done."""
        made = await self._make(store, "a", "a", "a", "b", "")
        await store.create(self.record("op-x", method=OTHER_METHOD, concurrency_key="a"))
        assert await store.held_of_key(self.METHOD, "a", 9) == 0
        for name in (made[0].name, made[1].name, made[3].name, made[4].name):
            await store.apply(name, Claim(LEASE))
        held = [await store.held_of_key(self.METHOD, key, 9) for key in ("a", "b", "ab", "\0")]
        assert held == [2, 1, 0, 0]
        assert await store.held_of_key(self.METHOD, "a", 1) == 1
        assert await store.held_of_key(OTHER_METHOD, "a", 9) == 0
        await store.apply(made[0].name, Succeed(Report(1), RESPONSE))
        await store.apply(made[1].name, Release(Report(1)))
        assert await store.held_of_key(self.METHOD, "a", 9) == 0

    @with_store
    async def test_a_claim_by_key_takes_nothing_else(self, store: Store) -> None:
        """Not of another method, not without a key; what it takes, listeners hear of."""
        await store.create(self.record("op-x", method=OTHER_METHOD, concurrency_key="a"))
        await self._make(store, "", first=5)
        assert await self._claim(store, 9, after="b") == ([], KeyedClaims([], "b", has_more=False))
        (made,) = await self._make(store, "a")
        announced = Announced(store)
        names, claims = await self._claim(store, 9)
        ((before, outcome),) = claims.claimed
        assert (names, before) == (["op-0"], made)
        assert isinstance(outcome, Record)
        assert (outcome.attempt, outcome.lease_expire_time) == (1, self.time + LEASE)
        await self._is(store, outcome)
        assert (announced.befores, announced.records) == ([made], [outcome])

    # Turns.

    @with_store
    async def test_one_of_each_key_has_its_turn_and_then_the_next(self, store: Store) -> None:
        """However many wait of a key, and since when."""
        await self._make(store, "a", "a", "a", "b", "c", "b")
        assert (await self._claim(store, 4, per_key=0))[0] == ["op-0", "op-3", "op-4", "op-1"]
        assert (await self._claim(store, 9, per_key=0))[0] == ["op-2", "op-5"]
        assert (await self._claim(store, 0, per_key=0))[0] == []

    @with_store
    async def test_the_turns_go_on_behind_the_last_key(self, store: Store) -> None:
        """They are a ring, in the order of code points; a key may be gone by then."""
        await self._make(store, *("b", "a", "ä", "Z", "b", "a", "ä", "Z"))
        after, taken = "", []
        for _ in range(5):
            names, claims = await self._claim(store, 1, per_key=0, after=after)
            assert claims.has_more
            after = claims.last_key
            taken += [after, *names]
        assert taken == ["Z", "op-3", "a", "op-1", "b", "op-0", "ä", "op-2", "Z", "op-7"]
        names, claims = await self._claim(store, 9, per_key=0, after="aa")
        assert names == ["op-4", "op-6", "op-5"]
        assert (claims.last_key, claims.has_more) == ("a", False)

    @with_store
    async def test_after_several_turns_the_next_key_is_first(self, store: Store) -> None:
        """Behind the one that had the last turn."""
        await self._make(store, *"aaabbb")
        names, claims = await self._claim(store, 3, per_key=0)
        assert (names, claims.last_key, claims.has_more) == (["op-0", "op-3", "op-1"], "a", True)
        assert (await self._claim(store, 1, per_key=0, after="a"))[0] == ["op-4"]

    @with_store
    async def test_of_a_key_the_one_whose_turn_it_is_comes_first(self, store: Store) -> None:
        """By its priority, and by the time that it was delayed to."""
        minute = 60_000_000
        for number, how in enumerate(
            ({}, {"priority": 1}, {"schedule_time": self.time + minute // 2}, {"priority": -1})
        ):
            await store.create(self.record(f"op-{number}", concurrency_key="a", **how))
        assert (await self._claim(store, 1, per_key=0))[0] == ["op-1"]
        self.time += minute
        for name in await store.expired(9):
            await store.apply(name, TimePassed())
        assert (await self._claim(store, 9, per_key=0))[0] == ["op-0", "op-2", "op-3"]

    @with_store
    async def test_a_claim_looks_at_so_many_keys(self, store: Store) -> None:
        """Even if none of them has a place; the next claim looks at those behind."""
        keys = [f"k{number:03}" for number in range(2 * MOST_KEYS + 2)]
        full = await self._make(store, *keys[:-1], *keys[:-1])
        await store.apply_all([(one.name, Claim(LEASE)) for one in full[: len(keys) - 1]])
        await self._make(store, keys[-1], first=len(full))
        after = ""
        for last in (MOST_KEYS - 1, 2 * MOST_KEYS - 1):
            names, claims = await self._claim(store, 9, after=after)
            assert (names, claims.last_key, claims.has_more) == ([], keys[last], True)
            after = claims.last_key
        names, claims = await self._claim(store, 9, after=after)
        assert (len(names), claims.last_key, claims.has_more) == (1, keys[MOST_KEYS - 3], True)
        names, claims = await self._claim(store, 9, after=keys[-1])
        assert (names, claims.last_key) == ([], keys[MOST_KEYS - 1])

    # Places.

    @with_store
    async def test_of_a_key_so_many_are_held_at_a_time(self, store: Store) -> None:
        """Whoever holds them; those of other keys and other methods are not counted."""
        await self._make(store, *"aaaab")
        other = await store.create(self.record("op-x", method=OTHER_METHOD, concurrency_key="a"))
        await store.apply(other.name, Claim(LEASE))
        await store.apply(f"{self.PARENT}/operations/op-1", Claim(LEASE))
        names, claims = await self._claim(store, 9, per_key=2)
        assert (names, claims.last_key, claims.has_more) == (["op-0", "op-4"], "b", False)
        assert (await self._claim(store, 9, per_key=2))[0] == []
        await store.apply(f"{self.PARENT}/operations/op-1", Succeed(Report(1), RESPONSE))
        assert (await self._claim(store, 9, per_key=2))[0] == ["op-2"]
        assert (await self._claim(store, 9, per_key=1))[0] == []  # of another release
        assert (await self._claim(store, 9, per_key=5))[0] == ["op-3"]

    @with_store
    async def test_every_end_of_an_attempt_leaves_a_place(self, store: Store) -> None:
        """And what stays in the queue has its turn again."""
        ends: Sequence[tuple[Event, bool]] = (
            (Succeed(Report(1), RESPONSE), False),
            (Fail(Report(1), ERROR), False),
            (Terminate("enough"), False),
            (RetryLater(Report(1), ERROR, 3_600_000_000), False),
            (RetryLater(Report(1), ERROR, 0), True),
            (Release(Report(1)), True),
            (LeaseLost(1, proven=True), True),
        )
        for number, (end, is_ready) in enumerate(ends):
            key = f"k{number}"
            one = self.record(f"op-{number}0", concurrency_key=key)
            first = await store.create(one)
            await store.create(self.record(f"op-{number}1", concurrency_key=key))
            assert (await self._claim(store, 9))[0] == [f"op-{number}0"]
            await store.apply(first.name, end)
            again = f"op-{number}0" if is_ready else f"op-{number}1"
            assert (await self._claim(store, 9))[0] == [again], end

    @with_store
    async def test_a_hidden_operation_keeps_its_place(self, store: Store) -> None:
        """It runs on; and it waits on, if it waits."""
        made = await self._make(store, *"aaa")
        await self._claim(store, 1)
        for one in made[:2]:
            await store.apply(one.name, Delete())
        assert (await self._claim(store, 9))[0] == []
        await store.apply(made[0].name, Succeed(Report(1), RESPONSE))
        assert (await self._claim(store, 9))[0] == ["op-1"]

    @with_store
    async def test_what_is_paused_cancelled_or_delayed_takes_no_turn(self, store: Store) -> None:
        """Until it is ready again."""
        paused = await store.create(self.record("op-0", concurrency_key="a", pausable=True))
        later = {"concurrency_key": "a", "schedule_time": self.time + 5}
        delayed = await store.create(self.record("op-1", **later))
        (cancelled, last) = await self._make(store, *"aa", first=2)
        await store.apply_all([(paused.name, Pause()), (cancelled.name, Cancel())])
        assert (await self._claim(store, 9, per_key=0))[0] == [_ids([last])[0]]
        await store.apply(paused.name, Resume())
        self.time += 5
        await store.apply(delayed.name, TimePassed())
        assert (await self._claim(store, 9, per_key=0))[0] == ["op-0", "op-1"]

    @with_store
    async def test_what_is_overdue_expires_and_takes_no_place(self, store: Store) -> None:
        """As in every claim."""
        await store.create(self.record("op-0", concurrency_key="a", timeout=10))
        await self._make(store, *"aa", first=1)
        self.time += 10
        _, claims = await self._claim(store, 9, per_key=2)
        outcomes = [one.outcome for one in claims.claimed]
        assert all(isinstance(one, Record) for one in outcomes)
        states_of = [one.state for one in outcomes if isinstance(one, Record)]
        assert states_of == [states.EXPIRED, states.RUNNING]
        assert (await self._claim(store, 9, per_key=2))[0] == ["op-2"]

    @with_store
    async def test_what_is_left_out_takes_no_turn(self, store: Store) -> None:
        """One that refuses the claim counts, and holds no place."""
        made = await self._make(store, *"aaabb")
        choosy = _ChoosyClaim(LEASE)
        claims = await store.claim_by_key(self.METHOD, 9, 1, choosy)
        refusals = [isinstance(one.outcome, UnservedError) for one in claims.claimed]
        assert (_ids(claims.claimed), refusals) == (["op-0", "op-3"], [True, False])
        await self._is(store, made[0])
        left_out = {made[0].name, f"{made[0].name}x"}
        claims = await store.claim_by_key(self.METHOD, 9, 1, choosy, left_out=left_out)
        assert _ids(claims.claimed) == ["op-1"]
        left_out = {one.name for one in made}
        claims = await store.claim_by_key(self.METHOD, 9, 0, Claim(LEASE), left_out=left_out)
        assert (list(claims.claimed), claims.has_more) == ([], False)

    @with_store
    async def test_what_has_become_ready_since_a_time_is_passed_over(self, store: Store) -> None:
        """As in every claim; a key with nothing else has no turn."""
        made = await self._make(store, *"aab")
        await store.apply_all([(one.name, Claim(LEASE)) for one in (made[0], made[2])])
        self.time += 10
        await store.apply_all([(one.name, Release(Report(1))) for one in (made[0], made[2])])
        for since, expected in ((0, []), (10, ["op-1"]), (11, ["op-0", "op-2"])):
            claims = await store.claim_by_key(
                self.METHOD, 9, 0, Claim(LEASE), ready_before=self.START + since
            )
            assert _ids(claims.claimed) == expected, since

    # At once.

    @with_store
    async def test_claims_by_key_at_once_take_different_operations(self, store: Store) -> None:
        """And of each key no more than may be; all of them in the end."""
        random = Random(1)  # noqa: S311 - the same each time
        keys = [random.choice("aaaaabc") for _ in range(40)]
        waiting = {one.name: one for one in await self._make(store, *keys)}
        held: dict[str, Record] = {}
        for _ in range(400):
            ends = random.sample(sorted(held), random.randint(0, len(held)))
            calls = [
                self._claim(store, random.randint(1, 3), per_key=2, after=random.choice("abc"))
                for _ in range(3)
            ]
            done = [(name, Succeed(Report(1), RESPONSE)) for name in ends]
            answers, _ = await asyncio.gather(asyncio.gather(*calls), store.apply_all(done))
            for name in ends:
                del held[name]
            for claimed in itertools.chain(*(claims.claimed for _, claims in answers)):
                assert isinstance(claimed.outcome, Record), claimed.outcome
                assert claimed.before.name not in held
                held[claimed.before.name] = waiting.pop(claimed.before.name)
            leased = [one.name for one in await store.leased()]
            assert sorted(leased) == sorted(held)
            of_keys = Counter(one.concurrency_key for one in held.values())
            assert max(of_keys.values(), default=0) <= 2
            if not (waiting or held):
                return
        raise AssertionError(f"{len(waiting)} are left")

    @sync_test
    async def test_what_runs_is_counted_after_a_restart(self) -> None:
        """It is what has a lease, whoever holds it; a place is free once that is taken."""
        async with self.opened() as store:
            made = await self._make(store, *"aab")
            assert (await self._claim(store, 1))[0] == ["op-0"]
        async with self.opened() as store:
            assert (await self._claim(store, 9))[0] == ["op-2"]
            await store.apply(made[0].name, LeaseLost(1, proven=True))
            assert (await self._claim(store, 9))[0] == ["op-0"]


def _ids(claimed: Sequence[Claimed | Record]) -> list[str]:
    names = (one.name if isinstance(one, Record) else one.before.name for one in claimed)
    return [name.rpartition("/")[2] for name in names]
