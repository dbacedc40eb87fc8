"""Tests of creation: names, repeated requests, exclusive targets."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

from lro.v1 import operation_metadata_pb2
from lro_grpc._conformance.cases import StoreCases, refused, with_store
from lro_grpc._conformance.samples import BATCH, ERROR, LEASE, OTHER_METHOD, RESPONSE, TARGET
from lro_grpc._errors import (
    LroError,
    OperationInProgressError,
    OperationNotFoundError,
    RequestIdReusedError,
)
from lro_grpc._operation.events import (
    Cancel,
    Claim,
    Delete,
    Event,
    Expire,
    Fail,
    LeaseLost,
    Pause,
    Release,
    Report,
    SaveBatch,
    Succeed,
)
from lro_grpc._operation.record import Record
from lro_grpc._stores.store import Change, Store


class Creation(StoreCases):
    """Promises of a new operation."""

    # Create and read.

    @with_store
    async def test_a_record_is_read_back_whole(self, store: Store) -> None:
        """Every field, whatever its characters and bytes, is what it was."""
        made = self.record(
            "op-0~A.z",
            request=bytes(range(256)) * 400,
            request_id="é\u0000\N{SNOWMAN}'\"--",
            fingerprint=b"\x00\xff",
            target="projects/p/instances/\N{SNOWMAN}",
            verb="create",
            api_version="v1",
            caller="someone@d.example \N{SNOWMAN}",
            trace_context="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            max_attempts=3,
            pausable=True,
            exclusive=True,
            retention=2**63 - 1,
            timeout=3_600_000_000,
        )
        assert not store.is_lost
        assert await store.create(made) == made
        await self._is(store, made)
        claimed = await store.apply(made.name, Claim(LEASE))
        handler_metadata = operation_metadata_pb2.OperationMetadata(attempt=9).SerializeToString()
        report = Report(1, 7, "half\u0000way \N{SNOWMAN}", handler_metadata)
        saved = await store.apply(made.name, SaveBatch(report, BATCH, ERROR))
        assert saved.attempt == claimed.attempt == 1
        assert (saved.handler_metadata, saved.batch, saved.batch_error) == (
            handler_metadata,
            BATCH,
            ERROR,
        )
        cancelled = await store.apply(made.name, Cancel())
        await self._is(store, cancelled)
        read = await store.read(made.name)
        assert (read.cancel_requested, read.pausable) == (True, True)
        assert (read.pause_requested, read.deleted) == (False, False)

    @with_store
    async def test_an_unknown_name_is_not_found(self, store: Store) -> None:
        """Nothing can be read of it, and no event applied to it."""
        await store.create(self.record())
        for name in (f"{self.PARENT}/operations/op-2", "operations/op-1", "", "' OR 1 = 1 --"):
            for call in (store.read(name), store.operation(name), store.apply(name, Cancel())):
                await refused(OperationNotFoundError, call)

    @with_store
    async def test_a_name_that_is_taken_is_refused(self, store: Store) -> None:
        """Neither later nor at once: no operation ever takes another's place."""
        first = await store.create(self.record("op-1"))
        claimed = await store.apply(first.name, Claim(LEASE))
        await refused(LroError, store.create(self.record("op-1", request=b"another")))
        await self._is(store, claimed)
        assert await self._listed(store) == [first.name]
        rivals = [self.record("op-2", request=bytes([n])) for n in range(3)]
        answers = await asyncio.gather(*map(store.create, rivals), return_exceptions=True)
        (won,) = [one for one in answers if isinstance(one, Record)]
        await self._is(store, won)

    # Idempotent create (R2, S22).

    @with_store
    async def test_a_request_that_is_repeated_gives_the_same_operation(self, store: Store) -> None:
        """While it waits, while it runs, and when it is done."""
        first = await store.create(self.record("op-1", request_id="r", fingerprint=b"f"))
        repeated = self.record("op-2", request_id="r", fingerprint=b"f")
        assert await store.create(repeated) == first
        running = await store.apply(first.name, Claim(LEASE))
        assert await store.create(repeated) == running
        done = await store.apply(first.name, Succeed(Report(1), RESPONSE))
        assert await store.create(repeated) == done
        await refused(OperationNotFoundError, store.read(repeated.name))
        assert await self._listed(store) == [first.name]

    @with_store
    async def test_concurrent_duplicates_give_one_operation(self, store: Store) -> None:
        """However many copies of a request come at once."""
        copies = [self.record(f"op-{n}", request_id="r", fingerprint=b"f") for n in range(50)]
        answers = await asyncio.gather(*map(store.create, copies))
        assert len({answer.name for answer in answers}) == 1
        assert await self._listed(store) == [answers[0].name]
        assert list(await store.claimable({self.METHOD: 100})) == [answers[0].name]

    @with_store
    async def test_a_request_id_is_not_reused_for_another_request(self, store: Store) -> None:
        """Neither later nor at once; the operation that has it is left alone."""
        first = await store.create(self.record("op-1", request_id="r", fingerprint=b"f"))
        await refused(
            RequestIdReusedError,
            store.create(self.record("op-2", request_id="r", fingerprint=b"g")),
        )
        await self._is(store, first)
        others = [
            self.record(f"op-x{n}", request_id="s", fingerprint=bytes([n])) for n in range(10)
        ]
        answers = await asyncio.gather(*map(store.create, others), return_exceptions=True)
        assert sum(isinstance(answer, RequestIdReusedError) for answer in answers) == 9
        assert len(await self._listed(store)) == 2

    @with_store
    async def test_a_request_id_belongs_to_its_method_parent_and_caller(self, store: Store) -> None:
        """Elsewhere it is another one; and no request_id is like no other."""
        made = [
            self.record("op-1", request_id="r", fingerprint=b"f"),
            self.record("op-2", request_id="r", fingerprint=b"g", method=OTHER_METHOD),
            self.record("op-3", request_id="r", fingerprint=b"h", parent="projects/q"),
            self.record("op-4", request_id="r", fingerprint=b"i", parent=""),
            self.record("op-5", fingerprint=b"f"),
            self.record("op-6", fingerprint=b"f"),
            self.record("op-7", request_id="r", fingerprint=b"j", caller="ann"),
            self.record("op-8", request_id="r", fingerprint=b"k", caller="bob"),
        ]
        assert [await store.create(one) for one in made] == made
        assert await store.find_request(self.METHOD, "r", "ann") == [made[6]]
        again = self.record("op-9", request_id="r", fingerprint=b"k", caller="bob")
        assert await store.create(again) == made[7]
        await store.apply(made[6].name, Delete())
        assert await store.create(again) == made[7]

    @with_store
    async def test_texts_of_any_length_keep_nobody_else_out(self, store: Store) -> None:
        """Longer than an index has room for: a caller sends what it likes, along with others."""
        long = hashlib.shake_256(b"long").hexdigest(50_000)  # which no index can make short
        made = [
            self.record("op-1", request_id=f"{long}1", fingerprint=b"f"),
            self.record("op-2", request_id=f"{long}2", fingerprint=b"g"),
            self.record("op-3", request_id="r", fingerprint=b"h", caller=long),
            self.record("op-4", request_id="r", fingerprint=b"i", caller=f"\\{long}"),
            self.record("op-5", target=long, exclusive=True),
            self.record("op-6", target=f"\\x{long}", exclusive=True),
            self.record("op-7"),
        ]
        assert list(await asyncio.gather(*map(store.create, made))) == made
        assert await store.find_request(self.METHOD, f"{long}2", "") == [made[1]]
        assert await store.find_request(self.METHOD, "r", f"\\{long}") == [made[3]]
        assert await store.exclusive_holder(f"\\x{long}") == made[5].name
        again = self.record("op-8", request_id=f"{long}1", fingerprint=b"f")
        assert await store.create(again) == made[0]
        other = self.record("op-9", target=long, exclusive=True)
        await refused(OperationInProgressError, store.create(other))

    @with_store
    async def test_callers_that_race_for_a_request_id_have_one_each(self, store: Store) -> None:
        """However many of each come at once, in one commit or in several."""
        copies = [
            self.record(f"op-{n}", request_id="r", fingerprint=caller.encode(), caller=caller)
            for n, caller in enumerate(["ann", "bob"] * 10)
        ]
        answers = await asyncio.gather(*map(store.create, copies))
        assert [one.caller for one in answers] == [one.caller for one in copies]
        assert len({one.name for one in answers}) == 2

    @with_store
    async def test_a_request_is_found_by_its_method_and_id(self, store: Store) -> None:
        """And by nothing less; once it is deleted, until it ends."""
        first = await store.create(self.record("op-1", request_id="r", fingerprint=b"f"))
        await store.create(self.record("op-2", fingerprint=b"f"))
        assert await store.find_request(self.METHOD, "r", "") == [first]
        running = await store.apply(first.name, Claim(LEASE))
        assert await store.find_request(self.METHOD, "r", "") == [running]
        for other in ((self.METHOD, "s", ""), (OTHER_METHOD, "r", ""), (self.METHOD, "r", "ann")):
            assert await store.find_request(*other) == []
        assert await store.find_request(self.METHOD, "", "") == []
        hidden = await store.apply(first.name, Delete())
        assert await store.find_request(self.METHOD, "r", "") == [hidden]
        await store.apply(first.name, Succeed(Report(1), RESPONSE))
        assert await store.find_request(self.METHOD, "r", "") == []

    @with_store
    async def test_an_operation_is_found_by_its_id(self, store: Store) -> None:
        """Under any parent, by all of the id, and until it is deleted."""
        name = (await store.create(self.record("op-1"))).name
        await store.create(self.record("op-12"))
        without_parent = (await store.create(self.record("op-2", parent=""))).name
        assert await store.find_id("op-1") == [name]
        assert await store.find_id("op-2") == [without_parent] == ["operations/op-2"]
        for other in ("1", "op-", "op-3", "operations/op-2", "", "%"):
            assert await store.find_id(other) == []
        elsewhere = (await store.create(self.record("op-1", parent="projects/q"))).name
        assert sorted(await store.find_id("op-1")) == sorted([name, elsewhere])
        await store.apply(name, Claim(LEASE))
        await store.apply(name, Delete())
        assert await store.find_id("op-1") == [elsewhere]
        for parent in ("projects/r", "projects/s"):
            await store.create(self.record("op-1", parent=parent))
        assert len(await store.find_id("op-1")) >= 2

    @with_store
    async def test_the_latest_rerun_of_an_operation_is_found(self, store: Store) -> None:
        """Unless it is deleted: then the one before it."""
        source = await store.create(self.record("op-1"))
        assert await store.latest_rerun(source.name) == await store.latest_rerun("") == ""
        reruns = [
            await store.create(
                self.record(f"op-{number}", source_operation=source.name, operator="ada")
            )
            for number in (9, 10, 2)
        ]
        for rerun in reruns:
            await self._is(store, rerun)
        assert await store.latest_rerun(source.name) == reruns[-1].name
        await store.apply(reruns[-1].name, Delete())
        assert await store.latest_rerun(source.name) == reruns[-2].name
        for name in (reruns[-2].name, "", "%"):
            assert await store.latest_rerun(name) == ""

    @with_store
    async def test_a_deleted_operation_frees_its_request_id_when_it_ends(
        self, store: Store
    ) -> None:
        """Not before: the same request would run twice at once (R2)."""
        first = await store.create(self.record("op-1", request_id="r", fingerprint=b"f"))
        await store.apply(first.name, Claim(LEASE))
        await store.apply(first.name, Delete())
        for fingerprint in (b"f", b"g"):
            again = self.record("op-2", request_id="r", fingerprint=fingerprint)
            await refused(OperationInProgressError, store.create(again))
        await store.apply(first.name, Release(Report(1)))
        await refused(OperationInProgressError, store.create(again))
        await store.apply(first.name, Claim(LEASE))
        await store.apply(first.name, Succeed(Report(2), RESPONSE))
        second = await store.create(self.record("op-2", request_id="r", fingerprint=b"g"))
        assert second.name.endswith("op-2")
        await self._is(store, second)
        await store.apply(second.name, Claim(LEASE))
        await store.apply(second.name, Succeed(Report(1), RESPONSE))
        await store.apply(second.name, Delete())
        third = self.record("op-3", request_id="r", fingerprint=b"h")
        assert await store.create(third) == third

    @with_store
    async def test_a_request_id_moves_on_from_operation_to_operation(self, store: Store) -> None:
        """Create, cancel, delete of one request_id, over and over."""
        for number in range(20):
            made = self.record(f"op-{number}", request_id="r", fingerprint=bytes([number]))
            await store.create(made)
            ends: list[Change] = [(made.name, Cancel()), (made.name, Delete())]
            outcomes = await store.apply_all(ends)
            assert [one for one in outcomes if isinstance(one, LroError)] == []
        last = await store.create(self.record("op-last", request_id="r", fingerprint=b"last"))
        assert await self._listed(store) == [last.name]

    # Exclusive targets (S6).

    @with_store
    async def test_an_exclusive_target_has_one_operation_at_a_time(self, store: Store) -> None:
        """Of whatever method and parent; other targets are free, and who does not ask for it."""
        first = await store.create(self.record("op-1", target=TARGET, exclusive=True))
        assert await store.exclusive_holder(TARGET) == first.name
        others = (
            self.record("op-2", target=TARGET, exclusive=True),
            self.record("op-3", target=TARGET, exclusive=True, method=OTHER_METHOD),
            self.record("op-4", target=TARGET, exclusive=True, parent=""),
        )
        for other in others:
            await refused(OperationInProgressError, store.create(other))
            await refused(OperationNotFoundError, store.read(other.name))
        free = (
            self.record("op-5", target=TARGET),
            self.record("op-6", target=f"{TARGET}2", exclusive=True),
            self.record("op-7", exclusive=True),
            self.record("op-8", exclusive=True),
        )
        for one in free:
            assert await store.create(one) == one
        assert await store.exclusive_holder(TARGET) == first.name
        for target in ("", f"{TARGET}3", "' OR 1 = 1 --"):
            assert await store.exclusive_holder(target) == ""

    @with_store
    async def test_an_exclusive_target_is_free_when_its_operation_is_done(
        self, store: Store
    ) -> None:
        """However it ends, and not before: not lost, paused nor deleted."""
        ends: list[list[Event]] = [
            [Cancel()],
            [Claim(LEASE), Succeed(Report(1), RESPONSE)],
            [Claim(LEASE), Fail(Report(1), ERROR)],
            [Claim(LEASE), Expire(Report(1))],
            [Claim(LEASE), Delete(), Succeed(Report(1), RESPONSE)],
            [Pause(), Cancel()],
            [Claim(LEASE), LeaseLost(1, proven=True), Cancel()],
        ]
        for number, events in enumerate(ends):
            made = self.record(f"op-{number}", target=TARGET, exclusive=True, pausable=True)
            assert await store.create(made) == made
            for event in events:
                assert await store.exclusive_holder(TARGET) == made.name
                await store.apply(made.name, event)
            assert await store.exclusive_holder(TARGET) == ""

    @with_store
    async def test_concurrent_creates_of_one_exclusive_target_have_one_winner(
        self, store: Store
    ) -> None:
        """However many come at once."""
        made = [self.record(f"op-{n}", target=TARGET, exclusive=True) for n in range(50)]
        answers = await asyncio.gather(*map(store.create, made), return_exceptions=True)
        (won,) = [one for one in answers if isinstance(one, Record)]
        assert sum(isinstance(one, OperationInProgressError) for one in answers) == 49
        assert await store.exclusive_holder(TARGET) == won.name
        assert await self._listed(store) == [won.name]

    @with_store
    async def test_an_exclusive_target_moves_on_from_operation_to_operation(
        self, store: Store
    ) -> None:
        """End and create, over and over."""
        ends: list[list[Event]] = [
            [Cancel()],
            [Claim(LEASE), Succeed(Report(1), RESPONSE)],
            [Delete(), Claim(LEASE), Fail(Report(1), ERROR)],
        ]
        for number in range(21):
            made = await store.create(self.record(f"op-{number}", target=TARGET, exclusive=True))
            outcomes = await store.apply_all([(made.name, event) for event in ends[number % 3]])
            assert [one for one in outcomes if isinstance(one, LroError)] == []
        last = await store.create(self.record("op-last", target=TARGET, exclusive=True))
        assert await store.exclusive_holder(TARGET) == last.name

    @with_store
    async def test_a_repeated_request_comes_before_its_exclusive_target(self, store: Store) -> None:
        """The same request finds its operation, and does not get into its own way (S22)."""
        how: dict[str, Any] = {"request_id": "r", "target": TARGET, "exclusive": True}
        first = await store.create(self.record("op-1", fingerprint=b"f", **how))
        assert await store.create(self.record("op-2", fingerprint=b"f", **how)) == first
        await refused(
            RequestIdReusedError, store.create(self.record("op-3", fingerprint=b"g", **how))
        )
