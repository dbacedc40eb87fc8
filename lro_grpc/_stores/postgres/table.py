"""The rows of ``lro_operations``: read, made and changed, on a session that the caller has.

What is large is read and written in portions: a statement has a bound in names, and one that writes
has a bound in bytes as well.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from lro_grpc._errors import OperationDamagedError
from lro_grpc._operation.record import Record
from lro_grpc._stores.damage import Damage
from lro_grpc._stores.postgres.changes_in_hand import Change, is_gone
from lro_grpc._stores.postgres.connections import DamagedPageError, RefusedError, Row
from lro_grpc._stores.postgres.rows import (
    Known,
    arrays_of,
    arrays_of_changes,
    known_from,
    size_of,
)
from lro_grpc._stores.postgres.statements import Statements
from lro_grpc._stores.postgres.texts import text_of

T = TypeVar("T")

_MOST_READ = 100
"""The most records in one answer: they may have megabytes each."""

_MOST_LIMIT = 2**31 - 1

_MOST_BYTES = 8 * 1024 * 1024
"""The most bytes that one statement writes, unless one record alone has more."""


class Fetching(Protocol):
    """What can carry out a statement: a session, a transaction or a pool."""

    async def fetch(self, statement: str, *arguments: object) -> Sequence[Row]:
        """Returns the rows of a statement."""
        ...


@dataclass
class Found:
    """What a read has found."""

    known: dict[str, Known] = field(default_factory=dict)
    """The rows, by the names of their operations."""
    damaged: dict[str, OperationDamagedError] = field(default_factory=dict)
    """The errors of those of which no record can be made."""

    def update(self, other: Found) -> None:
        """Takes what a later read has found."""
        self.known.update(other.known)
        self.damaged.update(other.damaged)


class Table:
    """The rows; see the module.

    Args:
        statements: The statements for them.
        damage: The rows that are set aside.
    """

    def __init__(self, statements: Statements, damage: Damage) -> None:
        self.statements = statements
        self.damage = damage

    async def read(self, on: Fetching, names: Collection[str]) -> Found:
        """Returns what is stored of some operations."""
        found = Found()
        for portion in _portions(list(names), _MOST_READ):
            found.update(await self._read(on, portion))
        return found

    async def _read(self, on: Fetching, names: Sequence[str]) -> Found:
        try:
            return self.found(await on.fetch(self.statements.read, [text_of(one) for one in names]))
        except DamagedPageError as error:
            found = Found()
            if len(names) == 1:
                (name,) = names
                why = f"its row cannot be read ({error})"
                found.damaged[name] = self.damage.found(name, why)
            else:
                for name in names:
                    found.update(await self._read(on, [name]))
            return found

    def found(self, rows: Iterable[Row]) -> Found:
        """Returns what rows of ``version`` and ``COLUMNS`` say."""
        found = Found()
        for row in rows:
            known = known_from(row)
            name = known.record.name
            found.known[name] = known
            try:
                self.damage.checked(known.record)
            except OperationDamagedError as error:
                found.damaged[name] = error
        return found

    async def insert(self, on: Fetching, records: Sequence[Record]) -> Collection[str]:
        """Adds new rows by one statement, and returns the names of those that are there now.

        One is not if another row has its name, its request or its exclusive target.
        """
        rows = await on.fetch(self.statements.insert, *arrays_of(records))
        return {row[0] for row in rows}

    async def rivals(self, on: Fetching, records: Sequence[Record]) -> Found:
        """Returns the rows that keep new records out."""
        found = Found()
        for portion in _portions(records, _MOST_READ):
            asked = [one for one in portion if one.request_id]
            rows = await on.fetch(
                self.statements.rivals,
                [text_of(one.method) for one in asked],
                [text_of(one.request_id) for one in asked],
                [text_of(one.caller) for one in asked],
                [text_of(one.parent) for one in asked],
                [text_of(one.name) for one in portion],
                [text_of(one.exclusive_target) for one in portion if one.exclusive_target],
            )
            found.update(self.found(rows))
        return found

    async def change(
        self, on: Fetching, changes: Sequence[Change], now: int, tolerance: int
    ) -> Collection[str]:
        """Changes rows whose versions are as they are known, and returns the names of these.

        Args:
            on: What carries the statements out.
            changes: The changes, of one row each.
            now: The time that they were made for.
            tolerance: How far it may be off by the server's clock: beyond that no row is changed.
        """
        changed: set[str] = set()
        gone = [known for known, after in changes if is_gone(after)]
        if gone:
            names = [text_of(known.record.name) for known in gone]
            versions = [known.version for known in gone]
            rows = await on.fetch(self.statements.delete, names, versions, now, tolerance)
            for (name,) in rows:
                changed.add(name)
                self.damage.forget(name)
        kept = [change for change in changes if not is_gone(change[1])]
        for portion in portions_of_bytes(kept, lambda change: size_of(change[1])):
            columns = arrays_of_changes(portion)
            try:
                rows = await on.fetch(self.statements.update, *columns, now, tolerance)
            except RefusedError:
                if not changed:
                    raise
                # What is stored is to be told, and not to be made again. The rest is: then it has
                # the first statement, and is refused by itself.
                break
            changed.update(row[0] for row in rows)
        return changed

    async def ready(
        self, on: Fetching, method: str, limit: int, left_out: Collection[str]
    ) -> Found:
        """Returns the oldest operations of a method that are ready, and locks their rows.

        Those that another transaction has locked are passed over.
        """
        names = [text_of(one) for one in left_out]
        while True:
            passed_over = len(self.damage)
            more = min(limit + passed_over, _MOST_LIMIT)
            found = self.found(await on.fetch(self.statements.claim, text_of(method), more, names))
            sound = [name for name in found.known if name not in found.damaged]
            if len(sound) >= limit or len(self.damage) == passed_over:
                return Found({name: found.known[name] for name in sound[:limit]})

    async def changed_since(
        self, on: Fetching, versions: Mapping[str, int]
    ) -> Mapping[str, Known | None]:
        """Returns those of some operations whose version is another one; None if one is gone.

        They are ``MOST_CHANGED`` at most: if they are as many, there may be more.

        One that cannot be read is left out: whoever reads it learns why.
        """
        names = {text_of(name): name for name in versions}
        try:
            rows = await on.fetch(self.statements.changed, [*names], [*versions.values()])
        except RefusedError:
            changed: dict[str, Known | None] = {}
            asked = list(versions.items())
            middle = len(asked) // 2
            for half in (asked[:middle], asked[middle:]) if middle else ():
                changed.update(await self.changed_since(on, dict(half)))
            return changed
        return {names[name]: known_from(row) if row[0] else None for name, *row in rows}


def _portions(items: Sequence[T], most: int) -> Iterator[Sequence[T]]:
    for begin in range(0, len(items), most):
        yield items[begin : begin + most]


def portions_of_bytes(items: Sequence[T], size: Callable[[T], int]) -> Iterator[Sequence[T]]:
    """Yields items in portions, of which each has as much as one statement may write."""
    portion: list[T] = []
    taken = 0
    for item in items:
        taken += size(item)
        if portion and taken > _MOST_BYTES:
            yield portion
            portion, taken = [], size(item)
        portion.append(item)
    if portion:
        yield portion
