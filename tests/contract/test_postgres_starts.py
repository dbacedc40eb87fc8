"""A claim that waits for a new record is stored with it, by one statement."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import TYPE_CHECKING

import asyncpg
import pytest
from opened_postgres import opened

from lro_grpc._errors import (
    LroError,
    OperationNotFoundError,
    StaleAttemptError,
    UnavailableError,
    UnservedError,
)
from lro_grpc._operation import states
from lro_grpc._operation.events import Cancel, Claim
from lro_grpc._stores.postgres import store as store_module
from lro_grpc._stores.postgres.database_clock import database_time
from lro_grpc._stores.postgres.options import parse
from lro_grpc._stores.postgres.statements import prefix_of
from lro_grpc.conformance import StoreConformance

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from lro_grpc._operation.record import Record
    from lro_grpc._stores.postgres.store import PostgresStore
    from lro_grpc.stores import Event

LEASE = 4_000_000
NEW = StoreConformance().record
NAME = NEW("op").name


async def start(
    store: PostgresStore, record: Record, event: Event
) -> tuple[Record | BaseException, Record | BaseException]:
    """Creates an operation, and changes it without waiting for that."""
    answers = await asyncio.gather(
        store.create(record), store.apply(record.name, event), return_exceptions=True
    )
    return answers[0], answers[1]


async def updates(url: str, record: Record) -> int:
    """Returns how often a row was changed since it was stored with the time of a record."""
    options = parse(url)
    connection = await asyncpg.connect(options.url)
    try:
        query = f"SELECT version FROM {prefix_of(options.schema)}lro_operations WHERE name = $1"
        version: int = await connection.fetchval(query, record.name)
    finally:
        await connection.close()
    return version - record.update_time


async def test_a_claim_that_waits_for_a_record_is_stored_with_it(postgres: str) -> None:
    async with opened(postgres) as store:
        told: list[tuple[int, int]] = []
        store.subscribe(lambda before, after: told.append((before is None, after.state)))
        made, claimed = await start(store, NEW("op"), Claim(LEASE))
        assert not isinstance(made, BaseException)
        assert not isinstance(claimed, BaseException)
        assert (made.state, claimed.state) == (states.QUEUED, states.RUNNING)
        assert (claimed.attempt, claimed.lease_expire_time > 0) == (1, True)
        assert told == [(True, states.QUEUED), (False, states.RUNNING)]
        assert await store.read(NAME) == claimed
        assert await updates(postgres, claimed) == 0


async def test_a_claim_that_comes_while_its_record_is_stored_is_made_after_that(
    postgres: str,
) -> None:
    async with opened(postgres) as store:
        creating = asyncio.create_task(store.create(NEW("op")))
        for _ in range(10):
            await asyncio.sleep(0)
        claimed = await store.apply(NAME, Claim(LEASE))
        assert claimed.attempt == 1
        assert (await creating).attempt == 0


@pytest.mark.parametrize("seconds", [-60, 60])
async def test_a_record_is_stored_though_the_clock_refuses_its_claim(
    postgres: str, seconds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after the database's clock was set, or this process has stood still."""
    jumped = 0

    def monotonic() -> float:
        return time.monotonic() + jumped

    monkeypatch.setattr(store_module, "database_time", partial(database_time, monotonic=monotonic))
    async with opened(postgres) as store:
        before = store.now()
        jumped = seconds
        made, claimed = await start(store, NEW("op"), Claim(LEASE))
        assert not isinstance(made, BaseException)
        assert not isinstance(claimed, BaseException)
        assert claimed.attempt == 1
        assert abs(claimed.lease_expire_time - LEASE - before) < 30_000_000
        assert await store.read(NAME) == claimed


class Unserved(Claim):
    """The claim of a process that has no handler for the record."""

    def apply(self, record: Record, now: int) -> Record:
        raise UnservedError(f"{record.name} waits for another release")


@pytest.mark.parametrize(
    ("event", "outcome"),
    [(Cancel(), states.CANCELLED), (Unserved(LEASE), UnservedError)],
    ids=["cancel", "unserved"],
)
async def test_what_is_no_claim_or_is_refused_leaves_the_record_as_it_is_stored(
    postgres: str, event: Event, outcome: object
) -> None:
    async with opened(postgres) as store:
        made, changed = await start(store, NEW("op"), event)
        assert not isinstance(made, BaseException)
        assert made.state == states.QUEUED
        assert getattr(changed, "state", type(changed)) == outcome


async def test_changes_of_a_record_that_is_not_there_yet_are_made_in_their_order(
    postgres: str,
) -> None:
    async with opened(postgres) as store:
        creating = asyncio.create_task(store.create(NEW("op")))
        await asyncio.sleep(0)
        outcomes = await store.apply_all(
            [(NAME, Claim(LEASE)), (NAME, Claim(LEASE)), (NAME, Cancel())]
        )
        assert [type(one) is StaleAttemptError for one in outcomes] == [False, True, False]
        assert (await store.read(NAME)).state == states.CANCELLING
        await creating


async def test_a_claim_of_a_record_that_is_kept_out_claims_nothing(postgres: str) -> None:
    async with opened(postgres) as store:
        first = await store.create(NEW("first", request_id="r", fingerprint=b"f"))
        same = NEW("second", request_id="r", fingerprint=b"f")
        made, claimed = await start(store, same, Claim(LEASE))
        assert made == first
        assert isinstance(claimed, OperationNotFoundError)
        assert await store.read(first.name) == first


async def test_of_records_of_one_name_and_their_claims_one_each_is_made(postgres: str) -> None:
    async with opened(postgres) as store:
        answers = await asyncio.gather(
            *(start(store, NEW("op"), Claim(LEASE)) for _ in range(3)),
        )
        made = [made for made, _ in answers if not isinstance(made, LroError)]
        claimed = [claimed for _, claimed in answers if not isinstance(claimed, LroError)]
        assert (len(made), len(claimed)) == (1, 1)
        assert await store.read(NAME) == claimed[0]


async def test_a_record_that_the_database_refuses_fails_its_claim_and_no_other_one(
    postgres: str,
) -> None:
    async with opened(postgres) as store:
        starts: list[Awaitable[tuple[object, object]]] = [
            start(store, NEW(f"op-{number}", caller="\ud800" if number == 2 else ""), Claim(LEASE))
            for number in range(4)
        ]
        answers = await asyncio.gather(*starts)
        failed = [isinstance(made, LroError) for made, _ in answers]
        assert failed == [isinstance(claimed, LroError) for _, claimed in answers]
        assert failed == [False, False, True, False]


async def test_a_start_that_nobody_waits_for_any_more_is_not_claimed(postgres: str) -> None:
    async with opened(postgres) as store:
        creating = asyncio.create_task(store.create(NEW("op")))
        await asyncio.sleep(0)
        claiming = asyncio.create_task(store.apply(NAME, Claim(LEASE)))
        creating.cancel()
        with pytest.raises(OperationNotFoundError):
            await claiming


async def test_an_outage_answers_both(postgres: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(postgres) as store:
        with monkeypatch.context() as patched:
            patched.setattr(asyncpg.Connection, "fetch", _fails)
            made, claimed = await start(store, NEW("op"), Claim(LEASE))
        assert isinstance(made, UnavailableError)
        assert isinstance(claimed, UnavailableError)


async def _fails(*_: object, **__: object) -> None:
    raise ConnectionResetError
