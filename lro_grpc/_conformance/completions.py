"""Tests of completions: what is left behind of an operation that is done, until it is told."""

from __future__ import annotations

from typing import Any

from lro.v1.completion_event_pb2 import CompletionEvent
from lro_grpc._conformance.cases import StoreCases, sync_test, with_store
from lro_grpc._conformance.samples import ERROR, LEASE, RESPONSE
from lro_grpc._operation.completion import Completion, failed, given_up, put_back
from lro_grpc._operation.events import Cancel, Claim, Delete, Event, Fail, Report, Succeed
from lro_grpc._operation.record import Record
from lro_grpc._stores.store import Store

_LEASE = 60_000_000


class Completions(StoreCases):
    """Promises of the completions that a store keeps."""

    @with_store
    async def test_an_operation_that_is_done_leaves_its_completion_behind(
        self, store: Store
    ) -> None:
        """If its record says so: with all that is told of it, as it was at its end."""
        name = await self._begun(store, "op-1")
        other = await self._begun(store, "op-2", notify=False)
        assert await store.take_completions(9, _LEASE) == []
        for one in (name, other):
            await store.apply(one, Succeed(Report(1, 7, "all but"), RESPONSE))
        done = await store.read(name)
        (taken,) = await store.take_completions(9, _LEASE)
        event = CompletionEvent.FromString(taken.event)
        assert taken == Completion(
            name=done.name,
            create_time=self.START,
            end_time=self.START,
            expire_time=done.expire_time,
            next_time=self.START + _LEASE,
            attempt_count=1,
            event=taken.event,
        )
        assert event.operation.SerializeToString() == done.operation
        assert (event.name, f"/{event.method}") == (done.name, done.method)
        assert (event.caller, event.state) == ("c", done.state)
        assert await store.read_completion(*taken.key) == taken._replace(event=b"")
        assert await store.read_completion(done.name, self.START - 1) is None
        assert await store.read_completion(other, self.START) is None

    @with_store
    async def test_what_ends_before_its_first_attempt_leaves_its_completion_behind(
        self, store: Store
    ) -> None:
        """Also if one commit has all of its life."""
        made = await store.create(self.record(notify=True))
        await store.apply_all([(made.name, Cancel()), (made.name, Cancel())])
        (taken,) = await store.take_completions(9, _LEASE)
        assert taken.name == made.name

    @with_store
    async def test_a_completion_stays_when_its_operation_is_removed(self, store: Store) -> None:
        """Deleted before its end, in the commit of its end, after it, or past its retention."""
        names = []
        ends: tuple[list[Event], ...] = (
            [Delete(), Succeed(Report(1), RESPONSE)],
            [Succeed(Report(1), RESPONSE), Delete()],
        )
        for number, events in enumerate(ends):
            names.append(await self._begun(store, f"op-{number}"))
            for event in events:
                await store.apply(names[-1], event)
            names.append(await self._begun(store, f"op-together-{number}"))
            await store.apply_all([(names[-1], event) for event in events])
        taken = await store.take_completions(9, _LEASE)
        assert sorted(one.name for one in taken) == sorted(names)
        assert all(CompletionEvent.FromString(one.event).operation.done for one in taken)
        await store.settle_completions([(one, None) for one in taken])
        self.time += 1_000_000
        again = await self._begun(store, "op-0")  # another one of its name
        await store.apply(again, Fail(Report(1), ERROR))
        (other,) = await store.take_completions(9, _LEASE)
        assert (other.name, other.create_time) == (again, self.time)
        assert other.id not in {one.id for one in taken}

    @with_store
    async def test_a_completion_that_was_taken_is_due_again_after_the_lease(
        self, store: Store
    ) -> None:
        """Nobody else gets it meanwhile; and what is late settles nothing."""
        first = await self._done(store, "op-1")
        await store.settle_completions([(first, put_back(first, self.time))])
        (first,) = await store.take_completions(9, _LEASE)
        assert first.attempt_count == 1
        self.time += _LEASE - 1
        assert await store.take_completions(9, _LEASE) == []
        self.time += 1
        (second,) = await store.take_completions(9, _LEASE)
        assert (second.key, second.event) == (first.key, first.event)
        assert second.attempt_count == 2
        late = failed(first, ERROR, self.time, lambda: 0.0)
        await store.settle_completions([(first, late)])
        assert await store.read_completion(*first.key) == second._replace(event=b"")
        await store.settle_completions([(first, None)])  # it was told, whoever has it now
        assert await store.read_completion(*first.key) is None
        await store.settle_completions([(second, late)])
        assert await store.read_completion(*first.key) is None

    @with_store
    async def test_a_completion_that_could_not_be_told_is_due_again_later(
        self, store: Store
    ) -> None:
        """And one that is given up is due when it is to be forgotten."""
        one, other = [await self._done(store, name) for name in ("op-1", "op-2")]
        again, over = failed(one, ERROR, self.time, lambda: 0.0), given_up(other, ERROR)
        await store.settle_completions([(one, again), (other, over)])
        for settled in (again, over):
            assert await store.read_completion(*settled.key) == settled._replace(event=b"")
        self.time = again.next_time
        assert [found.key for found in await store.take_completions(9, _LEASE)] == [one.key]
        self.time = over.next_time
        found = await store.take_completions(9, _LEASE)
        assert {one.key: one.given_up for one in found} == {one.key: False, other.key: True}

    @with_store
    async def test_those_that_wait_to_be_told_are_counted(self, store: Store) -> None:
        """With those that are taken, or are due later; what is given up waits no more."""
        assert await store.pending_completions() == 0
        one, other, last = [await self._done(store, name) for name in ("op-1", "op-2", "op-3")]
        assert await store.pending_completions() == 3
        assert await store.pending_completions(2) == 2
        again, over = failed(one, ERROR, self.time, lambda: 0.0), given_up(other, ERROR)
        await store.settle_completions([(one, again), (other, over), (last, None)])
        assert await store.pending_completions(1) == 1
        assert await store.pending_completions() == 1

    @with_store
    async def test_completions_are_taken_in_the_order_in_which_they_are_due(
        self, store: Store
    ) -> None:
        """As many as are asked for, and those of large operations at least one by one."""
        names = []
        for number in range(5):
            name = await self._begun(store, f"op-{number}", request_id=f"r{number}")
            detail = "x" * (3 * 1024 * 1024)
            await store.apply(name, Succeed(Report(1, 1, detail), RESPONSE))
            names.append(name)
            self.time += 1
        found: list[str] = []
        while some := await store.take_completions(4, _LEASE):
            assert len(some) <= 4
            found += [one.name for one in some]
        assert found == names

    @sync_test
    async def test_completions_are_there_after_opening_again(self) -> None:
        """Those that were taken, too: at once if the process is gone that has taken them."""
        async with self.opened() as store:
            one, other = [await self._done(store, name) for name in ("op-1", "op-2")]
            await store.settle_completions([(one, failed(one, ERROR, self.time, lambda: 0.5))])
        async with self.opened() as store:
            early = {one.key for one in await store.take_completions(9, _LEASE)}
            assert early <= ({other.key} if store.exclusive else set())
            self.time += 1_000_000
            (again,) = await store.take_completions(9, _LEASE)
            assert (again.key, again.error) == (one.key, ERROR)
            self.time += _LEASE
            found = await store.take_completions(9, _LEASE)
            assert {one.key for one in found} == {one.key, other.key}

    async def _begun(self, store: Store, operation_id: str, **values: Any) -> str:
        values = {"caller": "c", "notify": True, **values}
        made: Record = await store.create(self.record(operation_id, **values))
        await store.apply(made.name, Claim(LEASE))
        return made.name

    async def _done(self, store: Store, operation_id: str) -> Completion:
        """Returns the completion of a new operation, as it was taken."""
        name = await self._begun(store, operation_id)
        await store.apply(name, Succeed(Report(1), RESPONSE))
        (taken,) = await store.take_completions(9, _LEASE)
        return taken
