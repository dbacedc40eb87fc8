"""A copy of a store: all that one has is in the other, and goes on there."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
import sqlite3
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import asyncpg
import pytest
from google.protobuf import empty_pb2
from google.rpc import status_pb2
from postgres_server import new_schema, with_options
from transaction_pooler import TransactionPooler

from lro.v1 import batch_create_instances_pb2, operation_metadata_pb2
from lro_grpc import ConfigurationError, OperationInProgressError
from lro_grpc._filtering.parser import parse
from lro_grpc._operation.events import (
    Cancel,
    Claim,
    Delete,
    Fail,
    Pause,
    Release,
    Report,
    RetryLater,
    SaveBatch,
    Succeed,
)
from lro_grpc._runtime.clock import SystemClock
from lro_grpc._stores import transfer
from lro_grpc._stores.copy_store import copy
from lro_grpc._stores.postgres import transfer as postgres_transfer
from lro_grpc.conformance import StoreConformance
from lro_grpc.engines import Handler, InProcess, Workbench
from lro_grpc.stores import Query, open_url

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from lro_grpc._stores.copy_store import CopyProgress
    from lro_grpc.stores import Completion, Now, Record, Store

LEASE = 15_000_000
EVERY = Query("-")
made = StoreConformance()


@pytest.fixture(autouse=True)
def brief_silence(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers are listened for no longer than it takes, where there are none."""
    if "server" not in request.node.name and "open" not in request.node.name:
        monkeypatch.setattr(postgres_transfer, "_LISTENING_SECONDS", 0.05)


@pytest.fixture
def file(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'one.db'}"


@pytest.fixture
def other_file(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'other.db'}"


@pytest.fixture
def other_postgres(postgres_server: str) -> Iterator[str]:
    with new_schema(postgres_server) as url:
        yield url


WAYS = [
    ("file", "postgres"),
    ("file", "other_file"),
    ("postgres", "file"),
    ("postgres", "other_postgres"),
]


@pytest.fixture(params=WAYS, ids=" to ".join)
def way(request: pytest.FixtureRequest) -> tuple[str, str]:
    """The URLs of two stores that nobody has open."""
    one, other = request.param
    return request.getfixturevalue(one), request.getfixturevalue(other)


@pytest.fixture(params=["file", "postgres"])
def source(request: pytest.FixtureRequest) -> str:
    url: str = request.getfixturevalue(request.param)
    return url


@contextlib.asynccontextmanager
async def opened(url: str, now: Now = lambda: made.START) -> AsyncIterator[Store]:
    store = open_url(url, now)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


async def copied(source: str, destination: str) -> tuple[CopyProgress, list[str]]:
    """Makes a copy, and returns its last step, and what is said of it."""
    steps = [step async for step in copy(source, destination)]
    damages = [damage for step in steps for damage in step.damages]
    last = steps[-1]
    assert (last.rows, last.left_out) == (last.operations + last.left_out, len(damages))
    return last, damages


async def execute(url: str, *statements: str) -> list[tuple[Any, ...]]:
    """Carries statements out behind the back of a store; ``{table}`` is that of operations.

    And ``{attempts}`` is that of superseded attempts.
    """
    if url.startswith("sqlite"):
        with contextlib.closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as file, file:
            tables = {"table": "operations", "attempts": "attempts"}
            rows = [file.execute(one.format(**tables)).fetchall() for one in statements]
            return rows[-1]
    parts = urlsplit(url)
    schema = parts.query.rpartition("schema=")[2]
    tables = {"table": f"{schema}.lro_operations", "attempts": f"{schema}.lro_attempts"}
    connection = await asyncpg.connect(parts._replace(query="").geturl())
    try:
        for one in statements:
            found = await connection.fetch(one.format(**tables))
        return [tuple(row) for row in found]
    finally:
        await connection.close()


Target = batch_create_instances_pb2.BatchCreateInstanceStatus
BATCH = batch_create_instances_pb2.BatchCreateInstancesMetadata(
    instance_targets=["things/a"],
    instance_statuses={"things/a": Target(state=Target.CREATING)},
).SerializeToString()
REPORT = Report(1, progress_percent=40, status_detail="a\0b\1")
LIVES: dict[str, list[Any]] = {
    "queued": [],
    "running": [Claim(LEASE), REPORT],
    "batch": [Claim(LEASE), SaveBatch(REPORT, BATCH, b"")],
    "cancelling": [Claim(LEASE), Cancel()],
    "later": [Claim(LEASE), RetryLater(REPORT, b"", 60_000_000)],
    "again": [
        Claim(LEASE, worker="one"),
        RetryLater(REPORT, b"\x08\x05", 0),
        Claim(LEASE, worker="two"),
        Release(Report(2)),
        Claim(LEASE, worker="three"),
    ],
    "paused": [Pause()],
    "succeeded": [Claim(LEASE), Succeed(REPORT, b"")],
    "failed": [Claim(LEASE), Fail(REPORT, b"\x08\x05")],
    "deleted": [Claim(LEASE), Delete()],
    "exclusive": [Claim(LEASE)],
    "removed": [Cancel(), Delete()],
}
VALUES: dict[str, Any] = {
    "exclusive": {"target": "things/t", "exclusive": True},
    "succeeded": {"labels": ",env=prod,team=maps,"},
    "failed": {"labels": ",env=prod,"},
    "paused": {"pausable": True},
}


def new(life: str) -> Record:
    values = VALUES.get(life, {})
    return made.record(life, request_id=f"of {life}", caller="c\0", **values)


async def fill(url: str) -> dict[str, Record]:
    """Gives operations all the lives there are, and returns the records that are left."""
    records: dict[str, Record] = {}
    async with opened(url) as store:
        for life, events in LIVES.items():
            record = await store.create(new(life))
            for event in events:
                record = await store.apply(record.name, event)
            records[life] = record
    del records["removed"]
    return records


async def test_all_of_a_store_is_in_its_copy(way: tuple[str, str]) -> None:
    source, destination = way
    records = await fill(source)
    async with opened(source) as store:
        history = await store.read_attempts(records["again"].name)
    done, damages = await copied(source, destination)
    assert (done.operations, done.left_out, damages) == (len(records), 0, [])
    async with opened(destination) as store:
        assert await store.read_attempts(records["again"].name) == history
        assert [one.worker for one in history[1]] == ["one", "two", "three"]
        for life, record in records.items():
            if not record.deleted:
                assert await store.read(record.name) == record
                assert await store.create(new(life)) == record
        with pytest.raises(OperationInProgressError, match="was deleted, and still runs"):
            await store.create(new("deleted"))
        with pytest.raises(OperationInProgressError, match="exclusive"):
            await store.create(
                made.record("rival", target="things/t", exclusive=True, caller="c\0")
            )
        for text, found in (
            ("env = prod", ["failed", "succeeded"]),
            ("team = maps", ["succeeded"]),
        ):
            query = Query("-", parse(f"labels.{text}"))
            page = await store.page(query, position=b"", size=9, records=True)
            assert [one.name.rpartition("/")[2] for one in page.records] == found
        held = {one.name for one in await store.leased()}
        assert held == {one.name for one in records.values() if one.lease_expire_time}
        assert await store.claimable({made.METHOD: 9}) == [records["queued"].name]


async def test_what_was_not_told_yet_is_in_a_copy(
    way: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its operation, and without; large ones in portions."""
    source, destination = way
    monkeypatch.setattr(transfer, "MOST_RECORDS", 2)
    now = SystemClock().now
    async with opened(source, now) as store:
        for number in range(7):
            record = await store.create(made.record(f"op-{number}", notify=True, now=1))
            large = Report(1, status_detail="x" * (number * 1024 * 1024))
            await store.apply_all([(record.name, Claim(LEASE)), (record.name, Fail(large, b""))])
        await store.apply(record.name, Delete())
        (first,) = await store.take_completions(1, LEASE)
        await store.settle_completions([(first, first._replace(next_time=0))])
    done, damages = await copied(source, destination)
    assert (done.operations, damages) == (6, [])
    left = []
    for url in (source, destination):
        async with opened(url, now) as store:
            found: list[Completion] = []
            while some := await store.take_completions(9, LEASE):
                found += [one._replace(next_time=0) for one in some]
            left.append(sorted(found))
    assert left[0] == left[1]
    assert [one.attempt_count for one in left[1]] == [1 + (one.key == first.key) for one in left[1]]
    assert len(left[1]) == 7


async def test_page_tokens_stay_valid(way: tuple[str, str]) -> None:
    source, destination = way
    await fill(source)
    async with opened(source) as store:
        secret = store.signing_secret
        first = await store.page(EVERY, position=b"", size=4)
        rest = await store.page(EVERY, position=first.position, size=100)
    await copied(source, destination)
    async with opened(destination) as store:
        assert store.signing_secret == secret
        assert await store.page(EVERY, position=first.position, size=100) == rest
        newest = await store.create(made.record("newest"))
        (shown,) = (await store.page(EVERY, position=b"", size=1, records=True)).records
        assert shown == newest
    last = "SELECT max(sequence) FROM {table}"
    assert (await execute(destination, last))[0][0] > (await execute(source, last))[0][0] + 1


async def test_an_engine_takes_over_what_ran(way: tuple[str, str]) -> None:
    """A moment ago an attempt held it, and the process of that is gone."""
    source, destination = way
    now = SystemClock().now
    async with opened(source, now) as store:
        ran = await store.create(made.record("ran", request=b"", now=now()))
        await store.apply(ran.name, Claim(1_000_000))
    await copied(source, destination)
    attempts: asyncio.Queue[tuple[str, int]] = asyncio.Queue()

    async def run(request: Any, op: Any) -> Any:
        await attempts.put((op.name, op.attempt))
        return request

    types = (empty_pb2.Empty, empty_pb2.Empty, operation_metadata_pb2.OperationMetadata)
    handler = Handler(made.METHOD, run, *types, "test.example", 2)
    second = timedelta(seconds=1)
    async with opened(destination, now) as store:
        workbench = Workbench(
            store, {made.METHOD: handler}, SystemClock(), lease=5 * second, sweep=second
        )
        engine = InProcess(workbench)
        await engine.start()
        try:
            assert await asyncio.wait_for(attempts.get(), 60) == (ran.name, 2)
        finally:
            await engine.stop(second)


async def test_an_empty_store_has_a_copy(way: tuple[str, str]) -> None:
    source, destination = way
    async with opened(source) as store:
        secret = store.signing_secret
    done, _ = await copied(source, destination)
    assert done.operations == 0
    async with opened(destination) as store:
        assert store.signing_secret == secret


async def test_many_operations_come_in_their_order(way: tuple[str, str]) -> None:
    source, destination = way
    async with opened(source) as store:
        for number in range(250):
            await store.create(made.record(f"op-{number}", request=bytes(100 * number)))
        all_of_it = await store.page(EVERY, position=b"", size=1000, records=True)
    done, _ = await copied(source, destination)
    assert done.operations == 250
    async with opened(destination) as store:
        assert await store.page(EVERY, position=b"", size=1000, records=True) == all_of_it


async def test_large_operations_come_a_few_at_a_time(way: tuple[str, str]) -> None:
    source, destination = way
    async with opened(source) as store:
        for number in range(9):
            await store.create(made.record(f"op-{number}", request=bytes(3_000_000)))
    _, *steps = [step.operations async for step in copy(source, destination)]
    assert steps[-1] == 9
    added = [after - before for before, after in itertools.pairwise([0, *steps])]
    assert max(added) <= transfer.MOST_BYTES // 3_000_000 + 1


LONG_ERROR = status_pb2.Status(code=13, message="x" * 4000).SerializeToString().hex()
HISTORY = (
    "INSERT INTO {attempts} SELECT sequence, number, 'w', 1, 2, 3, LITERAL FROM {table},"
    " (WITH RECURSIVE n (number) AS (SELECT 1 UNION ALL SELECT number + 1 FROM n WHERE number < 49)"
    " SELECT number FROM n) AS numbers"
)
"""Gives each operation all the attempts that are kept, each with a long error."""


async def test_operations_with_a_long_history_come_a_few_at_a_time(way: tuple[str, str]) -> None:
    source, destination = way
    async with opened(source) as store:
        for number in range(60):
            await store.create(made.record(f"op-{number}"))
    is_file = source.startswith("sqlite")
    literal = f"x'{LONG_ERROR}'" if is_file else f"'\\x{LONG_ERROR}'::bytea"
    await execute(source, HISTORY.replace("LITERAL", literal))
    _, *steps = [step.operations async for step in copy(source, destination)]
    assert steps[-1] == 60
    added = [after - before for before, after in itertools.pairwise([0, *steps])]
    assert max(added) <= transfer.MOST_BYTES // (49 * 4000) + 1
    of_all = "SELECT * FROM {attempts} ORDER BY operation, number"
    assert await execute(destination, of_all) == (history := await execute(source, of_all))
    assert len(history) == 60 * 49


DAMAGE = "UPDATE {table} SET state = 99 WHERE name LIKE '%/running'"


async def test_damaged_operations_are_named_and_left_out(way: tuple[str, str]) -> None:
    source, destination = way
    records = await fill(source)
    await execute(source, DAMAGE)
    done, damages = await copied(source, destination)
    assert (done.operations, done.left_out) == (len(records) - 1, 1)
    assert damages == [f"operation {records['running'].name!r}: its state is 99"]


async def test_damaged_attempts_are_counted_and_left_out(way: tuple[str, str]) -> None:
    source, destination = way
    records = await fill(source)
    await execute(source, "UPDATE {attempts} SET outcome = -1")
    steps = [step async for step in copy(source, destination)]
    again = records["again"].name
    assert (steps[-1].operations, steps[-1].left_out) == (len(records), 0)
    assert steps[-1].attempts_left_out == 2
    assert [lost for step in steps for lost in step.lost] == [
        f"operation {again!r}: the row of its attempt {number} is none" for number in (1, 2)
    ]
    ((left,),) = await execute(destination, "SELECT count(*) FROM {attempts}")
    assert left == 0


async def test_two_with_one_request_are_not_both_copied(file: str, postgres: str) -> None:
    """As they are in a file whose index is damaged."""
    records = await fill(file)
    await execute(
        file,
        "DROP INDEX operations_requests",
        "UPDATE {table} SET request_id = 'of queued' WHERE name LIKE '%/paused'",
    )
    done, damages = await copied(file, postgres)
    assert done.operations == len(records) - 1
    assert damages == [f"operation {records['paused'].name!r}: another has what is its own alone"]


def break_chain(path: Path, filling: bytes) -> None:
    """Damages a page in the middle of a long value: its first bytes have the next one's number."""
    content = path.read_bytes()
    page = content.index(filling * 4092) // 4096
    with path.open("r+b") as file:
        file.seek(page * 4096)
        file.write(b"\xff\xff\xff\xff")


async def test_a_row_that_sqlite_cannot_read_is_left_out(file: str, postgres: str) -> None:
    async with opened(file) as store:
        for number in range(3):
            await store.create(made.record(f"op-{number}", request=bytes([65 + number]) * 100_000))
    break_chain(Path(file.removeprefix("sqlite:///")), b"B")
    done, (damage,) = await copied(file, postgres)
    assert (done.operations, done.left_out) == (2, 1)
    assert "op-1" in damage
    assert "cannot be read" in damage


def is_refused(copying: Any) -> str:
    with pytest.raises(ConfigurationError) as raised:
        asyncio.run(copying)
    assert "\n" not in raised.value.message
    return raised.value.message


def test_a_store_that_is_open_is_not_copied(source: str, other_file: str) -> None:
    async def copy_beside_a_server() -> None:
        async with opened(source):
            await copied(source, other_file)

    assert "in use" in is_refused(copy_beside_a_server())


def test_nothing_is_copied_into_a_database_that_a_server_has_open(file: str, postgres: str) -> None:
    async def copy_into_a_server() -> None:
        async with opened(file):
            pass
        async with opened(postgres):
            await copied(file, postgres)

    assert "in use" in is_refused(copy_into_a_server())


def test_a_listen_that_is_not_answered_is_not_taken_for_silence_of_servers(
    file: str, postgres: str
) -> None:
    asyncio.run(fill(file))
    late = with_options(postgres, statement_timeout="1e-9")
    refused = is_refused(copied(file, with_options(postgres, notices_url=late)))
    assert "no Postgres server answers" in refused


def test_a_connection_that_is_lost_while_it_listens_has_not_heard_that_no_server_is_there(
    file: str, postgres: str
) -> None:
    name = postgres.rpartition("schema=")[2]
    listening = with_options(postgres, application_name=name)
    end = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        f" WHERE application_name = '{name}' AND query LIKE 'LISTEN%'"
    )

    async def copy_while_an_administrator_ends_it() -> None:
        await fill(file)
        copying = asyncio.create_task(copied(file, with_options(postgres, notices_url=listening)))
        while not copying.done() and not await execute(postgres, end):
            pass
        await copying

    assert "cannot be opened as a store" in is_refused(copy_while_an_administrator_ends_it())


def test_where_servers_are_listened_for_is_named_if_it_does_not_answer(
    file: str, postgres: str
) -> None:
    asyncio.run(fill(file))
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as mute:
        place = f"127.0.0.1:{mute.getsockname()[1]}/base"
        direct = f"postgresql://u@{place}?sslmode=disable&connect_timeout=0.1"
        assert place in is_refused(copied(file, with_options(postgres, notices_url=direct)))


def test_nothing_is_copied_into_a_store_that_is_used(way: tuple[str, str]) -> None:
    async def use() -> None:
        for url in way:
            async with opened(url) as store:
                await store.create(made.record(f"op-{url[:5]}"))

    asyncio.run(use())
    message = is_refused(copied(*way))
    assert "has operations" in message or "is there already" in message


def test_a_copy_is_made_once(source: str, other_postgres: str) -> None:
    async def copy_twice() -> None:
        await fill(source)
        await copied(source, other_postgres)
        await copied(source, other_postgres)

    assert "is a copy of" in is_refused(copy_twice())


def test_a_store_is_no_copy_of_itself(postgres: str) -> None:
    asyncio.run(fill(postgres))
    assert "the same store" in is_refused(copied(postgres, postgres))


def test_a_file_is_not_made_beside_the_log_of_another(file: str, tmp_path: Path) -> None:
    asyncio.run(fill(file))
    (tmp_path / "new.db-wal").touch()
    assert "new.db-wal is there already" in is_refused(
        copied(file, f"sqlite:///{tmp_path / 'new.db'}")
    )


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("memory:", "ends with its process"),
        ("mysql://h/d", "is not a store"),
        ("sqlite:///missing.db", "there is no file"),
        ("postgresql://nobody@127.0.0.1:1/d", "no Postgres server answers"),
    ],
)
def test_what_is_no_store_is_not_copied(url: str, said: str, other_file: str) -> None:
    assert said in is_refused(copied(url, other_file))


def test_a_database_without_a_store_is_left_as_it_is(postgres: str, other_file: str) -> None:
    assert "has no tables of a store" in is_refused(copied(postgres, other_file))
    schema = postgres.rpartition("schema=")[2]
    tables = f"SELECT FROM information_schema.tables WHERE table_schema = '{schema}'"
    assert asyncio.run(execute(postgres, tables)) == []


async def test_a_copy_is_made_through_a_pooler(file: str, postgres: str) -> None:
    records = await fill(file)
    parts = urlsplit(postgres)
    with contextlib.closing(TransactionPooler(parts.port or 5432)) as pooler:
        behind = parts._replace(netloc=f"postgres@127.0.0.1:{pooler.port}").geturl()
        done, _ = await copied(file, with_options(behind, pgbouncer="1"))
    assert done.operations == len(records)
    again, _ = await copied(postgres, f"{file}.again")
    assert again.operations == len(records)


async def test_a_server_that_starts_meanwhile_finds_the_whole_copy(
    file: str, postgres: str
) -> None:
    async with opened(postgres):
        pass  # the tables are there
    records = await fill(file)
    starting: list[asyncio.Task[bytes]] = []

    async def start() -> bytes:
        async with opened(postgres) as store:
            for record in records.values():
                if not record.deleted:
                    assert await store.read(record.name) == record
            return store.signing_secret

    async for _ in copy(file, postgres):
        starting.append(asyncio.create_task(start()))
    async with opened(file) as store:
        assert set(await asyncio.gather(*starting)) == {store.signing_secret}


async def test_a_copy_that_is_given_up_leaves_nothing(way: tuple[str, str]) -> None:
    source, destination = way
    records = await fill(source)

    async with contextlib.aclosing(copy(source, destination)) as steps:
        async for step in steps:
            if step.operations:
                break
    if destination.startswith("postgres"):
        assert await execute(destination, "SELECT name FROM {table}") == []
    done, _ = await copied(source, destination)
    assert done.operations == len(records)
