"""The changes of one commit: applied to records in memory, then each record written once.

Ten changes of one operation, in one commit, cost one UPDATE. A change sees the changes before it in
the same commit, whose records lie over those at hand and over the file's rows. A claim looks for
rows, and passes over operations that the same commit has changed: they are made at the same time.
"""

from __future__ import annotations

import contextlib
import functools
import heapq
import itertools
import sqlite3
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from lro_grpc._errors import LroError, OperationDamagedError, UnexpectedError
from lro_grpc._operation import labels
from lro_grpc._operation.attempts import AttemptRecord, superseded
from lro_grpc._operation.completion import Completion, Settlement, completed
from lro_grpc._operation.events import Claim, Delete, Event, apply_safely
from lro_grpc._operation.publication import not_found
from lro_grpc._operation.record import FREE, KEPT, ONCE, RISING, Record, that_change
from lro_grpc._runtime.clock import Micros
from lro_grpc._stores.damage import deleted_damaged
from lro_grpc._stores.key_turns import KeyTurns
from lro_grpc._stores.refusals import check_same_request, in_progress, name_taken
from lro_grpc._stores.sqlite.damage import SqliteDamage, is_malformed
from lro_grpc._stores.sqlite.recent import RecentRecords
from lro_grpc._stores.sqlite.schema import (
    ATTEMPT_COLUMNS,
    COLUMNS,
    COMPLETION_COLUMNS,
    HELD_BY_KEY,
    KEYED,
    NEXT,
    RANKED,
    binder,
)
from lro_grpc._stores.store import Claimed, KeyedClaims, Now

# Fields that are cleared, and ``deleted``, change once at most: by statements of their own, so that
# all other updates leave the indexes over them alone.
_CHANGING = tuple(name for name in that_change(ONCE, KEPT, RISING, FREE) if name != "deleted")
_of_insert = binder(Record._fields)
_of_update = binder((*_CHANGING, "name"))

_INSERT = f"INSERT INTO operations ({COLUMNS}) VALUES ({', '.join('?' * len(Record._fields))})"
_UPDATE = f"UPDATE operations SET {', '.join(f'{c} = ?' for c in _CHANGING)} WHERE name = ?"
_HIDE = "UPDATE operations SET deleted = 1 WHERE name = ?"
_FREE_TARGET = "UPDATE operations SET exclusive_target = '' WHERE name = ?"

_SUPERSEDE = (
    f"INSERT INTO attempts (operation, {ATTEMPT_COLUMNS})"
    f" SELECT sequence, {', '.join('?' * len(AttemptRecord._fields))}"
    " FROM operations WHERE name = ? ON CONFLICT DO NOTHING"
)
_FORGET = (
    "DELETE FROM attempts WHERE operation = (SELECT sequence FROM operations WHERE name = ?)"
    " AND number BETWEEN 2 AND ?"
)

_COMPLETE = (
    f"INSERT INTO outbox ({COMPLETION_COLUMNS})"
    f" VALUES ({', '.join('?' * len(Completion._fields))}) ON CONFLICT DO NOTHING"
)
_OF_KEY = "WHERE name = ? AND create_time = ?"
_TOLD = f"DELETE FROM outbox {_OF_KEY}"
_PUT_OFF = f"UPDATE outbox SET next_time = ?, attempt_count = ?, given_up = ?, error = ? {_OF_KEY}"

_LABEL = (
    "INSERT INTO labels (key, value, operation)"
    " SELECT ?, ?, sequence FROM operations WHERE name = ?"
)
_UNLABEL = (
    "DELETE FROM labels WHERE key = ? AND value = ?"
    " AND operation = (SELECT sequence FROM operations WHERE name = ?)"
)

MOST_BYTES = 8 * 1024 * 1024
"""Bytes of records at which a commit takes no more: meanwhile the event loop stands still."""

MOST_LABELS = 2000
"""Labels at which it takes no more, for each is a row: 32 operations may have as many."""

_OF_START = f"SELECT create_time, sequence, name FROM operations WHERE {NEXT} AND method = ?"
_OF_RANKED = f"SELECT queue_order, sequence, name FROM operations WHERE {RANKED} AND method = ?"
READY_ROWS = (
    f"{_OF_START} ORDER BY sequence",
    f"{_OF_RANKED} ORDER BY queue_order, sequence",
)
"""The two statements for what is ready, each in its order; ``by_queue_time`` makes one of both."""
_SINCE = f"update_time NOT BETWEEN coalesce(?, {2**63 - 1}) AND ?"
_CLAIMED = (
    f"{_OF_START} AND {_SINCE} ORDER BY sequence",
    f"{_OF_RANKED} AND {_SINCE} ORDER BY queue_order, sequence",
)

READY_BY_KEY = (
    f"SELECT name FROM operations INDEXED BY operations_by_key WHERE {KEYED} AND method = ?"
    " ORDER BY concurrency_key, queue_order, sequence"
)
"""The statement for what has a key and is ready."""
_NEXT_KEY = (
    "SELECT concurrency_key FROM operations INDEXED BY operations_by_key"
    f" WHERE {KEYED} AND method = ?1 AND concurrency_key > {{}} ORDER BY concurrency_key LIMIT 1"
)
_KEYS = (
    f"WITH RECURSIVE ring(key) AS (SELECT ({_NEXT_KEY.format('?2')}) UNION ALL"
    f" SELECT ({_NEXT_KEY.format('ring.key')}) FROM ring WHERE key IS NOT NULL)"
    " SELECT key, CASE WHEN ?3 THEN (SELECT count(*) FROM operations"
    f" INDEXED BY operations_held_by_key WHERE {HELD_BY_KEY} AND method = ?1"
    " AND concurrency_key = ring.key) END FROM ring WHERE key IS NOT NULL"
)
"""The statement for the keys behind one of which something is ready, each with how many are held.

It finds a key when its row is asked for, and no sooner.
"""
_READY_OF_KEY = (
    f"SELECT name FROM operations INDEXED BY operations_by_key WHERE {KEYED} AND method = ?"
    f" AND concurrency_key = ? AND {_SINCE} ORDER BY queue_order, sequence"
)

BY_EXCLUSIVE_TARGET = (
    "SELECT name FROM operations WHERE exclusive_target = ? AND exclusive_target <> ''"
)

_BY_REQUEST = (
    "SELECT name FROM operations"
    " WHERE method = ? AND request_id = ? AND caller = ? AND parent = ? AND request_id <> ''"
)


class UnstorableError(Exception):
    """A record holds a value that SQLite cannot store, by a bug in the event that made it."""

    def public(self) -> UnexpectedError:
        """Returns the error for the caller of the event."""
        failed = UnexpectedError("a record has a value that the store cannot take")
        failed.__cause__ = self.__cause__
        return failed


_UNSTORABLE = (
    sqlite3.InterfaceError,
    sqlite3.ProgrammingError,
    sqlite3.DataError,
    sqlite3.IntegrityError,
    OverflowError,
    UnicodeError,
    TypeError,
)


class Commit:
    """The changes of one commit, on top of the records that are stored.

    The context of a commit is its transaction, which the writer begins and commits inside; an error
    rolls it back.

    Args:
        connection: The writer's connection.
        recent: The records at hand.
        damage: The rows that are set aside.
        now: Returns the time in microseconds since 1970 UTC.
    """

    def __init__(
        self, connection: sqlite3.Connection, recent: RecentRecords, damage: SqliteDamage, now: Now
    ) -> None:
        self.changes: list[tuple[Record | None, Record]] = []
        """The changes in their order, each as listeners get it: the record before and after."""
        self.completions: list[Completion] = []
        """The completions that operations leave behind which have ended."""
        self.large_bytes = 0
        """The bytes of all that may be large in the records that were changed."""
        self._labels = 0
        """The labels that are to be written, or removed."""
        self._connection = connection
        self._recent = recent
        self._damage = damage
        self._now = now
        self._records: dict[str, Record] = {}
        self._new: set[str] = set()
        self._requests: dict[tuple[str, str, str, str], str] = {}
        self._exclusive_holders: dict[str, str] = {}
        self._freed: list[str] = []
        self._superseded: list[tuple[str, AttemptRecord]] = []
        self._held: Counter[tuple[str, str]] = Counter()
        """Of methods and keys how many more operations are held than the file's rows say."""

    @functools.cached_property
    def _time(self) -> Micros:
        """The time of all its changes: they are made at once, and are durable at once."""
        return self._now()

    @property
    def is_full(self) -> bool:
        """Whether it takes no more changes."""
        return self.large_bytes >= MOST_BYTES or self._labels >= MOST_LABELS

    def __enter__(self) -> Commit:
        """Returns the commit."""
        return self

    def __exit__(self, *error: object) -> None:
        """Rolls the transaction back unless it is committed."""
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    @property
    def names(self) -> Collection[str]:
        """The operations that were changed."""
        return self._records.keys()

    @property
    def records(self) -> Collection[Record]:
        """The records that were changed, as they are after the last change."""
        return self._records.values()

    def create(self, record: Record) -> Record:
        """Adds a record; see :meth:`lro_grpc.stores.Store.create`."""
        stored = self._by_request(record) if record.request_id else None
        if stored is not None:
            return check_same_request(stored, record)
        if self._has(record.name):
            raise name_taken(record.name)
        holder = self._exclusive_holder(record.exclusive_target)
        if holder:
            held_by = self._get_if_sound(holder)
            raise in_progress(record.exclusive_target, held_by, caller=record.caller)
        self._new.add(record.name)
        self._change(None, record)
        return record

    def apply(self, name: str, event: Event) -> Record | LroError:
        """Applies an event to the record of a name; returns that record, or the error."""
        if name in self._damage.unwritable:
            return self._damage.unwritable[name]
        try:
            before = self._get(name)
        except OperationDamagedError as error:
            return self._delete_damaged(name) if isinstance(event, Delete) else error
        if before is None:
            return not_found(name)
        after = apply_safely(event, before, self._time)
        if isinstance(after, LroError):
            return after
        if after is not before:
            if before.exclusive_target and not after.exclusive_target:
                self._exclusive_holders[before.exclusive_target] = ""
                self._freed.append(name)
            attempt = superseded(before, after)
            if attempt:
                self._superseded.append((name, attempt))
            completion = completed(before, after)
            if completion:
                self.completions.append(completion)
                self.large_bytes += completion.size
            self._change(before, after)
        return after

    def claim(
        self,
        limits: Mapping[str, int],
        claim: Claim,
        left_out: Collection[str],
        ready_before: int | None,
    ) -> tuple[Sequence[Claimed], bool]:
        """Claims operations; see :meth:`lro_grpc.stores.Store.claim`.

        Returns:
            What has become of each, and whether the rest has to wait for another commit.
        """
        claimed: list[Claimed] = []
        taken = 0
        for method, limit in limits.items():
            values = (method, ready_before, self._time)
            with contextlib.ExitStack() as cursors:  # they close now, not when they are collected
                ready = [
                    cursors.enter_context(contextlib.closing(self._connection.execute(one, values)))
                    for one in _CLAIMED
                ]
                names = self._sound(by_queue_time(ready), left_out)
                for record in itertools.islice(names, limit):
                    claimed.append(Claimed(record, self.apply(record.name, claim)))
                    taken += record.large_bytes
                    if taken >= MOST_BYTES:
                        return claimed, True
        return claimed, False

    def claim_by_key(
        self,
        method: str,
        limit: int,
        per_key: int,
        claim: Claim,
        after: str,
        left_out: Collection[str],
        ready_before: int | None,
    ) -> KeyedClaims:
        """Claims operations with a key; see :meth:`lro_grpc.stores.Store.claim_by_key`."""
        claimed: list[Claimed] = []
        taken = 0
        with contextlib.ExitStack() as cursors:  # they close now, not when they are collected

            def ready(key: str, held: int) -> Iterator[Record]:
                left = per_key - held if per_key else limit
                if left <= 0:
                    return iter(())
                values = (method, key, ready_before, self._time)
                rows = self._connection.execute(_READY_OF_KEY, values)
                cursors.callback(rows.close)
                return itertools.islice(self._sound(rows, left_out), left)

            ring = self._ring(method, after, per_key, cursors)
            turns = KeyTurns(((key, ready(key, held)) for key, held in ring), after)
            for record in itertools.islice(turns, limit):
                claimed.append(Claimed(record, self.apply(record.name, claim)))
                taken += record.large_bytes
                if taken >= MOST_BYTES:
                    break
        return KeyedClaims(claimed, turns.last_key, turns.has_more)

    def _ring(
        self, method: str, after: str, per_key: int, cursors: contextlib.ExitStack
    ) -> Iterator[tuple[str, int]]:
        """Yields the keys that have something ready, and how many of each are held by now."""
        for begin in (after, "") if after else ("",):
            rows = self._connection.execute(_KEYS, (method, begin, per_key))
            cursors.callback(rows.close)
            for key, in_file in rows:
                if type(key) is not str:  # it is of a damaged row
                    continue
                if after and not begin and key > after:
                    return
                yield key, (in_file or 0) + self._held[method, key]

    def _sound(self, rows: Iterable[tuple[object]], left_out: Collection[str]) -> Iterator[Record]:
        """Yields the records of names, but for those that cannot be claimed."""
        for name in self._damage.names(rows):
            if name in self._records or name in left_out or name in self._damage.unwritable:
                continue
            record = self._get_if_sound(name)
            if record is not None:
                yield record

    def write(self) -> None:
        """Writes each record that was changed, as it is now.

        Raises:
            UnstorableError: If one of them holds a value that SQLite cannot store.
        """
        try:
            self._write()
        except _UNSTORABLE as cause:
            raise UnstorableError from cause

    def _write(self) -> None:
        records = self._records.values()
        # First the rows that give up a unique value: a new record of this commit may have it now.
        deleted = [record for record in records if record.deleted]
        gone = [record for record in deleted if record.done]
        self._connection.executemany(_UNLABEL, _labels_of(gone))
        names = [(record.name,) for record in gone]
        self._connection.executemany("DELETE FROM operations WHERE name = ?", names)
        hidden = [(record.name,) for record in deleted if not record.done]
        self._connection.executemany(_HIDE, hidden)
        self._connection.executemany(_FREE_TARGET, [(name,) for name in self._freed])
        new = [record for record in records if record.name in self._new and not _is_gone(record)]
        self._connection.executemany(_INSERT, map(_of_insert, new))
        self._connection.executemany(_LABEL, _labels_of(new))
        known = [record for record in records if record.name not in self._new]
        self._connection.executemany(_UPDATE, map(_of_update, known))
        if self._superseded:
            rows = [(*attempt, name) for name, attempt in self._superseded]
            self._connection.executemany(_SUPERSEDE, rows)
            old = [(name, one.oldest_kept - 1) for name, one in self._superseded]
            self._connection.executemany(_FORGET, [one for one in old if one[1] > 1])
        if self.completions:
            self._connection.executemany(_COMPLETE, self.completions)

    def settle_completions(self, settlements: Sequence[Settlement]) -> None:
        """Changes completions, or removes them, whoever has them."""
        told = [before.key for before, after in settlements if after is None]
        put_off = [
            (after.next_time, after.attempt_count, after.given_up, after.error, *before.key)
            for before, after in settlements
            if after is not None
        ]
        self._connection.executemany(_TOLD, told)
        self._connection.executemany(_PUT_OFF, put_off)

    def _delete_damaged(self, name: str) -> Record:
        """Deletes the row of an operation that no record can be made of.

        Returns:
            A record in its place, as one that is done and deleted.
        """
        self._damage.forget(name)
        before, deleted = deleted_damaged(name, self._time)
        deleted = deleted._replace(labels=self._labels_left(name))
        self._change(before, deleted)
        return deleted

    def _labels_left(self, name: str) -> str:
        """Returns the labels of a damaged row, as far as they can be read."""
        with contextlib.suppress(OperationDamagedError):
            query = "SELECT labels FROM operations WHERE name = ?"
            (text,) = self._damage.row(self._connection, query, name) or ("",)
            self._damage.forget(name)
            return text if type(text) is str and labels.is_sound(text) else ""
        return ""

    def unwritable(self) -> Mapping[str, sqlite3.Error]:
        """Returns the operations whose rows SQLite cannot write, after an error of ``write``.

        Each is tried in a transaction of its own. In one in which SQLite has met a damaged page, it
        may take sound rows for damaged, too.
        """
        found: dict[str, sqlite3.Error] = {}
        for record in self._records.values():
            self._connection.execute("ROLLBACK")
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                if _is_gone(record):
                    self._connection.execute(
                        "DELETE FROM operations WHERE name = ?", (record.name,)
                    )
                elif record.name not in self._new:
                    self._connection.execute(_UPDATE, _of_update(record))
            except sqlite3.Error as error:
                if not is_malformed(error):
                    raise
                found[record.name] = error
        return found

    def _change(self, before: Record | None, record: Record) -> None:
        if record.name not in self._records:
            try:
                self.large_bytes += record.large_bytes
                if record.labels and (before is None or _is_gone(record)):
                    self._labels += record.labels.count("=")
            except (AttributeError, TypeError):  # SQLite cannot store it, and will say so
                pass
        self._records[record.name] = record
        if record.request_id:
            self._requests[_request_key(record)] = "" if _is_gone(record) else record.name
        if record.exclusive_target:
            self._exclusive_holders[record.exclusive_target] = record.name
        if record.concurrency_key:
            was_held = before is not None and bool(before.lease_expire_time)
            change = bool(record.lease_expire_time) - was_held
            if change:
                self._held[record.method, record.concurrency_key] += change
        self.changes.append((before, record))

    def _get(self, name: str) -> Record | None:
        record = self._records.get(name) or self._recent.get(name)
        if record is None:
            query = f"SELECT {COLUMNS} FROM operations WHERE name = ?"
            row = self._damage.row(self._connection, query, name)
            return self._damage.record(row) if row else None
        return None if _is_gone(record) else record

    def _get_if_sound(self, name: str) -> Record | None:
        try:
            return self._get(name)
        except OperationDamagedError:
            return None

    def _has(self, name: str) -> bool:
        if name in self._records or self._recent.get(name):
            return True
        query = "SELECT 1 FROM operations WHERE name = ?"
        return self._connection.execute(query, (name,)).fetchone() is not None

    def _by_request(self, record: Record) -> Record | None:
        key = _request_key(record)
        name = self._requests.get(key)
        if name is None:
            row = self._connection.execute(_BY_REQUEST, key).fetchone()
            name = row[0] if row else ""
        return self._get(name) if name else None

    def _exclusive_holder(self, target: str) -> str:
        """Returns the operation that has a target for itself; empty for none."""
        if not target:
            return ""
        if target not in self._exclusive_holders:
            row = self._connection.execute(BY_EXCLUSIVE_TARGET, (target,)).fetchone()
            self._exclusive_holders[target] = row[0] if row else ""
        return self._exclusive_holders[target]


def by_queue_time(ready: Iterable[Iterable[tuple[object, ...]]]) -> Iterator[tuple[object]]:
    """Yields the names of what the ``READY_ROWS`` have, those first that are to begin first."""
    for *_, name in heapq.merge(*ready, key=_queue_time_of):
        yield (name,)


def _queue_time_of(row: tuple[object, ...]) -> tuple[int, int]:
    """Returns the order of a row; a damaged one is next, and passed over."""
    time, sequence, _ = row
    return (time, sequence) if type(time) is int and type(sequence) is int else (0, 0)


def _labels_of(records: Iterable[Record]) -> Iterator[tuple[str, str, str]]:
    """Yields the labels of records: of each its key, its value and the operation."""
    for record in records:
        if record.labels:
            for key, value in labels.unpacked(record.labels):
                yield key, value, record.name


def _is_gone(record: Record) -> bool:
    return record.deleted and record.done


def _request_key(record: Record) -> tuple[str, str, str, str]:
    """Returns the columns by which the same request is found again."""
    return record.method, record.request_id, record.caller, record.parent
