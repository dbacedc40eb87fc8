"""Damage to rows of the SQLite file: it stops nothing but the operations of these rows."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from google.longrunning import operations_pb2
from google.protobuf import wrappers_pb2

from lro.v1 import operation_metadata_pb2
from lro_grpc import (
    Code,
    OperationDamagedError,
    OperationInProgressError,
    OperationNotFoundError,
    UnavailableError,
)
from lro_grpc._filtering.parser import parse
from lro_grpc._operation import publication
from lro_grpc._operation.events import Claim, Delete, Pause, Release, Report, Succeed, TimePassed
from lro_grpc._operation.record import Record
from lro_grpc._operation.states import SUCCEEDED
from lro_grpc._runtime.clock import SystemClock
from lro_grpc.engines import Handler, InProcess, Workbench
from lro_grpc.stores import Query, SqliteStore
from lro_grpc.testing import ManualClock

METHOD = "/contract.v1.Contract/Run"
PARENT = "projects/p/locations/l"
LEASE = 15_000_000
BAD = f"{PARENT}/operations/op-1"
GOOD = [f"{PARENT}/operations/op-{number}" for number in (0, 2)]

DAMAGE = {
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


def new(name: str, **how: Any) -> Record:
    return publication.create(
        parent=PARENT,
        operation_id=name,
        method=METHOD,
        request=wrappers_pb2.StringValue(value=name).SerializeToString(),
        metadata_type="lro.v1.OperationMetadata",
        now=SystemClock().now(),
        **how,
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "operations.db"


@contextlib.asynccontextmanager
async def opened(path: Path) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(path, SystemClock().now)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


async def three(path: Path, **how: Any) -> None:
    async with opened(path) as store:
        for number in range(3):
            await store.create(new(f"op-{number}", request_id=f"r{number}", **how))


def damage(path: Path, assignment: str, name: str = BAD) -> None:
    """Changes a row as a disk may, behind the back of every index and of every check."""
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(f"UPDATE operations SET {assignment} WHERE name = ?", (name,))


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [one.getMessage() for one in caplog.records if one.levelno >= logging.ERROR]


@pytest.mark.parametrize("kind", DAMAGE)
async def test_a_damaged_row_is_set_aside(
    path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    await three(path)
    damage(path, DAMAGE[kind])
    async with opened(path) as store:
        with pytest.raises(OperationDamagedError, match="op-1") as raised:
            await store.read(BAD)
        assert raised.value.code is Code.DATA_LOSS
        claims = await store.apply_all([(name, Claim(LEASE)) for name in (BAD, *GOOD)])
        assert isinstance(claims[0], OperationDamagedError)
        assert [one.attempt for one in claims[1:]] == [1, 1]
        await store.apply_all([(name, Release(Report(1))) for name in GOOD])
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


@pytest.mark.parametrize("kind", [one for one in DAMAGE if "operation" in one])
async def test_a_list_leaves_it_out_and_names_it(
    path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    await three(path)
    damage(path, DAMAGE[kind])
    async with opened(path) as store:
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


@pytest.mark.parametrize("kind", DAMAGE)
async def test_it_can_be_deleted_and_its_name_and_request_are_free_then(
    path: Path, kind: str
) -> None:
    await three(path)
    damage(path, DAMAGE[kind])
    async with opened(path) as store:
        with pytest.raises(OperationDamagedError):
            await store.apply(BAD, Pause())
        announced: list[Record] = []
        store.subscribe(lambda _, after: announced.append(after))
        gone = await store.apply(BAD, Delete())
        assert (gone.name, gone.deleted, gone.done) == (BAD, True, True)
        assert announced == [gone]
        with pytest.raises(OperationNotFoundError):
            await store.read(BAD)
        again = new("op-1", request_id="r1")
        assert await store.create(again) == again
    async with opened(path) as store:
        assert await store.read(BAD) == again


async def test_a_target_that_it_has_for_itself_is_not_free_and_it_is_not_named(path: Path) -> None:
    async with opened(path) as store:
        await store.create(new("op-1", exclusive=True, target="t", caller="ann"))
    damage(path, "attempt = 'x'")
    async with opened(path) as store:
        with pytest.raises(OperationInProgressError) as raised:
            await store.create(new("op-2", exclusive=True, target="t", caller="bob"))
    assert "op-1" not in str(raised.value)
    assert "operation" not in raised.value.metadata


async def test_a_name_that_is_none_is_passed_over(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await three(path)
    damage(path, "name = x'ff00'", f"{PARENT}/operations/op-0")
    damage(path, "name = CAST(x'ff00' AS TEXT)")
    async with opened(path) as store:
        assert await store.claimable({METHOD: 1}) == [GOOD[1]]
        page = await store.page(Query(PARENT), position=b"", size=10)
        assert len(page.operations) == 1
        assert [one.name for one in await store.leased()] == []
        await store.apply(GOOD[1], Claim(LEASE))
        assert [one.name for one in await store.leased()] == [GOOD[1]]
    assert len(errors(caplog)) == 2


async def test_what_is_leased_and_damaged_keeps_nobody_from_taking_over_the_rest(
    path: Path,
) -> None:
    await three(path)
    async with opened(path) as store:
        await store.apply_all([(name, Claim(LEASE)) for name in (BAD, *GOOD)])
    damage(path, "attempt = 'x'")
    async with opened(path) as store:
        assert sorted(one.name for one in await store.leased()) == GOOD


async def test_a_damaged_row_stops_no_removal_of_others(path: Path) -> None:
    await three(path, retention=1)
    async with opened(path) as store:
        for name in (BAD, *GOOD):
            await store.apply(name, Claim(LEASE))
            response = operations_pb2.Operation()
            response.response.Pack(wrappers_pb2.StringValue())
            await store.apply(name, Succeed(Report(1), response.response.SerializeToString()))
    damage(path, "operation = x'ff'")
    async with opened(path) as store:
        due = await store.expired(10)
        await store.apply_all([(name, TimePassed()) for name in due])
        for name in GOOD:
            with pytest.raises(OperationNotFoundError):
                await store.read(name)


async def test_a_row_that_no_index_has_is_set_aside_and_stops_no_other_commit(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """An update of it would find no entry to remove, so that SQLite takes the file for damaged."""
    await three(path)
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA writable_schema = ON")
        where = "type = 'index' AND name = 'operations_ready'"
        (sql,) = connection.execute(f"SELECT sql FROM sqlite_schema WHERE {where}").fetchone()
        hidden = sql.replace("lease_expire_time = 0", "lease_expire_time = 0 AND name <> ''")
        connection.execute(f"UPDATE sqlite_schema SET sql = ? WHERE {where}", (hidden,))
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA writable_schema = ON")
        one = sql.replace("lease_expire_time = 0", f"lease_expire_time = 0 AND name <> '{BAD}'")
        connection.execute(f"UPDATE sqlite_schema SET sql = ? WHERE {where}", (one,))
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("REINDEX operations_ready")
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute(f"UPDATE sqlite_schema SET sql = ? WHERE {where}", (sql,))
    async with opened(path) as store:
        claims, created = await asyncio.gather(
            store.apply_all([(name, Claim(LEASE)) for name in (BAD, *GOOD)]),
            store.create(new("op-3")),
        )
        assert isinstance(claims[0], OperationDamagedError)
        assert [one.attempt for one in claims[1:]] == [1, 1]
        assert (await store.read(BAD)).attempt == 0
        assert (await store.read(created.name)) == created
    assert len([one for one in errors(caplog) if "op-1" in one]) == 1


async def test_a_page_of_an_index_that_is_damaged_fails_only_what_is_to_be_written_there(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Whether it is alone in its commit or not: SQLite finds that out when it writes."""
    await three(path)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        query = "SELECT rootpage FROM sqlite_schema WHERE name = 'operations_listed'"
        ((page,), (size,)) = *connection.execute(query), *connection.execute("PRAGMA page_size")
    with path.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xff" * size)
    async with opened(path) as store:
        for number in (3, 4):
            claims, created = await asyncio.gather(
                store.apply_all([(GOOD[number - 3], Claim(LEASE))]),
                store.create(new(f"op-{number}")),
                return_exceptions=True,
            )
            assert isinstance(created, UnavailableError)
            assert isinstance(claims, list)
            assert [one.attempt for one in claims] == [1]
            with pytest.raises(UnavailableError, match="its file is damaged"):
                await store.create(new(f"op-{number}"))
        assert sorted(one.name for one in await store.leased()) == GOOD
    assert errors(caplog) != []


@pytest.mark.parametrize("kind", DAMAGE)
async def test_an_engine_runs_everything_else(path: Path, kind: str) -> None:
    """Though more damaged ones wait than there are slots, and before all others."""
    async with opened(path) as store:
        for number in range(5):
            await store.create(new(f"op-{number}"))
    for number in range(4):
        damage(path, DAMAGE[kind], f"{PARENT}/operations/op-{number}")
    ran: asyncio.Queue[str] = asyncio.Queue()

    async def run(request: Any, op: Any) -> Any:
        await ran.put(op.name)
        return request

    text = wrappers_pb2.StringValue
    handler = Handler(
        METHOD, run, text, text, operation_metadata_pb2.OperationMetadata, "test.example", 2
    )
    async with opened(path) as store:
        clock = ManualClock()
        seconds = timedelta(seconds=5)
        engine = InProcess(Workbench(store, {METHOD: handler}, clock, lease=seconds, sweep=seconds))
        await engine.start()
        try:
            started = await store.create(new("op-new"))
            found = {await asyncio.wait_for(ran.get(), 10) for _ in range(2)}
            assert found == {f"{PARENT}/operations/op-4", started.name}
        finally:
            await engine.stop(seconds)


async def test_a_listener_that_raises_keeps_no_other_from_the_change(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(path) as store:
        heard: list[str] = []

        def bad(before: Record | None, after: Record) -> None:
            raise ValueError("a bug")

        store.subscribe(bad)
        store.subscribe(lambda _, after: heard.append(after.name))
        made = await store.create(new("op-0"))
        assert heard == [made.name]
    assert "a listener has raised" in caplog.text
