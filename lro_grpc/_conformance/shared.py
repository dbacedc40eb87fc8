"""The contract of a store that several processes have open, as tests."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from functools import partial
from typing import Any

from lro_grpc._conformance.cases import Cases, refused, renewed_leases, sync_test
from lro_grpc._conformance.listeners import Announced, Told
from lro_grpc._conformance.samples import ERROR, LEASE, RESPONSE, ROUNDS, TARGET, name_of, writes_of
from lro_grpc._errors import (
    LroError,
    OperationInProgressError,
    OperationNotFoundError,
    RequestIdReusedError,
    StaleAttemptError,
)
from lro_grpc._operation import states
from lro_grpc._operation.events import (
    Cancel,
    Claim,
    Delete,
    Event,
    Fail,
    Heartbeat,
    LeaseLost,
    Pause,
    Release,
    Report,
    Resume,
    Succeed,
    Terminate,
    TimePassed,
)
from lro_grpc._operation.record import Record
from lro_grpc._stores.store import Change, Claimed, Leased, Now, Order, Query, SharedStore


def _with_stores(
    count: int,
) -> Callable[
    [Callable[[Any, Sequence[SharedStore]], Coroutine[Any, Any, None]]], Callable[[Any], None]
]:
    """Makes a test of a coroutine function that takes so many open stores on an empty database."""

    def made(
        check: Callable[[Any, Sequence[SharedStore]], Coroutine[Any, Any, None]],
    ) -> Callable[[Any], None]:
        async def run(self: SharedStoreConformance) -> None:
            async with self.opened(count) as stores:
                await check(self, stores)

        run.__name__, run.__doc__ = check.__name__, check.__doc__
        run.__qualname__, run.__module__ = check.__qualname__, check.__module__
        return sync_test(run)

    return made


class SharedStoreConformance(Cases):
    """The promises of a :class:`lro_grpc.stores.SharedStore` that several processes have open.

    Each test opens several stores on one database, which stand for the processes.
    """

    def make_store(self, now: Now) -> SharedStore:
        """Returns a store to test, not yet open; to be given by the subclass.

        The stores of one test have the same operations, at first none, and nothing else: each is
        as it would be in a process of its own.

        Args:
            now: Returns the time in microseconds since 1970 UTC.
        """
        raise NotImplementedError

    @contextlib.asynccontextmanager
    async def opened(self, count: int) -> AsyncIterator[Sequence[SharedStore]]:
        """Gives so many stores, opened at the same time, and closes them again."""
        stores = [self.make_store(lambda: self.time) for _ in range(count)]
        await asyncio.gather(*(store.open() for store in stores))
        try:
            yield stores
        finally:
            await asyncio.gather(*(store.close() for store in stores))

    # Completions.

    @_with_stores(3)
    async def test_each_completion_is_taken_by_one_process(
        self, stores: Sequence[SharedStore]
    ) -> None:
        """Whoever has ended its operation; and by another one once the lease is over."""
        names = []
        for number in range(60):
            name = (await stores[0].create(self.record(f"op-{number}", notify=True))).name
            await stores[number % 2].apply(name, Cancel())
            names.append(name)
        for count in (1, 2):
            taken = await asyncio.gather(
                *(store.take_completions(7, LEASE) for _ in range(5) for store in stores)
            )
            found = [one for some in taken for one in some]
            while some := await stores[2].take_completions(60, LEASE):  # what others had locked
                found += some
            assert sorted(one.name for one in found) == sorted(names)
            assert {one.attempt_count for one in found} == {count}
            self.time += LEASE
        await stores[1].settle_completions([(one, None) for one in found])
        assert await stores[0].take_completions(60, LEASE) == []

    # One database.

    @sync_test
    async def test_stores_that_open_at_once_share_a_database(self) -> None:
        """Even one that was empty: with one secret, and one set of operations."""
        async with self.opened(8) as stores:
            assert not any(store.exclusive or store.is_lost for store in stores)
            secrets = {store.signing_secret for store in stores}
            assert [len(secret) for secret in secrets] == [32]
            for number, store in enumerate(stores):
                await store.create(self.record(f"op-{number}"))
            listed = [await self._listed(store) for store in stores]
            assert [len(names) for names in listed] == [8] * 8
            assert all(names == listed[0] for names in listed)

    @sync_test
    async def test_a_store_that_closes_leaves_the_others_open(self) -> None:
        """And one that opens later finds all that they have made."""
        async with self.opened(1) as (stays,):
            async with self.opened(1) as (leaves,):
                name = (await leaves.create(self.record())).name
            claimed = await stays.apply(name, Claim(LEASE))
            async with self.opened(1) as (comes,):
                assert comes.signing_secret == stays.signing_secret
                await self._is(comes, claimed)
                await comes.apply(name, Succeed(Report(1), RESPONSE))
            assert (await stays.read(name)).state == states.SUCCEEDED

    @_with_stores(3)
    async def test_what_one_store_has_answered_every_store_reads(
        self, stores: Sequence[SharedStore]
    ) -> None:
        """At once, in every way to read it (R1, R8)."""
        first, *others = stores
        how: dict[str, Any] = {"target": TARGET, "exclusive": True, "caller": "ann"}
        made = await first.create(self.record(request_id="r", fingerprint=b"f", **how))
        for store in others:
            await self._is(store, made)
            assert await store.find_request(self.METHOD, "r", "ann") == [made]
            assert await store.find_id("op-1") == [made.name]
            assert await store.exclusive_holder(TARGET) == made.name
            assert await self._listed(store) == [made.name]
            assert list(await store.claimable({self.METHOD: 9})) == [made.name]
            assert dict(await store.waiting(self.METHOD, 9)) == {"ann": 1}
            assert dict(await store.waiting_methods()) == {self.METHOD: 1}
        claimed = await others[0].apply(made.name, Claim(LEASE))
        for store in stores:
            await self._is(store, claimed)
            assert list(await store.leased()) == [Leased(made.name, 1)]
            assert list(await store.claimable({self.METHOD: 9})) == []
        self.time += 1
        done = await others[1].apply(made.name, Succeed(Report(1), RESPONSE))
        for store in stores:
            await self._is(store, done)
            assert list(await store.leased()) == []
            assert await store.exclusive_holder(TARGET) == ""
        await first.apply(made.name, Delete())
        for store in stores:
            await refused(OperationNotFoundError, store.read(made.name))
            assert await self._listed(store) == []

    @_with_stores(3)
    async def test_a_list_goes_on_at_any_store(self, stores: Sequence[SharedStore]) -> None:
        """The position of a page means the same to all, in either order."""
        names = [
            (await stores[number % 3].create(self.record(f"op-{number}"))).name
            for number in range(9)
        ]
        for order, expected in ((Order.NEWEST_FIRST, names[::-1]), (Order.BY_NAME, names)):
            found: list[str] = []
            position = b""
            for store in (*stores, *stores):
                page = await store.page(Query(self.PARENT, order=order), position=position, size=2)
                found += map(name_of, page.operations)
                position = page.position
                if not position:
                    break
            assert found == expected

    # Claims.

    @_with_stores(4)
    async def test_claims_of_all_stores_are_disjoint(self, stores: Sequence[SharedStore]) -> None:
        """However many there are at once; and together they take everything."""
        names = await self._created(stores, 200)
        told = [Announced(store) for store in stores]
        claimed: list[list[Claimed]] = [[] for _ in stores]

        async def claim(number: int) -> None:
            store = stores[number]
            while found := await store.claim({self.METHOD: 3}, Claim(LEASE)):
                claimed[number] += found

        for _ in range(ROUNDS):  # one that another claim looks at may be passed over
            await asyncio.gather(*(claim(number) for number in [*range(len(stores))] * 12))
            if sum(map(len, claimed)) >= len(names):
                break
        assert sorted(one.before.name for some in claimed for one in some) == sorted(names)
        for some, announced in zip(claimed, told, strict=True):
            changes = {*zip(announced.befores, announced.records, strict=True)}
            assert changes == {(one.before, one.outcome) for one in some}
            assert len(announced.records) == len(some)
        for name in names:
            assert (await stores[0].read(name)).attempt == 1

    @_with_stores(4)
    async def test_one_store_alone_gets_a_name_that_all_claim(
        self, stores: Sequence[SharedStore]
    ) -> None:
        """The others are refused."""
        names = await self._created(stores, 20)
        changes: list[Change] = [(name, Claim(LEASE)) for name in names]
        answers = await asyncio.gather(*(store.apply_all(changes) for store in stores))
        for outcomes in zip(*answers, strict=True):
            won = [one for one in outcomes if isinstance(one, Record)]
            lost = [one for one in outcomes if isinstance(one, StaleAttemptError)]
            assert (len(won), len(lost)) == (1, len(stores) - 1)
            await self._is(stores[0], won[0])
            assert won[0].attempt == 1

    @_with_stores(3)
    async def test_of_a_key_so_many_are_held_whichever_stores_claim(
        self, stores: Sequence[SharedStore]
    ) -> None:
        """At every moment; and together they take everything."""
        made = [
            await stores[0].create(self.record(f"op-{n}", concurrency_key=f"key-{n % 3}"))
            for n in range(60)
        ]
        key_of = {one.name: one.concurrency_key for one in made}
        left = {*key_of}

        async def work(store: SharedStore) -> None:
            while left:
                claims = await store.claim_by_key(self.METHOD, 3, 2, Claim(LEASE))
                for before, outcome in claims.claimed:
                    assert isinstance(outcome, Record), outcome
                    assert outcome.attempt == 1, "two stores have claimed it"
                    await store.apply(before.name, Succeed(Report(1), RESPONSE))
                    left.remove(before.name)
                await asyncio.sleep(0)  # a store may answer without it

        async def look() -> None:
            while left:
                held = Counter(key_of[one.name] for one in await stores[0].leased())
                assert max(held.values(), default=0) <= 2, held
                await asyncio.sleep(0)

        await asyncio.gather(look(), *map(work, stores))

    # One outcome (R4, R5).

    @_with_stores(3)
    async def test_of_the_outcomes_that_stores_write_at_once_one_stands(
        self, stores: Sequence[SharedStore]
    ) -> None:
        """And every store has the same one."""
        names = await self._created(stores, 20)
        await stores[0].apply_all([(name, Claim(LEASE)) for name in names])
        ends: list[Event] = [
            Succeed(Report(1), RESPONSE),
            Fail(Report(1), ERROR),
            Terminate("enough"),
        ]
        calls = [
            store.apply_all([(name, end) for name in names])
            for store, end in zip(stores, ends, strict=True)
        ]
        for outcomes in zip(*await asyncio.gather(*calls), strict=True):
            (won,) = [one for one in outcomes if isinstance(one, Record)]
            for store in stores:
                await self._is(store, won)

    @_with_stores(3)
    async def test_no_change_of_any_store_is_lost(self, stores: Sequence[SharedStore]) -> None:
        """Many changes of one operation at once: each is made of the one before it."""
        name = (await stores[0].create(self.record(pausable=True))).name
        claimed = await stores[0].apply(name, Claim(LEASE))
        told = [Announced(store) for store in stores]
        await asyncio.gather(
            *(
                store.apply(name, Report(1, status_detail=f"{number}.{turn}"))
                for number, store in enumerate(stores)
                for turn in range(10)
            ),
            stores[0].apply(name, Report(1, 50)),
            stores[1].apply(name, Pause()),
            stores[2].apply(name, Heartbeat(1, 2 * LEASE)),
        )
        seen = await stores[0].read(name)
        assert (seen.progress_percent, seen.pause_requested) == (50, True)
        assert seen.lease_expire_time == self.time + 2 * LEASE
        steps = {
            before: after
            for one in told
            for before, after in zip(one.befores, one.records, strict=True)
        }
        path = [claimed]
        while path[-1] in steps:
            path.append(steps.pop(path[-1]))
        assert (path[-1], steps) == (seen, {})

    @_with_stores(2)
    async def test_an_attempt_that_another_store_has_replaced_writes_nothing(
        self, stores: Sequence[SharedStore]
    ) -> None:
        """Whatever the store of its worker still takes it for (R5)."""
        first, second = stores
        name = (await first.create(self.record())).name
        await first.apply(name, Claim(LEASE))
        await second.apply(name, LeaseLost(1, proven=True))
        for event in writes_of(1):
            await refused(StaleAttemptError, first.apply(name, event))
        again = await second.apply(name, Claim(LEASE))
        for event in writes_of(1):
            await refused(StaleAttemptError, first.apply(name, event))
        await self._is(first, again)
        await self._is(second, again)

    @_with_stores(3)
    async def test_what_time_does_is_done_once(self, stores: Sequence[SharedStore]) -> None:
        """Though every store looks for it: leases that are over, limits, and retention."""
        names = await self._created(stores, 30, timeout=2 * LEASE)
        await stores[0].apply_all([(name, Claim(LEASE)) for name in names[:10]])
        told = [Announced(store) for store in stores]

        async def sweep(store: SharedStore) -> None:
            for one in await store.leased(until=self.time):
                with contextlib.suppress(StaleAttemptError):
                    await store.apply(one.name, LeaseLost(one.attempt))
            for name in await store.expired(100):
                await store.apply(name, TimePassed())

        for lasts, changed in ((LEASE, names[:10]), (LEASE, names)):
            self.time += lasts
            await asyncio.gather(*map(sweep, stores))
            made = [record.name for one in told for record in one.records]
            assert sorted(made) == sorted(changed)
            for one in told:
                one.clear()
        assert {(await stores[0].read(name)).state for name in names} == {states.EXPIRED}

    # What a store remembers is no answer.

    @_with_stores(2)
    async def test_a_refusal_is_of_the_operation_as_it_is_now(
        self, stores: Sequence[SharedStore]
    ) -> None:
        """Not as the store has seen it last: another one may have changed, made or removed it."""
        first, second = stores
        made = self.record("op-1", pausable=True)
        await refused(OperationNotFoundError, first.apply(made.name, Pause()))
        await second.create(made)
        assert (await first.apply(made.name, Pause())).state == states.PAUSED
        await second.apply_all([(made.name, Resume()), (made.name, Claim(LEASE))])
        assert (await first.apply(made.name, Report(1, 7))).progress_percent == 7
        await second.apply(made.name, Release(Report(1)))
        assert (await first.apply(made.name, Claim(LEASE))).attempt == 2
        await second.apply_all([(made.name, Release(Report(2))), (made.name, Claim(LEASE))])
        done = await first.apply(made.name, Succeed(Report(3), RESPONSE))
        assert done.progress_percent == 100
        await second.apply(made.name, Delete())
        await refused(OperationNotFoundError, first.apply(made.name, Cancel()))
        await second.create(made)
        assert (await first.apply(made.name, Claim(LEASE))).attempt == 1

    @_with_stores(2)
    async def test_what_changes_nothing_changes_nothing_as_it_is_now(
        self, stores: Sequence[SharedStore]
    ) -> None:
        """A store does not take an event for done because it has seen it done."""
        first, second = stores
        name = (await first.create(self.record(pausable=True))).name
        await first.apply(name, Claim(LEASE))
        for _ in range(3):
            assert (await first.apply(name, Pause())).pause_requested
            await second.apply(name, Resume())
        self.time += LEASE
        await second.apply(name, Heartbeat(1, LEASE))
        kept = await first.apply(name, LeaseLost(1))
        assert kept.lease_expire_time == self.time + LEASE
        await self._is(second, kept)

    # Requests, names and targets (R2, S6, S22).

    @_with_stores(4)
    async def test_a_request_that_reaches_all_stores_at_once_starts_one_operation(
        self, stores: Sequence[SharedStore]
    ) -> None:
        """Of each caller; and another request under its id is refused by all."""
        for turn in range(5):
            request_id = f"r{turn}"
            copies = [
                self.record(
                    f"op-{turn}-{n}", request_id=request_id, fingerprint=b"f", caller=caller
                )
                for n, caller in enumerate(["ann", "bob"] * 8)
            ]
            answers = await asyncio.gather(
                *(stores[n // 2 % 4].create(one) for n, one in enumerate(copies))
            )
            assert [one.caller for one in answers] == [one.caller for one in copies]
            assert len({one.name for one in answers}) == 2
            for store in stores:
                other = self.record("op-x", request_id=request_id, fingerprint=b"g", caller="ann")
                await refused(RequestIdReusedError, store.create(other))
        assert len(await self._listed(stores[0])) == 10

    @_with_stores(3)
    async def test_a_name_is_given_once(self, stores: Sequence[SharedStore]) -> None:
        """Whichever store is asked for it."""
        for turn in range(5):
            made = [self.record(f"op-{turn}", request=bytes([n])) for n, _ in enumerate(stores)]
            calls = (store.create(one) for store, one in zip(stores, made, strict=True))
            answers = await asyncio.gather(*calls, return_exceptions=True)
            (won,) = [one for one in answers if isinstance(one, Record)]
            lost = [one.reason for one in answers if isinstance(one, LroError)]
            assert lost == ["NAME_TAKEN"] * 2
            for store in stores:
                await self._is(store, won)

    @_with_stores(4)
    async def test_an_exclusive_target_is_one_operations_at_a_time(
        self, stores: Sequence[SharedStore]
    ) -> None:
        """In all stores together; its end in one frees it in all."""
        for turn in range(5):
            made = [
                self.record(f"op-{turn}-{n}", target=TARGET, exclusive=True)
                for n, _ in enumerate(stores)
            ]
            calls = (store.create(one) for store, one in zip(stores, made, strict=True))
            answers = await asyncio.gather(*calls, return_exceptions=True)
            (won,) = [one for one in answers if isinstance(one, Record)]
            lost = [one for one in answers if isinstance(one, OperationInProgressError)]
            assert [one.metadata["operation"] for one in lost] == [won.name] * 3
            for store in stores:
                assert await store.exclusive_holder(TARGET) == won.name
            await stores[turn % 4].apply(won.name, Cancel())
            assert await stores[(turn + 1) % 4].exclusive_holder(TARGET) == ""

    # Notices (R9).

    @_with_stores(2)
    async def test_listeners_get_the_changes_of_their_own_store(
        self, stores: Sequence[SharedStore]
    ) -> None:
        """Each with the record before it, though another store has made that."""
        first, second = stores
        told = [Announced(store) for store in stores]
        made = await first.create(self.record())
        claimed = await second.apply(made.name, Claim(LEASE))
        cancelling = await first.apply(made.name, Cancel())
        ended = await second.apply(made.name, Release(Report(1)))
        assert (told[0].befores, told[0].records) == ([None, claimed], [made, cancelling])
        assert (told[1].befores, told[1].records) == ([made, cancelling], [claimed, ended])

    @_with_stores(3)
    async def test_a_follower_is_told_what_other_stores_make_of_an_operation(
        self, stores: Sequence[SharedStore]
    ) -> None:
        """Its latest state sooner or later: until it is done, or gone."""
        *followers, changing = stores
        ends, goes = await self._created([changing], 2)
        told = [(Told(), Told()) for _ in followers]
        unfollow = [
            store.follow(name, one)
            for store, both in zip(followers, told, strict=True)
            for name, one in zip((ends, goes), both, strict=True)
        ]
        for event in (Claim(LEASE), Report(1, 50), Cancel(), Succeed(Report(1), RESPONSE)):
            after = await changing.apply(ends, event)
            for one, _ in told:
                await one.until(partial(one.has, after))
        await changing.apply(goes, Claim(LEASE))
        await changing.apply(goes, Delete())
        for _, one in told:
            await one.until(one.has_gone)
        for end in unfollow:
            end()

    @_with_stores(2)
    async def test_a_follower_of_many_operations_is_told_of_each(
        self, stores: Sequence[SharedStore]
    ) -> None:
        """However many change at once; and those that it no longer follows are not told."""
        first, second = stores
        names = await self._created([first], 200)
        told, ended = Told(), Told()
        followed = {name: first.follow(name, told) for name in names}
        for name in names:
            first.follow(name, ended)()
        await second.apply_all([(name, Cancel()) for name in names])
        await told.until(
            lambda: {one.name for one in told.values if one and one.done} == set(names)
        )
        for end in followed.values():
            end()
        assert ended.values == []

    @_with_stores(2)
    async def test_work_that_a_store_leaves_is_told_to_the_others(
        self, stores: Sequence[SharedStore]
    ) -> None:
        """One that is new, is given back, is resumed, or was to wait a while."""
        first, second = stores
        told = Told()
        assert list(await first.claim({self.METHOD: 9}, Claim(LEASE))) == []
        ends = [
            first.follow_work(lambda _: True, told),
            second.follow_work(lambda _: False, lambda _: None),
        ]
        made = await second.create(self.record(pausable=True))
        await told.until(lambda: self.METHOD in told.values)
        for event in (Release(Report(1)), LeaseLost(2, proven=True)):
            await second.apply(made.name, Claim(LEASE))
            told.values.clear()
            await second.apply(made.name, event)
            await told.until(lambda: self.METHOD in told.values)
        await second.apply(made.name, Pause())
        told.values.clear()
        await second.apply(made.name, Resume())
        await told.until(lambda: self.METHOD in told.values)
        assert [one.before.name for one in await first.claim({self.METHOD: 9}, Claim(LEASE))] == [
            made.name
        ]
        for end in ends:
            end()

    @_with_stores(2)
    async def test_a_place_of_a_key_that_becomes_free_is_told_to_the_others(
        self, stores: Sequence[SharedStore]
    ) -> None:
        """However its attempt ends, and whichever store ends it."""
        first, second = stores
        told, seen = Told(), Told()
        per_key, claim = 1, Claim(LEASE)
        assert not (await first.claim_by_key(self.METHOD, 9, per_key, claim)).claimed
        ends = [
            first.follow_work(lambda _: True, told),
            second.follow_work(lambda _: False, lambda _: None),
        ]
        events: Sequence[Event] = (Succeed(Report(1), RESPONSE), Terminate("enough"))
        for number, event in enumerate(events):
            last = await second.create(self.record(f"op-{number}", concurrency_key="other"))
            names = [f"op-{number}0", f"op-{number}1"]
            for name in names:
                await second.create(self.record(name, concurrency_key="key"))
            claims = await first.claim_by_key(self.METHOD, 9, per_key, claim)
            ends.append(first.follow(last.name, seen))
            cancelled = await second.apply(last.name, Terminate("seen"))
            await seen.until(partial(seen.has, cancelled))
            told.values.clear()  # of what was created, and of what has ended just now
            held = next(one.before for one in claims.claimed if one.before.concurrency_key == "key")
            await second.apply(held.name, event)
            await told.until(lambda: self.METHOD in told.values)
            claims = await first.claim_by_key(self.METHOD, 9, per_key, claim)
            (before, _) = claims.claimed[0]
            assert before.name.endswith(names[1])
            await first.apply(before.name, Terminate("over"))
        for end in ends:
            end()

    # Leases.

    @_with_stores(2)
    async def test_leases_are_renewed_while_the_event_loop_stands_still(
        self, stores: Sequence[SharedStore]
    ) -> None:
        """In a thread, on another loop; of attempts that other stores have replaced, none (R6)."""
        first, second = stores
        kept, lost = await self._created([first], 2)
        await first.apply_all([(name, Claim(LEASE)) for name in (kept, lost)])
        await second.apply_all([(lost, LeaseLost(1, proven=True)), (lost, Claim(LEASE))])
        self.time += LEASE - 1
        answers: list[Sequence[Record | LroError]] = []

        def renew() -> None:
            answers.append(asyncio.run(renewed_leases(first, [Leased(kept, 1), Leased(lost, 1)])))

        thread = threading.Thread(target=renew)
        thread.start()
        thread.join()  # nothing of this loop goes on meanwhile
        ((renewed, stale),) = answers
        assert isinstance(renewed, Record)
        assert renewed.lease_expire_time == self.time + LEASE
        assert isinstance(stale, StaleAttemptError)
        self.time += 2
        assert list(await second.leased(until=self.time)) == [Leased(lost, 2)]
        stored = await second.read(kept)
        assert stored.lease_expire_time == renewed.lease_expire_time
        reported = await first.apply(kept, Report(1, 7))
        assert (reported.request, reported.lease_expire_time) == (
            stored.request,
            renewed.lease_expire_time,
        )

    async def _created(
        self, stores: Sequence[SharedStore], count: int, **values: Any
    ) -> Sequence[str]:
        """Returns the names of new operations, made by all stores at once."""
        made = [self.record(f"op-{number}", **values) for number in range(count)]
        calls = (stores[n % len(stores)].create(one) for n, one in enumerate(made))
        return [one.name for one in await asyncio.gather(*calls)]
