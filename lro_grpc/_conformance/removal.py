"""Tests of removal: by the clock, or by callers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lro_grpc._conformance.cases import StoreCases, refused, with_store
from lro_grpc._conformance.samples import BATCH, ERROR, LEASE, RESPONSE, STATE, TARGET
from lro_grpc._errors import OperationNotFoundError
from lro_grpc._operation import states
from lro_grpc._operation.events import (
    Cancel,
    Checkpoint,
    Claim,
    Delete,
    Event,
    LeaseLost,
    Pause,
    Release,
    Report,
    RetryLater,
    SaveBatch,
    Succeed,
    TimePassed,
)
from lro_grpc._stores.store import Leased, Store


class Removal(StoreCases):
    """Promises of operations that are overdue, or deleted."""

    # What time does: expiry and removal (S7, S29).

    @with_store
    async def test_expired_gives_what_is_overdue_and_unheld(self, store: Store) -> None:
        """Not what an attempt holds, nor what waits to be undone: that is claimed first."""
        limit: dict[str, Any] = {"timeout": 10_000_000, "pausable": True}
        waits = (await store.create(self.record("op-1", **limit))).name
        paused = (await store.create(self.record("op-2", **limit))).name
        held = (await store.create(self.record("op-3", **limit))).name
        batch = (await store.create(self.record("op-4", **limit))).name
        undone = (await store.create(self.record("op-5", **limit))).name
        retried = (await store.create(self.record("op-6", **limit))).name
        parked = (await store.create(self.record("op-7", **limit))).name
        kept = (await store.create(self.record("op-8", timeout=10_000_001))).name
        endless = (await store.create(self.record("op-9"))).name
        begun = (held, batch, undone, retried, parked)
        await store.apply_all([(name, Claim(LEASE)) for name in begun])
        saved = SaveBatch(Report(1), BATCH, b"")
        histories: dict[str, Sequence[Event]] = {
            paused: [Pause()],
            batch: [saved, Release(Report(1))],
            undone: [Checkpoint(Report(1), STATE), Release(Report(1)), Cancel()],
            retried: [Checkpoint(Report(1), STATE), RetryLater(Report(1), ERROR, 3_600_000_000)],
            parked: [saved, Pause(), Release(Report(1))],
        }
        for name, events in histories.items():
            await store.apply_all([(name, event) for event in events])
        self.time = self.START + 9_999_999
        assert list(await store.expired(100)) == []
        self.time = self.START + 10_000_000
        assert set(await store.expired(100)) == {waits, paused, retried, parked}
        with_undo = await store.expired(100, to_undo=True)
        assert set(with_undo) == {waits, paused, retried, parked, batch, undone}
        assert len(await store.expired(2)) == 2
        assert {batch, undone, kept, endless} <= set(await store.claimable({self.METHOD: 100}))
        await store.apply_all([(name, TimePassed()) for name in await store.expired(100)])
        assert list(await store.expired(100)) == []
        for name in (waits, paused, retried):
            assert (await store.read(name)).state == states.EXPIRED
        assert parked in await store.claimable({self.METHOD: 100})
        for name in (batch, undone, parked):
            await store.apply(name, Claim(LEASE))

    @with_store
    async def test_expired_gives_what_was_kept_long_enough(self, store: Store) -> None:
        """And TimePassed removes it: its name and its request_id are free then."""
        how: dict[str, Any] = {"request_id": "r", "fingerprint": b"f"}
        made = self.record("op-1", retention=10_000_000, **how)
        name = (await store.create(made)).name
        kept = (await store.create(self.record("op-2"))).name
        running = (await store.create(self.record("op-3", retention=1))).name
        await store.apply_all([(name, Claim(LEASE)), (running, Claim(LEASE)), (kept, Cancel())])
        self.time += 1_000_000
        done = await store.apply(name, Succeed(Report(1), RESPONSE))
        assert done.expire_time == self.time + 10_000_000
        self.time = done.expire_time - 1
        assert list(await store.expired(9)) == []
        assert await store.apply(name, TimePassed()) == done
        await self._is(store, done)
        self.time += 1
        assert list(await store.expired(9)) == [name]
        assert list(await store.expired(0)) == []
        await store.apply(name, TimePassed())
        assert list(await store.expired(9)) == []
        for call in (store.read(name), store.operation(name), store.apply(name, TimePassed())):
            await refused(OperationNotFoundError, call)
        assert await store.find_request(self.METHOD, "r", "") == []
        again = self.record("op-1", request_id="r", fingerprint=b"g")
        assert await store.create(again) == again
        assert await self._listed(store) == [name, running, kept]

    @with_store
    async def test_a_deleted_operation_expires_like_any_other(self, store: Store) -> None:
        """With that it is no more."""
        made = self.record(timeout=10_000_000, target=TARGET, exclusive=True)
        name = (await store.create(made)).name
        await store.apply(name, Delete())
        self.time += 10_000_000
        assert list(await store.expired(9)) == [name]
        assert (await store.apply(name, TimePassed())).state == states.EXPIRED
        assert list(await store.expired(9)) == []
        assert await store.exclusive_holder(TARGET) == ""
        await refused(OperationNotFoundError, store.apply(name, TimePassed()))

    # Delete (P7).

    @with_store
    async def test_a_deleted_operation_is_gone_at_once(self, store: Store) -> None:
        """Done or not; a second delete does not find it."""
        running = (await store.create(self.record("op-1"))).name
        done = (await store.create(self.record("op-2"))).name
        kept = (await store.create(self.record("op-3"))).name
        await store.apply_all([(running, Claim(LEASE)), (done, Cancel())])
        for name in (running, done):
            await store.apply(name, Delete())
            for call in (
                store.read(name),
                store.operation(name),
                store.apply(name, Delete()),
                store.apply(name, Cancel()),
            ):
                await refused(OperationNotFoundError, call)
        assert await self._listed(store) == [kept]

    @with_store
    async def test_a_deleted_operation_is_paused_no_more(self, store: Store) -> None:
        """Nobody could resume it (P7)."""
        paused = await store.create(self.record("op-1", pausable=True))
        pausing = await store.create(self.record("op-2", pausable=True))
        await store.apply(paused.name, Pause())
        await store.apply(pausing.name, Claim(LEASE))
        await store.apply(pausing.name, Pause())
        for one in (paused, pausing):
            await store.apply(one.name, Delete())
        assert list(await store.claimable({self.METHOD: 9})) == [paused.name]
        released = await store.apply(pausing.name, Release(Report(1)))
        assert (released.state, released.deleted) == (states.QUEUED, True)

    @with_store
    async def test_a_deleted_operation_runs_on_unseen(self, store: Store) -> None:
        """It is claimed, held and lost like any other; with its end it is no more."""
        name = (await store.create(self.record())).name
        await store.apply(name, Delete())
        assert list(await store.claimable({self.METHOD: 9})) == [name]
        await store.apply(name, Claim(LEASE))
        assert list(await store.leased()) == [Leased(name, 1)]
        await store.apply(name, LeaseLost(1, proven=True))
        await store.apply(name, Claim(LEASE))
        await store.apply(name, Report(2, 50))
        ended = await store.apply(name, Succeed(Report(2), RESPONSE))
        assert ended.state == states.SUCCEEDED
        await refused(OperationNotFoundError, store.apply(name, Report(2, 60)))
        await refused(OperationNotFoundError, store.read(name))
        assert list(await store.leased()) == []
        assert list(await store.claimable({self.METHOD: 9})) == []
