"""Makes pages of what a store has found for a list."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from lro_grpc._filtering.expression import steps
from lro_grpc._operation.record import Record
from lro_grpc._stores.store import Order, Page, Query

LAST_SEQUENCE = 2**63 - 1
"""A sequence number beyond those of all records, which count up from 1 as they are created."""

MOST_PAGE_BYTES = 3 * 1024 * 1024
"""The most bytes of operations on a page of more than one: a gRPC client reads 4 MiB."""

MOST_STEPS = 1_000_000
"""The most steps that a filter takes for one page, but for those of its last record. They take
about a second."""

_BYTES_OF_A_STEP = 100
"""The bytes of an operation that are read and parsed in the time of a step."""


class Listed(NamedTuple):
    """An operation on a page."""

    position: bytes
    """The beginning of a page behind it. Of two operations it compares as they are ordered: the
    newer one has the higher, and the one with the higher name."""
    operation: bytes
    """The serialized ``google.longrunning.Operation``."""
    record: Record | None = None
    """Its record, if that was asked for."""

    @property
    def size(self) -> int:
        """The bytes of all that may be large."""
        return len(self.operation) if self.record is None else self.record.large_bytes


class Effort:
    """The steps that a filter has taken for a page, which ends once they are too many.

    They go by the lengths of what a record holds, and by nothing else: so a page of the same
    records is the same one, whatever the machine has to do besides.

    Args:
        query: What the page is of.
    """

    def __init__(self, query: Query) -> None:
        self.ended_at = b""
        """The position of the record at which the page has to end; empty as long as it has not."""
        read = {} if query.filter is None else steps(query.filter.expression)
        self._columns = tuple(read.items())
        self._left: float = MOST_STEPS

    def spend(self, record: Record, position: bytes) -> None:
        """Counts a record that the filter was asked about.

        Args:
            record: The record.
            position: The position behind it.
        """
        self._left -= len(record.operation) / _BYTES_OF_A_STEP
        for column, number in self._columns:
            self._left -= number * len(getattr(record, column))
        if self._left <= 0:
            self.ended_at = position


def position_of(order: Order, sequence: int, name: str) -> bytes:
    """Returns the position behind an operation.

    Args:
        order: The order of the list.
        sequence: The operation's sequence number.
        name: Its name.
    """
    return name.encode() if order is Order.BY_NAME else sequence.to_bytes(8, "big")


def sequence_before(position: bytes) -> int:
    """Returns the sequence number below which the page of a position begins."""
    return int.from_bytes(position, "big") if position else LAST_SEQUENCE


def page_of(found: Iterable[Listed], size: int, rest: bytes = b"") -> Page:
    """Makes a page of operations, and takes no more of them than it needs.

    Args:
        found: The operations, in their order.
        size: The most operations on the page.
        rest: The position behind the last record that was looked at; empty if all were.
    """
    listed: list[Listed] = []
    taken = 0
    for one in found:
        taken += one.size
        if listed and (len(listed) == size or taken > MOST_PAGE_BYTES):
            rest = listed[-1].position
            break
        listed.append(one)
    records = [one.record for one in listed if one.record is not None]
    return Page([one.operation for one in listed], rest, records=records)
