"""Tests of announcements, to listeners or followers."""

from __future__ import annotations

import asyncio

from lro_grpc._conformance.cases import StoreCases, refused, with_store
from lro_grpc._conformance.listeners import Announced
from lro_grpc._conformance.samples import LEASE, RESPONSE
from lro_grpc._errors import StaleAttemptError
from lro_grpc._operation.events import Cancel, Claim, Delete, LeaseLost, Release, Report, Succeed
from lro_grpc._operation.record import Record
from lro_grpc._stores.store import Store


class Announcements(StoreCases):
    """Promises of the changes that a store announces."""

    # Listeners (R9).

    @with_store
    async def test_listeners_get_each_change_once_before_the_answer(self, store: Store) -> None:
        """And nothing else: no refusal, no repetition, no event that changes nothing."""
        announced, other = Announced(store), Announced(store)
        made = await store.create(self.record("op-1", request_id="r", fingerprint=b"f"))
        assert announced.records == [made]
        await store.create(self.record("op-2", request_id="r", fingerprint=b"f"))
        claimed = await store.apply(made.name, Claim(LEASE))
        assert announced.records == [made, claimed]
        await store.apply(made.name, LeaseLost(1))
        await refused(StaleAttemptError, store.apply(made.name, Claim(LEASE)))
        outcomes = await store.apply_all(
            [(made.name, Report(1, 50)), (made.name, Succeed(Report(1), RESPONSE))]
        )
        assert announced.records == [made, claimed, *outcomes]
        await store.apply(made.name, Cancel())
        deleted = await store.apply(made.name, Delete())
        assert announced.records == [made, claimed, *outcomes, deleted]
        assert announced.befores == [None, made, claimed, outcomes[0], outcomes[1]]
        assert (other.befores, other.records) == (announced.befores, announced.records)

    @with_store
    async def test_a_listener_that_was_removed_is_called_no_more(self, store: Store) -> None:
        """And the others are."""
        records: list[Record] = []
        remove = store.subscribe(lambda _, after: records.append(after))
        other = Announced(store)
        made = await store.create(self.record())
        remove()
        ended = await store.apply(made.name, Cancel())
        assert records == [made]
        assert other.records == [made, ended]

    @with_store
    async def test_what_a_listener_gets_can_be_read(self, store: Store) -> None:
        """A reader that is woken by it sees that change, or a later one (R8)."""
        seen: list[tuple[int, asyncio.Task[Record]]] = []
        store.subscribe(
            lambda _, one: seen.append(
                (one.progress_percent, asyncio.create_task(store.read(one.name)))
            )
        )
        name = (await store.create(self.record())).name
        await store.apply(name, Claim(LEASE))
        await asyncio.gather(*(store.apply(name, Report(1, n)) for n in range(1, 30)))
        read = [(percent, (await task).progress_percent) for percent, task in seen]
        assert len(read) == 31
        assert [pair for pair in read if pair[1] < pair[0]] == []

    # What other processes change.

    @with_store
    async def test_what_is_followed_is_told_until_that_is_ended(self, store: Store) -> None:
        """Only states that there were; and an exclusive store has no others to tell of."""
        told: list[Record | None] = []
        methods: list[str] = []
        announced = Announced(store)
        made = await store.create(self.record())
        end_first, end_second = (store.follow(made.name, told.append) for _ in range(2))
        end_unknown = store.follow(f"{made.name}x", told.append)
        end_work = store.follow_work(lambda _: False, methods.append)
        await store.apply(made.name, Claim(LEASE))
        end_first()
        await store.apply(made.name, Release(Report(1)))
        for end in (end_second, end_unknown, end_work):
            end()
        assert [one for one in told if one and one not in announced.records] == []
        assert set(methods) <= {self.METHOD}
        if store.exclusive:
            assert (told, methods) == ([], [])
        former = list(told)
        await store.apply(made.name, Cancel())
        assert told == former
