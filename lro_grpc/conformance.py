"""The contract of a store, as tests that any store can be put through.

Subclass :class:`StoreConformance` in a test module; pytest collects what it inherits::

    from lro_grpc.conformance import StoreConformance

    class TestMyStore(StoreConformance):
        @pytest.fixture(autouse=True)
        def _place(self, tmp_path):
            self.path = tmp_path / "operations.db"

        def make_store(self, now):
            return MyStore(self.path, now)

A store that several processes have open at a time passes :class:`SharedStoreConformance`, too; the
same ``make_store`` does for it, if each store that it returns opens the same database.

The tests are plain functions that run an event loop of their own, so no plugin is needed. For
readable failures, put ``pytest.register_assert_rewrite("lro_grpc.conformance")`` in
``conftest.py``.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from functools import partial
from typing import Any, cast

from google.longrunning import operations_pb2
from google.protobuf import empty_pb2

from lro.v1 import batch_create_instances_pb2, operation_metadata_pb2
from lro.v1.operation_description_pb2 import OperationAttempt
from lro_grpc import _anys
from lro_grpc._errors import (
    Code,
    LroError,
    OperationInProgressError,
    OperationNotFoundError,
    RequestIdReusedError,
    StaleAttemptError,
    UnservedError,
    to_status,
)
from lro_grpc._filtering.parser import parse
from lro_grpc._operation import metadata, publication, states
from lro_grpc._operation.attempts import AttemptRecord
from lro_grpc._operation.events import (
    Cancel,
    Checkpoint,
    Claim,
    Delete,
    Event,
    Expire,
    Fail,
    Heartbeat,
    LeaseLost,
    Pause,
    Release,
    Report,
    Resume,
    RetryLater,
    SaveBatch,
    SetUpdating,
    Succeed,
    Terminate,
    TimePassed,
    cancelled_status,
)
from lro_grpc._operation.record import Record
from lro_grpc._stores.store import (
    MAX_EXAMINED,
    Change,
    Claimed,
    Leased,
    Now,
    Order,
    Query,
    SharedStore,
    Store,
)

__all__ = [
    "SharedStoreConformance",
    "StoreConformance",
]

_OTHER_METHOD = "/contract.v1.Contract/RunOther"
_LEASE = 15_000_000
"""In microseconds."""
_PATIENCE_SECONDS = 30
"""For what one store tells another, which takes a second at most, however busy the machine is."""
_ROUNDS = 100
"""In which many calls at once have done all there is to do."""

_InstanceStatus = batch_create_instances_pb2.BatchCreateInstanceStatus
_RESPONSE = _anys.packed_bytes(empty_pb2.Empty())
_STATE = _anys.packed_bytes(empty_pb2.Empty())
_TARGET = "projects/p/instances/i"
_TWO_ATTEMPTS = (Claim(_LEASE, worker="one"), Release(Report(1)), Claim(_LEASE, worker="two"))
_ERROR = to_status(LroError("it broke", code=Code.DATA_LOSS)).SerializeToString()
_BATCH = batch_create_instances_pb2.BatchCreateInstancesMetadata(
    instance_targets=["a", "b"],
    instance_statuses={
        "a": _InstanceStatus(state=_InstanceStatus.READY),
        "b": _InstanceStatus(state=_InstanceStatus.CREATING),
    },
).SerializeToString(deterministic=True)


_FILTERS = (
    "done = true",
    "NOT done = true",
    'matches(status_detail, "(?:half)? ?[w*].*")',
    'NOT matches(target, "f.*|.*1")',
    "state = RUNNING",
    "-state = RUNNING",
    "error:*",
    "error.code = DATA_LOSS",
    "error.code != DATA_LOSS",
    "NOT error.code = DATA_LOSS",
    "response:* OR error.code = CANCELLED",
    'response.@type = "*.Empty"',
    "NOT response.@type != google.protobuf.Other",
    "end_time:*",
    "end_time > 2001-01-01T00:00:00Z",
    "NOT end_time > 2001-01-01T00:00:00Z",
    "start_time != 2001-01-01T00:00:00Z",
    "progress_percent < 50",
    "progress_percent >= 50 state = (RUNNING OR FAILED)",
    "cancel_requested = true",
    'target = "run*"',
    'target = "*/1"',
    'target = "*u*e*/*"',
    'target != "*u*e*/*"',
    "target > queued/2",
    "name:FAILED",
    'status_detail:"half"',
    'status_detail:"f\x00w"',
    'status_detail = "\\*"',
    'status_detail = ""',
    "é",
    "-é",
    "way OR 3",
    '"half way" done = false',
)
"""Each matches some of the operations that they are tried on, and not all."""


def _sync(
    check: Callable[[Any], Coroutine[Any, Any, None]],
) -> Callable[[Any], None]:
    """Makes a test of a coroutine function."""

    def test(self: _Conformance) -> None:
        asyncio.run(check(self))

    test.__name__, test.__doc__ = check.__name__, check.__doc__
    test.__qualname__, test.__module__ = check.__qualname__, check.__module__
    return test


def _with_store(
    check: Callable[[Any, Store], Coroutine[Any, Any, None]],
) -> Callable[[Any], None]:
    """Makes a test of a coroutine function that takes an open, empty store."""

    async def run(self: StoreConformance) -> None:
        async with self.opened() as store:
            await check(self, store)

    run.__name__, run.__doc__ = check.__name__, check.__doc__
    run.__qualname__, run.__module__ = check.__qualname__, check.__module__
    return _sync(run)


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
        return _sync(run)

    return made


class _Conformance:
    """Operations of tests, and a look at what a store has of them."""

    METHOD = "/contract.v1.Contract/Run"
    """The method of the operations that the tests make, unless they say otherwise."""
    PARENT = "projects/p/locations/l"
    """The parent of these operations."""
    START = 1_800_000_000_000_000
    """The time at which every test begins, in microseconds since 1970 UTC."""

    time: int = START
    """The time that the store gets, in microseconds since 1970 UTC; a test may set it."""

    def record(self, operation_id: str = "op-1", **values: Any) -> Record:
        """Returns a new record that no store knows yet."""
        chosen: dict[str, Any] = {
            "parent": self.PARENT,
            "method": self.METHOD,
            "request": b"request",
            "metadata_type": metadata.DEFAULT_TYPE.DESCRIPTOR.full_name,
            "now": self.time,
        }
        return publication.create(operation_id=operation_id, **{**chosen, **values})

    async def _is(self, store: Store, expected: Record) -> None:
        """Asserts that the store has exactly this of an operation."""
        assert await store.read(expected.name) == expected
        assert await store.operation(expected.name) == expected.operation

    async def _pages(
        self, store: Store, size: int, query: Query | None = None, examined: int = MAX_EXAMINED
    ) -> AsyncIterator[list[str]]:
        position = b""
        for _ in range(100):
            page = await store.page(
                query or Query(self.PARENT), position=position, size=size, examined=examined
            )
            yield [_name(one) for one in page.operations]
            position = page.position
            if not position:
                return
        raise AssertionError("the pages have no end")

    async def _found(
        self, store: Store, query: Query, *, size: int = 1000, examined: int = MAX_EXAMINED
    ) -> list[str]:
        pages = self._pages(store, size, query, examined)
        return [name async for page in pages for name in page]

    async def _listed(self, store: Store, parent: str = PARENT) -> list[str]:
        return await self._found(store, Query(parent))


class StoreConformance(_Conformance):
    """The promises of every :class:`lro_grpc.stores.Store`, one test each."""

    def make_store(self, now: Now) -> Store:
        """Returns the store to test, not yet open; to be given by the subclass.

        The first one of a test is empty. A later one of the same test is made once the one before
        is closed, and has the same operations.

        Args:
            now: Returns the time in microseconds since 1970 UTC.
        """
        raise NotImplementedError

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[Store]:
        """Gives the store, open, and closes it again."""
        store = self.make_store(lambda: self.time)
        await store.open()
        try:
            yield store
        finally:
            await store.close()

    # Create and read.

    @_with_store
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
        claimed = await store.apply(made.name, Claim(_LEASE))
        handler_metadata = operation_metadata_pb2.OperationMetadata(attempt=9).SerializeToString()
        report = Report(1, 7, "half\u0000way \N{SNOWMAN}", handler_metadata)
        saved = await store.apply(made.name, SaveBatch(report, _BATCH, _ERROR))
        assert saved.attempt == claimed.attempt == 1
        assert (saved.handler_metadata, saved.batch, saved.batch_error) == (
            handler_metadata,
            _BATCH,
            _ERROR,
        )
        cancelled = await store.apply(made.name, Cancel())
        await self._is(store, cancelled)
        read = await store.read(made.name)
        assert (read.cancel_requested, read.pausable) == (True, True)
        assert (read.pause_requested, read.deleted) == (False, False)

    @_with_store
    async def test_an_unknown_name_is_not_found(self, store: Store) -> None:
        """Nothing can be read of it, and no event applied to it."""
        await store.create(self.record())
        for name in (f"{self.PARENT}/operations/op-2", "operations/op-1", "", "' OR 1 = 1 --"):
            for call in (store.read(name), store.operation(name), store.apply(name, Cancel())):
                await _refused(OperationNotFoundError, call)

    @_with_store
    async def test_a_name_that_is_taken_is_refused(self, store: Store) -> None:
        """Neither later nor at once: no operation ever takes another's place."""
        first = await store.create(self.record("op-1"))
        claimed = await store.apply(first.name, Claim(_LEASE))
        await _refused(LroError, store.create(self.record("op-1", request=b"another")))
        await self._is(store, claimed)
        assert await self._listed(store) == [first.name]
        rivals = [self.record("op-2", request=bytes([n])) for n in range(3)]
        answers = await asyncio.gather(*map(store.create, rivals), return_exceptions=True)
        (won,) = [one for one in answers if isinstance(one, Record)]
        await self._is(store, won)

    # Idempotent create (R2, S22).

    @_with_store
    async def test_a_request_that_is_repeated_gives_the_same_operation(self, store: Store) -> None:
        """While it waits, while it runs, and when it is done."""
        first = await store.create(self.record("op-1", request_id="r", fingerprint=b"f"))
        repeated = self.record("op-2", request_id="r", fingerprint=b"f")
        assert await store.create(repeated) == first
        running = await store.apply(first.name, Claim(_LEASE))
        assert await store.create(repeated) == running
        done = await store.apply(first.name, Succeed(Report(1), _RESPONSE))
        assert await store.create(repeated) == done
        await _refused(OperationNotFoundError, store.read(repeated.name))
        assert await self._listed(store) == [first.name]

    @_with_store
    async def test_concurrent_duplicates_give_one_operation(self, store: Store) -> None:
        """However many copies of a request come at once."""
        copies = [self.record(f"op-{n}", request_id="r", fingerprint=b"f") for n in range(50)]
        answers = await asyncio.gather(*map(store.create, copies))
        assert len({answer.name for answer in answers}) == 1
        assert await self._listed(store) == [answers[0].name]
        assert list(await store.claimable({self.METHOD: 100})) == [answers[0].name]

    @_with_store
    async def test_a_request_id_is_not_reused_for_another_request(self, store: Store) -> None:
        """Neither later nor at once; the operation that has it is left alone."""
        first = await store.create(self.record("op-1", request_id="r", fingerprint=b"f"))
        await _refused(
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

    @_with_store
    async def test_a_request_id_belongs_to_its_method_parent_and_caller(self, store: Store) -> None:
        """Elsewhere it is another one; and no request_id is like no other."""
        made = [
            self.record("op-1", request_id="r", fingerprint=b"f"),
            self.record("op-2", request_id="r", fingerprint=b"g", method=_OTHER_METHOD),
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

    @_with_store
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
        await _refused(OperationInProgressError, store.create(other))

    @_with_store
    async def test_callers_that_race_for_a_request_id_have_one_each(self, store: Store) -> None:
        """However many of each come at once, in one commit or in several."""
        copies = [
            self.record(f"op-{n}", request_id="r", fingerprint=caller.encode(), caller=caller)
            for n, caller in enumerate(["ann", "bob"] * 10)
        ]
        answers = await asyncio.gather(*map(store.create, copies))
        assert [one.caller for one in answers] == [one.caller for one in copies]
        assert len({one.name for one in answers}) == 2

    @_with_store
    async def test_a_request_is_found_by_its_method_and_id(self, store: Store) -> None:
        """And by nothing less; once it is deleted, until it ends."""
        first = await store.create(self.record("op-1", request_id="r", fingerprint=b"f"))
        await store.create(self.record("op-2", fingerprint=b"f"))
        assert await store.find_request(self.METHOD, "r", "") == [first]
        running = await store.apply(first.name, Claim(_LEASE))
        assert await store.find_request(self.METHOD, "r", "") == [running]
        for other in ((self.METHOD, "s", ""), (_OTHER_METHOD, "r", ""), (self.METHOD, "r", "ann")):
            assert await store.find_request(*other) == []
        assert await store.find_request(self.METHOD, "", "") == []
        hidden = await store.apply(first.name, Delete())
        assert await store.find_request(self.METHOD, "r", "") == [hidden]
        await store.apply(first.name, Succeed(Report(1), _RESPONSE))
        assert await store.find_request(self.METHOD, "r", "") == []

    @_with_store
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
        await store.apply(name, Claim(_LEASE))
        await store.apply(name, Delete())
        assert await store.find_id("op-1") == [elsewhere]

    @_with_store
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

    @_with_store
    async def test_a_deleted_operation_frees_its_request_id_when_it_ends(
        self, store: Store
    ) -> None:
        """Not before: the same request would run twice at once (R2)."""
        first = await store.create(self.record("op-1", request_id="r", fingerprint=b"f"))
        await store.apply(first.name, Claim(_LEASE))
        await store.apply(first.name, Delete())
        for fingerprint in (b"f", b"g"):
            again = self.record("op-2", request_id="r", fingerprint=fingerprint)
            await _refused(OperationInProgressError, store.create(again))
        await store.apply(first.name, Release(Report(1)))
        await _refused(OperationInProgressError, store.create(again))
        await store.apply(first.name, Claim(_LEASE))
        await store.apply(first.name, Succeed(Report(2), _RESPONSE))
        second = await store.create(self.record("op-2", request_id="r", fingerprint=b"g"))
        assert second.name.endswith("op-2")
        await self._is(store, second)
        await store.apply(second.name, Claim(_LEASE))
        await store.apply(second.name, Succeed(Report(1), _RESPONSE))
        await store.apply(second.name, Delete())
        third = self.record("op-3", request_id="r", fingerprint=b"h")
        assert await store.create(third) == third

    @_with_store
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

    # Events.

    @_with_store
    async def test_a_refused_event_changes_nothing(self, store: Store) -> None:
        """The operation is what it was, and no change is announced (S28)."""
        made = await store.create(self.record())
        announced = _Announced(store)
        await _refused(StaleAttemptError, store.apply(made.name, Report(1, 50)))
        await self._is(store, made)
        assert announced.records == []

    @_with_store
    async def test_the_outcomes_of_apply_all_are_apart(self, store: Store) -> None:
        """Each event finds what those before it have left, refused ones left out."""
        one = await store.create(self.record("op-1"))
        two = await store.create(self.record("op-2"))
        outcomes = await store.apply_all(
            [
                (one.name, Claim(_LEASE)),
                ("operations/unknown", Claim(_LEASE)),
                (one.name, Claim(_LEASE)),
                (two.name, Report(1, 50)),
                (one.name, Report(1, 50)),
                (two.name, Claim(_LEASE)),
                (one.name, Succeed(Report(1), _RESPONSE)),
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

    @_with_store
    async def test_concurrent_events_are_applied_one_at_a_time(self, store: Store) -> None:
        """None is lost, and none is applied to a state that has passed (R5)."""
        made = await store.create(self.record())
        claims = await asyncio.gather(
            *(store.apply(made.name, Claim(_LEASE)) for _ in range(20)), return_exceptions=True
        )
        (claimed,) = [claim for claim in claims if isinstance(claim, Record)]
        assert claimed.attempt == 1
        announced = _Announced(store)
        reports = await asyncio.gather(
            *(store.apply(made.name, Report(1, percent)) for percent in range(1, 101))
        )
        assert all(one.progress_percent >= n for n, one in enumerate(reports, 1))
        assert announced.befores == [claimed, *announced.records[:-1]]
        assert announced.records[-1].progress_percent == 100
        assert [one for one in reports if one not in announced.records] == []

    # Claim, hold, release.

    @_with_store
    async def test_claimable_gives_the_oldest_of_each_method(self, store: Store) -> None:
        """At most as many as asked for, of the methods asked for."""
        made = [
            await store.create(
                self.record(f"op-{n}", method=_OTHER_METHOD if n % 3 == 0 else self.METHOD)
            )
            for n in range(9)
        ]
        ours = [one.name for one in made if one.method == self.METHOD]
        others = [one.name for one in made if one.method == _OTHER_METHOD]
        assert list(await store.claimable({self.METHOD: 100})) == ours
        assert list(await store.claimable({self.METHOD: 2})) == ours[:2]
        both = list(await store.claimable({self.METHOD: 3, _OTHER_METHOD: 1}))
        assert [name for name in both if name in ours] == ours[:3]
        assert [name for name in both if name in others] == others[:1]
        assert list(await store.claimable({self.METHOD: 0})) == []
        assert list(await store.claimable({})) == []
        assert list(await store.claimable({"/contract.v1.Contract/Unknown": 1})) == []

    @_with_store
    async def test_what_is_not_ready_is_claimable_later(self, store: Store) -> None:
        """Once time has made it ready; it keeps its old place."""
        names = [(await store.create(self.record(f"op-{n}"))).name for n in range(2)]
        await store.apply(names[0], Claim(_LEASE))
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

    @_with_store
    async def test_a_claim_takes_the_oldest_of_each_method(self, store: Store) -> None:
        """At most as many as asked for, of the methods asked for; listeners hear of each."""
        made = [
            await store.create(
                self.record(f"op-{n}", method=_OTHER_METHOD if n % 3 == 0 else self.METHOD)
            )
            for n in range(9)
        ]
        ours = [one for one in made if one.method == self.METHOD]
        others = [one for one in made if one.method == _OTHER_METHOD]
        announced = _Announced(store)
        unknown = "/contract.v1.Contract/Unknown"
        limits = {self.METHOD: 2, _OTHER_METHOD: 1, unknown: 1}
        claimed = await store.claim(limits, Claim(_LEASE))
        assert [one.before for one in claimed if one.before in ours] == ours[:2]
        assert [one.before for one in claimed if one.before in others] == others[:1]
        assert len(claimed) == 3
        for before, outcome in claimed:
            assert isinstance(outcome, Record)
            assert (outcome.attempt, outcome.lease_expire_time) == (1, self.time + _LEASE)
            await self._is(store, outcome)
            assert announced.befores[announced.records.index(outcome)] == before
        assert len(announced.records) == 3
        assert list(await store.claim({self.METHOD: 0}, Claim(_LEASE))) == []
        assert list(await store.claim({}, Claim(_LEASE))) == []
        await store.apply(ours[2].name, Claim(_LEASE))
        delayed = await store.apply(ours[2].name, RetryLater(Report(1), _ERROR, 5))
        self.time += 5
        claimed = await store.claim({self.METHOD: 100}, Claim(_LEASE))
        assert [one.before for one in claimed] == ours[3:]
        ready = await store.apply(delayed.name, TimePassed())
        ((before, _),) = await store.claim({self.METHOD: 100}, Claim(_LEASE))
        assert before == ready
        assert list(await store.claim({self.METHOD: 100}, Claim(_LEASE))) == []

    @_with_store
    async def test_claims_at_once_take_different_operations(self, store: Store) -> None:
        """And all of them, sooner or later: one may be passed over at first."""
        names = {(await store.create(self.record(f"op-{n}"))).name for n in range(40)}
        taken: list[str] = []
        for _ in range(100):
            claims = (store.claim({self.METHOD: 3}, Claim(_LEASE)) for _ in range(10))
            answers = await asyncio.gather(*claims)
            found = [one for claimed in answers for one in claimed]
            assert [one for one in found if isinstance(one.outcome, LroError)] == []
            taken += [one.before.name for one in found]
            if len(taken) >= 40:
                break
        assert sorted(taken) == sorted(names)
        assert {(await store.read(name)).attempt for name in names} == {1}

    @_with_store
    async def test_a_claim_passes_over_what_is_left_out(self, store: Store) -> None:
        """Such as what has refused it: that counts, too."""
        names = [(await store.create(self.record(f"op-{n}"))).name for n in range(3)]
        choosy = _ChoosyClaim(_LEASE)
        announced = _Announced(store)
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

    @_with_store
    async def test_a_claim_passes_over_what_has_become_ready_since_a_time(
        self, store: Store
    ) -> None:
        """However old it is, and however many such there are before the others."""
        names = [(await store.create(self.record(f"op-{n}"))).name for n in range(4)]
        await store.apply_all([(name, Claim(_LEASE)) for name in names[:3]])
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
            claimed = await store.claim({self.METHOD: 1}, Claim(_LEASE), ready_before=before)
            assert [one.before.name for one in claimed] == expected

    @_with_store
    async def test_a_claim_passes_over_nothing_for_a_clock_that_was_set_back(
        self, store: Store
    ) -> None:
        """What seems to become ready only later could wait for long."""
        made = await store.create(self.record())
        claim = partial(store.claim, {self.METHOD: 9}, Claim(_LEASE))
        assert list(await claim(ready_before=self.time)) == []
        self.time -= 3_600_000_000
        assert [one.before for one in await claim(ready_before=self.time)] == [made]

    @_with_store
    async def test_a_claim_takes_nothing_that_rests_is_held_or_is_done(self, store: Store) -> None:
        """And what is overdue expires."""
        names = [(await store.create(self.record(f"op-{n}"))).name for n in range(4)]
        await store.apply_all([(name, Claim(_LEASE)) for name in names[:3]])
        retry = RetryLater(Report(1), b"", delay=3_600_000_000)
        ends: list[Change] = [(names[1], retry), (names[2], Succeed(Report(1), _RESPONSE))]
        await store.apply_all([*ends, (names[3], Cancel())])
        assert list(await store.claim({self.METHOD: 9}, Claim(_LEASE))) == []
        late = await store.create(self.record("op-late", timeout=10))
        await store.create(self.record("op-next"))
        self.time += 10
        (overdue, following) = await store.claim({self.METHOD: 9}, Claim(_LEASE))
        assert overdue.before == late
        assert isinstance(overdue.outcome, Record)
        assert (overdue.outcome.state, overdue.outcome.lease_expire_time) == (states.EXPIRED, 0)
        assert isinstance(following.outcome, Record)
        assert following.outcome.attempt == 1

    @_with_store
    async def test_what_waits_is_counted_by_its_caller(self, store: Store) -> None:
        """Whether an attempt may begin now or later; deleted ones wait, too, until they are run."""
        callers = {"op-0": "ann", "op-1": "ann", "op-2": "bob", "op-3": "", "op-4": "cho"}
        names = [
            (await store.create(self.record(one, caller=caller))).name
            for one, caller in callers.items()
        ]
        await store.create(self.record("op-x", method=_OTHER_METHOD, caller="ann"))
        await store.apply(names[0], Claim(_LEASE))
        await store.apply(names[0], RetryLater(Report(1), b"", delay=5))
        await store.apply(names[1], Delete())
        await store.apply(names[2], Claim(_LEASE))
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

    @_with_store
    async def test_what_waits_is_counted_by_its_method(self, store: Store) -> None:
        """Now or later, to run or to be undone; not what is held, paused or done."""
        assert dict(await store.waiting_methods()) == {}
        names = [(await store.create(self.record(f"op-{n}"))).name for n in range(6)]
        await store.apply_all([(name, Claim(_LEASE)) for name in names[:4]])
        await store.apply_all(
            [
                (names[0], Succeed(Report(1), _RESPONSE)),
                (names[1], RetryLater(Report(1), b"", delay=5)),
                (names[2], SaveBatch(Report(1), _BATCH, b"")),
                (names[2], Release(Report(1))),
                (names[2], Cancel()),
                (names[4], Cancel()),
            ]
        )
        assert dict(await store.waiting_methods()) == {self.METHOD: 3}

    @_with_store
    async def test_a_held_operation_is_not_claimable(self, store: Store) -> None:
        """Until it is given back; then it stands in its old place."""
        names = [(await store.create(self.record(f"op-{n}"))).name for n in range(3)]
        await store.apply(names[0], Claim(_LEASE))
        assert list(await store.claimable({self.METHOD: 9})) == names[1:]
        assert list(await store.leased()) == [Leased(names[0], 1)]
        await store.apply(names[0], Release(Report(1)))
        assert list(await store.claimable({self.METHOD: 9})) == names
        assert list(await store.leased()) == []
        again = await store.apply(names[0], Claim(_LEASE))
        assert again.attempt == 2
        await store.apply(names[0], Succeed(Report(2), _RESPONSE))
        assert list(await store.claimable({self.METHOD: 9})) == names[1:]
        assert list(await store.leased()) == []

    @_with_store
    async def test_leased_lists_the_leases_that_are_over(self, store: Store) -> None:
        """To the microsecond, heartbeats counted."""
        one = (await store.create(self.record("op-1"))).name
        two = (await store.create(self.record("op-2"))).name
        await store.apply_all([(one, Claim(_LEASE)), (two, Claim(_LEASE))])
        end = self.time + _LEASE
        assert set(await store.leased()) == {Leased(one, 1), Leased(two, 1)}
        assert set(await store.leased(until=end - 1)) == set()
        assert set(await store.leased(until=end)) == {Leased(one, 1), Leased(two, 1)}
        self.time += 1
        before = await store.operation(one)
        await store.apply(one, Heartbeat(1, _LEASE))
        assert set(await store.leased(until=end)) == {Leased(two, 1)}
        assert set(await store.leased(until=end + 1)) == {Leased(one, 1), Leased(two, 1)}
        assert await store.operation(one) == before

    @_with_store
    async def test_a_cancelled_operation_waits_only_if_there_is_something_to_undo(
        self, store: Store
    ) -> None:
        """One without a worker ends at once, or is claimed once more for its batch."""
        plain = (await store.create(self.record("op-1"))).name
        assert (await store.apply(plain, Cancel())).state == states.CANCELLED
        batch = (await store.create(self.record("op-2"))).name
        await store.apply(batch, Claim(_LEASE))
        await store.apply(batch, SaveBatch(Report(1), _BATCH, b""))
        await store.apply(batch, Release(Report(1)))
        assert (await store.apply(batch, Cancel())).state == states.CANCELLING
        assert list(await store.claimable({self.METHOD: 9})) == [batch]
        claimed = await store.apply(batch, Claim(_LEASE))
        assert (claimed.attempt, claimed.cancel_requested) == (2, True)
        assert list(await store.claimable({self.METHOD: 9})) == []

    # Fencing (R5) and the one outcome (R4).

    @_with_store
    async def test_writes_of_a_stale_attempt_are_refused(self, store: Store) -> None:
        """Of a former attempt, and of one that is yet to come; they change nothing."""
        made = (await store.create(self.record())).name
        await store.apply(made, Claim(_LEASE))
        await store.apply(made, LeaseLost(1, proven=True))
        unheld = await store.read(made)
        for event in _writes_of(1):
            await _refused(StaleAttemptError, store.apply(made, event))
        await self._is(store, unheld)
        held = await store.apply(made, Claim(_LEASE))
        for event in (*_writes_of(1), *_writes_of(3)):
            await _refused(StaleAttemptError, store.apply(made, event))
        await self._is(store, held)
        assert (await store.apply(made, Succeed(Report(2), _RESPONSE))).state == states.SUCCEEDED

    @_with_store
    async def test_a_done_operation_never_changes(self, store: Store) -> None:
        """Byte for byte, whatever still comes for it (R4, P8)."""
        for number, outcome in enumerate(_outcomes()):
            name = (await store.create(self.record(f"op-{number}"))).name
            await store.apply(name, Claim(_LEASE))
            done = await store.apply(name, outcome)
            assert operations_pb2.Operation.FromString(done.operation).done
            announced = _Announced(store)
            self.time += 1_000_000
            for event in (Claim(_LEASE), *_writes_of(1), *_writes_of(2)):
                await _refused(StaleAttemptError, store.apply(name, event))
            assert await store.apply(name, Cancel()) == done
            await self._is(store, done)
            assert announced.records == []

    @_with_store
    async def test_one_outcome_wins(self, store: Store) -> None:
        """Of several given at once; the others are refused."""
        for number in range(10):
            name = (await store.create(self.record(f"op-{number}"))).name
            await store.apply(name, Claim(_LEASE))
            outcomes = await asyncio.gather(
                *(store.apply(name, event) for event in _outcomes()), return_exceptions=True
            )
            (won,) = [one for one in outcomes if isinstance(one, Record)]
            assert sum(isinstance(one, StaleAttemptError) for one in outcomes) == 2
            await self._is(store, won)

    @_with_store
    async def test_a_cancel_and_a_finish_agree_on_one_outcome(self, store: Store) -> None:
        """Whichever comes first (R7, P8)."""
        for cancel_first in (True, False):
            name = (await store.create(self.record(f"op-{cancel_first}"))).name
            await store.apply(name, Claim(_LEASE))
            finish = store.apply(name, Succeed(Report(1), _RESPONSE))
            cancel = store.apply(name, Cancel())
            calls = (cancel, finish) if cancel_first else (finish, cancel)
            cancelled, finished = (await asyncio.gather(*calls))[:: 1 if cancel_first else -1]
            done = await store.read(name)
            assert done == finished
            assert done.state == states.SUCCEEDED
            assert done.cancel_requested is (cancelled != finished)
            operation = operations_pb2.Operation.FromString(done.operation)
            assert operation.WhichOneof("result") == "response"

    @_with_store
    async def test_a_cancel_and_a_claim_have_one_winner(self, store: Store) -> None:
        """Cancelled before it is claimed, it is never claimed (R7)."""
        for cancel_first in (True, False):
            name = (await store.create(self.record(f"op-{cancel_first}"))).name
            claim, cancel = store.apply(name, Claim(_LEASE)), store.apply(name, Cancel())
            calls = (claim, cancel)[:: -1 if cancel_first else 1]
            outcomes = await asyncio.gather(*calls, return_exceptions=True)
            refused = [one for one in outcomes if isinstance(one, LroError)]
            seen = await store.read(name)
            assert (seen.state, seen.attempt, len(refused)) in (
                (states.CANCELLED, 0, 1),
                (states.CANCELLING, 1, 0),
            )

    # Lost workers (R3, R6).

    @_with_store
    async def test_a_live_lease_is_not_lost_without_proof(self, store: Store) -> None:
        """Nothing changes until it is over, not even the count."""
        made = (await store.create(self.record())).name
        claimed = await store.apply(made, Claim(_LEASE))
        announced = _Announced(store)
        self.time += _LEASE - 1
        assert await store.apply(made, LeaseLost(1)) == claimed
        assert announced.records == []
        self.time += 1
        lost = await store.apply(made, LeaseLost(1))
        assert (lost.state, lost.attempt, lost.failed_attempts) == (states.QUEUED, 1, 1)
        assert list(await store.claimable({self.METHOD: 9})) == [made]

    @_with_store
    async def test_a_heartbeat_between_look_and_loss_saves_the_attempt(self, store: Store) -> None:
        """As does a new attempt, or the outcome: what was seen is checked again."""
        name = (await store.create(self.record())).name
        await store.apply(name, Claim(_LEASE))
        self.time += _LEASE
        (seen,) = await store.leased(until=self.time)
        renewed = await store.apply(name, Heartbeat(1, _LEASE))
        assert await store.apply(seen.name, LeaseLost(seen.attempt)) == renewed
        await store.apply(name, LeaseLost(1, proven=True))
        again = await store.apply(name, Claim(_LEASE))
        await _refused(StaleAttemptError, store.apply(name, LeaseLost(seen.attempt, proven=True)))
        await self._is(store, again)

    @_with_store
    async def test_a_shared_store_renews_leases_for_another_thread(self, store: Store) -> None:
        """As heartbeats do: those of attempts that hold their operation, and no others (R6)."""
        if store.exclusive:
            return
        shared = cast("SharedStore", store)
        names = [(await store.create(self.record(f"op-{number}"))).name for number in (1, 2)]
        await store.apply_all([(name, Claim(_LEASE)) for name in names])
        await store.apply_all([(names[1], LeaseLost(1, proven=True)), (names[1], Claim(_LEASE))])
        self.time += _LEASE - 1
        former = [Leased(name, 1) for name in (*names, f"{names[0]}x")]
        answers = await asyncio.to_thread(lambda: asyncio.run(_renewed(shared, former)))
        renewed, stale, missing = answers
        assert isinstance(renewed, Record)
        assert renewed.lease_expire_time == self.time + _LEASE
        assert isinstance(stale, StaleAttemptError)
        assert isinstance(missing, OperationNotFoundError)
        self.time += 2
        assert list(await store.leased(until=self.time)) == [Leased(names[1], 2)]

    @_with_store
    async def test_the_last_attempt_lost_ends_it(self, store: Store) -> None:
        """FAILED with ABORTED; released attempts are not counted."""
        name = (await store.create(self.record(max_attempts=2))).name
        for attempt in (1, 2, 3):
            await store.apply(name, Claim(_LEASE))
            await store.apply(name, Release(Report(attempt)))
        await store.apply(name, Claim(_LEASE))
        assert (await store.apply(name, LeaseLost(4, proven=True))).state == states.QUEUED
        await store.apply(name, Claim(_LEASE))
        ended = await store.apply(name, LeaseLost(5, proven=True))
        operation = operations_pb2.Operation.FromString(ended.operation)
        assert (ended.state, operation.error.code) == (states.FAILED, Code.ABORTED)
        assert list(await store.claimable({self.METHOD: 9})) == []

    # The history of attempts.

    @_with_store
    async def test_the_history_has_each_attempt_and_how_it_ended(self, store: Store) -> None:
        """Also if one commit holds the end of one attempt and the beginning of the next."""
        made = await store.create(self.record())
        assert await store.read_attempts(made.name) == (made, [])
        outcomes = await store.apply_all(
            [
                (made.name, Claim(_LEASE, worker="one")),
                (made.name, RetryLater(Report(1), _ERROR, 0)),
                (made.name, Claim(_LEASE, worker="two")),
                (made.name, LeaseLost(2, proven=True)),
            ]
        )
        assert not [one for one in outcomes if isinstance(one, LroError)]
        began = self.time
        self.time += 1_000_000
        await store.apply(made.name, Claim(_LEASE, worker="three \N{SNOWMAN}"))
        record, attempts = await store.read_attempts(made.name)
        assert record == await store.read(made.name)
        first, _, third = attempts
        assert first.error
        assert [*attempts] == [
            AttemptRecord(1, "one", began, began, OperationAttempt.RETRIED, first.error),
            AttemptRecord(2, "two", began, began, OperationAttempt.LOST),
            AttemptRecord(3, "three \N{SNOWMAN}", self.time),
        ]
        await store.apply(made.name, Succeed(Report(3), _RESPONSE))
        _, (*_, last) = await store.read_attempts(made.name)
        ended = third._replace(end_time=self.time, outcome=OperationAttempt.SUCCEEDED)
        assert last == ended
        await _refused(OperationNotFoundError, store.read_attempts("operations/op-2"))

    @_with_store
    async def test_the_history_has_the_first_attempt_and_the_latest(self, store: Store) -> None:
        """Of 61 attempts these are 50: the first one, and the latest 49."""
        name = (await store.create(self.record())).name
        for number in range(1, 61):
            claim = Claim(_LEASE, worker=f"worker-{number}")
            await store.apply_all([(name, claim), (name, Release(Report(number)))])
        await store.apply(name, Claim(_LEASE, worker="worker-61"))
        _, attempts = await store.read_attempts(name)
        kept = [1, *range(13, 62)]
        assert [(one.number, one.worker) for one in attempts] == [
            (number, f"worker-{number}") for number in kept
        ]

    @_with_store
    async def test_the_worker_of_a_former_release_is_unknown(self, store: Store) -> None:
        """It claims without a word on it, and nobody takes the last known one for it."""
        name = (await store.create(self.record())).name
        await store.apply(name, _FormerClaim(_LEASE))
        _, attempts = await store.read_attempts(name)
        assert [*attempts] == [AttemptRecord(1)]
        await store.apply(name, Release(Report(1)))
        await store.apply(name, Claim(_LEASE, worker="two"))
        await store.apply(name, Release(Report(2)))
        for number in (3, 4):
            await store.apply(name, _FormerClaim(_LEASE))
            await store.apply(name, LeaseLost(number, proven=True))
        await store.apply(name, Claim(_LEASE, worker="five"))
        _, attempts = await store.read_attempts(name)
        assert [(one.number, one.worker, one.outcome) for one in attempts] == [
            (1, "", OperationAttempt.RELEASED),
            (2, "two", OperationAttempt.RELEASED),
            (3, "", OperationAttempt.LOST),
            (4, "", OperationAttempt.LOST),
            (5, "five", 0),
        ]

    @_with_store
    async def test_a_history_goes_with_its_operation(self, store: Store) -> None:
        """Another operation of its name has none of it."""
        name = (await store.create(self.record())).name
        for number in (1, 2):
            await store.apply(name, Claim(_LEASE, worker="former"))
            await store.apply(name, Release(Report(number)))
        await store.apply(name, Cancel())
        await store.apply(name, Delete())
        await _refused(OperationNotFoundError, store.read_attempts(name))
        await store.create(self.record())
        await store.apply(name, _FormerClaim(_LEASE))
        await store.apply(name, Release(Report(1)))
        await store.apply(name, _FormerClaim(_LEASE))
        _, attempts = await store.read_attempts(name)
        assert [one.worker for one in attempts] == ["", ""]

    # Waiting to be ready, and pausing.

    @_with_store
    async def test_claimable_leaves_out_what_is_not_ready(self, store: Store) -> None:
        """Nor can it be claimed by its name, to the microsecond."""
        retried, other = (await store.create(self.record("op-1"))).name, self.record("op-2")
        await store.create(other)
        await store.apply(retried, Claim(_LEASE))
        waits = await store.apply(retried, RetryLater(Report(1), _ERROR, 5_000_000))
        assert (waits.state, waits.scheduled_time) == (states.QUEUED, self.time + 5_000_000)
        self.time += 4_999_999
        assert list(await store.claimable({self.METHOD: 9})) == [other.name]
        await _refused(StaleAttemptError, store.apply(retried, Claim(_LEASE)))
        self.time += 1
        assert list(await store.claimable({self.METHOD: 9})) == [other.name]
        again = await store.apply(retried, Claim(_LEASE))
        assert (again.attempt, again.scheduled_time) == (2, 0)

    @_with_store
    async def test_a_paused_operation_is_neither_claimable_nor_held(self, store: Store) -> None:
        """Until it is resumed."""
        name = (await store.create(self.record(pausable=True))).name
        await store.apply(name, Pause())
        assert list(await store.claimable({self.METHOD: 9})) == []
        await _refused(StaleAttemptError, store.apply(name, Claim(_LEASE)))
        await store.apply(name, Resume())
        assert list(await store.claimable({self.METHOD: 9})) == [name]
        await store.apply(name, Claim(_LEASE))
        await store.apply(name, Checkpoint(Report(1), _STATE))
        await store.apply(name, Pause())
        paused = await store.apply(name, Release(Report(1)))
        assert (paused.state, paused.checkpoint) == (states.PAUSED, _STATE)
        assert list(await store.claimable({self.METHOD: 9})) == []
        assert list(await store.leased()) == []

    @_with_store
    async def test_a_cancelled_checkpoint_waits_to_be_undone(self, store: Store) -> None:
        """It is claimed once more."""
        name = (await store.create(self.record(pausable=True))).name
        for event in (Claim(_LEASE), Checkpoint(Report(1), _STATE), Pause(), Release(Report(1))):
            await store.apply(name, event)
        assert (await store.apply(name, Cancel())).state == states.CANCELLING
        assert list(await store.claimable({self.METHOD: 9})) == [name]
        assert (await store.apply(name, Claim(_LEASE))).attempt == 2

    # Exclusive targets (S6).

    @_with_store
    async def test_an_exclusive_target_has_one_operation_at_a_time(self, store: Store) -> None:
        """Of whatever method and parent; other targets are free, and who does not ask for it."""
        first = await store.create(self.record("op-1", target=_TARGET, exclusive=True))
        assert await store.exclusive_holder(_TARGET) == first.name
        others = (
            self.record("op-2", target=_TARGET, exclusive=True),
            self.record("op-3", target=_TARGET, exclusive=True, method=_OTHER_METHOD),
            self.record("op-4", target=_TARGET, exclusive=True, parent=""),
        )
        for other in others:
            await _refused(OperationInProgressError, store.create(other))
            await _refused(OperationNotFoundError, store.read(other.name))
        free = (
            self.record("op-5", target=_TARGET),
            self.record("op-6", target=f"{_TARGET}2", exclusive=True),
            self.record("op-7", exclusive=True),
            self.record("op-8", exclusive=True),
        )
        for one in free:
            assert await store.create(one) == one
        assert await store.exclusive_holder(_TARGET) == first.name
        for target in ("", f"{_TARGET}3", "' OR 1 = 1 --"):
            assert await store.exclusive_holder(target) == ""

    @_with_store
    async def test_an_exclusive_target_is_free_when_its_operation_is_done(
        self, store: Store
    ) -> None:
        """However it ends, and not before: not lost, paused nor deleted."""
        ends: list[list[Event]] = [
            [Cancel()],
            [Claim(_LEASE), Succeed(Report(1), _RESPONSE)],
            [Claim(_LEASE), Fail(Report(1), _ERROR)],
            [Claim(_LEASE), Expire(Report(1))],
            [Claim(_LEASE), Delete(), Succeed(Report(1), _RESPONSE)],
            [Pause(), Cancel()],
            [Claim(_LEASE), LeaseLost(1, proven=True), Cancel()],
        ]
        for number, events in enumerate(ends):
            made = self.record(f"op-{number}", target=_TARGET, exclusive=True, pausable=True)
            assert await store.create(made) == made
            for event in events:
                assert await store.exclusive_holder(_TARGET) == made.name
                await store.apply(made.name, event)
            assert await store.exclusive_holder(_TARGET) == ""

    @_with_store
    async def test_concurrent_creates_of_one_exclusive_target_have_one_winner(
        self, store: Store
    ) -> None:
        """However many come at once."""
        made = [self.record(f"op-{n}", target=_TARGET, exclusive=True) for n in range(50)]
        answers = await asyncio.gather(*map(store.create, made), return_exceptions=True)
        (won,) = [one for one in answers if isinstance(one, Record)]
        assert sum(isinstance(one, OperationInProgressError) for one in answers) == 49
        assert await store.exclusive_holder(_TARGET) == won.name
        assert await self._listed(store) == [won.name]

    @_with_store
    async def test_an_exclusive_target_moves_on_from_operation_to_operation(
        self, store: Store
    ) -> None:
        """End and create, over and over."""
        ends: list[list[Event]] = [
            [Cancel()],
            [Claim(_LEASE), Succeed(Report(1), _RESPONSE)],
            [Delete(), Claim(_LEASE), Fail(Report(1), _ERROR)],
        ]
        for number in range(21):
            made = await store.create(self.record(f"op-{number}", target=_TARGET, exclusive=True))
            outcomes = await store.apply_all([(made.name, event) for event in ends[number % 3]])
            assert [one for one in outcomes if isinstance(one, LroError)] == []
        last = await store.create(self.record("op-last", target=_TARGET, exclusive=True))
        assert await store.exclusive_holder(_TARGET) == last.name

    @_with_store
    async def test_a_repeated_request_comes_before_its_exclusive_target(self, store: Store) -> None:
        """The same request finds its operation, and does not get into its own way (S22)."""
        how: dict[str, Any] = {"request_id": "r", "target": _TARGET, "exclusive": True}
        first = await store.create(self.record("op-1", fingerprint=b"f", **how))
        assert await store.create(self.record("op-2", fingerprint=b"f", **how)) == first
        await _refused(
            RequestIdReusedError, store.create(self.record("op-3", fingerprint=b"g", **how))
        )

    # What time does: expiry and removal (S7, S29).

    @_with_store
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
        await store.apply_all([(name, Claim(_LEASE)) for name in begun])
        saved = SaveBatch(Report(1), _BATCH, b"")
        histories: dict[str, Sequence[Event]] = {
            paused: [Pause()],
            batch: [saved, Release(Report(1))],
            undone: [Checkpoint(Report(1), _STATE), Release(Report(1)), Cancel()],
            retried: [Checkpoint(Report(1), _STATE), RetryLater(Report(1), _ERROR, 3_600_000_000)],
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
            await store.apply(name, Claim(_LEASE))

    @_with_store
    async def test_expired_gives_what_was_kept_long_enough(self, store: Store) -> None:
        """And TimePassed removes it: its name and its request_id are free then."""
        how: dict[str, Any] = {"request_id": "r", "fingerprint": b"f"}
        made = self.record("op-1", retention=10_000_000, **how)
        name = (await store.create(made)).name
        kept = (await store.create(self.record("op-2"))).name
        running = (await store.create(self.record("op-3", retention=1))).name
        await store.apply_all([(name, Claim(_LEASE)), (running, Claim(_LEASE)), (kept, Cancel())])
        self.time += 1_000_000
        done = await store.apply(name, Succeed(Report(1), _RESPONSE))
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
            await _refused(OperationNotFoundError, call)
        assert await store.find_request(self.METHOD, "r", "") == []
        again = self.record("op-1", request_id="r", fingerprint=b"g")
        assert await store.create(again) == again
        assert await self._listed(store) == [name, running, kept]

    @_with_store
    async def test_a_deleted_operation_expires_like_any_other(self, store: Store) -> None:
        """With that it is no more."""
        made = self.record(timeout=10_000_000, target=_TARGET, exclusive=True)
        name = (await store.create(made)).name
        await store.apply(name, Delete())
        self.time += 10_000_000
        assert list(await store.expired(9)) == [name]
        assert (await store.apply(name, TimePassed())).state == states.EXPIRED
        assert list(await store.expired(9)) == []
        assert await store.exclusive_holder(_TARGET) == ""
        await _refused(OperationNotFoundError, store.apply(name, TimePassed()))

    # Delete (P7).

    @_with_store
    async def test_a_deleted_operation_is_gone_at_once(self, store: Store) -> None:
        """Done or not; a second delete does not find it."""
        running = (await store.create(self.record("op-1"))).name
        done = (await store.create(self.record("op-2"))).name
        kept = (await store.create(self.record("op-3"))).name
        await store.apply_all([(running, Claim(_LEASE)), (done, Cancel())])
        for name in (running, done):
            await store.apply(name, Delete())
            for call in (
                store.read(name),
                store.operation(name),
                store.apply(name, Delete()),
                store.apply(name, Cancel()),
            ):
                await _refused(OperationNotFoundError, call)
        assert await self._listed(store) == [kept]

    @_with_store
    async def test_a_deleted_operation_is_paused_no_more(self, store: Store) -> None:
        """Nobody could resume it (P7)."""
        paused = await store.create(self.record("op-1", pausable=True))
        pausing = await store.create(self.record("op-2", pausable=True))
        await store.apply(paused.name, Pause())
        await store.apply(pausing.name, Claim(_LEASE))
        await store.apply(pausing.name, Pause())
        for one in (paused, pausing):
            await store.apply(one.name, Delete())
        assert list(await store.claimable({self.METHOD: 9})) == [paused.name]
        released = await store.apply(pausing.name, Release(Report(1)))
        assert (released.state, released.deleted) == (states.QUEUED, True)

    @_with_store
    async def test_a_deleted_operation_runs_on_unseen(self, store: Store) -> None:
        """It is claimed, held and lost like any other; with its end it is no more."""
        name = (await store.create(self.record())).name
        await store.apply(name, Delete())
        assert list(await store.claimable({self.METHOD: 9})) == [name]
        await store.apply(name, Claim(_LEASE))
        assert list(await store.leased()) == [Leased(name, 1)]
        await store.apply(name, LeaseLost(1, proven=True))
        await store.apply(name, Claim(_LEASE))
        await store.apply(name, Report(2, 50))
        ended = await store.apply(name, Succeed(Report(2), _RESPONSE))
        assert ended.state == states.SUCCEEDED
        await _refused(OperationNotFoundError, store.apply(name, Report(2, 60)))
        await _refused(OperationNotFoundError, store.read(name))
        assert list(await store.leased()) == []
        assert list(await store.claimable({self.METHOD: 9})) == []

    # Pages (AIP-158).

    @_with_store
    async def test_pages_are_newest_first_and_complete(self, store: Store) -> None:
        """Whatever the size; only the last has no position, even if it is just full (S14)."""
        names = [(await store.create(self.record(f"op-{n}"))).name for n in range(12)]
        await store.apply(names[3], Claim(_LEASE))  # a change does not move an operation
        for size in (1, 5, 6, 12, 1000):
            pages = [page async for page in self._pages(store, size)]
            assert [name for page in pages for name in page] == names[::-1]
            assert [len(page) for page in pages[:-1]] == [size] * (len(pages) - 1)
            assert pages[-1] != []
        page = await store.page(Query(self.PARENT), position=b"", size=12)
        assert [*page.operations] == [await store.operation(name) for name in names[::-1]]

    @_with_store
    async def test_a_page_holds_the_operations_of_exactly_its_parent(self, store: Store) -> None:
        """Not of one above or below it; without a parent, those that have none."""
        parents = (
            "",
            "projects/p",
            self.PARENT,
            f"{self.PARENT}/instances/i",
            "projects/p/locations/l2",
        )
        for parent in parents:
            await store.create(self.record(parent=parent))
        for parent in parents:
            name = f"{parent}/operations/op-1" if parent else "operations/op-1"
            assert await self._listed(store, parent) == [name]
        for parent in ("projects", "projects/%", self.PARENT.upper(), "' OR 1 = 1 --"):
            assert await self._listed(store, parent) == []

    @_with_store
    async def test_pages_stand_still_while_operations_come_and_go(self, store: Store) -> None:
        """What is new is on no later page; what is deleted, the last one seen too, shifts none."""
        names = [(await store.create(self.record(f"op-{n}"))).name for n in range(6)]
        first = await store.page(Query(self.PARENT), position=b"", size=2)
        await store.create(self.record("op-new"))
        await store.apply(names[4], Delete())
        await store.apply(names[3], Delete())
        second = await store.page(Query(self.PARENT), position=first.position, size=2)
        third = await store.page(Query(self.PARENT), position=second.position, size=2)
        assert [_name(one) for one in first.operations] == names[5:3:-1]
        assert [_name(one) for one in second.operations] == names[2:0:-1]
        assert [_name(one) for one in third.operations] == names[:1]
        assert third.position == b""

    @_with_store
    async def test_pages_by_name_are_in_order_and_complete(self, store: Store) -> None:
        """In the order of code points, whatever the order of creation; with wildcards, too."""
        ids = ("b", "a-2", "B", "a-10", "a~", "c", "a")
        for operation_id in ids:
            await store.create(self.record(operation_id))
        await store.create(self.record("a", parent=f"{self.PARENT}/instances/i"))
        await store.create(self.record("b", parent="projects/q/locations/l"))
        await store.apply(f"{self.PARENT}/operations/c", Delete())
        names = [f"{self.PARENT}/operations/{one}" for one in sorted(ids) if one != "c"]
        everywhere = [*names, "projects/q/locations/l/operations/b"]
        for parent, expected in ((self.PARENT, names), ("projects/-/locations/-", everywhere)):
            for condition in (None, parse('NOT name:"q/"'), parse("name:a"), parse('name:"none"')):
                query = Query(parent, condition, Order.BY_NAME)
                matching = [name for name in expected if query.matches(await store.read(name))]
                for size, examined in ((1, 1), (2, 3), (6, 6), (1000, MAX_EXAMINED)):
                    found = await self._found(store, query, size=size, examined=examined)
                    assert found == matching, (parent, condition, size, examined)

    @_with_store
    async def test_pages_by_name_stand_still_while_operations_come_and_go(
        self, store: Store
    ) -> None:
        """What comes before a page moves none that follow."""
        for operation_id in ("b", "d", "f", "h"):
            await store.create(self.record(operation_id))
        query = Query(self.PARENT, order=Order.BY_NAME)
        first = await store.page(query, position=b"", size=2)
        await store.create(self.record("a"))
        await store.create(self.record("g"))
        await store.apply(f"{self.PARENT}/operations/d", Delete())
        rest = await store.page(query, position=first.position, size=9)
        found = [_name(one) for one in (*first.operations, *rest.operations)]
        assert [name.rpartition("/")[2] for name in found] == ["b", "d", "f", "g", "h"]
        assert rest.position == b""

    @_with_store
    async def test_a_page_has_the_records_that_are_asked_for(self, store: Store) -> None:
        """Each is the one that a read would give."""
        for number in range(5):
            made = await store.create(
                self.record(f"op-{number}", caller="ann", request_id=f"r{number}")
            )
            await store.apply(made.name, Claim(_LEASE))
        for order in Order:
            for condition in (None, parse("state = RUNNING"), parse("partial_failures:*")):
                query = Query(self.PARENT, condition, order)
                page = await store.page(query, position=b"", size=3, records=True)
                assert [one.operation for one in page.records] == [*page.operations]
                for record in page.records:
                    assert record == await store.read(record.name)
                assert not (await store.page(query, position=b"", size=3)).records

    # Filters and wildcards (AIP-160, AIP-159).

    @_with_store
    async def test_a_filter_leaves_out_what_does_not_match(self, store: Store) -> None:
        """And nothing else, whatever has become of the operations."""
        for number, detail in enumerate(("", "half way", "Half\u0000Way", "*", "é")):
            for state in ("queued", "running", "failed", "succeeded", "cancelled", "deleted"):
                one = self.record(f"{state}-{number}", target=f"{state}/{number}", verb="create")
                await self._bring(store, one, state, detail)
        names = await self._listed(store)
        records = [await store.read(name) for name in names]
        assert len(records) == 25
        for text in _FILTERS:
            query = Query(self.PARENT, parse(text))
            expected = [one.name for one in records if query.matches(one)]
            assert 0 < len(expected) < len(records), text
            for size in (1, 7, 1000):
                assert await self._found(store, query, size=size) == expected, text
                assert await self._found(store, query, size=size, examined=5) == expected, text

    async def _bring(self, store: Store, one: Record, state: str, detail: str) -> None:
        """Stores an operation, and brings it into a state by way of its events."""
        await store.create(one)
        if state != "queued":
            await store.apply_all([(one.name, Claim(_LEASE)), (one.name, Report(1, 50, detail))])
        ends: dict[str, Event] = {
            "failed": Fail(Report(1), _ERROR),
            "succeeded": Succeed(Report(1), _RESPONSE),
            "cancelled": Fail(Report(1), cancelled_status().SerializeToString()),
            "deleted": Delete(),
        }
        if state in ends:
            await store.apply(one.name, ends[state])

    @_with_store
    async def test_a_filter_is_of_the_latest_state(self, store: Store) -> None:
        """With each change an operation comes to a list, or leaves it."""
        name = (await store.create(self.record())).name
        queued, running = (
            Query(self.PARENT, parse("state = QUEUED")),
            Query(self.PARENT, parse("state = RUNNING AND progress_percent >= 50")),
        )
        assert await self._found(store, queued) == [name]
        await store.apply(name, Claim(_LEASE))
        assert await self._found(store, queued) == []
        assert await self._found(store, running) == []
        await store.apply(name, Report(1, 50))
        assert await self._found(store, running) == [name]

    @_with_store
    async def test_a_wildcard_is_any_one_segment_of_the_parent(self, store: Store) -> None:
        """A segment that is itself a ``-`` is one of them; a ``-`` alone is every parent."""
        parents = (
            *("", "-", "p", "p/a", "p/b", "p/-", "q/a", "p/a/r", "p/a/s", "p/a/s/t", "p/ab"),
            *("x-", "x-/a", "p%/a", "P/a"),
        )
        made = [await store.create(self.record(parent=parent)) for parent in parents]
        await store.apply((await store.create(self.record("op-2", parent="p/a"))).name, Delete())
        covered = {
            "-": list(parents),
            "p/-": ["p/a", "p/b", "p/-", "p/ab"],
            "-/a": ["p/a", "q/a", "x-/a", "p%/a", "P/a"],
            "-/-": ["p/a", "p/b", "p/-", "q/a", "p/ab", "x-/a", "p%/a", "P/a"],
            "p/-/s": ["p/a/s"],
            "p/-/-": ["p/a/r", "p/a/s"],
            "p/-/-/-": ["p/a/s/t"],
            "-/-/-/-/-": [],
            "x-": ["x-"],
            "p%/-": ["p%/a"],
        }
        for parent, found in covered.items():
            expected = [one.name for one in reversed(made) if one.parent in found]
            for size in (1, 1000):
                assert await self._found(store, Query(parent), size=size) == expected, parent
        both = Query("-/a", parse("name:q OR name:x"))
        assert await self._found(store, both) == ["x-/a/operations/op-1", "q/a/operations/op-1"]

    @_with_store
    async def test_filtered_pages_stand_still_while_operations_come_and_go(
        self, store: Store
    ) -> None:
        """What has left the filter shifts nothing; what has come to it shows in its old place."""
        for parent in (self.PARENT, "projects/-/locations/-"):
            await self._stand_still(store, Query(parent, parse("state = QUEUED")), parent[-1])

    async def _stand_still(self, store: Store, query: Query, key: str) -> None:
        names = [(await store.create(self.record(f"op{key}{n}"))).name for n in range(8)]
        await store.apply_all([(name, Claim(_LEASE)) for name in names[:2]])
        first = await store.page(query, position=b"", size=2)
        await store.create(self.record(f"op{key}new"))
        await store.apply_all([(names[6], Delete()), (names[4], Claim(_LEASE))])
        await store.apply(names[1], LeaseLost(1, proven=True))
        rest = await store.page(query, position=first.position, size=9)
        assert [_name(one) for one in first.operations] == [names[7], names[6]]
        assert [_name(one) for one in rest.operations] == [names[5], names[3], names[2], names[1]]
        assert rest.position == b""
        await store.apply_all([(name, Delete()) for name in await self._listed(store)])

    @_with_store
    async def test_a_page_looks_at_so_many_records_at_most(self, store: Store) -> None:
        """It holds what it has found there, maybe nothing, and the next one goes on (S14)."""
        names = [(await store.create(self.record(f"op-{n}"))).name for n in range(10)]
        for parent in (self.PARENT, "projects/-/locations/-"):
            query = Query(parent, parse("name:op-0 OR name:op-5"))
            pages = [page async for page in self._pages(store, 5, query, examined=3)]
            assert pages == [[], [names[5]], [], [names[0]]]
            pages = [page async for page in self._pages(store, 5, query, examined=10)]
            assert pages == [[names[5], names[0]]]
            pages = [page async for page in self._pages(store, 1, query, examined=7)]
            assert pages == [[names[5]], [names[0]]]

    @_with_store
    async def test_a_page_fits_into_a_message(self, store: Store) -> None:
        """A gRPC client reads 4 MiB by default; a larger operation is a page alone."""
        sizes = [10, 1_000_000, 1_000_000, 1_000_000, 1_000_000, 5_000_000, 1_000_000]
        names = [(await store.create(self.record(f"op-{n}"))).name for n, _ in enumerate(sizes)]
        await store.apply_all([(name, Claim(_LEASE)) for name in names])
        for name, size in zip(names, sizes, strict=True):
            await store.apply(name, Report(1, 50, "x" * size))
        for query in (
            Query(self.PARENT),
            Query(self.PARENT, parse("progress_percent = 50")),
            Query("-/-/-/-"),
        ):
            pages = [page async for page in self._pages(store, 1000, query)]
            assert pages == [[names[6]], [names[5]], names[4:1:-1], [names[1], names[0]]]

    # Listeners (R9).

    @_with_store
    async def test_listeners_get_each_change_once_before_the_answer(self, store: Store) -> None:
        """And nothing else: no refusal, no repetition, no event that changes nothing."""
        announced, other = _Announced(store), _Announced(store)
        made = await store.create(self.record("op-1", request_id="r", fingerprint=b"f"))
        assert announced.records == [made]
        await store.create(self.record("op-2", request_id="r", fingerprint=b"f"))
        claimed = await store.apply(made.name, Claim(_LEASE))
        assert announced.records == [made, claimed]
        await store.apply(made.name, LeaseLost(1))
        await _refused(StaleAttemptError, store.apply(made.name, Claim(_LEASE)))
        outcomes = await store.apply_all(
            [(made.name, Report(1, 50)), (made.name, Succeed(Report(1), _RESPONSE))]
        )
        assert announced.records == [made, claimed, *outcomes]
        await store.apply(made.name, Cancel())
        deleted = await store.apply(made.name, Delete())
        assert announced.records == [made, claimed, *outcomes, deleted]
        assert announced.befores == [None, made, claimed, outcomes[0], outcomes[1]]
        assert (other.befores, other.records) == (announced.befores, announced.records)

    @_with_store
    async def test_a_listener_that_was_removed_is_called_no_more(self, store: Store) -> None:
        """And the others are."""
        records: list[Record] = []
        remove = store.subscribe(lambda _, after: records.append(after))
        other = _Announced(store)
        made = await store.create(self.record())
        remove()
        ended = await store.apply(made.name, Cancel())
        assert records == [made]
        assert other.records == [made, ended]

    @_with_store
    async def test_what_a_listener_gets_can_be_read(self, store: Store) -> None:
        """A reader that is woken by it sees that change, or a later one (R8)."""
        seen: list[tuple[int, asyncio.Task[Record]]] = []
        store.subscribe(
            lambda _, one: seen.append(
                (one.progress_percent, asyncio.create_task(store.read(one.name)))
            )
        )
        name = (await store.create(self.record())).name
        await store.apply(name, Claim(_LEASE))
        await asyncio.gather(*(store.apply(name, Report(1, n)) for n in range(1, 30)))
        read = [(percent, (await task).progress_percent) for percent, task in seen]
        assert len(read) == 31
        assert [pair for pair in read if pair[1] < pair[0]] == []

    # What other processes change.

    @_with_store
    async def test_what_is_followed_is_told_until_that_is_ended(self, store: Store) -> None:
        """Only states that there were; and an exclusive store has no others to tell of."""
        told: list[Record | None] = []
        methods: list[str] = []
        announced = _Announced(store)
        made = await store.create(self.record())
        end_first, end_second = (store.follow(made.name, told.append) for _ in range(2))
        end_unknown = store.follow(f"{made.name}x", told.append)
        end_work = store.follow_work(lambda _: False, methods.append)
        await store.apply(made.name, Claim(_LEASE))
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

    # Time.

    @_with_store
    async def test_the_store_tells_its_time(self, store: Store) -> None:
        """Which is not ahead, and hardly behind."""
        for _ in range(3):
            assert self.time - 1_000_000 <= store.now() <= self.time
            self.time += 10_000_000

    @_with_store
    async def test_times_do_not_go_back_with_the_clock(self, store: Store) -> None:
        """A clock that is set back shows in no operation (R8)."""
        name = (await store.create(self.record())).name
        self.time += 10_000_000
        updates = []
        for event in (Claim(_LEASE), Report(1, 1), Report(1, 2), Succeed(Report(1), _RESPONSE)):
            updates.append((await store.apply(name, event)).update_time)
            self.time -= 3_600_000_000
        assert updates == [self.START + 10_000_000] * 4
        done = operations_pb2.Operation.FromString(await store.operation(name))
        shown = _anys.unpack_as(operation_metadata_pb2.OperationMetadata, done.metadata)
        assert shown.end_time.ToMicroseconds() == self.START + 10_000_000

    # Close and open again (R1).

    @_sync
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
            await store.apply_all([(name, Claim(_LEASE)) for name in (held, done, hidden)])
            await store.apply(held, SaveBatch(Report(1, 40, "half"), _BATCH, _ERROR))
            await store.apply(done, Fail(Report(1), _ERROR))
            await store.apply(hidden, Delete())
            records = [await store.read(name) for name in (waiting.name, held, done)]
            await store.apply_all([(retried, event) for event in _TWO_ATTEMPTS])
            history = await store.read_attempts(retried)
            first = await store.page(Query(self.PARENT), position=b"", size=1)
        async with self.opened() as store:
            assert store.signing_secret == key
            for one in records:
                await self._is(store, one)
            assert await store.read_attempts(retried) == history
            rest = await store.page(Query(self.PARENT), position=first.position, size=9)
            assert [_name(one) for one in rest.operations] == [held, waiting.name]
            leased = {Leased(held, 1), Leased(hidden, 1), Leased(retried, 2)}
            assert set(await store.leased()) == leased
            assert list(await store.claimable({self.METHOD: 9})) == [waiting.name]
            again = self.record("op-5", request_id="r", fingerprint=b"f")
            assert await store.create(again) == waiting
            newest = (await store.create(self.record("op-6"))).name
            assert await self._listed(store) == [newest, done, held, waiting.name]
            await store.apply(hidden, Succeed(Report(1), _RESPONSE))
            assert (await store.apply(held, Report(1, 50))).progress_percent == 50

    @_sync
    async def test_what_a_pause_a_retry_and_a_limit_need_is_there_after_opening_again(self) -> None:
        """Checkpoints, times and counts, who has a target for itself, and what is due."""
        async with self.opened() as store:
            limits: dict[str, Any] = {"pausable": True, "timeout": 10_000_000}
            how: dict[str, Any] = {"target": _TARGET, "exclusive": True}
            paused = (await store.create(self.record("op-1", caller="c", **limits))).name
            retried = (await store.create(self.record("op-2", max_attempts=2))).name
            updating = (await store.create(self.record("op-3", **how, **limits))).name
            done = (await store.create(self.record("op-4", retention=20_000_000))).name
            names = [paused, retried, updating, done]
            await store.apply_all([(name, Claim(_LEASE)) for name in names])
            for name, event in (
                (paused, Checkpoint(Report(1, 10, "half"), _STATE)),
                (paused, Pause()),
                (paused, Release(Report(1))),
                (retried, RetryLater(Report(1, 5), _ERROR, 5_000_000)),
                (updating, SetUpdating(Report(1), updating=True)),
                (updating, Pause()),
                (done, Fail(Report(1), _ERROR)),
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
            assert await store.exclusive_holder(_TARGET) == updating
            again = self.record("op-5", **how)
            await _refused(OperationInProgressError, store.create(again))
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
            await store.apply(retried, Claim(_LEASE))
            ended = await store.apply(retried, RetryLater(Report(2), _ERROR, 0))
            assert ended.state == states.FAILED


class SharedStoreConformance(_Conformance):
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

    # One database.

    @_sync
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

    @_sync
    async def test_a_store_that_closes_leaves_the_others_open(self) -> None:
        """And one that opens later finds all that they have made."""
        async with self.opened(1) as (stays,):
            async with self.opened(1) as (leaves,):
                name = (await leaves.create(self.record())).name
            claimed = await stays.apply(name, Claim(_LEASE))
            async with self.opened(1) as (comes,):
                assert comes.signing_secret == stays.signing_secret
                await self._is(comes, claimed)
                await comes.apply(name, Succeed(Report(1), _RESPONSE))
            assert (await stays.read(name)).state == states.SUCCEEDED

    @_with_stores(3)
    async def test_what_one_store_has_answered_every_store_reads(
        self, stores: Sequence[SharedStore]
    ) -> None:
        """At once, in every way to read it (R1, R8)."""
        first, *others = stores
        how: dict[str, Any] = {"target": _TARGET, "exclusive": True, "caller": "ann"}
        made = await first.create(self.record(request_id="r", fingerprint=b"f", **how))
        for store in others:
            await self._is(store, made)
            assert await store.find_request(self.METHOD, "r", "ann") == [made]
            assert await store.find_id("op-1") == [made.name]
            assert await store.exclusive_holder(_TARGET) == made.name
            assert await self._listed(store) == [made.name]
            assert list(await store.claimable({self.METHOD: 9})) == [made.name]
            assert dict(await store.waiting(self.METHOD, 9)) == {"ann": 1}
            assert dict(await store.waiting_methods()) == {self.METHOD: 1}
        claimed = await others[0].apply(made.name, Claim(_LEASE))
        for store in stores:
            await self._is(store, claimed)
            assert list(await store.leased()) == [Leased(made.name, 1)]
            assert list(await store.claimable({self.METHOD: 9})) == []
        self.time += 1
        done = await others[1].apply(made.name, Succeed(Report(1), _RESPONSE))
        for store in stores:
            await self._is(store, done)
            assert list(await store.leased()) == []
            assert await store.exclusive_holder(_TARGET) == ""
        await first.apply(made.name, Delete())
        for store in stores:
            await _refused(OperationNotFoundError, store.read(made.name))
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
                found += map(_name, page.operations)
                position = page.position
                if not position:
                    break
            assert found == expected

    # Claims.

    @_with_stores(4)
    async def test_claims_of_all_stores_are_disjoint(self, stores: Sequence[SharedStore]) -> None:
        """However many there are at once; and together they take everything."""
        names = await self._created(stores, 200)
        told = [_Announced(store) for store in stores]
        claimed: list[list[Claimed]] = [[] for _ in stores]

        async def claim(number: int) -> None:
            store = stores[number]
            while found := await store.claim({self.METHOD: 3}, Claim(_LEASE)):
                claimed[number] += found

        for _ in range(_ROUNDS):  # one that another claim looks at may be passed over
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
        changes: list[Change] = [(name, Claim(_LEASE)) for name in names]
        answers = await asyncio.gather(*(store.apply_all(changes) for store in stores))
        for outcomes in zip(*answers, strict=True):
            won = [one for one in outcomes if isinstance(one, Record)]
            lost = [one for one in outcomes if isinstance(one, StaleAttemptError)]
            assert (len(won), len(lost)) == (1, len(stores) - 1)
            await self._is(stores[0], won[0])
            assert won[0].attempt == 1

    # One outcome (R4, R5).

    @_with_stores(3)
    async def test_of_the_outcomes_that_stores_write_at_once_one_stands(
        self, stores: Sequence[SharedStore]
    ) -> None:
        """And every store has the same one."""
        names = await self._created(stores, 20)
        await stores[0].apply_all([(name, Claim(_LEASE)) for name in names])
        ends: list[Event] = [
            Succeed(Report(1), _RESPONSE),
            Fail(Report(1), _ERROR),
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
        claimed = await stores[0].apply(name, Claim(_LEASE))
        told = [_Announced(store) for store in stores]
        await asyncio.gather(
            *(
                store.apply(name, Report(1, status_detail=f"{number}.{turn}"))
                for number, store in enumerate(stores)
                for turn in range(10)
            ),
            stores[0].apply(name, Report(1, 50)),
            stores[1].apply(name, Pause()),
            stores[2].apply(name, Heartbeat(1, 2 * _LEASE)),
        )
        seen = await stores[0].read(name)
        assert (seen.progress_percent, seen.pause_requested) == (50, True)
        assert seen.lease_expire_time == self.time + 2 * _LEASE
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
        await first.apply(name, Claim(_LEASE))
        await second.apply(name, LeaseLost(1, proven=True))
        for event in _writes_of(1):
            await _refused(StaleAttemptError, first.apply(name, event))
        again = await second.apply(name, Claim(_LEASE))
        for event in _writes_of(1):
            await _refused(StaleAttemptError, first.apply(name, event))
        await self._is(first, again)
        await self._is(second, again)

    @_with_stores(3)
    async def test_what_time_does_is_done_once(self, stores: Sequence[SharedStore]) -> None:
        """Though every store looks for it: leases that are over, limits, and retention."""
        names = await self._created(stores, 30, timeout=2 * _LEASE)
        await stores[0].apply_all([(name, Claim(_LEASE)) for name in names[:10]])
        told = [_Announced(store) for store in stores]

        async def sweep(store: SharedStore) -> None:
            for one in await store.leased(until=self.time):
                with contextlib.suppress(StaleAttemptError):
                    await store.apply(one.name, LeaseLost(one.attempt))
            for name in await store.expired(100):
                await store.apply(name, TimePassed())

        for lasts, changed in ((_LEASE, names[:10]), (_LEASE, names)):
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
        await _refused(OperationNotFoundError, first.apply(made.name, Pause()))
        await second.create(made)
        assert (await first.apply(made.name, Pause())).state == states.PAUSED
        await second.apply_all([(made.name, Resume()), (made.name, Claim(_LEASE))])
        assert (await first.apply(made.name, Report(1, 7))).progress_percent == 7
        await second.apply(made.name, Release(Report(1)))
        assert (await first.apply(made.name, Claim(_LEASE))).attempt == 2
        await second.apply_all([(made.name, Release(Report(2))), (made.name, Claim(_LEASE))])
        done = await first.apply(made.name, Succeed(Report(3), _RESPONSE))
        assert done.progress_percent == 100
        await second.apply(made.name, Delete())
        await _refused(OperationNotFoundError, first.apply(made.name, Cancel()))
        await second.create(made)
        assert (await first.apply(made.name, Claim(_LEASE))).attempt == 1

    @_with_stores(2)
    async def test_what_changes_nothing_changes_nothing_as_it_is_now(
        self, stores: Sequence[SharedStore]
    ) -> None:
        """A store does not take an event for done because it has seen it done."""
        first, second = stores
        name = (await first.create(self.record(pausable=True))).name
        await first.apply(name, Claim(_LEASE))
        for _ in range(3):
            assert (await first.apply(name, Pause())).pause_requested
            await second.apply(name, Resume())
        self.time += _LEASE
        await second.apply(name, Heartbeat(1, _LEASE))
        kept = await first.apply(name, LeaseLost(1))
        assert kept.lease_expire_time == self.time + _LEASE
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
                await _refused(RequestIdReusedError, store.create(other))
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
                self.record(f"op-{turn}-{n}", target=_TARGET, exclusive=True)
                for n, _ in enumerate(stores)
            ]
            calls = (store.create(one) for store, one in zip(stores, made, strict=True))
            answers = await asyncio.gather(*calls, return_exceptions=True)
            (won,) = [one for one in answers if isinstance(one, Record)]
            lost = [one for one in answers if isinstance(one, OperationInProgressError)]
            assert [one.metadata["operation"] for one in lost] == [won.name] * 3
            for store in stores:
                assert await store.exclusive_holder(_TARGET) == won.name
            await stores[turn % 4].apply(won.name, Cancel())
            assert await stores[(turn + 1) % 4].exclusive_holder(_TARGET) == ""

    # Notices (R9).

    @_with_stores(2)
    async def test_listeners_get_the_changes_of_their_own_store(
        self, stores: Sequence[SharedStore]
    ) -> None:
        """Each with the record before it, though another store has made that."""
        first, second = stores
        told = [_Announced(store) for store in stores]
        made = await first.create(self.record())
        claimed = await second.apply(made.name, Claim(_LEASE))
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
        told = [(_Told(), _Told()) for _ in followers]
        unfollow = [
            store.follow(name, one)
            for store, both in zip(followers, told, strict=True)
            for name, one in zip((ends, goes), both, strict=True)
        ]
        for event in (Claim(_LEASE), Report(1, 50), Cancel(), Succeed(Report(1), _RESPONSE)):
            after = await changing.apply(ends, event)
            for one, _ in told:
                await one.until(partial(one.has, after))
        await changing.apply(goes, Claim(_LEASE))
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
        told, ended = _Told(), _Told()
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
        """What is new, what is given back, what is resumed, and what was to wait a while."""
        first, second = stores
        told = _Told()
        assert list(await first.claim({self.METHOD: 9}, Claim(_LEASE))) == []
        ends = [
            first.follow_work(lambda _: True, told),
            second.follow_work(lambda _: False, lambda _: None),
        ]
        made = await second.create(self.record(pausable=True))
        await told.until(lambda: self.METHOD in told.values)
        for event in (Release(Report(1)), LeaseLost(2, proven=True)):
            await second.apply(made.name, Claim(_LEASE))
            told.values.clear()
            await second.apply(made.name, event)
            await told.until(lambda: self.METHOD in told.values)
        await second.apply(made.name, Pause())
        told.values.clear()
        await second.apply(made.name, Resume())
        await told.until(lambda: self.METHOD in told.values)
        assert [one.before.name for one in await first.claim({self.METHOD: 9}, Claim(_LEASE))] == [
            made.name
        ]
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
        await first.apply_all([(name, Claim(_LEASE)) for name in (kept, lost)])
        await second.apply_all([(lost, LeaseLost(1, proven=True)), (lost, Claim(_LEASE))])
        self.time += _LEASE - 1
        answers: list[Sequence[Record | LroError]] = []

        def renew() -> None:
            answers.append(asyncio.run(_renewed(first, [Leased(kept, 1), Leased(lost, 1)])))

        thread = threading.Thread(target=renew)
        thread.start()
        thread.join()  # nothing of this loop goes on meanwhile
        ((renewed, stale),) = answers
        assert isinstance(renewed, Record)
        assert renewed.lease_expire_time == self.time + _LEASE
        assert isinstance(stale, StaleAttemptError)
        self.time += 2
        assert list(await second.leased(until=self.time)) == [Leased(lost, 2)]
        await self._is(second, renewed)
        assert (await first.apply(kept, Report(1, 7))).lease_expire_time == (
            renewed.lease_expire_time
        )

    async def _created(
        self, stores: Sequence[SharedStore], count: int, **values: Any
    ) -> Sequence[str]:
        """Returns the names of new operations, made by all stores at once."""
        made = [self.record(f"op-{number}", **values) for number in range(count)]
        calls = (stores[n % len(stores)].create(one) for n, one in enumerate(made))
        return [one.name for one in await asyncio.gather(*calls)]


class _Announced:
    """The changes that a store has announced to a listener, in order."""

    def __init__(self, store: Store) -> None:
        self.befores: list[Record | None] = []
        self.records: list[Record] = []
        store.subscribe(self._note)

    def _note(self, before: Record | None, after: Record) -> None:
        self.befores.append(before)
        self.records.append(after)

    def clear(self) -> None:
        """Forgets them."""
        self.befores.clear()
        self.records.clear()


class _Told:
    """What a follower was told, to be awaited."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        self._more = asyncio.Event()

    def __call__(self, value: object) -> None:
        self.values.append(value)
        self._more.set()

    def has(self, record: Record) -> bool:
        """Whether a state was told."""
        return record in self.values

    def has_gone(self) -> bool:
        """Whether it was told that an operation is gone; it may still run, and be hidden."""
        return any(value is None or value.deleted for value in self.values)

    async def until(self, is_so: Callable[[], bool]) -> None:
        """Returns once something is true of what was told."""
        try:
            await asyncio.wait_for(self._wait(is_so), _PATIENCE_SECONDS)
        except asyncio.TimeoutError as cause:
            raise AssertionError(f"it was not told; the last was {self.values[-3:]!r}") from cause

    async def _wait(self, is_so: Callable[[], bool]) -> None:
        while not is_so():
            self._more.clear()
            await self._more.wait()


async def _renewed(store: SharedStore, leased: Sequence[Leased]) -> Sequence[Record | LroError]:
    return await store.renew(leased, _LEASE)


async def _refused(kind: type[LroError], call: Coroutine[Any, Any, object]) -> None:
    """Asserts that a call raises an error of this kind."""
    try:
        answer = await call
    except kind:
        return
    raise AssertionError(f"{kind.__name__} was not raised; the answer is {answer!r}")


class _FormerClaim(Claim):
    """A claim by a release that knows nothing of the history."""

    def apply(self, record: Record, now: int) -> Record:
        after = super().apply(record, now)
        return after._replace(
            worker=record.worker,
            attempt_number=record.attempt_number,
            attempt_start_time=record.attempt_start_time,
            attempt_end_time=record.attempt_end_time,
            attempt_outcome=record.attempt_outcome,
            attempt_error=record.attempt_error,
        )


class _ChoosyClaim(Claim):
    """A claim of a worker that cannot go on with the first operation."""

    def apply(self, record: Record, now: int) -> Record:
        if record.name.endswith("/op-0"):
            raise UnservedError(f"{record.name} is of another release")
        return super().apply(record, now)


def _writes_of(attempt: int) -> Sequence[Event]:
    """Returns every kind of write that an attempt may send, or have sent about it."""
    report = Report(attempt, 99, "stale")
    return (
        Heartbeat(attempt, _LEASE),
        report,
        SaveBatch(report, _BATCH, b""),
        Checkpoint(report, _STATE),
        SetUpdating(report, updating=True),
        Succeed(report, _RESPONSE),
        Fail(report, _ERROR),
        RetryLater(report, _ERROR, 0),
        Expire(report),
        Release(report),
        LeaseLost(attempt, proven=True),
        LeaseLost(attempt, stuck=True),
    )


def _outcomes() -> Sequence[Event]:
    """Returns the three kinds of end: a response, an error, a cancellation."""
    return (
        Succeed(Report(1), _RESPONSE),
        Fail(Report(1), _ERROR),
        Fail(Report(1), cancelled_status().SerializeToString()),
    )


def _name(operation: bytes) -> str:
    return operations_pb2.Operation.FromString(operation).name
