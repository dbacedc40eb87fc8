"""Damage to rows in Postgres: it stops nothing but the operations of these rows."""

from __future__ import annotations

import asyncio
import logging
import os
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import asyncpg
import pytest
from google.longrunning import operations_pb2
from google.protobuf import wrappers_pb2
from opened_postgres import opened

from lro.v1 import operation_metadata_pb2
from lro_grpc import (
    Code,
    OperationDamagedError,
    OperationInProgressError,
    OperationNotFoundError,
)
from lro_grpc._filtering.parser import parse
from lro_grpc._operation import publication
from lro_grpc._operation.events import Claim, Delete, Pause, Release, Report, TimePassed
from lro_grpc._operation.states import QUEUED, SUCCEEDED
from lro_grpc._runtime.clock import SystemClock
from lro_grpc._stores.copy_store import copy
from lro_grpc.engines import Handler, InProcess, Workbench
from lro_grpc.stores import Order, Query

if TYPE_CHECKING:
    from pathlib import Path

    from lro_grpc._operation.record import Record

METHOD = "/contract.v1.Contract/Run"
PARENT = "projects/p/locations/l"
LEASE = 15_000_000
BAD = f"{PARENT}/operations/op-1"
GOOD = [f"{PARENT}/operations/op-{number}" for number in (0, 2)]

DAMAGE = {
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
SHOWN = [kind for kind in DAMAGE if "operation" in kind]


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


async def three(url: str, **how: Any) -> None:
    async with opened(url) as store:
        for number in range(3):
            await store.create(new(f"op-{number}", request_id=f"r{number}", **how))


async def damage(url: str, assignment: str, *names: str) -> None:
    """Changes rows behind the back of every check."""
    parts = urlsplit(url)
    connection = await asyncpg.connect(parts._replace(query="").geturl())
    try:
        table = f"{parts.query.rpartition('schema=')[2]}.lro_operations"
        await connection.execute(f"UPDATE {table} SET {assignment} WHERE name = ANY($1)", names)
    finally:
        await connection.close()


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [one.getMessage() for one in caplog.records if one.levelno >= logging.ERROR]


@pytest.mark.parametrize("kind", DAMAGE)
async def test_a_damaged_row_is_set_aside(
    postgres: str, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    await three(postgres)
    await damage(postgres, DAMAGE[kind], BAD)
    async with opened(postgres) as store:
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


@pytest.mark.parametrize("kind", SHOWN)
async def test_a_list_leaves_it_out_and_names_it(
    postgres: str, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    await three(postgres)
    await damage(postgres, DAMAGE[kind], BAD)
    async with opened(postgres) as store:
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
    postgres: str, kind: str
) -> None:
    await three(postgres)
    await damage(postgres, DAMAGE[kind], BAD)
    async with opened(postgres) as store:
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
    async with opened(postgres) as store:
        assert await store.read(BAD) == again


async def test_a_target_that_it_has_for_itself_is_not_free_and_it_is_not_named(
    postgres: str,
) -> None:
    async with opened(postgres) as store:
        await store.create(new("op-1", exclusive=True, target="t", caller="ann"))
    await damage(postgres, "state = 99", BAD)
    async with opened(postgres) as store:
        with pytest.raises(OperationInProgressError) as raised:
            await store.create(new("op-2", exclusive=True, target="t", caller="bob"))
    assert "op-1" not in str(raised.value)
    assert "operation" not in raised.value.metadata


async def test_an_engine_runs_everything_else(postgres: str) -> None:
    """Though more damaged ones wait than there are slots, and before all others."""
    async with opened(postgres) as store:
        for number in range(5):
            await store.create(new(f"op-{number}"))
    bad = [f"{PARENT}/operations/op-{number}" for number in range(4)]
    await damage(postgres, DAMAGE["an operation that does not parse"], *bad)
    ran: asyncio.Queue[str] = asyncio.Queue()

    async def run(request: Any, op: Any) -> Any:
        await ran.put(op.name)
        return request

    text = wrappers_pb2.StringValue
    handler = Handler(
        METHOD, run, text, text, operation_metadata_pb2.OperationMetadata, "test.example", 2
    )
    async with opened(postgres) as store:
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


async def tear(url: str, *names: str) -> None:
    """Takes the first piece of a large operation away from where the server keeps it.

    What is large is in a table of its own, which nobody may change; so it is an ordinary one for
    that long.
    """
    parts = urlsplit(url)
    connection = await asyncpg.connect(parts._replace(query="").geturl())
    table = f"{parts.query.rpartition('schema=')[2]}.lro_operations"
    try:
        values = await connection.fetch(
            f"SELECT pg_column_toast_chunk_id(operation) AS value FROM {table}"
            " WHERE name = ANY($1)",
            names,
        )
        pieces = await connection.fetchval(
            "SELECT reltoastrelid::regclass::text FROM pg_class WHERE oid = $1::regclass", table
        )
        async with connection.transaction():
            await connection.execute("SET LOCAL allow_system_table_mods = on")
            kind = f"UPDATE pg_class SET relkind = '%s' WHERE oid = '{pieces}'::regclass"
            await connection.execute(kind % "r")
            await connection.execute(
                f"DELETE FROM {pieces} WHERE chunk_seq = 0 AND chunk_id = ANY($1)",
                [one["value"] for one in values],
            )
            await connection.execute(kind % "t")
        await connection.execute(f"VACUUM {pieces}")  # until then they are still read
    finally:
        await connection.close()


async def torn(url: str, *numbers: int, of: int = 3) -> list[str]:
    """Makes operations with much metadata, some of which cannot be read, and returns the others."""
    async with opened(url) as store:
        for number in range(of):
            made = new(f"op-{number}", request_id=f"r{number}")
            await store.create(grown(made))
    names = [f"{PARENT}/operations/op-{number}" for number in range(of)]
    bad = [names[number] for number in numbers]
    await tear(url, *bad)
    return [name for name in names if name not in bad]


def grown(record: Record) -> Record:
    """Returns a record whose operation is so large that its row has no room for it."""
    metadata = operation_metadata_pb2.OperationMetadata(status_detail=os.urandom(50_000).hex())
    operation = operations_pb2.Operation.FromString(record.operation)
    operation.metadata.Pack(metadata)
    return record.with_operation(operation.SerializeToString())


async def test_a_row_that_cannot_be_read_is_set_aside(
    postgres: str, caplog: pytest.LogCaptureFixture
) -> None:
    good = await torn(postgres, 1)
    async with opened(postgres) as store:
        for query in (Query(PARENT), Query(PARENT, order=Order.BY_NAME), Query("-")):
            for records in (False, True):
                page = await store.page(query, position=b"", size=10, records=records)
                shown = [operations_pb2.Operation.FromString(one).name for one in page.operations]
                assert sorted(shown) == good
                assert page.unreachable == [BAD]
        claimed = await store.claim({METHOD: 3}, Claim(LEASE))
        assert [one.before.name for one in claimed] == good
        for read in (store.read, store.operation):
            outcomes = await asyncio.gather(*map(read, [BAD, *good]), return_exceptions=True)
            assert [isinstance(one, OperationDamagedError) for one in outcomes] == [
                True,
                False,
                False,
            ]
        assert await store.find_request(METHOD, "r1", "") == []
        assert await store.claimable({METHOD: 3}) == []
    assert len([one for one in errors(caplog) if "op-1" in one]) == 1


async def test_a_row_that_cannot_be_read_can_be_deleted(postgres: str) -> None:
    await torn(postgres, 1)
    async with opened(postgres) as store:
        with pytest.raises(OperationDamagedError):
            await store.create(new("op-4", request_id="r1"))
        with pytest.raises(OperationDamagedError):
            await store.apply(BAD, Pause())
        assert (await store.apply(BAD, Delete())).deleted
        with pytest.raises(OperationNotFoundError):
            await store.read(BAD)
        again = new("op-1", request_id="r1")
        assert await store.create(again) == again
        claimed = await store.claim({METHOD: 3}, Claim(LEASE))
        assert claimed[-1].before == again


async def test_a_copy_leaves_out_a_row_that_cannot_be_read(postgres: str, tmp_path: Path) -> None:
    await torn(postgres, 1)
    steps = [step async for step in copy(postgres, f"sqlite:///{tmp_path / 'copy.db'}")]
    ((damage,),) = [step.damages for step in steps if step.damages]
    assert BAD in damage
    assert "cannot be read" in damage
    assert (steps[-1].operations, steps[-1].left_out) == (2, 1)


async def test_rows_that_expire_and_are_damaged_keep_no_others(postgres: str) -> None:
    """Though they are as many as are asked for."""
    async with opened(postgres) as store:
        for number in range(4):
            made = await store.create(new(f"op-{number}", timeout=1 + number))
            assert made.deadline_time
    bad = [f"{PARENT}/operations/op-{number}" for number in range(3)]
    await damage(postgres, "state = 99", *bad)
    async with opened(postgres) as store:
        assert sorted(await store.expired(3)) == bad
        for _ in range(2):
            outcomes = await store.apply_all([(name, TimePassed()) for name in bad])
            assert all(isinstance(one, OperationDamagedError) for one in outcomes)
            assert await store.expired(3) == [made.name]


async def test_a_row_that_was_mended_is_claimed_once_it_was_read(postgres: str) -> None:
    await three(postgres)
    await damage(postgres, "state = 99", BAD)
    async with opened(postgres) as store:
        assert [one.before.name for one in await store.claim({METHOD: 3}, Claim(LEASE))] == GOOD
        await damage(postgres, f"state = {QUEUED}", BAD)
        mended = await store.read(BAD)
        claimed = await store.claim({METHOD: 3}, Claim(LEASE))
        assert [one.before for one in claimed] == [mended]
