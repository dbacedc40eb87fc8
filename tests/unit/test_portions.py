"""Portions of rows: how many are asked for, and with how many bytes of each."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from lro_grpc._operation.record import FIELDS
from lro_grpc._stores.damage import Damage
from lro_grpc._stores.postgres.failures import DamagedPageError
from lro_grpc._stores.postgres.portions import ReadPortion, read_portion
from lro_grpc._stores.postgres.statements import MOST_CHANGED, Statements
from lro_grpc._stores.postgres.table import Table
from lro_grpc._stores.transfer import MOST_BYTES
from lro_grpc.conformance import StoreConformance

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lro_grpc._stores.postgres.connections import Row

UNREADABLE = 3
"""The bytes of a value that cannot be read."""


class Rows:
    """Rows of one value each.

    Args:
        sizes: The bytes of the values, in order.
        lost: Whether the page of a row that cannot be read is damaged itself.
    """

    def __init__(self, sizes: Sequence[int], *, lost: bool = False) -> None:
        self._sizes = sizes
        self._lost = lost
        self.asked: list[int] = []

    async def ask(self, number: int, most: int) -> Sequence[Row]:
        self.asked.append(number)
        sizes = self._sizes[:number]
        if UNREADABLE in sizes and (most >= 0 or self._lost):
            raise DamagedPageError("it is torn")
        given = [size if size <= most else None for size in sizes]
        assert sum(size or 0 for size in given) <= MOST_BYTES or number == 1
        return [(size,) for size in given]

    def portion(self, number: int) -> ReadPortion:
        return asyncio.run(read_portion(self.ask, number, lambda row: row[0] is not None))


def test_rows_that_are_small_take_one_statement() -> None:
    rows = Rows([1000] * 5000)
    assert len(rows.portion(1000).rows) == 1000
    assert rows.asked == [1000]


@pytest.mark.parametrize("size", [MOST_BYTES // 3, MOST_BYTES // 2 + 1, 10 * MOST_BYTES])
def test_rows_that_are_large_are_asked_for_among_fewer(size: int) -> None:
    rows = Rows([size] * 100)
    found = rows.portion(100)
    assert found.rows[0] == (size,)
    assert rows.asked == [100, 25, 6, 1]


def test_a_row_that_cannot_be_read_is_alone_and_without_its_large_values() -> None:
    found = Rows([UNREADABLE, 1, 1]).portion(50)
    assert found.error is not None
    assert found.rows == [(None,)]
    assert Rows([1, UNREADABLE, 1]).portion(50) == ReadPortion([(1,)], 1)


def test_a_row_whose_own_page_is_damaged_is_not_read_at_all() -> None:
    found = Rows([UNREADABLE], lost=True).portion(50)
    assert found.error is not None
    assert not found.rows


def test_a_changed_row_has_the_share_of_one_in_an_answer_however_many_are_asked_for() -> None:
    asked: list[int] = []

    class Fetching:
        async def fetch(
            self, _statement: str, names: object, _versions: object, most: int
        ) -> list[Row]:
            asked.append(most)
            return []

    table = Table(Statements(""), Damage())
    versions = {f"operations/{number}": 1 for number in range(50 * MOST_CHANGED)}
    changed = asyncio.run(table.changed_since(Fetching(), versions))
    assert not changed.known
    assert not changed.left
    assert asked == [MOST_BYTES // MOST_CHANGED]


def test_what_an_answer_of_changed_rows_has_no_room_for_is_left_whatever_its_rows_are() -> None:
    """One has a large value and is gone by the time that it is read alone; another is damaged."""
    records = [StoreConformance().record(f"op-{number}") for number in range(MOST_CHANGED + 50)]
    names = [one.name for one in records]
    records[1] = records[1]._replace(state=99)

    class Fetching:
        async def fetch(self, statement: str, *_: object) -> list[Row]:
            if "unnest" not in statement:
                return []
            rows: list[Row] = [(one.name, 2, *one) for one in records[:MOST_CHANGED]]
            request = 2 + list(FIELDS).index("request")
            rows[0] = [None if index == request else one for index, one in enumerate(rows[0])]
            return rows

    table = Table(Statements(""), Damage())
    changed = asyncio.run(table.changed_since(Fetching(), dict.fromkeys(names, 1)))
    assert sorted(changed.known) == sorted(names[2:MOST_CHANGED])
    assert changed.left == names[MOST_CHANGED:]


@pytest.mark.parametrize("size", [50_000, 1_000_000])
def test_many_large_rows_are_asked_for_little_more_often_than_once(size: int) -> None:
    sent = 0

    class Fetching:
        async def fetch(self, _statement: str, names: Sequence[str], most: int) -> list[Row]:
            nonlocal sent
            sent += len(names)
            return [(bytes(size) if size <= most else None, name) for name in names]

    async def read_all(names: Sequence[str]) -> None:
        table = Table(Statements(""), Damage())
        while names:
            names = list((await table.operations(Fetching(), names)).left)

    asyncio.run(read_all([f"projects/p/operations/{number}" for number in range(1000)]))
    assert sent < 4 * 1000
