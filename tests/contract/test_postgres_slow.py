"""A process that is slow to make its changes: the server refuses late ones, so it makes fewer."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from lro_grpc._errors import UnavailableError, UnservedError
from lro_grpc._operation.events import Claim, Heartbeat
from lro_grpc._stores.postgres import store as store_module
from lro_grpc._stores.postgres.database_clock import StoreTime, database_time
from lro_grpc._stores.postgres.store import PostgresStore
from lro_grpc._stores.postgres.table import Table
from lro_grpc._stores.store import Leased
from lro_grpc.conformance import StoreConformance

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from lro_grpc.stores import Record

LEASE = 4_000_000
"""So a change may be late by 0.2 s."""

OPERATIONS = 40


@dataclass(frozen=True, slots=True)
class SlowClaim(Claim):
    """It takes 10 ms of the event loop, as on a machine that has much else to do."""

    def apply(self, record: Record, now: int) -> Record:
        time.sleep(0.01)
        return Claim(self.lease, self.served).apply(record, now)


@contextlib.asynccontextmanager
async def opened(url: str) -> AsyncIterator[tuple[PostgresStore, set[str]]]:
    """Opens a store with operations that are ready, and gives their names."""
    store = PostgresStore(url)
    await store.open()
    try:
        new = StoreConformance().record
        records = [new(f"op-{number}") for number in range(OPERATIONS)]
        made = await asyncio.gather(*map(store.create, records))
        yield store, {one.name for one in made}
    finally:
        await store.close()


def test_changes_that_are_late_together_are_made_in_smaller_groups(postgres: str) -> None:
    async def check() -> None:
        async with opened(postgres) as (store, names):
            changes = [(name, SlowClaim(LEASE)) for name in names]
            outcomes = await store.apply_all(changes)
            assert {one.attempt for one in outcomes} == {1}

    asyncio.run(check())


def test_renewals_that_are_late_together_are_made_in_smaller_groups(
    postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    beat = Heartbeat.apply

    def apply_slowly(event: Heartbeat, record: Record, now: int) -> Record:
        time.sleep(0.01)
        return beat(event, record, now)

    async def check() -> None:
        async with opened(postgres) as (store, names):
            await store.apply_all([(name, Claim(LEASE)) for name in names])
            monkeypatch.setattr(Heartbeat, "apply", apply_slowly)
            answers = await store.renew([Leased(name, 1) for name in names], LEASE)
            assert {(one.name, one.attempt) for one in answers} == {(name, 1) for name in names}

    asyncio.run(check())


def test_a_claim_that_is_late_takes_all_it_may_in_smaller_portions(postgres: str) -> None:
    async def check() -> None:
        async with opened(postgres) as (store, names):
            limits = {StoreConformance.METHOD: OPERATIONS}
            claimed = await store.claim(limits, SlowClaim(LEASE))
            assert len(claimed) == OPERATIONS
            assert {one.outcome.name for one in claimed} == names
            assert {one.outcome.attempt for one in claimed} == {1}

    asyncio.run(check())


@pytest.mark.parametrize("seconds", [-60, 60])
def test_a_claim_that_the_clock_refuses_is_made_again(
    postgres: str, seconds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after the database's clock was set, or this process has stood still."""

    jumped = 0

    def monotonic() -> float:
        return time.monotonic() + jumped

    monkeypatch.setattr(store_module, "database_time", partial(database_time, monotonic=monotonic))

    async def check() -> None:
        nonlocal jumped
        async with opened(postgres) as (store, names):
            jumped = seconds
            claimed = await store.claim({StoreConformance.METHOD: OPERATIONS}, Claim(LEASE))
            assert {one.before.name for one in claimed} == names

    asyncio.run(check())


def test_what_is_claimed_is_given_though_the_clock_cannot_be_measured(
    postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    change = Table.change
    tries: list[int] = []

    async def change_one(table: Table, on: Any, changes: Sequence[Any], *time: int) -> Any:
        tries.append(len(changes))
        return await change(table, on, changes[:1], *time)

    answers = True
    measured: list[bool] = []

    def time_that_fails(read: Callable[[], Awaitable[int]]) -> StoreTime:
        async def measure() -> None:
            measured.append(answers)
            if not answers:
                raise UnavailableError("its database has not answered in time")
            await real.measure()

        real = database_time(read)
        return dataclasses.replace(real, measure=measure)

    monkeypatch.setattr(store_module, "database_time", time_that_fails)

    async def check() -> None:
        nonlocal answers
        async with opened(postgres) as (store, names):
            answers = False
            monkeypatch.setattr(Table, "change", change_one)  # the server finds the rest too late
            claimed = await store.claim({StoreConformance.METHOD: 3}, Claim(LEASE))
            assert {one.before.name for one in claimed} < names
            assert len(claimed) == 3
            assert tries == [3, 2, 1]
            assert measured.count(False) >= 2

    asyncio.run(check())


def test_what_is_claimed_is_given_though_the_rest_fails_as_the_log_says(
    postgres: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def check() -> None:
        async with opened(postgres) as (store, _):
            claimed = await store.claim({StoreConformance.METHOD: 1, "\ud800": 1}, Claim(LEASE))
            assert len(claimed) == 1
            assert "surrogates not allowed" in caplog.text

    asyncio.run(check())


def test_portions_of_a_claim_try_nothing_twice_that_was_refused(postgres: str) -> None:
    class ClaimHalf(SlowClaim):
        """It is refused by the half that is older."""

        def apply(self, record: Record, now: int) -> Record:
            claimed = super().apply(record, now)
            if int(record.name.rpartition("-")[2]) < OPERATIONS / 2:
                raise UnservedError(f"{record.name} is of another release")
            return claimed

    async def check() -> None:
        async with opened(postgres) as (store, names):
            limits = {StoreConformance.METHOD: OPERATIONS}
            claimed = await store.claim(limits, ClaimHalf(LEASE))
            assert sorted(one.before.name for one in claimed) == sorted(names)

    asyncio.run(check())
