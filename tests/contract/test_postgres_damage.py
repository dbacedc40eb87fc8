"""Rows in Postgres that cannot be read, or are mended; see ``test_damage`` for both stores."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import asyncpg
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
    table_of,
    three,
)
from google.longrunning import operations_pb2
from google.protobuf.message import DecodeError
from postgres_server import with_options

from lro.v1 import operation_metadata_pb2
from lro.v1.completion_event_pb2 import CompletionEvent
from lro_grpc import (
    OperationDamagedError,
    OperationNotFoundError,
    UnavailableError,
)
from lro_grpc._engine.maintenance import Maintenance
from lro_grpc._operation.events import Claim, Delete, LeaseLost, Pause, Terminate, TimePassed
from lro_grpc._operation.states import QUEUED
from lro_grpc._stores.copy_store import copy
from lro_grpc._stores.postgres.texts import text_of
from lro_grpc._stores.postgres.upkeep import check
from lro_grpc.stores import Leased, Order, Query, Record

if TYPE_CHECKING:
    from pathlib import Path


STRANGE_NAME = f"{PARENT}/operations/op-\0\1\2"


async def test_a_name_that_only_damage_can_make_is_one_name_in_all_calls(postgres: str) -> None:
    """Else one that is set aside would be found again and again, in the place of others."""
    async with opened(postgres) as store:
        record = new("op-\0\1\2", target="things/t", exclusive=True, source_operation=BAD)
        assert (await store.create(record)).name == STRANGE_NAME
        assert await store.find_id("op-\0\1\2") == [STRANGE_NAME]
        assert await store.latest_rerun(BAD) == STRANGE_NAME
        assert await store.exclusive_holder("things/t") == STRANGE_NAME
        assert await store.claimable({METHOD: 9}) == [STRANGE_NAME]
        (claimed,) = await store.claim({METHOD: 9}, Claim(LEASE))
        assert isinstance(claimed.outcome, Record)
        assert await store.leased() == [Leased(STRANGE_NAME, 1)]
        await store.apply(STRANGE_NAME, LeaseLost(1, proven=True))
        await store.apply(STRANGE_NAME, Claim(LEASE))
        assert len((await store.read_attempts(STRANGE_NAME))[1]) == 2
    await damage(postgres, "operation = ''", text_of(STRANGE_NAME))
    async with opened(postgres) as store:
        for order in Order:
            page = await store.page(Query(PARENT, order=order), position=b"", size=9)
            assert (page.operations, page.unreachable) == ([], [STRANGE_NAME])


async def remove_pieces(connection: asyncpg.Connection, table: str) -> None:
    """Takes away what a table keeps elsewhere, since it is large."""
    pieces = await connection.fetchval(
        "SELECT reltoastrelid::regclass::text FROM pg_class WHERE oid = $1::regclass", table
    )
    async with connection.transaction():
        await connection.execute("SET LOCAL allow_system_table_mods = on")
        kind = f"UPDATE pg_class SET relkind = '%s' WHERE oid = '{pieces}'::regclass"
        await connection.execute(kind % "r")
        await connection.execute(f"DELETE FROM {pieces}")
        await connection.execute(kind % "t")
    await connection.execute(f"VACUUM {pieces}")


async def tear_attempts(url: str, name: str) -> None:
    """Gives an operation an attempt with a large error, and takes that away."""
    connection = await asyncpg.connect(urlsplit(url)._replace(query="").geturl())
    table = table_of(url)
    attempts = table.replace("operations", "attempts")
    try:
        await connection.execute(
            f"INSERT INTO {attempts} SELECT sequence, 1, 'w', 1, 1, 1, $2 FROM {table}"
            " WHERE name = $1",
            name,
            os.urandom(100_000),
        )
        await remove_pieces(connection, attempts)
    finally:
        await connection.close()


async def test_an_operation_whose_attempts_cannot_be_read_is_described_without_them(
    postgres: str, caplog: pytest.LogCaptureFixture
) -> None:
    await three(postgres)
    async with opened(postgres) as store:
        await store.apply(BAD, Claim(LEASE))
        await store.apply(BAD, LeaseLost(1, proven=True))
    await tear_attempts(postgres, BAD)
    async with opened(postgres) as store:
        for _ in range(2):
            record, attempts = await store.read_attempts(BAD)
            assert [one.number for one in attempts] == [1]
            assert await store.read(BAD) == record
        assert BAD in await store.claimable({METHOD: 9})
        await store.apply(BAD, Claim(LEASE))
    assert f"{BAD}: its attempts cannot be read (" in errors(caplog)[0]


async def test_a_copy_leaves_out_the_one_whose_attempts_cannot_be_read(
    postgres: str, tmp_path: Path
) -> None:
    await three(postgres)
    await tear_attempts(postgres, BAD)
    steps = [step async for step in copy(postgres, f"sqlite:///{tmp_path / 'copy.db'}")]
    assert (steps[-1].operations, steps[-1].left_out) == (2, 1)
    ((damage,),) = [step.damages for step in steps if step.damages]
    assert damage.startswith(f"operation {BAD!r}: its attempts cannot be read (")


async def test_a_check_goes_on_behind_what_cannot_be_read(postgres: str) -> None:
    """In the one transaction that it has."""
    await torn(postgres, 3, 40, of=120)
    bad = [f"{PARENT}/operations/op-{number}" for number in (3, 40)]
    connection = await asyncpg.connect(urlsplit(postgres)._replace(query="").geturl())
    try:
        await connection.execute(f"UPDATE {table_of(postgres)} SET state = 99 WHERE sequence = 110")
    finally:
        await connection.close()
    found = [damage async for damage in check(postgres)]
    assert [damage.partition(": ")[0] for damage in found[:2]] == [
        f"operation {name!r}" for name in bad
    ]
    assert "its row cannot be read" in found[0]
    (last,) = found[2:]
    assert last.endswith(": its state is 99")


async def test_a_check_names_the_operation_whose_attempts_cannot_be_read(postgres: str) -> None:
    await three(postgres)
    await tear_attempts(postgres, BAD)
    first, *_ = [damage async for damage in check(postgres)]
    assert first.startswith(f"operation {BAD!r}: its attempts cannot be read (")


async def tear(url: str, *names: str) -> None:
    """Takes the first piece of a large operation away from where the server keeps it.

    What is large is in a table of its own, which nobody may change; so it is an ordinary one for
    that long.
    """
    connection = await asyncpg.connect(urlsplit(url)._replace(query="").geturl())
    table = table_of(url)
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


async def refuse_changes(url: str, name: str) -> None:
    """Has the server find a damaged page whenever it changes a row."""
    connection = await asyncpg.connect(urlsplit(url)._replace(query="").geturl())
    table = table_of(url)
    schema = table.split(".")[0]
    try:
        await connection.execute(
            f"""
            CREATE FUNCTION {schema}.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
              RAISE EXCEPTION 'invalid page' USING ERRCODE = 'data_corrupted';
            END $$;
            CREATE TRIGGER refuse BEFORE UPDATE ON {table} FOR EACH ROW
              WHEN (old.name = '{name}') EXECUTE FUNCTION {schema}.refuse();
            """
        )
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
    return record._replace(operation=operation.SerializeToString())


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
    ((sentence,),) = [step.damages for step in steps if step.damages]
    assert BAD in sentence
    assert "cannot be read" in sentence
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


async def test_leases_that_end_first_are_returned_first_but_for_damaged_rows(
    postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lro_grpc._stores.postgres.store._MOST_LEASED", 2)
    await three(postgres)
    async with opened(postgres) as store:
        names = [GOOD[1], BAD, GOOD[0]]
        await store.apply_all([(name, Claim(LEASE * n)) for n, name in enumerate(names, 1)])
        assert [one.name for one in await store.leased()] == names[:2]
        await damage(postgres, "state = 99", BAD)
        with pytest.raises(OperationDamagedError):
            await store.read(BAD)
        assert [one.name for one in await store.leased()] == [GOOD[1], GOOD[0]]


async def test_more_unreadable_rows_than_are_set_aside_keep_no_other_from_being_claimed(
    postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lro_grpc._stores.damage.MOST_SET_ASIDE", 1)
    good = await torn(postgres, 0, 1, 3, of=5)
    async with opened(postgres) as store:
        claimed = await store.claim({METHOD: 5}, Claim(LEASE))
        assert [one.before.name for one in claimed] == good
        assert await store.claim({METHOD: 5}, Claim(LEASE)) == []


async def test_a_claim_says_when_it_meets_more_damaged_rows_than_it_passes_over(
    postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lro_grpc._stores.damage.MOST_SET_ASIDE", 1)
    monkeypatch.setattr("lro_grpc._stores.postgres.claims._MOST_DAMAGED", 1)
    await three(postgres)
    await damage(postgres, "state = 99", BAD, *GOOD)
    async with opened(postgres) as store:
        with pytest.raises(UnavailableError, match=f"more than 1 operations of {METHOD}"):
            await store.claim({METHOD: 1}, Claim(LEASE))


async def test_more_rows_that_expire_and_are_damaged_than_are_set_aside_end_in_time(
    postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each round of a sweep finds others, for it takes the former ones back."""
    monkeypatch.setattr("lro_grpc._stores.damage.MOST_SET_ASIDE", 1)
    monkeypatch.setattr("lro_grpc._engine.maintenance._MOST_AT_ONCE", 1)
    async with opened(postgres) as store:
        for number in range(3):
            await store.create(new(f"op-{number}", timeout=1 + number))
    await damage(postgres, "state = 99", BAD, *GOOD)
    async with opened(postgres) as store:

        async def no_claims() -> None:
            pass

        await Maintenance(store, no_claims, lambda _: False, {}).let_time_pass()


async def test_a_row_that_cannot_be_changed_keeps_no_other_from_being_claimed(
    postgres: str, caplog: pytest.LogCaptureFixture
) -> None:
    """As one whose place in an index is on a damaged page. A trigger stands for that here."""
    await three(postgres)
    await refuse_changes(postgres, BAD)
    async with opened(postgres) as store:
        claimed = await store.claim({METHOD: 3}, Claim(LEASE))
        outcomes = {one.before.name: one.outcome for one in claimed}
        assert isinstance(outcomes.pop(BAD), OperationDamagedError)
        assert sorted(outcomes) == GOOD
        assert all(one.lease_expire_time for one in outcomes.values())
        assert len(errors(caplog)) == 1
        assert await store.claim({METHOD: 3}, Claim(LEASE)) == []


@pytest.mark.parametrize("how", ["unreadable", "unsound", "unchangeable"])
async def test_a_damaged_row_keeps_no_other_of_its_key_from_being_claimed(
    postgres: str, how: str
) -> None:
    """Though it has its turn first, and there is one place."""
    async with opened(postgres) as store:
        for number in range(3):
            await store.create(grown(new(f"op-{number}", concurrency_key="a")))
    bad, *good = [f"{PARENT}/operations/op-{number}" for number in range(3)]
    if how == "unreadable":
        await tear(postgres, bad)
    elif how == "unsound":
        await damage(postgres, "state = 99", bad)
    else:
        await refuse_changes(postgres, bad)
    claimed: list[str] = []
    async with opened(postgres) as store:
        while some := (await store.claim_by_key(METHOD, 2, 1, Claim(LEASE))).claimed:
            for before, outcome in some:
                if isinstance(outcome, OperationDamagedError):
                    assert before.name == bad
                    continue
                claimed.append(before.name)
                await store.apply(before.name, Terminate("enough"))
    assert claimed == good


async def test_a_row_that_was_mended_is_claimed_once_it_was_read(postgres: str) -> None:
    await three(postgres)
    await damage(postgres, "state = 99", BAD)
    async with opened(postgres) as store:
        assert [one.before.name for one in await store.claim({METHOD: 3}, Claim(LEASE))] == GOOD
        await damage(postgres, f"state = {QUEUED}", BAD)
        mended = await store.read(BAD)
        claimed = await store.claim({METHOD: 3}, Claim(LEASE))
        assert [one.before for one in claimed] == [mended]


async def test_a_damaged_row_that_another_process_has_deleted_is_set_aside_no_more(
    postgres: str,
) -> None:
    """A later one of its name is claimed."""
    await three(postgres)
    await damage(postgres, "state = 99", BAD)
    async with opened(postgres) as store, opened(postgres) as other:
        with pytest.raises(OperationDamagedError):
            await store.read(BAD)
        await other.apply(BAD, Delete())
        with pytest.raises(OperationNotFoundError):
            await store.read(BAD)
        await other.create(new("op-1"))
        claimed = await store.claim({METHOD: 3}, Claim(LEASE))
        assert BAD in [one.before.name for one in claimed]


async def test_to_get_a_row_that_cannot_be_read_costs_no_connection(postgres: str) -> None:
    await torn(postgres, 1)
    async with opened(with_options(postgres, readers="1", application_name="torn")) as store:
        operator = await asyncpg.connect(urlsplit(postgres)._replace(query="").geturl())
        who = "SELECT pid FROM pg_stat_activity WHERE application_name = 'torn'"
        await store.read(GOOD[0])
        before = {row[0] for row in await operator.fetch(who)}
        for _ in range(3):
            with pytest.raises(OperationDamagedError):
                await store.operation(BAD)
        assert {row[0] for row in await operator.fetch(who)} == before
        await operator.close()


async def test_a_completion_that_cannot_be_read_holds_up_no_other(postgres: str) -> None:
    """Of its event there are bytes that are none: it is given up as any other such one."""
    async with opened(postgres):
        pass
    connection = await asyncpg.connect(urlsplit(postgres)._replace(query="").geturl())
    outbox = table_of(postgres).replace("operations", "outbox")
    insert = (
        f"INSERT INTO {outbox} (name, create_time, end_time, expire_time, next_time, event)"
        " VALUES ($1, 1, $2, 2, $2, $3)"
    )
    try:
        await connection.execute(insert, BAD, 1, os.urandom(100_000))
        await remove_pieces(connection, outbox)
        await connection.execute(insert, GOOD[0], 2, b"event")
    finally:
        await connection.close()
    async with opened(postgres) as store:
        bad, good = await store.take_completions(9, LEASE)
        assert (good.name, good.event, good.attempt_count) == (GOOD[0], b"event", 1)
        assert bad.name == BAD
        with pytest.raises(DecodeError):
            CompletionEvent.FromString(bad.event)
        assert list(await store.take_completions(9, LEASE)) == []
        await store.settle_completions([(bad, None)])
        assert await store.read_completion(BAD, 1) is None
