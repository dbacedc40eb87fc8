"""The protocols of a copy: a store that is read whole, one that is filled; see ``copy_store``."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from typing import Any, NamedTuple, Protocol

from lro_grpc._operation import integrity
from lro_grpc._operation.attempts import AttemptRecord, is_sound
from lro_grpc._operation.completion import Completion
from lro_grpc._operation.record import Record

MOST_RECORDS = 100
"""The most records in a portion."""

MOST_BYTES = 8 * 1024 * 1024
"""The bytes at which a portion ends; one record alone, with its attempts, may have more."""


class Numbered(NamedTuple):
    """A record with its place in the order of creation."""

    sequence: int
    record: Record
    attempts: Sequence[AttemptRecord] = ()
    """The superseded ones."""
    lost: Sequence[str] = ()
    """A sentence on each of those that is none."""


class Portion(NamedTuple):
    """A few rows that come one after the other."""

    records: Sequence[Numbered]
    damaged: Sequence[str]
    """A sentence on each row of which no record can be made."""
    lost: Sequence[str] = ()
    """A sentence on each superseded attempt of the others that is none."""


class Export(Protocol):
    """A store from which all is read, and which nobody changes meanwhile."""

    place: str
    """The store, as it may be shown."""
    signing_secret: bytes
    """See ``Store.signing_secret``."""
    rows: int
    """The number of its rows."""
    last_sequence: int
    """The highest sequence number that it has ever given."""

    def portions(self) -> AsyncIterator[Portion]:
        """Yields all rows, in the order of their sequence numbers."""
        ...

    def completions(self) -> AsyncIterator[Sequence[Completion]]:
        """Yields the completions that were not told, some at a time."""
        ...


class Import(Protocol):
    """A store without operations that all is written into, and that nobody else has meanwhile.

    It has the secret of the source already, and goes on with its sequence numbers.
    """

    place: str
    """The store, as it may be shown."""

    async def put(self, records: Sequence[Numbered]) -> Collection[int]:
        """Writes records, and returns the sequence numbers of those that are there now.

        One is not if another has its name, its request or its exclusive target.
        """
        ...

    async def put_completions(self, completions: Sequence[Completion]) -> None:
        """Writes completions."""
        ...


def portion_of(rows: Sequence[Numbered], unreadable: Sequence[str]) -> Portion:
    """Makes a portion of rows, of which some may be no records.

    Args:
        rows: What was read of each row.
        unreadable: A sentence on each row that could not be read at all.
    """
    records: list[Numbered] = []
    damaged = list(unreadable)
    for row in rows:
        fault = integrity.fault_in(row.record)
        if fault:
            damaged.append(damage(row.record.name, fault))
        else:
            records.append(row)
    return Portion(records, damaged, [lost for row in records for lost in row.lost])


def with_attempts(row: Numbered, attempts: Iterable[Sequence[Any]]) -> Numbered:
    """Returns a row with the superseded attempts of its operation.

    Args:
        row: The row.
        attempts: The values of their rows, of which some may be none.
    """
    sound: list[AttemptRecord] = []
    lost: list[str] = []
    for values in attempts:
        if is_sound(values):
            sound.append(AttemptRecord._make(values))
        else:
            lost.append(damage(row.record.name, f"the row of its attempt {values[0]!r} is none"))
    return row._replace(attempts=sound, lost=lost)


def damage(name: object, why: str) -> str:
    """Returns the sentence on a row of which no record can be made."""
    return f"operation {name!r}: {why}"
