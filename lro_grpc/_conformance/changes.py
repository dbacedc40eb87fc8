"""Tests of changes: by one event at a time, of the attempt that holds the operation."""

from __future__ import annotations

import asyncio
from typing import cast

from google.longrunning import operations_pb2

from lro_grpc._conformance.cases import StoreCases, refused, renewed_leases, with_store
from lro_grpc._conformance.listeners import Announced
from lro_grpc._conformance.samples import LEASE, RESPONSE, every_outcome, writes_of
from lro_grpc._errors import Code, LroError, OperationNotFoundError, StaleAttemptError
from lro_grpc._operation import states
from lro_grpc._operation.events import Cancel, Claim, Heartbeat, LeaseLost, Release, Report, Succeed
from lro_grpc._operation.record import Record
from lro_grpc._stores.store import Leased, SharedStore, Store


class Changes(StoreCases):
    """Promises of an event."""

    # Events.

    @with_store
    async def test_a_refused_event_changes_nothing(self, store: Store) -> None:
        """The operation is what it was, and no change is announced (S28)."""
        made = await store.create(self.record())
        announced = Announced(store)
        await refused(StaleAttemptError, store.apply(made.name, Report(1, 50)))
        await self._is(store, made)
        assert announced.records == []

    @with_store
    async def test_the_outcomes_of_apply_all_are_apart(self, store: Store) -> None:
        """Each event finds what those before it have left, refused ones left out."""
        one = await store.create(self.record("op-1"))
        two = await store.create(self.record("op-2"))
        outcomes = await store.apply_all(
            [
                (one.name, Claim(LEASE)),
                ("operations/unknown", Claim(LEASE)),
                (one.name, Claim(LEASE)),
                (two.name, Report(1, 50)),
                (one.name, Report(1, 50)),
                (two.name, Claim(LEASE)),
                (one.name, Succeed(Report(1), RESPONSE)),
            ]
        )
        kinds = [type(outcome) for outcome in outcomes]
        assert kinds == [
            Record,
            OperationNotFoundError,
            StaleAttemptError,
            StaleAttemptError,
            Record,
            Record,
            Record,
        ]
        assert outcomes[6] == await store.read(one.name)
        assert outcomes[5] == await store.read(two.name)
        assert list(await store.apply_all([])) == []

    @with_store
    async def test_concurrent_events_are_applied_one_at_a_time(self, store: Store) -> None:
        """None is lost, and none is applied to a state that has passed (R5)."""
        made = await store.create(self.record())
        claims = await asyncio.gather(
            *(store.apply(made.name, Claim(LEASE)) for _ in range(20)), return_exceptions=True
        )
        (claimed,) = [claim for claim in claims if isinstance(claim, Record)]
        assert claimed.attempt == 1
        announced = Announced(store)
        reports = await asyncio.gather(
            *(store.apply(made.name, Report(1, percent)) for percent in range(1, 101))
        )
        assert all(one.progress_percent >= n for n, one in enumerate(reports, 1))
        assert announced.befores == [claimed, *announced.records[:-1]]
        assert announced.records[-1].progress_percent == 100
        assert [one for one in reports if one not in announced.records] == []

    # Fencing (R5) and the one outcome (R4).

    @with_store
    async def test_writes_of_a_stale_attempt_are_refused(self, store: Store) -> None:
        """Of a former attempt, and of one that is yet to come; they change nothing."""
        made = (await store.create(self.record())).name
        await store.apply(made, Claim(LEASE))
        await store.apply(made, LeaseLost(1, proven=True))
        unheld = await store.read(made)
        for event in writes_of(1):
            await refused(StaleAttemptError, store.apply(made, event))
        await self._is(store, unheld)
        held = await store.apply(made, Claim(LEASE))
        for event in (*writes_of(1), *writes_of(3)):
            await refused(StaleAttemptError, store.apply(made, event))
        await self._is(store, held)
        assert (await store.apply(made, Succeed(Report(2), RESPONSE))).state == states.SUCCEEDED

    @with_store
    async def test_a_done_operation_never_changes(self, store: Store) -> None:
        """Byte for byte, whatever still comes for it (R4, P8)."""
        for number, outcome in enumerate(every_outcome()):
            name = (await store.create(self.record(f"op-{number}"))).name
            await store.apply(name, Claim(LEASE))
            done = await store.apply(name, outcome)
            assert operations_pb2.Operation.FromString(done.operation).done
            announced = Announced(store)
            self.time += 1_000_000
            for event in (Claim(LEASE), *writes_of(1), *writes_of(2)):
                await refused(StaleAttemptError, store.apply(name, event))
            assert await store.apply(name, Cancel()) == done
            await self._is(store, done)
            assert announced.records == []

    @with_store
    async def test_one_outcome_wins(self, store: Store) -> None:
        """Of several given at once; the others are refused."""
        for number in range(10):
            name = (await store.create(self.record(f"op-{number}"))).name
            await store.apply(name, Claim(LEASE))
            outcomes = await asyncio.gather(
                *(store.apply(name, event) for event in every_outcome()), return_exceptions=True
            )
            (won,) = [one for one in outcomes if isinstance(one, Record)]
            assert sum(isinstance(one, StaleAttemptError) for one in outcomes) == 2
            await self._is(store, won)

    @with_store
    async def test_a_cancel_and_a_finish_agree_on_one_outcome(self, store: Store) -> None:
        """Whichever comes first (R7, P8)."""
        for cancel_first in (True, False):
            name = (await store.create(self.record(f"op-{cancel_first}"))).name
            await store.apply(name, Claim(LEASE))
            finish = store.apply(name, Succeed(Report(1), RESPONSE))
            cancel = store.apply(name, Cancel())
            calls = (cancel, finish) if cancel_first else (finish, cancel)
            cancelled, finished = (await asyncio.gather(*calls))[:: 1 if cancel_first else -1]
            done = await store.read(name)
            assert done == finished
            assert done.state == states.SUCCEEDED
            assert done.cancel_requested is (cancelled != finished)
            operation = operations_pb2.Operation.FromString(done.operation)
            assert operation.WhichOneof("result") == "response"

    @with_store
    async def test_a_cancel_and_a_claim_have_one_winner(self, store: Store) -> None:
        """Cancelled before it is claimed, it is never claimed (R7)."""
        for cancel_first in (True, False):
            name = (await store.create(self.record(f"op-{cancel_first}"))).name
            claim, cancel = store.apply(name, Claim(LEASE)), store.apply(name, Cancel())
            calls = (claim, cancel)[:: -1 if cancel_first else 1]
            outcomes = await asyncio.gather(*calls, return_exceptions=True)
            refused = [one for one in outcomes if isinstance(one, LroError)]
            seen = await store.read(name)
            assert (seen.state, seen.attempt, len(refused)) in (
                (states.CANCELLED, 0, 1),
                (states.CANCELLING, 1, 0),
            )

    # Lost workers (R3, R6).

    @with_store
    async def test_a_live_lease_is_not_lost_without_proof(self, store: Store) -> None:
        """Nothing changes until it is over, not even the count."""
        made = (await store.create(self.record())).name
        claimed = await store.apply(made, Claim(LEASE))
        announced = Announced(store)
        self.time += LEASE - 1
        assert await store.apply(made, LeaseLost(1)) == claimed
        assert announced.records == []
        self.time += 1
        lost = await store.apply(made, LeaseLost(1))
        assert (lost.state, lost.attempt, lost.failed_attempts) == (states.QUEUED, 1, 1)
        assert list(await store.claimable({self.METHOD: 9})) == [made]

    @with_store
    async def test_a_heartbeat_between_look_and_loss_saves_the_attempt(self, store: Store) -> None:
        """As does a new attempt, or the outcome: what was seen is checked again."""
        name = (await store.create(self.record())).name
        await store.apply(name, Claim(LEASE))
        self.time += LEASE
        (seen,) = await store.leased(until=self.time)
        renewed = await store.apply(name, Heartbeat(1, LEASE))
        assert await store.apply(seen.name, LeaseLost(seen.attempt)) == renewed
        await store.apply(name, LeaseLost(1, proven=True))
        again = await store.apply(name, Claim(LEASE))
        await refused(StaleAttemptError, store.apply(name, LeaseLost(seen.attempt, proven=True)))
        await self._is(store, again)

    @with_store
    async def test_a_shared_store_renews_leases_for_another_thread(self, store: Store) -> None:
        """As heartbeats do: those of attempts that hold their operation, and no others (R6)."""
        if store.exclusive:
            return
        shared = cast("SharedStore", store)
        names = [(await store.create(self.record(f"op-{number}"))).name for number in (1, 2)]
        await store.apply_all([(name, Claim(LEASE)) for name in names])
        await store.apply_all([(names[1], LeaseLost(1, proven=True)), (names[1], Claim(LEASE))])
        self.time += LEASE - 1
        former = [Leased(name, 1) for name in (*names, f"{names[0]}x")]
        answers = await asyncio.to_thread(lambda: asyncio.run(renewed_leases(shared, former)))
        renewed, stale, missing = answers
        assert isinstance(renewed, Record)
        assert renewed.lease_expire_time == self.time + LEASE
        assert isinstance(stale, StaleAttemptError)
        assert isinstance(missing, OperationNotFoundError)
        self.time += 2
        assert list(await store.leased(until=self.time)) == [Leased(names[1], 2)]

    @with_store
    async def test_the_last_attempt_lost_ends_it(self, store: Store) -> None:
        """FAILED with ABORTED; released attempts are not counted."""
        name = (await store.create(self.record(max_attempts=2))).name
        for attempt in (1, 2, 3):
            await store.apply(name, Claim(LEASE))
            await store.apply(name, Release(Report(attempt)))
        await store.apply(name, Claim(LEASE))
        assert (await store.apply(name, LeaseLost(4, proven=True))).state == states.QUEUED
        await store.apply(name, Claim(LEASE))
        ended = await store.apply(name, LeaseLost(5, proven=True))
        operation = operations_pb2.Operation.FromString(ended.operation)
        assert (ended.state, operation.error.code) == (states.FAILED, Code.ABORTED)
        assert list(await store.claimable({self.METHOD: 9})) == []
