"""Tests of claims: the oldest operations that are ready, once each."""

from __future__ import annotations

import asyncio
from functools import partial

from lro_grpc._conformance.cases import StoreCases, refused, with_store
from lro_grpc._conformance.listeners import Announced
from lro_grpc._conformance.samples import BATCH, ERROR, LEASE, OTHER_METHOD, RESPONSE, STATE
from lro_grpc._errors import LroError, StaleAttemptError, UnservedError
from lro_grpc._operation import states
from lro_grpc._operation.events import (
    Cancel,
    Checkpoint,
    Claim,
    Delete,
    Heartbeat,
    Pause,
    Release,
    Report,
    Resume,
    RetryLater,
    SaveBatch,
    Succeed,
    TimePassed,
)
from lro_grpc._operation.record import Record
from lro_grpc._stores.store import Change, Leased, Store


class Claims(StoreCases):
    """Promises of the operations that wait for a worker."""

    # Claim, hold, release.

    @with_store
    async def test_claimable_gives_the_oldest_of_each_method(self, store: Store) -> None:
        """At most as many as asked for, of the methods asked for."""
        made = [
            await store.create(
                self.record(f"op-{n}", method=OTHER_METHOD if n % 3 == 0 else self.METHOD)
            )
            for n in range(9)
        ]
        ours = [one.name for one in made if one.method == self.METHOD]
        others = [one.name for one in made if one.method == OTHER_METHOD]
        assert list(await store.claimable({self.METHOD: 100})) == ours
        assert list(await store.claimable({self.METHOD: 2})) == ours[:2]
        both = list(await store.claimable({self.METHOD: 3, OTHER_METHOD: 1}))
        assert [name for name in both if name in ours] == ours[:3]
        assert [name for name in both if name in others] == others[:1]
        assert list(await store.claimable({self.METHOD: 0})) == []
        assert list(await store.claimable({})) == []
        assert list(await store.claimable({"/contract.v1.Contract/Unknown": 1})) == []

    @with_store
    async def test_what_is_not_ready_is_claimable_later(self, store: Store) -> None:
        """Once time has made it ready; it keeps its old place."""
        names = [(await store.create(self.record(f"op-{n}"))).name for n in range(2)]
        await store.apply(names[0], Claim(LEASE))
        await store.apply(names[0], RetryLater(Report(1), b"", delay=5))
        self.time += 4
        await store.apply(names[0], TimePassed())
        assert list(await store.expired(9)) == []
        assert list(await store.claimable({self.METHOD: 9})) == names[1:]
        assert list(await store.claimable({self.METHOD: 1})) == names[1:]
        self.time += 1
        assert list(await store.claimable({self.METHOD: 9})) == names[1:]
        assert list(await store.expired(9)) == [names[0]]
        await store.apply(names[0], TimePassed())
        assert list(await store.expired(9)) == []
        assert list(await store.claimable({self.METHOD: 9})) == names

    @with_store
    async def test_a_claim_takes_the_oldest_of_each_method(self, store: Store) -> None:
        """At most as many as asked for, of the methods asked for; listeners hear of each."""
        made = [
            await store.create(
                self.record(f"op-{n}", method=OTHER_METHOD if n % 3 == 0 else self.METHOD)
            )
            for n in range(9)
        ]
        ours = [one for one in made if one.method == self.METHOD]
        others = [one for one in made if one.method == OTHER_METHOD]
        announced = Announced(store)
        unknown = "/contract.v1.Contract/Unknown"
        limits = {self.METHOD: 2, OTHER_METHOD: 1, unknown: 1}
        claimed = await store.claim(limits, Claim(LEASE))
        assert [one.before for one in claimed if one.before in ours] == ours[:2]
        assert [one.before for one in claimed if one.before in others] == others[:1]
        assert len(claimed) == 3
        for before, outcome in claimed:
            assert isinstance(outcome, Record)
            assert (outcome.attempt, outcome.lease_expire_time) == (1, self.time + LEASE)
            await self._is(store, outcome)
            assert announced.befores[announced.records.index(outcome)] == before
        assert len(announced.records) == 3
        assert list(await store.claim({self.METHOD: 0}, Claim(LEASE))) == []
        assert list(await store.claim({}, Claim(LEASE))) == []
        await store.apply(ours[2].name, Claim(LEASE))
        delayed = await store.apply(ours[2].name, RetryLater(Report(1), ERROR, 5))
        self.time += 5
        claimed = await store.claim({self.METHOD: 100}, Claim(LEASE))
        assert [one.before for one in claimed] == ours[3:]
        ready = await store.apply(delayed.name, TimePassed())
        ((before, _),) = await store.claim({self.METHOD: 100}, Claim(LEASE))
        assert before == ready
        assert list(await store.claim({self.METHOD: 100}, Claim(LEASE))) == []

    @with_store
    async def test_claims_at_once_take_different_operations(self, store: Store) -> None:
        """And all of them, sooner or later: one may be passed over at first."""
        names = {(await store.create(self.record(f"op-{n}"))).name for n in range(40)}
        taken: list[str] = []
        for _ in range(100):
            claims = (store.claim({self.METHOD: 3}, Claim(LEASE)) for _ in range(10))
            answers = await asyncio.gather(*claims)
            found = [one for claimed in answers for one in claimed]
            assert [one for one in found if isinstance(one.outcome, LroError)] == []
            taken += [one.before.name for one in found]
            if len(taken) >= 40:
                break
        assert sorted(taken) == sorted(names)
        assert {(await store.read(name)).attempt for name in names} == {1}

    @with_store
    async def test_a_claim_passes_over_what_is_left_out(self, store: Store) -> None:
        """Such as what has refused it: that counts, too."""
        names = [(await store.create(self.record(f"op-{n}"))).name for n in range(3)]
        choosy = _ChoosyClaim(LEASE)
        announced = Announced(store)
        ((before, refusal),) = await store.claim({self.METHOD: 1}, choosy)
        assert before.name == names[0]
        assert isinstance(refusal, UnservedError)
        assert announced.records == []
        await self._is(store, before)
        claimed = await store.claim({self.METHOD: 1}, choosy, left_out=[names[0]])
        assert [one.before.name for one in claimed] == [names[1]]
        claimed = await store.claim({self.METHOD: 9}, choosy, left_out={names[0], names[1]})
        assert [one.before.name for one in claimed] == [names[2]]
        left_out = {names[0], f"{names[0]}x"}
        assert list(await store.claim({self.METHOD: 9}, choosy, left_out=left_out)) == []

    @with_store
    async def test_a_claim_passes_over_what_has_become_ready_since_a_time(
        self, store: Store
    ) -> None:
        """However old it is, and however many such there are before the others."""
        names = [(await store.create(self.record(f"op-{n}"))).name for n in range(4)]
        await store.apply_all([(name, Claim(LEASE)) for name in names[:3]])
        self.time += 10
        given_back: list[Change] = [
            (names[0], Release(Report(1))),
            (names[1], RetryLater(Report(1), b"", delay=0)),
            (names[2], RetryLater(Report(1), b"", delay=10)),
        ]
        await store.apply_all(given_back)
        self.time += 20
        rested = await store.apply(names[2], TimePassed())
        assert rested.update_time == self.START + 20
        for since, expected in (
            *((0, []), (10, [names[3]]), (10, [])),
            *((20, [names[0]]), (20, [names[1]]), (20, []), (21, [names[2]])),
        ):
            before = self.START + since
            claimed = await store.claim({self.METHOD: 1}, Claim(LEASE), ready_before=before)
            assert [one.before.name for one in claimed] == expected

    @with_store
    async def test_a_claim_passes_over_nothing_for_a_clock_that_was_set_back(
        self, store: Store
    ) -> None:
        """One that seems to become ready only later could wait for long."""
        made = await store.create(self.record())
        claim = partial(store.claim, {self.METHOD: 9}, Claim(LEASE))
        assert list(await claim(ready_before=self.time)) == []
        self.time -= 3_600_000_000
        assert [one.before for one in await claim(ready_before=self.time)] == [made]

    @with_store
    async def test_a_claim_takes_nothing_that_rests_is_held_or_is_done(self, store: Store) -> None:
        """And what is overdue expires."""
        names = [(await store.create(self.record(f"op-{n}"))).name for n in range(4)]
        await store.apply_all([(name, Claim(LEASE)) for name in names[:3]])
        retry = RetryLater(Report(1), b"", delay=3_600_000_000)
        ends: list[Change] = [(names[1], retry), (names[2], Succeed(Report(1), RESPONSE))]
        await store.apply_all([*ends, (names[3], Cancel())])
        assert list(await store.claim({self.METHOD: 9}, Claim(LEASE))) == []
        late = await store.create(self.record("op-late", timeout=10))
        await store.create(self.record("op-next"))
        self.time += 10
        (overdue, following) = await store.claim({self.METHOD: 9}, Claim(LEASE))
        assert overdue.before == late
        assert isinstance(overdue.outcome, Record)
        assert (overdue.outcome.state, overdue.outcome.lease_expire_time) == (states.EXPIRED, 0)
        assert isinstance(following.outcome, Record)
        assert following.outcome.attempt == 1

    @with_store
    async def test_what_waits_is_counted_by_its_caller(self, store: Store) -> None:
        """Whether an attempt may begin now or later; deleted ones wait, too, until they are run."""
        callers = {"op-0": "ann", "op-1": "ann", "op-2": "bob", "op-3": "", "op-4": "cho"}
        names = [
            (await store.create(self.record(one, caller=caller))).name
            for one, caller in callers.items()
        ]
        await store.create(self.record("op-x", method=OTHER_METHOD, caller="ann"))
        await store.apply(names[0], Claim(LEASE))
        await store.apply(names[0], RetryLater(Report(1), b"", delay=5))
        await store.apply(names[1], Delete())
        await store.apply(names[2], Claim(LEASE))
        await store.apply(names[4], Cancel())
        assert dict(await store.waiting(self.METHOD, 100)) == {"ann": 2, "": 1}
        assert dict(await store.waiting("/contract.v1.Contract/Unknown", 100)) == {}
        await store.apply(names[2], Release(Report(1)))
        await store.create(self.record("op-5", caller="ann"))
        waiting = {"ann": 3, "": 1, "bob": 1}
        assert dict(await store.waiting(self.METHOD, 100)) == waiting
        assert dict(await store.waiting(self.METHOD, 5)) == waiting
        some = await store.waiting(self.METHOD, 4)
        assert sum(some.values()) == 4
        assert dict(await store.waiting(self.METHOD, 0)) == {}

    @with_store
    async def test_delayed_starts_are_counted_apart(self, store: Store) -> None:
        """Until their time has come, or somebody cancels or pauses them."""
        later = self.time + 5_000_000
        names = []
        for number, at in enumerate((0, later, later + 1, later + 2)):
            record = self.record(f"op-{number}", caller="ann", pausable=True, schedule_time=at)
            names.append((await store.create(record)).name)
        other = self.record("op-x", method=OTHER_METHOD, schedule_time=later)
        await store.create(other)
        await store.apply(names[0], Claim(LEASE))
        await store.apply(names[0], RetryLater(Report(1), b"", delay=9_000_000))
        assert dict(await store.waiting(self.METHOD, 9)) == {"ann": 1}
        assert dict(await store.waiting(self.METHOD, 9, delayed=True)) == {"ann": 3}
        assert dict(await store.waiting(self.METHOD, 2, delayed=True)) == {"ann": 2}
        assert list(await store.claimable({self.METHOD: 9})) == []
        await store.apply(names[2], Cancel())
        await store.apply(names[3], Pause())
        assert dict(await store.waiting(self.METHOD, 9, delayed=True)) == {"ann": 1}
        assert (await store.apply(names[3], Resume())).scheduled_time == later + 2
        self.time = later
        assert set(await store.expired(9)) == {names[1], other.name}
        await store.apply(names[1], TimePassed())
        assert list(await store.claimable({self.METHOD: 9})) == [names[1]]
        assert dict(await store.waiting(self.METHOD, 9)) == {"ann": 2}
        assert dict(await store.waiting(self.METHOD, 9, delayed=True)) == {"ann": 1}

    @with_store
    async def test_a_priority_is_a_head_start_of_a_minute_a_step(self, store: Store) -> None:
        """Not more: what has waited for longer than that has its turn first."""
        minute = 60_000_000
        begins = {"op-0": (0, 0), "op-1": (1, -2), "op-2": (2, 0), "op-3": (3, 0), "op-4": (4, 2)}
        names = []
        for one, (minutes, priority) in begins.items():
            now = self.time + minutes * minute
            names.append((await store.create(self.record(one, priority=priority, now=now))).name)
        self.time += minute
        delayed = self.record("op-5", now=self.time, schedule_time=self.time + minute // 2)
        await store.create(delayed)
        self.time += 9 * minute
        await store.apply(delayed.name, TimePassed())
        by_turn = [names[0], delayed.name, names[2], names[4], names[1], names[3]]
        assert list(await store.claimable({self.METHOD: 9})) == by_turn
        assert list(await store.claimable({self.METHOD: 4})) == by_turn[:4]
        assert dict(await store.waiting(self.METHOD, 9)) == {"": 6}
        assert dict(await store.waiting_methods()) == {self.METHOD: 6}
        claims = [await store.claim({self.METHOD: 2}, Claim(LEASE)) for _ in range(4)]
        assert [[one.before.name for one in some] for some in claims] == [
            *(by_turn[begin : begin + 2] for begin in (0, 2, 4)),
            [],
        ]

    @with_store
    async def test_what_waits_is_counted_by_its_method(self, store: Store) -> None:
        """Now or later, to run or to be undone; not what is held, paused or done."""
        assert dict(await store.waiting_methods()) == {}
        names = [(await store.create(self.record(f"op-{n}"))).name for n in range(6)]
        await store.apply_all([(name, Claim(LEASE)) for name in names[:4]])
        await store.apply_all(
            [
                (names[0], Succeed(Report(1), RESPONSE)),
                (names[1], RetryLater(Report(1), b"", delay=5)),
                (names[2], SaveBatch(Report(1), BATCH, b"")),
                (names[2], Release(Report(1))),
                (names[2], Cancel()),
                (names[4], Cancel()),
            ]
        )
        assert dict(await store.waiting_methods()) == {self.METHOD: 3}

    @with_store
    async def test_a_held_operation_is_not_claimable(self, store: Store) -> None:
        """Until it is given back; then it stands in its old place."""
        names = [(await store.create(self.record(f"op-{n}"))).name for n in range(3)]
        await store.apply(names[0], Claim(LEASE))
        assert list(await store.claimable({self.METHOD: 9})) == names[1:]
        assert list(await store.leased()) == [Leased(names[0], 1)]
        await store.apply(names[0], Release(Report(1)))
        assert list(await store.claimable({self.METHOD: 9})) == names
        assert list(await store.leased()) == []
        again = await store.apply(names[0], Claim(LEASE))
        assert again.attempt == 2
        await store.apply(names[0], Succeed(Report(2), RESPONSE))
        assert list(await store.claimable({self.METHOD: 9})) == names[1:]
        assert list(await store.leased()) == []

    @with_store
    async def test_leased_lists_the_leases_that_are_over(self, store: Store) -> None:
        """To the microsecond, heartbeats counted."""
        one = (await store.create(self.record("op-1"))).name
        two = (await store.create(self.record("op-2"))).name
        await store.apply_all([(one, Claim(LEASE)), (two, Claim(LEASE))])
        end = self.time + LEASE
        assert set(await store.leased()) == {Leased(one, 1), Leased(two, 1)}
        assert set(await store.leased(until=end - 1)) == set()
        assert set(await store.leased(until=end)) == {Leased(one, 1), Leased(two, 1)}
        self.time += 1
        before = await store.operation(one)
        await store.apply(one, Heartbeat(1, LEASE))
        assert set(await store.leased(until=end)) == {Leased(two, 1)}
        assert set(await store.leased(until=end + 1)) == {Leased(one, 1), Leased(two, 1)}
        assert await store.operation(one) == before

    @with_store
    async def test_a_cancelled_operation_waits_only_if_there_is_something_to_undo(
        self, store: Store
    ) -> None:
        """One without a worker ends at once, or is claimed once more for its batch."""
        plain = (await store.create(self.record("op-1"))).name
        assert (await store.apply(plain, Cancel())).state == states.CANCELLED
        batch = (await store.create(self.record("op-2"))).name
        await store.apply(batch, Claim(LEASE))
        await store.apply(batch, SaveBatch(Report(1), BATCH, b""))
        await store.apply(batch, Release(Report(1)))
        assert (await store.apply(batch, Cancel())).state == states.CANCELLING
        assert list(await store.claimable({self.METHOD: 9})) == [batch]
        claimed = await store.apply(batch, Claim(LEASE))
        assert (claimed.attempt, claimed.cancel_requested) == (2, True)
        assert list(await store.claimable({self.METHOD: 9})) == []

    # Waiting to be ready, and pausing.

    @with_store
    async def test_claimable_leaves_out_what_is_not_ready(self, store: Store) -> None:
        """Nor can it be claimed by its name, to the microsecond."""
        retried, other = (await store.create(self.record("op-1"))).name, self.record("op-2")
        await store.create(other)
        await store.apply(retried, Claim(LEASE))
        waits = await store.apply(retried, RetryLater(Report(1), ERROR, 5_000_000))
        assert (waits.state, waits.scheduled_time) == (states.QUEUED, self.time + 5_000_000)
        self.time += 4_999_999
        assert list(await store.claimable({self.METHOD: 9})) == [other.name]
        await refused(StaleAttemptError, store.apply(retried, Claim(LEASE)))
        self.time += 1
        assert list(await store.claimable({self.METHOD: 9})) == [other.name]
        again = await store.apply(retried, Claim(LEASE))
        assert (again.attempt, again.scheduled_time) == (2, 0)

    @with_store
    async def test_a_paused_operation_is_neither_claimable_nor_held(self, store: Store) -> None:
        """Until it is resumed."""
        name = (await store.create(self.record(pausable=True))).name
        await store.apply(name, Pause())
        assert list(await store.claimable({self.METHOD: 9})) == []
        await refused(StaleAttemptError, store.apply(name, Claim(LEASE)))
        await store.apply(name, Resume())
        assert list(await store.claimable({self.METHOD: 9})) == [name]
        await store.apply(name, Claim(LEASE))
        await store.apply(name, Checkpoint(Report(1), STATE))
        await store.apply(name, Pause())
        paused = await store.apply(name, Release(Report(1)))
        assert (paused.state, paused.checkpoint) == (states.PAUSED, STATE)
        assert list(await store.claimable({self.METHOD: 9})) == []
        assert list(await store.leased()) == []

    @with_store
    async def test_a_cancelled_checkpoint_waits_to_be_undone(self, store: Store) -> None:
        """It is claimed once more."""
        name = (await store.create(self.record(pausable=True))).name
        for event in (Claim(LEASE), Checkpoint(Report(1), STATE), Pause(), Release(Report(1))):
            await store.apply(name, event)
        assert (await store.apply(name, Cancel())).state == states.CANCELLING
        assert list(await store.claimable({self.METHOD: 9})) == [name]
        assert (await store.apply(name, Claim(LEASE))).attempt == 2


class _ChoosyClaim(Claim):
    """A claim of a worker that cannot go on with the first operation."""

    def apply(self, record: Record, now: int) -> Record:
        if record.name.endswith("/op-0"):
            raise UnservedError(f"{record.name} is of another release")
        return super().apply(record, now)
