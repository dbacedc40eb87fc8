"""Every store against a model: a dictionary of records, changed by nothing but the pure events."""

from __future__ import annotations

import asyncio
import inspect
import itertools
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from google.protobuf import empty_pb2
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from postgres_server import new_schema

from lro.v1 import batch_create_instances_pb2, operation_metadata_pb2
from lro_grpc import _anys
from lro_grpc._errors import Code, LroError, to_status
from lro_grpc._operation import events as module
from lro_grpc._operation import metadata, publication
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
)
from lro_grpc._operation.record import Record
from lro_grpc._stores.postgres.store import PostgresStore
from lro_grpc._stores.refusals import check_same_request, in_progress, name_taken
from lro_grpc._testing.invariants import violations
from lro_grpc.stores import Leased, MemoryStore, Query, SqliteStore, Store

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

pytestmark = pytest.mark.timeout(600)

SECOND = 1_000_000
LEASE = 15 * SECOND
METHODS = ("/contract.v1.Contract/Run", "/contract.v1.Contract/RunOther")
PARENTS = ("", "projects/p", "projects/p/locations/l")
REQUEST_IDS = ("", "r", "s")
CALLERS = ("", "", "ann", "bob")
TARGETS = ("", "t", "u")
KEYS = ("", "", "a", "b")
SOURCES = ("projects/p/operations/op-1", "operations/op-\N{SNOWMAN}")

_InstanceStatus = batch_create_instances_pb2.BatchCreateInstanceStatus


def _batch(*states: Any) -> bytes:
    targets = [f"target-{number}" for number in range(len(states))]
    return batch_create_instances_pb2.BatchCreateInstancesMetadata(
        instance_targets=targets,
        instance_statuses={
            target: _InstanceStatus(state=state)
            for target, state in zip(targets, states, strict=True)
        },
    ).SerializeToString(deterministic=True)


UNBEGUN = _batch(_InstanceStatus.PENDING_CREATE, _InstanceStatus.PENDING_CREATE)
BATCHES = (
    _batch(_InstanceStatus.PENDING_CREATE, _InstanceStatus.CREATING),
    _batch(_InstanceStatus.READY, _InstanceStatus.DELETING),
)
CUSTOM = operation_metadata_pb2.OperationMetadata(attempt=9, status_detail="x").SerializeToString()
RESPONSE = _anys.packed_bytes(empty_pb2.Empty())
ERRORS = [
    to_status(LroError("it broke", code=code)).SerializeToString()
    for code in (Code.DATA_LOSS, Code.CANCELLED, Code.UNAVAILABLE)
]

# An event of the latest attempt, or of one that is not.
attempts = st.sampled_from((0, 0, 0, 0, -1, 1))
reports = st.builds(
    Report,
    attempts,
    st.none() | st.integers(0, 100),
    st.none() | st.sampled_from(("", "half", "\N{SNOWMAN}\u0000")),
    st.sampled_from((None, b"", CUSTOM)),
)
flags = st.booleans()
errors = st.sampled_from(ERRORS)
EVENTS: dict[type[Any], st.SearchStrategy[Any]] = {
    Claim: st.builds(Claim, st.just(LEASE)),
    Heartbeat: st.builds(Heartbeat, attempts, st.just(LEASE)),
    Report: reports,
    SaveBatch: st.builds(
        SaveBatch, reports, st.sampled_from(BATCHES), st.sampled_from((b"", ERRORS[0]))
    ),
    Checkpoint: st.builds(Checkpoint, reports, st.just(RESPONSE)),
    SetUpdating: st.builds(SetUpdating, reports, flags),
    Succeed: st.builds(Succeed, reports, st.just(RESPONSE), flags),
    Fail: st.builds(Fail, reports, errors),
    RetryLater: st.builds(RetryLater, reports, errors, st.sampled_from((0, 5 * SECOND))),
    Expire: st.builds(Expire, reports),
    Release: st.builds(Release, reports),
    LeaseLost: st.builds(LeaseLost, attempts, flags, flags),
    Cancel: st.just(Cancel()),
    Pause: st.just(Pause()),
    Resume: st.just(Resume()),
    Terminate: st.builds(
        Terminate, st.sampled_from(("stuck", "\N{SNOWMAN}")), st.sampled_from(("", "ada"))
    ),
    TimePassed: st.just(TimePassed()),
    Delete: st.just(Delete()),
}
kinds = st.sampled_from(list(EVENTS) + [Claim] * 5)
events = kinds.flatmap(EVENTS.__getitem__)
creations = st.fixed_dictionaries(
    {
        "method": st.sampled_from(METHODS),
        "parent": st.sampled_from(PARENTS),
        "request_id": st.sampled_from(REQUEST_IDS),
        "caller": st.sampled_from(CALLERS),
        "fingerprint": st.sampled_from((b"f", b"f", b"g")),
        "target": st.sampled_from(TARGETS),
        "exclusive": flags,
        "pausable": flags,
        "batch": st.sampled_from((b"", UNBEGUN)),
        "max_attempts": st.sampled_from((1, 2, 10)),
        "retention": st.sampled_from((10 * SECOND, 3600 * SECOND)),
        "timeout": st.sampled_from((0, 0, 20 * SECOND)),
        "concurrency_key": st.sampled_from(KEYS),
        "source_operation": st.sampled_from(("", *SOURCES)),
    }
)
picks = st.integers(0, 9)
"""Which of the operations, the latest ones first."""


def test_the_model_knows_every_event() -> None:
    """Every class in the module of the events whose instances can be applied."""
    found = [
        kind
        for _, kind in inspect.getmembers(module, inspect.isclass)
        if hasattr(kind, "apply") and kind is not Event
    ]
    assert set(found) == set(EVENTS)


class Model:
    """What a store should have, and should answer."""

    def __init__(self) -> None:
        self.records: dict[str, Record] = {}
        self.announced: list[Record] = []

    def create(self, made: Record) -> Record | LroError:
        for stored in self.records.values():
            if made.request_id and self._request(stored) == self._request(made):
                try:
                    return check_same_request(stored, made)
                except LroError as error:
                    return error
        if made.name in self.records:
            return name_taken(made.name)
        holder = self.exclusive_holder(made.exclusive_target)
        if holder:
            return in_progress(made.exclusive_target, self.records.get(holder), caller=made.caller)
        self._keep(None, made)
        return made

    def apply(self, name: str, event: Event, now: int) -> Record | LroError:
        before = self.records.get(name)
        if before is None:
            return publication.not_found(name)
        try:
            after = event.apply(before, now)
        except LroError as error:
            return error
        if after is not before:
            self._keep(before, after)
        return after

    def read(self, name: str) -> Record | LroError:
        found = self.records.get(name)
        return publication.not_found(name) if found is None or found.deleted else found

    def exclusive_holder(self, target: str) -> str:
        names = [one.name for one in self.records.values() if one.exclusive_target == target]
        return names[0] if target and names else ""

    def _keep(self, before: Record | None, after: Record) -> None:
        assert violations(before, after) == []
        self.announced.append(after)
        self.records[after.name] = after
        if after.deleted and after.done:
            del self.records[after.name]

    @staticmethod
    def _request(one: Record) -> tuple[str, str, str, str]:
        return one.method, one.parent, one.caller, one.request_id


class StoreAgainstModel(RuleBasedStateMachine):
    """Does the same with a store and with the model, and compares all that can be asked."""

    def make_store(self) -> Store:
        raise NotImplementedError

    @initialize()
    def begin(self) -> None:
        self.now = 1_800_000_000 * SECOND
        self.model = Model()
        self.announced: list[Record] = []
        self.names: list[str] = []
        self.loop = asyncio.new_event_loop()
        self.store = self.make_store()
        self.open()

    def open(self) -> None:
        self.store.subscribe(lambda _, after: self.announced.append(after))
        self.run(self.store.open())

    def teardown(self) -> None:
        if hasattr(self, "loop"):
            self.run(self.store.close())
            self.loop.close()

    def run(self, call: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(call)

    # What happens.

    @rule(values=creations)
    def create(self, values: dict[str, Any]) -> None:
        self.names.append("")
        self.do([self.made(f"op-{len(self.names)}", values)])

    @precondition(lambda self: self.names)
    @rule(values=creations, pick=picks)
    def create_under_a_name_that_is_taken(self, values: dict[str, Any], pick: int) -> None:
        values = {**values, "parent": self.names[self.index(pick)].rpartition("operations/")[0]}
        values["parent"] = values["parent"].rstrip("/")
        self.do([self.made(self.names[self.index(pick)].rpartition("/")[2], values)])

    @precondition(lambda self: self.names)
    @rule(pick=picks, event=events)
    def apply(self, pick: int, event: Event) -> None:
        self.do([self.change(pick, event)])

    @precondition(lambda self: self.names)
    @rule(pick=picks)
    def claim(self, pick: int) -> None:
        self.do([self.change(pick, Claim(LEASE))])

    @rule(
        methods=st.lists(st.sampled_from(METHODS), unique=True),
        limit=st.integers(0, 3),
        left_out=st.lists(picks, max_size=3),
        seconds=st.sampled_from((None, 0, 1, 15)),
    )
    def claim_what_is_ready(
        self, methods: Sequence[str], limit: int, left_out: Sequence[int], seconds: int | None
    ) -> None:
        """Of any time, or for more than some seconds."""
        passed_over = {self.names[self.index(pick)] for pick in left_out} if self.names else set()
        limits = dict.fromkeys(methods, limit)
        before = None if seconds is None else self.now - seconds * SECOND
        claimed = self.run(
            self.store.claim(limits, Claim(LEASE), left_out=passed_over, ready_before=before)
        )
        if before is not None:
            passed_over |= {
                name
                for name, one in self.model.records.items()
                if before <= one.update_time <= self.now
            }
        for method in METHODS:
            ready = [name for name in self.ready(method, "") if name not in passed_over]
            found = [before.name for before, _ in claimed if before.method == method]
            assert found == ready[: limits.get(method, 0)]
        for before, outcome in claimed:
            assert before == self.model.records[before.name]
            assert_same([outcome], [self.model.apply(before.name, Claim(LEASE), self.now)])

    @rule(
        method=st.sampled_from(METHODS),
        limit=st.integers(0, 3),
        per_key=st.integers(0, 2),
        after=st.sampled_from(("", "a", "aa", "b")),
        left_out=st.lists(picks, max_size=3),
    )
    def claim_what_has_a_key(
        self, method: str, limit: int, per_key: int, after: str, left_out: Sequence[int]
    ) -> None:
        passed_over = {self.names[self.index(pick)] for pick in left_out} if self.names else set()
        ring = [key for key in ("a", "b") if key > after and self.ready(method, key)]
        ring += [key for key in ("a", "b") if key <= after and self.ready(method, key)]
        of_keys = []
        for key in ring:
            held = sum(
                one.method == method and one.concurrency_key == key and one.lease_expire_time > 0
                for one in self.model.records.values()
            )
            left = [name for name in self.ready(method, key) if name not in passed_over]
            of_keys.append(left[: max(0, per_key - held)] if per_key else left)
        turns = itertools.chain(*itertools.zip_longest(*of_keys))
        expected = [name for name in turns if name is not None]
        claims = self.run(
            self.store.claim_by_key(
                method, limit, per_key, Claim(LEASE), after=after, left_out=passed_over
            )
        )
        assert [before.name for before, _ in claims.claimed] == expected[:limit]
        if limit > len(expected):
            assert (claims.last_key, claims.has_more) == ((ring or [after])[-1], False)
        elif limit > 0:
            last = claims.claimed[-1].before.concurrency_key
            assert (claims.last_key, claims.has_more) == (last, True)
        for before, outcome in claims.claimed:
            assert before == self.model.records[before.name]
            assert_same([outcome], [self.model.apply(before.name, Claim(LEASE), self.now)])

    @precondition(lambda self: self.names)
    @rule(
        works=st.lists(creations | st.tuples(picks, events), min_size=2, max_size=6),
    )
    def happen_at_once(self, works: Sequence[Any]) -> None:
        """Given to the store together, in an order that it keeps."""
        done = []
        for work in works:
            if isinstance(work, dict):
                self.names.append("")
                done.append(self.made(f"op-{len(self.names)}", work))
            else:
                done.append(self.change(*work))
        self.do(done)

    @precondition(lambda self: self.names)
    @rule(changes=st.lists(st.tuples(picks, events), max_size=6))
    def happen_in_one_call(self, changes: Sequence[Any]) -> None:
        given = [self.change(*change) for change in changes]
        expected = [self.model.apply(name, event, self.now) for name, event in given]
        assert_same(self.run(self.store.apply_all(given)), expected)

    @rule(seconds=st.sampled_from((1, 5, 15, 30, 4000, -1, -60)))
    def let_time_pass(self, seconds: int) -> None:
        self.now += seconds * SECOND

    # What is asked.

    @invariant()
    def listeners_heard_the_same(self) -> None:
        if hasattr(self, "loop"):
            assert self.announced == self.model.announced

    @invariant()
    def everything_is_read_the_same(self) -> None:
        if hasattr(self, "loop"):
            self.run(self.compare_reads())
            self.run(self.compare_queries())

    async def compare_reads(self) -> None:
        for name in self.names:
            expected = self.model.read(name)
            assert_same([await outcome_of(self.store.read(name))], [expected])
            if isinstance(expected, Record):
                expected = expected.operation
            assert_same([await outcome_of(self.store.operation(name))], [expected])

    def ready(self, method: str, key: str) -> list[str]:
        """Returns the operations of a key whose next attempt may begin, oldest first."""
        ready = [
            one
            for one in self.model.records.values()
            if one.method == method and one.concurrency_key == key and one.is_ready
        ]
        return [one.name for one in sorted(ready, key=lambda one: one.queue_order)]

    async def compare_queries(self) -> None:
        records = list(self.model.records.values())
        for parent in PARENTS:
            shown = [one for one in records[::-1] if one.parent == parent and not one.deleted]
            for size in (2, 100):
                pages = await self.pages(parent, size)
                assert [one for page in pages for one in page] == [one.operation for one in shown]
                assert [len(page) for page in pages[:-1]] == [size] * (len(pages) - 1)
        for method in METHODS:
            waits = [
                one
                for one in records
                if one.method == method and one.claimable and not one.is_delayed_start
            ]
            plain = self.ready(method, "")
            keyed = self.ready(method, "a") + self.ready(method, "b")
            found = list(await self.store.claimable({method: 100}))
            first = list(await self.store.claimable({method: 1}))
            if keyed:  # in which order, no store has to say
                assert sorted(found) == sorted(plain + keyed)
                assert len(first) == 1
                assert first[0] in found
            else:
                assert (found, first) == (plain, plain[:1])
            waiting = await self.store.waiting(method, 100)
            assert dict(waiting) == Counter(one.caller for one in waits)
            some = await self.store.waiting(method, 2)
            assert sum(some.values()) == min(2, len(waits))
            for request_id, caller in itertools.product(REQUEST_IDS, CALLERS):
                found = await self.store.find_request(method, request_id, caller)
                asked = (method, request_id, caller)
                assert {one.name: one for one in found} == {
                    one.name: one
                    for one in records
                    if request_id and (one.method, one.request_id, one.caller) == asked
                }
        for until in (None, self.now, self.now + LEASE):
            assert set(await self.store.leased(until=until)) == {
                Leased(one.name, one.attempt)
                for one in records
                if one.lease_expire_time and (until is None or one.lease_expire_time <= until)
            }
        ids = {one.name.rpartition("/")[2] for one in records}
        for operation_id in ids:
            found = set(await self.store.find_id(operation_id))
            having = {
                one.name
                for one in records
                if one.name.endswith(f"/{operation_id}") and not one.deleted
            }
            assert found <= having
            assert len(found) >= min(2, len(having))
        for source in SOURCES:
            reruns = [
                one.name
                for one in self.model.records.values()
                if one.source_operation == source and not one.deleted
            ]
            assert await self.store.latest_rerun(source) == (reruns[-1] if reruns else "")
        for target in TARGETS:
            assert await self.store.exclusive_holder(target) == self.model.exclusive_holder(target)
        due = {one.name for one in records if one.has_expired(self.now) or one.has_rested(self.now)}
        assert set(await self.store.expired(100)) == due
        assert len(await self.store.expired(1)) == min(len(due), 1)

    async def pages(self, parent: str, size: int) -> list[Sequence[bytes]]:
        pages, position = [], b""
        while True:
            page = await self.store.page(Query(parent), position=position, size=size)
            pages.append(page.operations)
            position = page.position
            if not position:
                return pages

    # How it is done.

    def index(self, pick: int) -> int:
        return max(len(self.names) - 1 - pick, 0)

    def made(self, operation_id: str, values: dict[str, Any]) -> Record:
        made = publication.create(
            operation_id=operation_id,
            request=b"request",
            metadata_type=metadata.DEFAULT_TYPE.DESCRIPTOR.full_name,
            now=self.now,
            **values,
        )
        self.names = [name or made.name for name in self.names]
        return made

    def change(self, pick: int, event: Any) -> tuple[str, Event]:
        """Returns a change, its attempt counted from the operation's latest."""
        name = self.names[self.index(pick)]
        known = self.model.records.get(name)
        return name, numbered(event, known.attempt if known else 0)

    def do(self, works: Sequence[Record | tuple[str, Event]]) -> None:
        expected = [
            self.model.create(work)
            if isinstance(work, Record)
            else self.model.apply(*work, self.now)
            for work in works
        ]

        async def all_at_once() -> list[object]:
            calls = [
                self.store.create(work) if isinstance(work, Record) else self.store.apply(*work)
                for work in works
            ]
            return await asyncio.gather(*map(outcome_of, calls))

        assert_same(self.run(all_at_once()), expected)


def numbered(event: Any, attempt: int) -> Event:
    """Returns an event of an attempt that is so many after the latest."""
    values = {name: getattr(event, name) for name in event.__dataclass_fields__}
    if "report" in values:
        values["report"] = numbered(values["report"], attempt)
    if "attempt" in values:
        values["attempt"] += attempt
    numbered_event: Event = type(event)(**values)
    return numbered_event


async def outcome_of(call: Coroutine[Any, Any, Any]) -> Any:
    try:
        return await call
    except LroError as error:
        return error


def assert_same(found: Sequence[Any], expected: Sequence[Any]) -> None:
    assert [_comparable(one) for one in found] == [_comparable(one) for one in expected]


def _comparable(outcome: Any) -> Any:
    return (type(outcome), str(outcome)) if isinstance(outcome, LroError) else outcome


class MemoryAgainstModel(StoreAgainstModel):
    def make_store(self) -> MemoryStore:
        return MemoryStore(lambda: self.now)


class SqliteAgainstModel(StoreAgainstModel):
    def make_store(self) -> SqliteStore:
        if not hasattr(self, "folder"):
            self.folder = tempfile.TemporaryDirectory()
        return SqliteStore(Path(self.folder.name) / "operations.db", lambda: self.now)

    @rule()
    def open_again(self) -> None:
        self.run(self.store.close())
        self.store = self.make_store()
        self.open()

    def teardown(self) -> None:
        super().teardown()
        if hasattr(self, "folder"):
            self.folder.cleanup()


class PostgresAgainstModel(StoreAgainstModel):
    """In a schema of its own each time; it keeps no order among calls that are made at once."""

    def __init__(self, server: str) -> None:
        super().__init__()
        self.schema = new_schema(server)
        self.url = self.schema.__enter__()

    def make_store(self) -> PostgresStore:
        return PostgresStore(self.url, lambda: self.now)

    def do(self, works: Sequence[Record | tuple[str, Event]]) -> None:
        for work in works:
            super().do([work])

    @rule(seconds=st.sampled_from((1, 5, 15, 30, 4000)))
    def let_time_pass(self, seconds: int) -> None:
        """Not back: of those that it looks at, the first ones to start are next by their times."""
        super().let_time_pass(seconds)

    def teardown(self) -> None:
        super().teardown()
        self.schema.__exit__(None, None, None)


def test_postgres_against_the_model(postgres_server: str) -> None:
    few = settings(max_examples=8, stateful_step_count=30)
    run_state_machine_as_test(lambda: PostgresAgainstModel(postgres_server), settings=few)


TestMemoryAgainstModel = MemoryAgainstModel.TestCase
TestMemoryAgainstModel.settings = settings(max_examples=100, stateful_step_count=40)
TestSqliteAgainstModel = SqliteAgainstModel.TestCase
TestSqliteAgainstModel.settings = settings(max_examples=60, stateful_step_count=40)
