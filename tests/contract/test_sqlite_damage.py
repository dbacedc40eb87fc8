"""Damage that only a SQLite file can have; see ``test_damage`` for both stores."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from pathlib import Path

import pytest
from damaged_store import (
    BAD,
    GOOD,
    LEASE,
    METHOD,
    PARENT,
    damage,
    errors,
    new,
    opened,
    path_of,
    three,
)
from google.longrunning import operations_pb2
from google.protobuf import wrappers_pb2

from lro_grpc import (
    OperationDamagedError,
    OperationNotFoundError,
    UnavailableError,
)
from lro_grpc._operation.events import Cancel, Claim, Release, Report, Succeed, TimePassed
from lro_grpc._operation.record import Record
from lro_grpc._stores.sqlite.upkeep import check
from lro_grpc.conformance import StoreConformance
from lro_grpc.stores import Query


@pytest.fixture
def file(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'operations.db'}"


async def test_a_name_that_is_none_is_passed_over(
    file: str, caplog: pytest.LogCaptureFixture
) -> None:
    await three(file)
    await damage(file, "name = x'ff00'", f"{PARENT}/operations/op-0")
    await damage(file, "name = CAST(x'ff00' AS TEXT)", BAD)
    async with opened(file) as store:
        assert await store.claimable({METHOD: 1}) == [GOOD[1]]
        page = await store.page(Query(PARENT), position=b"", size=10)
        assert len(page.operations) == 1
        assert [one.name for one in await store.leased()] == []
        await store.apply(GOOD[1], Claim(LEASE))
        assert [one.name for one in await store.leased()] == [GOOD[1]]
    assert len(errors(caplog)) == 2


async def test_a_key_that_is_none_is_passed_over(
    file: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(file) as store:
        record = StoreConformance().record
        for number, key in enumerate("abcd"):
            await store.create(record(f"op-{number}", concurrency_key=key))
    for number, value in ((0, "x'ff00'"), (1, "CAST(x'ff00' AS TEXT)"), (2, "'b' || char(7)")):
        await damage(file, f"concurrency_key = {value}", f"{PARENT}/operations/op-{number}")
    async with opened(file) as store:
        for after in ("", "d", "e"):
            claims = await store.claim_by_key(METHOD, 9, 1, Claim(LEASE), after=after)
            assert [one.before.name for one in claims.claimed] == [f"{PARENT}/operations/op-3"]
            await store.apply_all(
                [
                    (one.before.name, Release(Report(one.before.attempt + 1)))
                    for one in claims.claimed
                ]
            )
        page = await store.page(Query(PARENT), position=b"", size=10)
        assert len(page.operations) == 4


async def test_what_is_leased_and_damaged_keeps_nobody_from_taking_over_the_rest(
    file: str,
) -> None:
    await three(file)
    async with opened(file) as store:
        await store.apply_all([(name, Claim(LEASE)) for name in (BAD, *GOOD)])
    await damage(file, "attempt = 'x'", BAD)
    async with opened(file) as store:
        assert sorted(one.name for one in await store.leased()) == GOOD


@pytest.mark.parametrize("damaged", ["attempt_count = 'x'", "event = 1"])
async def test_a_damaged_completion_is_named_once_and_holds_up_no_other(
    file: str, caplog: pytest.LogCaptureFixture, damaged: str
) -> None:
    """Nobody is told of its operation; whoever looks is told of that."""
    await three(file, notify=True)
    async with opened(file) as store:
        await store.apply_all([(name, Cancel()) for name in (BAD, *GOOD)])
    with contextlib.closing(sqlite3.connect(path_of(file))) as connection, connection:
        connection.execute(f"UPDATE outbox SET {damaged} WHERE name = ?", (BAD,))
    async with opened(file) as store:
        taken = await store.take_completions(9, LEASE)
        assert sorted(one.name for one in taken) == GOOD
        await store.settle_completions([(one, one._replace(next_time=0)) for one in taken])
        assert len(await store.take_completions(9, LEASE)) == 2
        await store.read(BAD)
    (said,) = errors(caplog)
    assert said.startswith(f"the completion of {BAD!r} is damaged")
    assert list(check(Path(path_of(file)))) == [
        f"operation {BAD!r}: the row of its completion is none"
    ]


async def test_a_damaged_row_stops_no_removal_of_others(file: str) -> None:
    await three(file, retention=1)
    async with opened(file) as store:
        for name in (BAD, *GOOD):
            await store.apply(name, Claim(LEASE))
            response = operations_pb2.Operation()
            response.response.Pack(wrappers_pb2.StringValue())
            await store.apply(name, Succeed(Report(1), response.response.SerializeToString()))
    await damage(file, "operation = x'ff'", BAD)
    async with opened(file) as store:
        due = await store.expired(10)
        await store.apply_all([(name, TimePassed()) for name in due])
        for name in GOOD:
            with pytest.raises(OperationNotFoundError):
                await store.read(name)


async def test_a_row_that_no_index_has_is_set_aside_and_stops_no_other_commit(
    file: str, caplog: pytest.LogCaptureFixture
) -> None:
    """An update of it would find no entry to remove, so that SQLite takes the file for damaged."""
    await three(file)
    with contextlib.closing(sqlite3.connect(path_of(file))) as connection, connection:
        connection.execute("PRAGMA writable_schema = ON")
        where = "type = 'index' AND name = 'operations_ready'"
        (sql,) = connection.execute(f"SELECT sql FROM sqlite_schema WHERE {where}").fetchone()
        hidden = sql.replace("lease_expire_time = 0", "lease_expire_time = 0 AND name <> ''")
        connection.execute(f"UPDATE sqlite_schema SET sql = ? WHERE {where}", (hidden,))
    with contextlib.closing(sqlite3.connect(path_of(file))) as connection, connection:
        connection.execute("PRAGMA writable_schema = ON")
        one = sql.replace("lease_expire_time = 0", f"lease_expire_time = 0 AND name <> '{BAD}'")
        connection.execute(f"UPDATE sqlite_schema SET sql = ? WHERE {where}", (one,))
    with contextlib.closing(sqlite3.connect(path_of(file))) as connection, connection:
        connection.execute("REINDEX operations_ready")
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute(f"UPDATE sqlite_schema SET sql = ? WHERE {where}", (sql,))
    async with opened(file) as store:
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
    file: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Whether it is alone in its commit or not: SQLite finds that out when it writes."""
    await three(file)
    with contextlib.closing(sqlite3.connect(path_of(file))) as connection:
        query = "SELECT rootpage FROM sqlite_schema WHERE name = 'operations_listed'"
        ((page,), (size,)) = *connection.execute(query), *connection.execute("PRAGMA page_size")
    raw = bytearray(Path(path_of(file)).read_bytes())
    raw[(page - 1) * size : page * size] = b"\xff" * size
    Path(path_of(file)).write_bytes(raw)
    async with opened(file) as store:
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


async def test_a_listener_that_raises_keeps_no_other_from_the_change(
    file: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(file) as store:
        heard: list[str] = []

        def bad(before: Record | None, after: Record) -> None:
            raise ValueError("a bug")

        store.subscribe(bad)
        store.subscribe(lambda _, after: heard.append(after.name))
        made = await store.create(new("op-0"))
        assert heard == [made.name]
    assert "a listener has raised" in caplog.text
