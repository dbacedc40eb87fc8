"""Large records in Postgres: they are read and written in portions, and none is stored twice."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from opened_postgres import opened

from lro_grpc import UnexpectedError
from lro_grpc._operation.events import Cancel, Claim, Delete, Report
from lro_grpc.conformance import StoreConformance

if TYPE_CHECKING:
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
