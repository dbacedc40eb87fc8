"""Reads and writes rows in portions, each of which has a bound in bytes, whatever is in the rows.

A statement of several rows leaves the large values of a row out, as NULL, if they have more bytes
than the share of one row: the server knows that without reading them. So what is small takes one
statement. A row that lacks them is asked for again among fewer, whose share is larger; one alone is
whole, whatever its size.

A row that the server cannot read fails the statement of all that are asked for with it, and is
found in the same way. Once it is alone, it is asked for without its large values: what is beyond
reach is among these, unless the page of the row itself is damaged.

What is written is parted beforehand, for its bytes are known.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import NamedTuple, TypeVar

from lro_grpc._stores.postgres.connections import Row
from lro_grpc._stores.postgres.failures import DamagedPageError
from lro_grpc._stores.transfer import MOST_BYTES

T = TypeVar("T")

MORE = 4
"""The factor by which fewer rows are asked for next, or more after those that had room."""

_ANY = 2**62
"""More bytes than a row of Postgres can have."""

_NONE = -1

Ask = Callable[[int, int], Awaitable[Sequence[Row]]]
"""Returns the first of some rows: takes their number, and the most bytes of a row."""


class ReadPortion(NamedTuple):
    """The first of some rows."""

    rows: Sequence[Row]
    """Of these the first is whole; others may not be."""
    number: int
    """The number that was asked for."""
    error: DamagedPageError | None = None
    """The one row cannot be read, and here is without its large values, or not at all."""


def share_of(number: int, most_bytes: int = MOST_BYTES) -> int:
    """Returns the most bytes that each of so many rows may have in one statement."""
    return most_bytes // number if number > 1 else _ANY


async def read_portion(
    ask: Ask, number: int, is_whole: Callable[[Row], bool], most_bytes: int = MOST_BYTES
) -> ReadPortion:
    """Returns the first of some rows: as many as one statement has room for.

    Args:
        ask: Asks for them.
        number: The most rows.
        is_whole: Returns whether a row lacks no value.
        most_bytes: The bytes of all of them.
    """
    while True:
        try:
            rows = await ask(number, share_of(number, most_bytes))
        except DamagedPageError as error:
            if number == 1:
                with contextlib.suppress(DamagedPageError):
                    return ReadPortion(await ask(1, _NONE), 1, error)
                return ReadPortion((), 1, error)
        else:
            if not rows or is_whole(rows[0]):
                return ReadPortion(rows, number)
        number = max(1, number // MORE)


def portions_to_write(items: Sequence[T], size: Callable[[T], int]) -> Iterator[Sequence[T]]:
    """Yields items in portions, of which each has as much as one statement may write."""
    portion: list[T] = []
    taken = 0
    for item in items:
        taken += size(item)
        if portion and taken > MOST_BYTES:
            yield portion
            portion, taken = [], size(item)
        portion.append(item)
    if portion:
        yield portion
