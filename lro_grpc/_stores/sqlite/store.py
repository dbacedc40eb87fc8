"""A store in one SQLite file, owned by one process.

One task writes. It takes all changes that wait, applies them to records in memory, writes each
record that has changed once, and lets a thread commit them together; only then does it answer.
Records that have changed of late are kept at hand, as they were last told. Other reads go to the
file, on a connection of their own, and see what is committed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import sqlite3
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from lro_grpc._errors import ConfigurationError, LroError, UnavailableError
from lro_grpc._filtering.expression import And, Compare, Like
from lro_grpc._operation.events import Event
from lro_grpc._operation.lifecycle import CANCELLING
from lro_grpc._operation.publication import not_found
from lro_grpc._operation.record import Record
from lro_grpc._stores.sqlite.commit import BY_EXCLUSIVE_TARGET, Batch, Unstorable
from lro_grpc._stores.sqlite.file_lock import FileLock
from lro_grpc._stores.sqlite.filter import Condition, condition
from lro_grpc._stores.sqlite.schema import (
    CLAIMABLE,
    COLUMNS,
    OPERATION_ID,
    STATES,
    prepare,
    record_of,
    signing_secret_of,
    transaction,
)
from lro_grpc._stores.store import (
    MAX_EXAMINED,
    Change,
    Leased,
    Listener,
    Now,
    Page,
    Query,
    page_of,
    sequence_before,
)

T = TypeVar("T")

_MAX_CHANGES = 1000
"""Changes in one commit at most, so that the first of them need not wait for ever."""

_BUSY_SECONDS = 0.1
"""For how long a stranger's lock on the file may hold up the event loop."""

_LAST_TIME = 2**63 - 1

_HAS_CANCELLED_CHECKPOINT = f"checkpoint <> x'' AND state = {CANCELLING}"
_TO_UNDO = f"(batch <> x'' OR ({_HAS_CANCELLED_CHECKPOINT}))"
_READY = (
    f"SELECT name FROM operations WHERE {CLAIMABLE} AND method = ? AND scheduled_time <= ?"
    " ORDER BY sequence LIMIT ?"
)
_EXPIRING = (
    "SELECT name FROM operations WHERE expire_time <> 0 AND expire_time <= ? AND NOT deleted"
    " ORDER BY expire_time LIMIT ?"
)
_OVERDUE = (
    "SELECT name FROM operations"
    " WHERE deadline_time <> 0 AND lease_expire_time = 0 AND end_time = 0 AND deadline_time <= ?"
    f" AND NOT (state IN ({STATES}) AND {_TO_UNDO})"
    " ORDER BY deadline_time LIMIT ?"
)
# The rows that a page looks at, in an order that needs no sorting.
_OF_PARENT = "FROM operations WHERE parent = ? AND NOT deleted AND sequence < ?"
_OF_ALL = "FROM operations NOT INDEXED WHERE sequence < ?"
_NEWEST_FIRST = "ORDER BY sequence DESC"

_WILDCARD = re.compile("(?<![^/])-(?![^/])")
"""A segment of a parent that stands for any segment."""


@dataclass(frozen=True, slots=True)
class _Work:
    """What the writer is to do, and where its result goes."""

    do: Callable[[Batch], Any]
    done: asyncio.Future[Any]


@dataclass(frozen=True, slots=True)
class _Result:
    """What became of a piece of work, to be told once it is committed."""

    done: asyncio.Future[Any]
    value: Any = None
    error: Exception | None = None

    def tell(self) -> None:
        if self.done.done():  # its caller was cancelled meanwhile
            return
        if self.error is None:
            self.done.set_result(self.value)
        else:
            self.done.set_exception(self.error)


class SqliteStore:
    """Keeps records in a SQLite file; see :class:`lro_grpc._stores.store.Store`.

    Args:
        path: The file; made when it is missing, in a folder that exists.
        now: Tells the time in microseconds since 1970 UTC.
    """

    exclusive = True

    def __init__(self, path: str | os.PathLike[str], now: Now) -> None:
        self.path = Path(path)
        self.signing_secret = b""
        self._now = now
        self._file = self.path.resolve()  # a link to the file is the file
        self._lock = FileLock(self._file.with_name(self._file.name + ".lock"))
        self._listeners: list[Listener] = []
        self._works: deque[_Work] = deque()
        self._closing = False
        self._recent: dict[str, Record] = {}
        self._untold: Collection[str] = ()

    async def open(self) -> None:
        """Takes the file, brings it to the present version and starts the writer."""
        try:
            self._lock.acquire()
        except BlockingIOError as cause:
            raise ConfigurationError(
                f"{self.path} is in use by another process; a SQLite store serves one server:"
                " stop the other one, or give this one another file",
                reason="STORE_IN_USE",
                metadata={"path": str(self.path)},
            ) from cause
        except OSError as cause:
            raise self._unusable(cause) from cause
        with contextlib.ExitStack() as undo:
            undo.callback(self._lock.release)
            try:
                self._writer = undo.enter_context(contextlib.closing(self._connect()))
                prepare(self._writer, self.path)
                self.signing_secret = signing_secret_of(self._writer)
                self._reader = undo.enter_context(contextlib.closing(self._connect()))
            except sqlite3.Error as cause:
                raise self._unusable(cause) from cause
            undo.pop_all()
        self._loop = asyncio.get_running_loop()
        self._more = asyncio.Event()
        self._closing = False
        self._committer = ThreadPoolExecutor(1, thread_name_prefix="lro-sqlite")
        self._writing = asyncio.create_task(self._write_all(), name="lro-sqlite")

    async def close(self) -> None:
        """Commits what waits, and closes the file."""
        self._closing = True
        self._more.set()
        await self._writing
        self._committer.shutdown()
        self._reader.close()
        self._writer.close()
        self._recent.clear()
        self._lock.release()

    def subscribe(self, listener: Listener) -> None:
        """Adds a listener."""
        self._listeners.append(listener)

    async def create(self, record: Record) -> Record:
        """Stores a new record, unless its ``request_id`` was used before."""
        outcome = await self._write(lambda batch: batch.create(record))
        if isinstance(outcome, LroError):
            raise outcome
        return outcome

    async def apply(self, name: str, event: Event) -> Record:
        """Applies one event, and returns the record as it is then."""
        (outcome,) = await self.apply_all([(name, event)])
        if isinstance(outcome, LroError):
            raise outcome
        return outcome

    async def apply_all(self, changes: Sequence[Change]) -> Sequence[Record | LroError]:
        """Applies events in their order; the outcome of one does not touch the others."""
        return await self._write(lambda batch: [batch.apply(*change) for change in changes])

    async def read(self, name: str) -> Record:
        """Returns the record of a name."""
        recent = self._recent_record(name)
        if recent is not None:
            return recent
        rows = self._read(f"SELECT {COLUMNS} FROM operations WHERE name = ? AND NOT deleted", name)
        if not rows:
            raise not_found(name)
        return record_of(rows[0])

    async def operation(self, name: str) -> bytes:
        """Returns the served bytes of a name."""
        recent = self._recent_record(name)
        if recent is not None:
            return recent.operation
        rows = self._read("SELECT operation FROM operations WHERE name = ? AND NOT deleted", name)
        if not rows:
            raise not_found(name)
        return bytes(rows[0][0])

    async def find_request(self, method: str, request_id: str) -> Sequence[Record]:
        """Returns the operations that were started under a ``request_id``."""
        rows = self._read(
            f"SELECT {COLUMNS} FROM operations"
            " WHERE method = ? AND request_id = ? AND request_id <> ''",
            method,
            request_id,
        )
        return [self._told(record_of(row)) for row in rows]

    async def find_id(self, operation_id: str) -> Sequence[str]:
        """Returns the names that end with an id."""
        rows = self._read(
            f"SELECT name FROM operations WHERE {OPERATION_ID} = ? AND NOT deleted", operation_id
        )
        return [name for (name,) in rows]

    async def page(
        self, query: Query, *, position: bytes, size: int, examined: int = MAX_EXAMINED
    ) -> Page:
        """Returns the operations that a query asks for, newest first."""
        scope, parameters = _scope(query, sequence_before(position))
        rest = self._rest(query, sequence_before(position), query.examined(examined))
        asked = self._asked(query)
        columns = "sequence, name, operation" if asked.exact else f"sequence, {COLUMNS}"
        statement = f"SELECT {columns} {scope} AND sequence >= ? AND {asked.sql} {_NEWEST_FIRST}"
        try:
            found = self._reader.execute(statement, (*parameters, rest, *asked.parameters))
            with contextlib.closing(found):
                return page_of(self._served(query, found, exact=asked.exact), size, rest)
        except sqlite3.Error as cause:
            raise _unavailable(cause) from cause

    async def exclusive_holder(self, target: str) -> str:
        """Returns the operation that has a target for itself; empty for none."""
        rows = self._read(BY_EXCLUSIVE_TARGET, target)
        return str(rows[0][0]) if rows else ""

    async def claimable(self, limits: Mapping[str, int], *, ready: bool = True) -> Sequence[str]:
        """Returns the operations that wait for an attempt, oldest first."""
        until = self._now() if ready else _LAST_TIME
        return [
            name
            for method, limit in limits.items()
            for (name,) in self._read(_READY, method, until, limit)
        ]

    async def expired(self, limit: int) -> Sequence[str]:
        """Returns operations that are to expire, or to be removed."""
        now = self._now()
        expiring = self._read(_EXPIRING, now, limit)
        overdue = self._read(_OVERDUE, now, limit)
        return [name for (name,) in (*overdue, *expiring)][:limit]

    async def leased(self, *, until: int | None = None) -> Sequence[Leased]:
        """Returns the operations that an attempt holds."""
        rows = self._read(
            "SELECT name, attempt FROM operations"
            " WHERE lease_expire_time <> 0 AND lease_expire_time <= ?",
            _LAST_TIME if until is None else until,
        )
        return [Leased(*row) for row in rows]

    def _told(self, record: Record) -> Record:
        """Returns a record that was read as it was last told.

        A commit shows in the file a moment before it is told; what Get answers must not go back.
        """
        return self._recent.get(record.name, record)

    def _rest(self, query: Query, before: int, examined: int) -> int:
        """Returns the lowest sequence number that a page looks at; 0 if it looks at all."""
        if query.has_wildcard:
            newest = self._read(f"SELECT sequence {_OF_ALL} {_NEWEST_FIRST} LIMIT 1", before)
            rest = newest[0][0] - examined + 1 if newest else 0
            return rest if self._read(f"SELECT sequence {_OF_ALL} LIMIT 1", rest) else 0
        if query.filter:
            ends = f"SELECT sequence {_OF_PARENT} {_NEWEST_FIRST} LIMIT 2 OFFSET ?"
            last = self._read(ends, query.parent, before, examined - 1)
            return last[0][0] if len(last) == 2 else 0
        return 0  # all that is looked at is on the page

    def _asked(self, query: Query) -> Condition:
        """Returns what is asked of the rows, some of which may be ahead of what is told."""
        asked = _condition(query)
        recent = (self._recent.get(name) for name in self._untold)
        told = [one.name for one in recent if one is not None and query.matches(one)]
        if not told:
            return asked
        marks = ", ".join("?" * len(told))
        return Condition(
            f"({asked.sql} OR name IN ({marks}))", (*asked.parameters, *told), asked.exact
        )

    def _served(
        self, query: Query, found: Iterable[tuple[Any, ...]], *, exact: bool
    ) -> Iterator[tuple[int, bytes]]:
        """Yields what Get answers with, of each row that the query asks for."""
        for sequence, name, *row in found:
            # A commit shows here a moment before it is told; what Get answers must not go back.
            record = self._recent.get(name)
            if record is None and not exact:
                record = record_of([name, *row])
            if record is None:
                yield sequence, row[0]
            elif query.matches(record):
                yield sequence, record.operation

    def _recent_record(self, name: str) -> Record | None:
        record = self._recent.get(name)
        if record is not None and record.deleted:
            raise not_found(name)
        return record

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._file, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
        except BaseException:
            connection.close()
            raise
        return connection

    def _unusable(self, cause: Exception) -> ConfigurationError:
        return ConfigurationError(
            f"{self.path} cannot be opened as a SQLite store: {cause};"
            " give a file in an existing, writable folder, made by this package or not yet there",
            reason="STORE_UNUSABLE",
            metadata={"path": str(self.path)},
        )

    def _read(self, query: str, *arguments: str | int | bytes) -> list[tuple[Any, ...]]:
        try:
            return self._reader.execute(query, arguments).fetchall()
        except sqlite3.Error as cause:
            raise _unavailable(cause) from cause

    async def _write(self, do: Callable[[Batch], T]) -> T:
        if self._closing:
            raise _closed()
        done: asyncio.Future[T] = self._loop.create_future()
        self._works.append(_Work(do, done))
        self._more.set()
        return await done

    async def _write_all(self) -> None:
        """One commit for all that waits, over and over, until nothing will come any more."""
        try:
            while self._works or not self._closing:
                if not self._works:
                    self._more.clear()
                    await self._more.wait()
                number = min(len(self._works), _MAX_CHANGES)
                await self._write_together([self._works.popleft() for _ in range(number)])
        finally:
            self._closing = True  # the loop may end before anyone has closed the store
            self._tell([], [_Result(work.done, error=_closed()) for work in self._works])

    async def _write_together(self, works: Sequence[_Work]) -> None:
        """Does work in one commit, and tells what came of it."""
        batch = Batch(self._writer, self._recent, self._now)
        try:
            with transaction(self._writer):
                results = [_do(work, batch) for work in works]
                batch.write()
                self._untold = batch.names
                await self._commit()
        except sqlite3.Error as error:
            self._recent.clear()
            self._tell([], [_Result(work.done, error=_unavailable(error)) for work in works])
        except Unstorable as unstorable:
            if len(works) > 1:
                for work in works:
                    await self._write_together([work])
            else:
                self._tell([], [_Result(works[0].done, error=unstorable.error())])
        else:
            batch.remember()
            self._tell(batch.changes, results)
        finally:
            self._untold = ()

    async def _commit(self) -> None:
        """Commits in the thread, for that waits for the disk; everything else is quick."""
        try:
            await self._loop.run_in_executor(self._committer, self._writer.execute, "COMMIT")
        except asyncio.CancelledError:  # the loop ends: the commit must be over before the rest
            self._committer.shutdown()
            raise

    def _tell(
        self, changes: Sequence[tuple[Record | None, Record]], results: Sequence[_Result]
    ) -> None:
        for before, after in changes:
            for listener in self._listeners:
                listener(before, after)
        for result in results:
            result.tell()


def _scope(query: Query, before: int) -> tuple[str, tuple[str | int, ...]]:
    """Returns the rows that a page looks at, and the parameters of that."""
    if query.has_wildcard:
        return _OF_ALL, (before,)
    return _OF_PARENT, (query.parent, before)


def _condition(query: Query) -> Condition:
    """Returns what is asked of these rows."""
    asked = query.filter.expression if query.filter else And(())
    if not query.has_wildcard:
        return condition(asked)
    parent = Like("parent", tuple(_WILDCARD.split(query.parent)))
    # Other than a wildcard, what is between the parts of a text may have slashes.
    return condition(And((parent, Compare("deleted", "=", 0), asked)))._replace(exact=False)


def _do(work: _Work, batch: Batch) -> _Result:
    try:
        return _Result(work.done, value=work.do(batch))
    except sqlite3.Error:
        raise  # the transaction cannot go on: none of its work has happened
    except Exception as error:  # noqa: BLE001 - it is told to the one who gave the work
        return _Result(work.done, error=error)


def _closed() -> UnavailableError:
    return UnavailableError("the store is closed", reason="STORE_UNAVAILABLE")


def _unavailable(cause: sqlite3.Error) -> UnavailableError:
    error = UnavailableError(f"the store cannot answer: {cause}", reason="STORE_UNAVAILABLE")
    error.__cause__ = cause
    return error
