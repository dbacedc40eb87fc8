"""The rows of ``lro_operations``: read, made and changed, on a session that the caller has.

Each read has a bound in bytes (``portions``), and so has each write, by what its caller gives.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice, takewhile
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from lro_grpc._errors import OperationDamagedError
from lro_grpc._operation import integrity
from lro_grpc._operation.attempts import AttemptRecord, is_sound
from lro_grpc._operation.completion import Completion, Settlement
from lro_grpc._operation.record import Record
from lro_grpc._runtime.clock import Micros
from lro_grpc._stores.damage import Damage
from lro_grpc._stores.postgres.connections import Row
from lro_grpc._stores.postgres.failures import DamagedPageError, RefusedError
from lro_grpc._stores.postgres.portions import read_portion, share_of
from lro_grpc._stores.postgres.rows import (
    ATTEMPT_COLUMNS,
    Known,
    arrays_of,
    arrays_of_attempts,
    arrays_of_changes,
    arrays_of_completions,
    attempt_from,
    completion_from,
    is_whole,
    known_from,
    rest_from,
)
from lro_grpc._stores.postgres.staged_changes import RowChange, is_gone
from lro_grpc._stores.postgres.statements import MOST_CHANGED, Statements
from lro_grpc._stores.postgres.texts import text_from, text_of
from lro_grpc._stores.store import MOST_KEYS
from lro_grpc._stores.transfer import MOST_BYTES

T = TypeVar("T")

Attempts = Sequence[AttemptRecord]

_MOST_ROWS = 1000
"""The most rows in one answer."""


class Fetching(Protocol):
    """Carries out statements: a session, a transaction or a pool."""

    async def fetch(self, statement: str, *arguments: object) -> Sequence[Row]:
        """Returns the rows of a statement."""
        ...


@dataclass
class Found(Generic[T]):
    """The findings of a read."""

    known: dict[str, T] = field(default_factory=dict)
    """Those that are sound, by the names of operations."""
    damaged: dict[str, OperationDamagedError] = field(default_factory=dict)
    """The errors of those of which no record can be made; what can be read of one is known, too."""
    left: Collection[str] = ()
    """The names that are still to be read."""

    def update(self, other: Found[T]) -> None:
        """Takes what a later read has found."""
        self.known.update(other.known)
        self.damaged.update(other.damaged)
        self.left = other.left


class OfKeys(NamedTuple):
    """Some keys, of which operations are to be claimed; see ``Store.claim_by_key``."""

    keys: Sequence[str]
    places: int
    """The operations of each that may be held at a time; 0 for any number."""


class Wanted(NamedTuple):
    """The operations that are to be claimed; see ``Store.claim``."""

    method: str
    limit: int
    left_out: Collection[str] = ()
    ready_before: Micros | None = None
    now: Micros = 0
    of_keys: OfKeys | None = None
    """The keys that they have; None for those without one."""


class Keys(NamedTuple):
    """Keys of a method that have something ready, in their order."""

    locked: Sequence[str]
    """Those that are this transaction's until it ends; all, if no place of them is counted."""
    last: str
    """The last one that was looked at; empty for none."""
    passed_over: bool
    """Whether others were another transaction's."""
    more: bool
    """Whether there are more."""


class Ready(NamedTuple):
    """Operations that are ready."""

    known: Mapping[str, Known]
    damaged: Collection[str]
    """The names of those of which no record can be made."""
    more: bool
    """Whether there may be more."""


_NO_EVENT = b"\xff"
"""Bytes of which no message can be made."""


class Table:
    """The rows; see the module.

    Args:
        statements: The statements for them.
        damage: The rows that are set aside.
    """

    def __init__(self, statements: Statements, damage: Damage) -> None:
        self._statements = statements
        self._damage = damage
        self._room = _MOST_ROWS
        """The rows to ask for, by those that had room in the last statement."""

    async def read(self, on: Fetching, names: Collection[str]) -> Found[Known]:
        """Returns what is stored of some operations."""
        found: Found[Known] = Found(left=names)
        while found.left:
            found.update(await self.read_some(on, found.left))
        return found

    async def read_some(self, on: Fetching, names: Collection[str]) -> Found[Known]:
        """Returns what is stored of some operations, at least of one: the others are left."""
        rows, damaged, left = await self._some(on, self._statements.read, names, is_whole)
        if damaged:  # of one row, which is here as far as it can be read
            rest = zip(damaged, map(rest_from, rows), strict=False)
            return Found(dict(rest), damaged, left)
        found = self._found(rows)
        found.left = left
        return found

    async def read_attempts(self, on: Fetching, name: str) -> Found[tuple[Known, Attempts]]:
        """Returns what is stored of an operation and its superseded attempts, at one moment."""
        texts = [text_of(name)]
        try:
            rows = await on.fetch(self._statements.read_attempts, texts, share_of(1))
        except DamagedPageError as error:  # of its row, or of its attempts alone
            itself = await self.read_some(on, [name])
            if name not in itself.damaged:
                text = f"{name}: its attempts cannot be read ({error})"
                fields = {"operation": name}
                self._damage.lines.say(logging.ERROR, text, kind="attempts", extra=fields)
            return Found(
                {name: (known, ()) for name, known in itself.known.items()}, itself.damaged
            )
        if not rows:
            self._damage.forget(name)  # somebody has deleted it
        found: Found[tuple[Known, Attempts]] = Found()
        for row in rows:
            width = len(row) - len(ATTEMPT_COLUMNS)
            of_record = self._found([row[:width]])
            found.damaged.update(of_record.damaged)
            columns = (values or () for values in row[width:])  # NULL if there is no row
            values = filter(is_sound, zip(*columns, strict=True))
            attempts = [attempt_from(one) for one in values]
            found.known[name] = of_record.known[name], attempts
        return found

    async def read_numbers(self, on: Fetching, names: Collection[str]) -> Found[Known]:
        """Returns the names and numbers of some operations; texts and bytes are empty.

        Raises:
            RefusedError: If the page of a row cannot be read.
        """
        asked = list(islice(names, _MOST_ROWS))
        texts = [text_of(name) for name in asked]
        rows = await on.fetch(self._statements.read_numbers, texts)
        found: Found[Known] = Found(left=list(names)[len(asked) :])
        for known in map(rest_from, rows):
            name = known.record.name
            found.known[name] = known
            try:
                self._damage.checked(known.record, integrity.fault_in_types)
            except OperationDamagedError as error:
                found.damaged[name] = error
        return found

    async def operations(self, on: Fetching, names: Collection[str]) -> Found[bytes]:
        """Returns the bytes that Get answers with, of at least one: the others are left."""
        rows, damaged, left = await self._some(on, self._statements.served, names, _has_operation)
        found: Found[bytes] = Found({}, damaged, left)
        for operation, name in () if damaged else rows:
            try:
                found.known[name] = self._damage.served(name, operation)
            except OperationDamagedError as error:
                found.damaged[name] = error
        return found

    async def _some(
        self,
        on: Fetching,
        statement: str,
        names: Collection[str],
        is_whole: Callable[[Row], bool],
    ) -> tuple[Sequence[Row], dict[str, OperationDamagedError], Collection[str]]:
        """Returns rows that are whole; or one that is not, and its error; and the names left."""
        # One that could not be read would fail the statement of all: it is read last, and alone.
        set_aside = self._damage.set_aside()
        readable = (name for name in names if name not in set_aside)
        asked = list(islice(readable, self._room)) or list(islice(names, 1))
        texts = [text_of(name) for name in asked]
        rows, number, error = await read_portion(
            lambda number, most: on.fetch(statement, texts[:number], most), len(asked), is_whole
        )
        if number < len(asked):
            self._room = number
        elif number == self._room:
            self._room = min(_MOST_ROWS, 2 * number)
        read = set(asked[:number])
        damaged: dict[str, OperationDamagedError] = {}
        if error is not None:
            (name,) = read
            damaged[name] = self._damage.found(name, "its row cannot be read", error)
        else:
            for name in read - {text_from(row[1]) for row in rows}:
                self._damage.forget(name)  # somebody has deleted it
            read -= {text_from(row[1]) for row in rows if not is_whole(row)}
            rows = [row for row in rows if is_whole(row)]
        return rows, damaged, [name for name in names if name not in read]

    def _found(self, rows: Iterable[Row]) -> Found[Known]:
        """Returns what rows of ``version`` and ``COLUMNS`` say."""
        found: Found[Known] = Found()
        for row in rows:
            known = known_from(row)
            name = known.record.name
            found.known[name] = known
            try:
                self._damage.checked(known.record)
            except OperationDamagedError as error:
                found.damaged[name] = error
            else:
                self._damage.forget(name)  # somebody may have mended it
        return found

    async def insert(
        self, on: Fetching, records: Sequence[Record], now: int, tolerance: int
    ) -> Collection[str]:
        """Adds new rows by one statement, and returns the names of those that are there now.

        One is not if another row has its name, its request or its exclusive target.

        Args:
            on: What carries the statement out.
            records: The records.
            now: The time that leases were given for.
            tolerance: How far it may be off by the server's clock: beyond that no row with a lease
                is added.
        """
        has_labels = any(record.labels for record in records)
        insert = self._statements.insert_labelled if has_labels else self._statements.insert
        rows = await on.fetch(insert, *arrays_of(records), now, tolerance)
        return {text_from(name) for (name,) in rows}

    async def rivals(self, on: Fetching, records: Sequence[Record]) -> Found[Known]:
        """Returns the rows that keep new records out."""
        asked = [one for one in records if one.request_id]
        rows = await on.fetch(
            self._statements.rivals,
            [text_of(one.method) for one in asked],
            [text_of(one.request_id) for one in asked],
            [text_of(one.caller) for one in asked],
            [text_of(one.parent) for one in asked],
            [text_of(one.name) for one in records],
            [text_of(one.exclusive_target) for one in records if one.exclusive_target],
        )
        return await self.read(on, [text_from(name) for (name,) in rows])

    async def change(
        self, on: Fetching, changes: Sequence[RowChange], now: int, tolerance: int
    ) -> Collection[str]:
        """Changes rows whose versions are as they are known, and returns the names of these.

        Args:
            on: What carries the statements out.
            changes: The changes, of one row each.
            now: The time that they were made for.
            tolerance: How far it may be off by the server's clock: beyond that no row is changed.
        """
        changed: set[str] = set()
        gone = [change for change in changes if is_gone(change.after)]
        if gone:
            names = [text_of(change.after.name) for change in gone]
            versions = [change.known.version for change in gone]
            completions = [one.completion for one in gone if one.completion]
            delete = self._statements.delete
            arrays: list[Sequence[Any]] = []
            if completions:
                delete = self._statements.delete_completing
                arrays = arrays_of_completions(completions)
            rows = await on.fetch(delete, names, versions, now, tolerance, *arrays)
            for (name,) in rows:
                changed.add(text_from(name))
                self._damage.forget(text_from(name))
        kept = [change for change in changes if not is_gone(change.after)]
        if kept:
            columns = arrays_of_changes([(change.known, change.after) for change in kept])
            superseded = [
                (text_of(change.after.name), one) for change in kept for one in change.superseded
            ]
            completions = [one.completion for one in kept if one.completion]
            update = self._statements.update
            more: list[Sequence[Any]] = []
            if superseded or completions:
                update = self._statements.update_adding
                more = [*arrays_of_attempts(superseded), *arrays_of_completions(completions)]
            try:
                rows = await on.fetch(update, *columns, now, tolerance, *more)
            except RefusedError:
                if not changed:
                    raise
                # What is removed is to be told, and not to be made again. The rest is: then it has
                # the first statement, and is refused by itself.
            else:
                changed.update(text_from(name) for (name,) in rows)
        return changed

    async def take_completions(
        self, on: Fetching, limit: int, lease: int, now: int
    ) -> Sequence[Completion]:
        """Takes completions that are due; those that another transaction has are passed over.

        One whose event the server cannot read has bytes in place of it that are no event.
        """
        values = (now, limit, lease, MOST_BYTES)
        try:
            rows = await on.fetch(self._statements.take_completions, *values)
            some = [*map(completion_from, rows)]
        except DamagedPageError:
            rows = await on.fetch(self._statements.take_unread, *values)
            some = [await self._with_event(on, completion_from(row)) for row in rows]
        return sorted(some, key=lambda one: one.end_time)

    async def _with_event(self, on: Fetching, unread: Completion) -> Completion:
        try:
            rows = await on.fetch(
                self._statements.read_event, text_of(unread.name), unread.create_time
            )
        except DamagedPageError:
            return unread._replace(event=_NO_EVENT)
        return unread._replace(event=rows[0][0] if rows else _NO_EVENT)

    async def settle_completions(self, on: Fetching, settlements: Sequence[Settlement]) -> None:
        """Changes completions that were taken, or removes them."""
        told = [before for before, after in settlements if after is None]
        if told:
            names, create_times = zip(*(one.key for one in told), strict=True)
            await on.fetch(self._statements.told, [*map(text_of, names)], create_times)
        put_off = [
            (
                *(text_of(before.name), before.create_time, before.attempt_count),
                *(after.next_time, after.attempt_count, after.given_up, after.error),
            )
            for before, after in settlements
            if after is not None
        ]
        if put_off:
            await on.fetch(self._statements.put_off, *zip(*put_off, strict=True))

    async def read_completion(self, on: Fetching, name: str, create_time: int) -> Completion | None:
        """Returns the completion of an operation, without its event; None if there is none."""
        rows = await on.fetch(self._statements.read_completion, text_of(name), create_time)
        return completion_from(rows[0]) if rows else None

    async def ready(self, on: Fetching, wanted: Wanted) -> Ready:
        """Returns the oldest operations of a method that are ready, and locks their rows.

        Those that another transaction has locked are passed over, and so is what is set aside.
        """
        method, names = text_of(wanted.method), self.set_aside(wanted.left_out)
        statement = (
            self._statements.claim if wanted.of_keys is None else self._statements.claim_by_key
        )
        since = (wanted.ready_before, wanted.now, *_values_of(wanted.of_keys))
        rows, number, _ = await read_portion(
            lambda number, most: on.fetch(statement, method, number, names, most, *since),
            min(wanted.limit, _MOST_ROWS),
            is_whole,
        )
        whole = list(takewhile(is_whole, rows))
        found = self._found(whole)
        sound = {name: known for name, known in found.known.items() if name not in found.damaged}
        is_full = len(rows) == number or len(whole) < len(rows)
        # A damaged one may have had a place of its key, which one behind it gets next.
        return Ready(sound, found.damaged.keys(), is_full or bool(found.damaged))

    async def lock_keys(self, on: Fetching, method: str, after: str, places: int) -> Keys:
        """Has keys of a method for a transaction alone: those that no other one has.

        Args:
            on: The transaction.
            method: The method.
            after: The key behind which it begins; it goes on from the first key to this one.
            places: The places of each. Those of 0, which is any number, are not counted, so that
                nothing is locked.
        """
        values = (text_of(method), text_of(after), MOST_KEYS + 1)
        statement = self._statements.lock_keys if places else self._statements.keys
        rows = await on.fetch(statement, *values)
        looked_at = rows[:MOST_KEYS]
        return Keys(
            [text_from(key) for key, is_ours in looked_at if is_ours],
            text_from(looked_at[-1][0]) if looked_at else "",
            passed_over=any(not is_ours for _, is_ours in looked_at),
            more=len(rows) > MOST_KEYS,
        )

    async def ready_names(self, on: Fetching, wanted: Wanted) -> Sequence[str]:
        """Returns the names of the oldest operations of a method that are ready."""
        statements = self._statements
        statement = statements.ready if wanted.of_keys is None else statements.ready_by_key
        return await self._ready_names(on, statement, wanted)

    async def ready_names_of_any_key(self, on: Fetching, method: str, limit: int) -> Sequence[str]:
        """Returns the names of operations of a method that are ready, those without a key first."""
        statement = self._statements.ready_of_any_key
        return await self._ready_names(on, statement, Wanted(method, limit))

    async def _ready_names(self, on: Fetching, statement: str, wanted: Wanted) -> Sequence[str]:
        rows = await on.fetch(
            statement,
            text_of(wanted.method),
            wanted.limit,
            self.set_aside(wanted.left_out),
            *(wanted.ready_before, wanted.now, *_values_of(wanted.of_keys)),
        )
        return [text_from(name) for (name,) in rows]

    async def find_unreadable(self, on: Fetching, wanted: Wanted) -> Collection[str]:
        """Sets aside the ready operations that cannot be read, and returns their names."""
        some = wanted._replace(limit=min(wanted.limit, _MOST_ROWS))
        left: Collection[str] = await self.ready_names(on, some)
        damaged: set[str] = set()
        while left:
            found = await self.read_some(on, left)
            damaged.update(found.damaged)
            left = found.left
        return damaged

    def unchangeable(self, name: str, cause: BaseException | None) -> OperationDamagedError:
        """Sets aside an operation whose row the server can read, and not change."""
        return self._damage.found(name, "its row cannot be changed", cause)

    def set_aside(self, more: Iterable[str] = ()) -> Sequence[str]:
        """Returns the names, as their column has them, of what is set aside, and some more."""
        return [text_of(str(name)) for name in {*more, *self._damage.set_aside()}]

    async def changed_since(self, on: Fetching, versions: Mapping[str, int]) -> Found[Known | None]:
        """Returns those of some operations whose version is another one; None if one is gone.

        They are ``MOST_CHANGED`` at most: others may be left. One that cannot be read is damaged,
        or left out: whoever reads it learns why.
        """
        names = {text_of(name): name for name in versions}
        most = share_of(min(len(versions), MOST_CHANGED))
        changed: Found[Known | None] = Found()
        try:
            rows = await on.fetch(self._statements.changed, [*names], [*versions.values()], most)
        except RefusedError:
            asked = list(versions.items())
            middle = len(asked) // 2
            for half in (asked[:middle], asked[middle:]) if middle else ():
                left = changed.left
                changed.update(await self.changed_since(on, dict(half)))
                changed.left = [*left, *changed.left]
            return changed
        answered = {names[name]: row for name, *row in rows}
        changed.known.update((name, None) for name, row in answered.items() if not row[0])
        large = [name for name, row in answered.items() if row[0] and not is_whole(row)]
        whole = self._found(row for row in answered.values() if row[0] and is_whole(row))
        for found in (whole, await self.read(on, large)):
            changed.damaged.update(found.damaged)
            sound = found.known.keys() - found.damaged.keys()
            changed.known.update((name, found.known[name]) for name in sound)
        if len(rows) == MOST_CHANGED:
            changed.left = [name for name in versions if name not in answered]
        return changed


def _values_of(of_keys: OfKeys | None) -> Sequence[object]:
    """Returns the parameters of a statement of operations that have keys."""
    return () if of_keys is None else ([*map(text_of, of_keys.keys)], of_keys.places)


def _has_operation(row: Row) -> bool:
    return row[0] is not None
