"""Damage to rows, in a SQLite file and in Postgres: it stops nothing but their operations."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from damaged_store import (
    BAD,
    GOOD,
    LEASE,
    METHOD,
    PARENT,
    damage,
    damage_attempts,
    errors,
    new,
    opened,
    three,
)
from google.longrunning import operations_pb2
from google.protobuf import wrappers_pb2

from lro.v1 import operation_metadata_pb2
from lro_grpc import (
    Code,
    OperationDamagedError,
    OperationInProgressError,
    OperationNotFoundError,
)
from lro_grpc._filtering.parser import parse
from lro_grpc._operation.attempts import AttemptRecord
from lro_grpc._operation.events import Claim, Delete, Pause, Release, Report
from lro_grpc._operation.states import SUCCEEDED
from lro_grpc._runtime.clock import SystemClock
from lro_grpc.engines import Handler, InProcess, Workbench
from lro_grpc.stores import Query

if TYPE_CHECKING:
    from pathlib import Path

    from lro_grpc.stores import Record

SQLITE = {
    "a number that is a text": "state = 'x'",
    "a number that is no whole one": "attempt = 1.5",
    "a text that is bytes": "target = x'00ff'",
    "a text that is no Unicode": "status_detail = CAST(x'ff61' AS TEXT)",
    "bytes that are a text": "handler_metadata = 'text'",
    "an operation that is a text": "operation = 'text'",
    "an operation that does not parse": "operation = x'ffff'",
    "an operation that is empty": "operation = x''",
    "an operation cut short": "operation = substr(operation, 1, length(operation) - 3)",
    "a batch that does not parse": "batch = x'0a'",
    "a batch error that does not parse": "batch_error = x'ff'",
    "metadata that do not parse": "handler_metadata = x'ffffff'",
    "a state that there is not": "state = 99",
    "done without an end": f"state = {SUCCEEDED}",
    "an end without being done": "end_time = 1",
    "a time beyond all times": "create_time = 9223372036854775807",
    "a negative time": "update_time = -1",
    "a number that no client could read": "attempt = 9223372036854775807",
    "a percentage that none could read": "progress_percent = 99999999999",
    "another parent": "parent = parent || '/x'",
}

POSTGRES = {
    "an operation that does not parse": r"operation = '\xffff'",
    "an operation that is empty": "operation = ''",
    "an operation cut short": "operation = substr(operation, 1, octet_length(operation) - 3)",
    "a batch that does not parse": r"batch = '\x0a'",
    "metadata that do not parse": r"handler_metadata = '\xffffff'",
    "a state that there is not": "state = 99",
    "done without an end": f"state = {SUCCEEDED}",
    "a time beyond all times": "create_time = 9223372036854775807",
    "a number that no client could read": "attempt = 9223372036854775807",
    "another parent": "parent = parent || '/x'",
}

ATTEMPTS = {
    "file": (
        *("number = 'x'", "worker = x'00ff'", "worker = CAST(x'ff61' AS TEXT)", "start_time = -1"),
        *("end_time = 9223372036854775807", "outcome = 1.5", "error = x'08'", "error = 'text'"),
    ),
    "postgres": (
        *("start_time = -1", "end_time = 9223372036854775807", "outcome = 9223372036854775807"),
        r"error = '\x08'",
    ),
}

DAMAGE = [("file", kind) for kind in SQLITE] + [("postgres", kind) for kind in POSTGRES]
SHOWN = [one for one in DAMAGE if "operation" in one[1]]


@pytest.fixture
def file(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'operations.db'}"


@pytest.fixture
def url(store: str, request: pytest.FixtureRequest) -> str:
    """The URL of an empty store of the kind that the test is given."""
    found: str = request.getfixturevalue(store)
    return found


async def damage_by(url: str, kind: str, *names: str) -> None:
    kinds = SQLITE if url.startswith("sqlite") else POSTGRES
    await damage(url, kinds[kind], *names)


@pytest.mark.parametrize(("store", "kind"), DAMAGE)
async def test_a_damaged_row_is_set_aside(
    url: str, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    await three(url)
    await damage_by(url, kind, BAD)
    async with opened(url) as store:
        with pytest.raises(OperationDamagedError, match="op-1") as raised:
            await store.read(BAD)
        assert raised.value.code is Code.DATA_LOSS
        claims = await store.apply_all([(name, Claim(LEASE)) for name in (BAD, *GOOD)])
        assert isinstance(claims[0], OperationDamagedError)
        assert [one.attempt for one in claims[1:]] == [1, 1]
        await store.apply_all([(name, Release(Report(1))) for name in GOOD])
        claimed = await store.claim({METHOD: 2}, Claim(LEASE))
        assert [one.before.name for one in claimed] == GOOD
        for name in GOOD:
            await store.apply(name, Delete())
        created = await store.create(new("op-3"))
        for query in (Query(PARENT, parse("create_time:*")), Query("projects/-/locations/-")):
            page = await store.page(query, position=b"", size=10)
            shown = [operations_pb2.Operation.FromString(one).name for one in page.operations]
            assert shown[0] == created.name
            assert not set(shown) & set(GOOD)
        assert await store.find_request(METHOD, "r1", "") == []
    assert len([one for one in errors(caplog) if "op-1" in one]) == 1


@pytest.mark.parametrize("store", ATTEMPTS)
async def test_of_an_attempt_whose_row_is_damaged_only_its_number_is_told(
    url: str, store: str
) -> None:
    names: list[str] = []
    async with opened(url) as one:
        for number in range(len(ATTEMPTS[store])):
            names.append((await one.create(new(f"op-{number}"))).name)
            await one.apply(names[-1], Claim(LEASE, worker="first"))
            await one.apply(names[-1], Release(Report(1)))
            await one.apply(names[-1], Claim(LEASE, worker="second"))
    for name, damaging in zip(names, ATTEMPTS[store], strict=True):
        await damage_attempts(url, damaging, name)
    async with opened(url) as one:
        for name in names:
            record, (first, second) = await one.read_attempts(name)
            assert first == AttemptRecord(1)
            assert (second.number, second.worker) == (2, "second")
            assert await one.read(name) == record


@pytest.mark.parametrize(("store", "kind"), SHOWN)
async def test_a_list_leaves_it_out_and_names_it(
    url: str, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    await three(url)
    await damage_by(url, kind, BAD)
    async with opened(url) as store:
        for size in (1, 2, 10):
            shown: list[str] = []
            unreachable: list[str] = []
            position = b""
            while True:
                page = await store.page(Query(PARENT), position=position, size=size)
                shown += [operations_pb2.Operation.FromString(one).name for one in page.operations]
                unreachable += page.unreachable
                position = page.position
                if not position:
                    break
            assert shown == GOOD[::-1]
            assert unreachable == [BAD]
        with pytest.raises(OperationDamagedError):
            await store.operation(BAD)
        assert await store.operation(GOOD[0])
    assert len(errors(caplog)) == 1


@pytest.mark.parametrize(("store", "kind"), DAMAGE)
async def test_it_can_be_deleted_and_its_name_and_request_are_free_then(
    url: str, kind: str
) -> None:
    await three(url)
    await damage_by(url, kind, BAD)
    async with opened(url) as store:
        with pytest.raises(OperationDamagedError):
            await store.apply(BAD, Pause())
        if "parent" not in kind:  # with another one, the request is another one
            with pytest.raises(OperationDamagedError):
                await store.create(new("op-4", request_id="r1"))
        announced: list[Record] = []
        store.subscribe(lambda _, after: announced.append(after))
        gone = await store.apply(BAD, Delete())
        assert (gone.name, gone.deleted, gone.done) == (BAD, True, True)
        assert announced == [gone]
        with pytest.raises(OperationNotFoundError):
            await store.read(BAD)
        again = new("op-1", request_id="r1")
        assert await store.create(again) == again
    async with opened(url) as store:
        assert await store.read(BAD) == again


@pytest.mark.parametrize("store", ["file", "postgres"])
async def test_a_target_that_it_has_for_itself_is_not_free_and_it_is_not_named(
    url: str,
) -> None:
    async with opened(url) as store:
        await store.create(new("op-1", exclusive=True, target="t", caller="ann"))
    await damage(url, "state = 99", BAD)
    async with opened(url) as store:
        with pytest.raises(OperationInProgressError) as raised:
            await store.create(new("op-2", exclusive=True, target="t", caller="bob"))
    assert "op-1" not in str(raised.value)
    assert "operation" not in raised.value.metadata


@pytest.mark.parametrize(("store", "kind"), DAMAGE)
async def test_an_engine_runs_everything_else(url: str, kind: str) -> None:
    """Though more damaged ones wait than there are slots, and before all others."""
    async with opened(url) as store:
        for number in range(5):
            await store.create(new(f"op-{number}"))
    bad = [f"{PARENT}/operations/op-{number}" for number in range(4)]
    await damage_by(url, kind, *bad)
    ran: asyncio.Queue[str] = asyncio.Queue()

    async def run(request: Any, op: Any) -> Any:
        await ran.put(op.name)
        return request

    text = wrappers_pb2.StringValue
    handler = Handler(
        METHOD, run, text, text, operation_metadata_pb2.OperationMetadata, "test.example", 2
    )
    async with opened(url) as store:
        seconds = timedelta(seconds=5)
        engine = InProcess(
            Workbench(store, {METHOD: handler}, SystemClock(), lease=seconds, sweep=seconds)
        )
        await engine.start()
        try:
            started = await store.create(new("op-new"))
            found = {await asyncio.wait_for(ran.get(), 30) for _ in range(2)}
            assert found == {f"{PARENT}/operations/op-4", started.name}
        finally:
            await engine.stop(seconds)


@pytest.mark.parametrize("store", ["file", "postgres"])
async def test_more_than_are_set_aside_keep_no_other_from_being_claimed(
    url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A few of them are named in the log, which is not filled with the others."""
    monkeypatch.setattr("lro_grpc._stores.damage.MOST_SET_ASIDE", 2)
    bad = [f"{PARENT}/operations/op-{number}" for number in range(6)]
    async with opened(url) as store:
        for number in range(7):
            last = await store.create(new(f"op-{number}"))
    await damage(url, "state = 99", *bad)
    async with opened(url) as store:
        for _ in range(2):
            for name in bad:
                with pytest.raises(OperationDamagedError):
                    await store.read(name)
        claimed = await store.claim({METHOD: 1}, Claim(LEASE))
        assert [one.before.name for one in claimed] == [last.name]
        assert await store.claim({METHOD: 1}, Claim(LEASE)) == []
        assert [one.name for one in await store.leased()] == [last.name]
        logged = errors(caplog)
        assert len(logged) == 4
        assert "more than 2 rows are damaged" in logged[-1]
