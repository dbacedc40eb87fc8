"""Large records in Postgres: they are read and written in portions, and none is written twice."""

from __future__ import annotations

import asyncio
import functools
import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from google.longrunning import operations_pb2
from opened_postgres import opened

from lro.v1 import operation_metadata_pb2
from lro_grpc import OperationNotFoundError, StaleAttemptError, UnexpectedError
from lro_grpc._operation.events import Cancel, Claim, Delete, Report
from lro_grpc._stores import transfer
from lro_grpc.conformance import StoreConformance
from lro_grpc.stores import Leased, Query

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from lro_grpc._stores.postgres.store import PostgresStore
    from lro_grpc.stores import Record

LEASE = 15_000_000
METHOD = StoreConformance.METHOD
LARGE = 3_900_000

BEYOND_ALL_NUMBERS = 2**70
"""No number of a column is as large."""


def new(operation_id: str, **values: Any) -> Record:
    return StoreConformance().record(operation_id, **values)


@dataclass(frozen=True, slots=True)
class Unstorable(Report):
    """A report that no row can hold."""

    def apply(self, record: Record, now: int) -> Record:
        return record._replace(checkpoint=bytes(LARGE), update_time=BEYOND_ALL_NUMBERS)


@dataclass(frozen=True, slots=True)
class Once(Report):
    """A report that is refused if it has been made before."""

    def apply(self, record: Record, now: int) -> Record:
        assert not record.status_detail, "it is made twice"
        return record._replace(checkpoint=bytes(LARGE), status_detail="once")


async def test_what_is_stored_before_a_record_is_refused_is_stored_once(postgres: str) -> None:
    """All starts are one group, and are written by several statements."""
    async with opened(postgres) as store:
        announced: list[str] = []
        store.subscribe(lambda _, after: announced.append(after.name))
        sound = [new(f"op-{number}", request=bytes(LARGE)) for number in range(5)]
        wrong = new("wrong", request=bytes(LARGE))._replace(retention=BEYOND_ALL_NUMBERS)
        outcomes = await asyncio.gather(*map(store.create, [*sound, wrong]), return_exceptions=True)
        assert outcomes[:-1] == sound
        assert isinstance(outcomes[-1], UnexpectedError)
        assert sorted(announced) == [one.name for one in sound]


async def test_what_is_changed_before_a_change_is_refused_is_changed_once(postgres: str) -> None:
    async with opened(postgres) as store:
        names = [(await store.create(new(f"op-{number}"))).name for number in range(6)]
        await store.apply_all([(name, Claim(LEASE)) for name in names])
        announced: list[str] = []
        store.subscribe(lambda _, after: announced.append(after.name))
        events = [*[Once(1)] * 5, Unstorable(1)]
        outcomes = await asyncio.gather(*map(store.apply, names, events), return_exceptions=True)
        assert [one.status_detail for one in outcomes[:-1]] == ["once"] * 5
        assert isinstance(outcomes[-1], UnexpectedError)
        assert sorted(announced) == names[:-1]
        assert [(await store.read(name)).attempt for name in names] == [1] * 6


async def test_what_is_removed_before_a_change_is_refused_is_removed_once(postgres: str) -> None:
    async with opened(postgres) as store:
        names = [(await store.create(new(f"op-{number}"))).name for number in range(2)]
        await store.apply(names[0], Cancel())
        await store.apply(names[1], Claim(LEASE))
        gone, wrong = await asyncio.gather(
            store.apply(names[0], Delete()),
            store.apply(names[1], Unstorable(1)),
            return_exceptions=True,
        )
        assert gone.deleted
        assert isinstance(wrong, UnexpectedError)


MANY = 12
HALF = 1_900_000
SMALL = 2_000
"""More than all of a row that is not large."""
MOST_BYTES = transfer.MOST_BYTES + MANY * SMALL
"""Of a statement and of its answer."""
NAMES = [f"{StoreConformance.PARENT}/operations/op-{number}" for number in range(MANY)]


class Measuring(asyncpg.Connection):
    """A connection that notes the bytes of statements and answers."""

    most = 0
    """Those of the largest one."""
    sum = 0

    async def fetch(self, query: str, *arguments: Any, **options: Any) -> Any:
        rows = await super().fetch(query, *arguments, **options)
        columns = [one for one in arguments if isinstance(one, (list, tuple))]
        for values in (itertools.chain(*columns), itertools.chain(*rows)):
            size = sum(len(value) for value in values if isinstance(value, (bytes, str)))
            Measuring.most = max(Measuring.most, size)
            Measuring.sum += size
        return rows


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> type[Measuring]:
    """The connections that are opened from now on."""
    measuring = functools.partial(asyncpg.connect, connection_class=Measuring)
    monkeypatch.setattr(asyncpg, "connect", measuring)
    monkeypatch.setattr(Measuring, "most", 0)
    monkeypatch.setattr(Measuring, "sum", 0)
    return Measuring


def large(number: int, **values: Any) -> Record:
    chosen = {"request": bytes(HALF), "request_id": f"r{number}", **values}
    made = new(f"op-{number}", **chosen)
    operation = operations_pb2.Operation.FromString(made.operation)
    detail = "x" * HALF
    operation.metadata.Pack(operation_metadata_pb2.OperationMetadata(status_detail=detail))
    return made._replace(operation=operation.SerializeToString())


async def read(store: PostgresStore, _url: str) -> None:
    made = await asyncio.gather(*map(store.read, [*NAMES, *NAMES]))
    assert [one.name for one in made] == [*NAMES, *NAMES]
    assert {len(one.request) for one in made} == {HALF}


async def get(store: PostgresStore, _url: str) -> None:
    absent = f"{StoreConformance.PARENT}/operations/absent"
    *made, missed = await asyncio.gather(
        *map(store.operation, [*NAMES, absent]), return_exceptions=True
    )
    assert [operations_pb2.Operation.FromString(one).name for one in made] == NAMES
    assert isinstance(missed, OperationNotFoundError)


async def claim(store: PostgresStore, _url: str) -> None:
    claimed = await store.claim({METHOD: MANY + 1}, Claim(LEASE))
    assert [one.before.name for one in claimed] == NAMES
    assert {one.outcome.attempt for one in claimed} == {1}


async def claim_by_key(store: PostgresStore, _url: str) -> None:
    for number in range(MANY, MANY + 6):
        await store.create(large(number, concurrency_key="aab"[number % 3]))
    keys: list[str] = []
    after, has_more = "", True
    while has_more:
        some, after, has_more = await store.claim_by_key(METHOD, 4, 0, Claim(LEASE), after=after)
        keys += [one.before.concurrency_key for one in some]
    assert sorted(keys) == ["a"] * 4 + ["b"] * 2
    assert keys[:2] == ["a", "b"]


async def apply(store: PostgresStore, _url: str) -> None:
    announced: list[str] = []
    store.subscribe(lambda _, after: announced.append(after.name))
    outcomes = await store.apply_all([(name, Cancel()) for name in NAMES])
    assert [one.name for one in outcomes] == NAMES
    assert all(one.done for one in outcomes)
    assert announced == NAMES


async def renew(store: PostgresStore, url: str) -> None:
    async with opened(url) as other:
        await other.apply_all([(name, Claim(LEASE)) for name in NAMES])
    outcomes = await store.renew([Leased(name, 1) for name in NAMES], LEASE)
    assert [one.attempt for one in outcomes] == [1] * MANY


async def start_again(store: PostgresStore, _url: str) -> None:
    made = [large(number) for number in range(MANY)]
    again = await asyncio.gather(*map(store.create, made))
    assert [one.name for one in again] == NAMES


async def find_request(store: PostgresStore, _url: str) -> None:
    for number in range(4):
        await store.create(large(number, parent=f"projects/{number}", request_id="r"))
    assert len(await store.find_request(METHOD, "r", "")) == 4


async def follow(store: PostgresStore, url: str) -> None:
    seen: asyncio.Queue[Record | None] = asyncio.Queue()
    for name in NAMES:
        store.follow(name, seen.put_nowait)
    async with opened(url) as other:
        await other.apply_all([(name, Cancel()) for name in NAMES])
        cancelled: set[str] = set()
        while len(cancelled) < MANY:
            record = await seen.get()
            assert record is not None
            if record.done:
                cancelled.add(record.name)


async def page(store: PostgresStore, _url: str) -> None:
    position, listed = b"", 0
    while True:
        made = await store.page(
            Query(StoreConformance.PARENT), position=position, size=MANY, records=True
        )
        position, listed = made.position, listed + len(made.operations)
        if not position:
            break
    assert listed == MANY


CALLS = [read, get, claim, claim_by_key, apply, renew, start_again, find_request, follow, page]


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.__name__)
async def test_no_statement_and_no_answer_is_beyond_a_bound(
    postgres: str, measured: type[Measuring], call: Callable[[PostgresStore, str], Awaitable[None]]
) -> None:
    async with opened(postgres) as store:
        await asyncio.gather(*(store.create(large(number)) for number in range(MANY)))
    assert 2 * HALF < measured.most <= MOST_BYTES
    async with opened(postgres) as store:
        await call(store, postgres)
    assert measured.most <= MOST_BYTES


async def test_a_heartbeat_takes_no_large_value_to_the_database_or_back(
    postgres: str, measured: type[Measuring]
) -> None:
    """Of operations that this process does not remember, for want of room."""
    async with opened(postgres) as store:
        text = "r" * HALF
        made = [large(number, request_id=f"{number}{text}", target=text) for number in range(3)]
        await asyncio.gather(*map(store.create, made))
        names = [one.name for one in made]
        claimed = await store.apply_all([(name, Claim(LEASE)) for name in names])
    async with opened(postgres) as store:
        measured.sum = 0
        leased = [Leased(name, 1) for name in names]
        for _ in range(3):
            renewed = await store.renew(leased, 2 * LEASE)
        assert all(one.lease_expire_time for one in renewed)
        assert measured.sum < HALF
        (stale,) = await store.renew([Leased(names[0], 2)], LEASE)
        assert isinstance(stale, StaleAttemptError)
        # What is not read is not lost, and no later change takes it for unset.
        reported = await store.apply_all([(name, Report(1, 7)) for name in names])
        for before, after in zip(claimed, reported, strict=True):
            assert after.lease_expire_time >= before.lease_expire_time + LEASE
            assert await store.read(after.name) == after
            stable = ("request", "request_id", "target")
            assert [getattr(after, it) for it in stable] == [getattr(before, it) for it in stable]


async def test_large_texts_that_stay_are_kept_beside_those_that_change(postgres: str) -> None:
    """All are one statement, which is sent only those that change."""
    async with opened(postgres) as store:
        names = [(await store.create(new(f"op-{number}"))).name for number in range(4)]
        await store.apply_all([(name, Claim(LEASE)) for name in names])
        await store.apply_all([(name, Report(1, status_detail=name)) for name in names])
        words = ["new\0\1", None, "", None]
        await store.apply_all(
            [(name, Report(1, 9, one)) for name, one in zip(names, words, strict=True)]
        )
        stored = [await store.read(name) for name in names]
        assert [one.status_detail for one in stored] == ["new\0\1", names[1], "", names[3]]
