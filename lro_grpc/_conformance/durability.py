"""Tests of durability: times that never go back, a store that is opened again."""

from __future__ import annotations

from typing import Any

from google.longrunning import operations_pb2

from lro.v1 import operation_metadata_pb2
from lro_grpc import _anys
from lro_grpc._conformance.cases import StoreCases, refused, sync_test, with_store
from lro_grpc._conformance.samples import (
    BATCH,
    ERROR,
    LEASE,
    RESPONSE,
    STATE,
    TARGET,
    TWO_ATTEMPTS,
    name_of,
)
from lro_grpc._errors import OperationInProgressError
from lro_grpc._operation import states
from lro_grpc._operation.events import (
    Checkpoint,
    Claim,
    Delete,
    Fail,
    LeaseLost,
    Pause,
    Release,
    Report,
    RetryLater,
    SaveBatch,
    SetUpdating,
    Succeed,
    TimePassed,
)
from lro_grpc._stores.store import Leased, Query, Store


class Durability(StoreCases):
    """Promises of what lasts."""

    # Time.

    @with_store
    async def test_the_store_tells_its_time(self, store: Store) -> None:
        """It is not ahead, and hardly behind."""
        for _ in range(3):
            assert self.time - 1_000_000 <= store.now() <= self.time
            self.time += 10_000_000

    @with_store
    async def test_times_do_not_go_back_with_the_clock(self, store: Store) -> None:
        """A clock that is set back shows in no operation (R8)."""
        name = (await store.create(self.record())).name
        self.time += 10_000_000
        updates = []
        for event in (Claim(LEASE), Report(1, 1), Report(1, 2), Succeed(Report(1), RESPONSE)):
            updates.append((await store.apply(name, event)).update_time)
            self.time -= 3_600_000_000
        assert updates == [self.START + 10_000_000] * 4
        done = operations_pb2.Operation.FromString(await store.operation(name))
        shown = _anys.unpack_as(operation_metadata_pb2.OperationMetadata, done.metadata)
        assert shown.end_time.ToMicroseconds() == self.START + 10_000_000

    # Close and open again (R1).

    @sync_test
    async def test_everything_is_there_after_opening_again(self) -> None:
        """Byte for byte: the operations, who holds them, their request ids, and the secret."""
        async with self.opened() as store:
            key = store.signing_secret
            assert len(key) == 32
            waiting = await store.create(self.record("op-1", request_id="r", fingerprint=b"f"))
            held = (await store.create(self.record("op-2"))).name
            done = (await store.create(self.record("op-3"))).name
            hidden = (await store.create(self.record("op-4"))).name
            retried = (await store.create(self.record("op-x", parent="x"))).name
            await store.apply_all([(name, Claim(LEASE)) for name in (held, done, hidden)])
            await store.apply(held, SaveBatch(Report(1, 40, "half"), BATCH, ERROR))
            await store.apply(done, Fail(Report(1), ERROR))
            await store.apply(hidden, Delete())
            records = [await store.read(name) for name in (waiting.name, held, done)]
            await store.apply_all([(retried, event) for event in TWO_ATTEMPTS])
            history = await store.read_attempts(retried)
            first = await store.page(Query(self.PARENT), position=b"", size=1)
        async with self.opened() as store:
            assert store.signing_secret == key
            for one in records:
                await self._is(store, one)
            assert await store.read_attempts(retried) == history
            rest = await store.page(Query(self.PARENT), position=first.position, size=9)
            assert [name_of(one) for one in rest.operations] == [held, waiting.name]
            leased = {Leased(held, 1), Leased(hidden, 1), Leased(retried, 2)}
            assert set(await store.leased()) == leased
            assert list(await store.claimable({self.METHOD: 9})) == [waiting.name]
            again = self.record("op-5", request_id="r", fingerprint=b"f")
            assert await store.create(again) == waiting
            newest = (await store.create(self.record("op-6"))).name
            assert await self._listed(store) == [newest, done, held, waiting.name]
            await store.apply(hidden, Succeed(Report(1), RESPONSE))
            assert (await store.apply(held, Report(1, 50))).progress_percent == 50

    @sync_test
    async def test_what_a_pause_a_retry_and_a_limit_need_is_there_after_opening_again(self) -> None:
        """Checkpoints, times and counts, who has a target for itself, and what is due."""
        async with self.opened() as store:
            limits: dict[str, Any] = {"pausable": True, "timeout": 10_000_000}
            how: dict[str, Any] = {"target": TARGET, "exclusive": True}
            paused = (await store.create(self.record("op-1", caller="c", **limits))).name
            retried = (await store.create(self.record("op-2", max_attempts=2))).name
            updating = (await store.create(self.record("op-3", **how, **limits))).name
            done = (await store.create(self.record("op-4", retention=20_000_000))).name
            names = [paused, retried, updating, done]
            await store.apply_all([(name, Claim(LEASE)) for name in names])
            for name, event in (
                (paused, Checkpoint(Report(1, 10, "half"), STATE)),
                (paused, Pause()),
                (paused, Release(Report(1))),
                (retried, RetryLater(Report(1, 5), ERROR, 5_000_000)),
                (updating, SetUpdating(Report(1), updating=True)),
                (updating, Pause()),
                (done, Fail(Report(1), ERROR)),
            ):
                await store.apply(name, event)
            records = [await store.read(name) for name in names]
        async with self.opened() as store:
            for one in records:
                await self._is(store, one)
            assert [one.state for one in records] == [
                states.PAUSED,
                states.QUEUED,
                states.UPDATING,
                states.FAILED,
            ]
            assert await store.exclusive_holder(TARGET) == updating
            again = self.record("op-5", **how)
            await refused(OperationInProgressError, store.create(again))
            assert list(await store.claimable({self.METHOD: 9})) == []
            self.time += 10_000_000
            assert set(await store.expired(9)) == {retried, paused}
            await store.apply(retried, TimePassed())
            assert list(await store.claimable({self.METHOD: 9})) == [retried]
            assert list(await store.expired(9)) == [paused]
            self.time += 10_000_000
            assert set(await store.expired(9)) == {paused, done}
            await store.apply(updating, LeaseLost(1, proven=True))
            assert (await store.read(updating)).state == states.PAUSED
            await store.apply(retried, Claim(LEASE))
            ended = await store.apply(retried, RetryLater(Report(2), ERROR, 0))
            assert ended.state == states.FAILED
