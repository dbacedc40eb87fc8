"""A store in one SQLite file, owned by one process.

Changes go to the one writer, which commits them in groups (``writer``, ``commit``). Reads use a
connection of their own, and a record of a recent change is at hand (``recent``). Pages are read in
threads (``pages``), and operations are counted in another one (``counts``).
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import sqlite3
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from lro_grpc._errors import LroError, OperationDamagedError, UnavailableError
from lro_grpc._operation.attempts import AttemptRecord, attempts_of, is_sound
from lro_grpc._operation.completion import Completion, Settlement
from lro_grpc._operation.events import Claim, Event
from lro_grpc._operation.publication import not_found
from lro_grpc._operation.record import Record
from lro_grpc._operation.states import CANCELLING
from lro_grpc._runtime.repeated_lines import RepeatedLines
from lro_grpc._stores.sqlite.commit import (
    BY_EXCLUSIVE_TARGET,
    READY_BY_KEY,
    READY_ROWS,
    Commit,
    by_queue_time,
)
from lro_grpc._stores.sqlite.connection import (
    abandon,
    connect,
    failed,
    fetch,
    in_use,
    unavailable,
    unusable,
)
from lro_grpc._stores.sqlite.counts import Counting
from lro_grpc._stores.sqlite.damage import SqliteDamage
from lro_grpc._stores.sqlite.database_files import DatabaseFiles
from lro_grpc._stores.sqlite.filter import condition
from lro_grpc._stores.sqlite.outbox import Outbox
from lro_grpc._stores.sqlite.pages import Pages
from lro_grpc._stores.sqlite.recent import RecentRecords
from lro_grpc._stores.sqlite.schema import (
    ATTEMPT_COLUMNS,
    COLUMNS,
    DELAYED,
    HELD_BY_KEY,
    KEYED,
    NEXT,
    OPERATION_ID,
    RANKED,
    STATES,
    prepare,
    signing_secret_of,
)
from lro_grpc._stores.sqlite.writer import Writer
from lro_grpc._stores.store import (
    MOST_COUNTED,
    MOST_EXAMINED,
    MOST_PENDING,
    MOST_SUMMARIZED,
    Change,
    Claimed,
    Counts,
    KeyedClaims,
    Leased,
    Listener,
    Now,
    Page,
    Query,
    nothing_followed,
)
from lro_grpc._stores.tally import counts_by_pages

_log = logging.getLogger("lro_grpc")

_END_OF_TIME = 2**63 - 1

_HAS_CANCELLED_CHECKPOINT = f"checkpoint <> x'' AND state = {CANCELLING}"
_TO_UNDO = f"(attempt > 0 AND (batch <> x'' OR ({_HAS_CANCELLED_CHECKPOINT})))"
_WAITING = (
    f"SELECT caller, count(*) FROM (SELECT caller FROM operations WHERE {NEXT} AND method = ?1"
    f" UNION ALL SELECT caller FROM operations WHERE {RANKED} AND method = ?1"
    f" UNION ALL SELECT caller FROM operations WHERE {KEYED} AND method = ?1"
    f" UNION ALL SELECT caller FROM operations WHERE {DELAYED} AND method = ?1 AND attempt > 0"
    " LIMIT ?2) GROUP BY caller"
)
_DELAYED_STARTS = (
    f"SELECT caller, count(*) FROM (SELECT caller FROM operations WHERE {DELAYED}"
    " AND method = ?1 AND attempt = 0 LIMIT ?2) GROUP BY caller"
)
_EXPIRING = (
    "SELECT name FROM operations WHERE expire_time <> 0 AND expire_time <= ? AND NOT deleted"
    " ORDER BY expire_time LIMIT ?"
)
_OVERDUE = (
    "SELECT name FROM operations"
    " WHERE deadline_time <> 0 AND lease_expire_time = 0 AND end_time = 0 AND deadline_time <= ?"
    f" AND (? OR NOT (state IN ({STATES}) AND {_TO_UNDO}))"
    " ORDER BY deadline_time LIMIT ?"
)
_WAITING_METHODS = (
    f"SELECT method, count(*) FROM (SELECT method FROM operations WHERE {NEXT}"
    f" UNION ALL SELECT method FROM operations WHERE {RANKED}"
    f" UNION ALL SELECT method FROM operations WHERE {KEYED}"
    f" UNION ALL SELECT method FROM operations WHERE {DELAYED}) GROUP BY method"
)
_HELD_OF_KEY = (
    "SELECT count(*) FROM operations INDEXED BY operations_held_by_key"
    f" WHERE {HELD_BY_KEY} AND method = ? AND concurrency_key = ?"
)
_RESTED = (
    f"SELECT name FROM operations WHERE {DELAYED} AND scheduled_time <= ?"
    " ORDER BY scheduled_time LIMIT ?"
)
_ATTEMPTS = (
    f"SELECT {ATTEMPT_COLUMNS} FROM attempts"
    " WHERE operation = (SELECT sequence FROM operations WHERE name = ?)"
)


_open: set[SqliteStore] = set()


def _leave_to_parent() -> None:
    """Lets go of all files in a child process: they are its parent's, whatever becomes of that."""
    for store in list(_open):
        store.abandon()


if hasattr(os, "register_at_fork"):  # not on Windows, where no process forks
    os.register_at_fork(after_in_child=_leave_to_parent)


class SqliteStore:
    """Keeps records in a SQLite file; see :class:`lro_grpc.stores.Store`.

    Args:
        path: The file; made when it is missing, in a folder that exists.
        now: Returns the time in microseconds since 1970 UTC.
    """

    exclusive = True

    def __init__(self, path: str | os.PathLike[str], now: Now) -> None:
        self.path = Path(path)
        self.signing_secret = b""
        self._now = now
        self._file = self.path.resolve()  # a link to the file is the file
        self._files = DatabaseFiles(self._file)
        self._connections: list[sqlite3.Connection] = []
        self._listeners: list[Listener] = []
        self._recent = RecentRecords()
        self._damage = SqliteDamage()
        self._lines = RepeatedLines(_log)

    @property
    def is_lost(self) -> bool:
        """Whether a file of it was moved, replaced or removed while it was open."""
        return self._files.are_lost

    def now(self) -> int:
        """Returns the time in microseconds since 1970 UTC."""
        return self._now()

    async def open(self) -> None:
        """Takes the file, brings it to the present version and starts the writer."""
        try:
            self._files.acquire()
        except BlockingIOError as cause:
            raise in_use(self.path) from cause
        except OSError as cause:
            raise unusable(self.path, cause) from cause
        _open.add(self)
        try:
            self._write_connection = self._connect()
            prepare(self._write_connection, self.path)
            self.signing_secret = signing_secret_of(self._write_connection)
            self._read_connection = self._connect()
            quick, slow, counting = (self._connect() for _ in range(3))
            for connection in (quick, slow, counting):
                connection.execute("PRAGMA query_only = ON")
            self._files.opened()
        except (sqlite3.Error, OSError) as cause:
            self._close_files()
            raise unusable(self.path, cause) from cause
        except BaseException:
            self._close_files()
            raise
        self._write_connection.execute("PRAGMA busy_timeout = 0")  # the writer itself waits
        self._outbox = Outbox(self._read_connection, self._now, self._damage.lines)
        self._writer = Writer(
            self._write_connection,
            self._files,
            self._recent,
            self._outbox,
            self._damage,
            self._listeners,
            self._now,
        )
        self._pages = Pages(self._read_connection, quick, slow, self._recent, self._damage)
        self._counting = Counting(counting)

    async def close(self) -> None:
        """Commits what waits, and closes the file."""
        await self._writer.close()
        await self._pages.close()
        await self._counting.close()
        self._lines.close()
        if self.is_lost:
            # SQLite would remove the log by its name, which may be that of another database now.
            self.abandon()
        else:
            self._close_files()
        self._recent.clear()

    def abandon(self) -> None:
        """Lets go of the files without touching them: they are another's now."""
        for connection in self._connections:
            abandon(connection)
        self._connections.clear()
        self._close_files()

    def _connect(self) -> sqlite3.Connection:
        self._connections.append(connect(self._file))
        return self._connections[-1]

    def _close_files(self) -> None:
        for connection in reversed(self._connections):
            connection.close()
        self._connections.clear()
        self._files.release()
        _open.discard(self)

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Adds a listener, and returns what removes it."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def follow(self, name: str, follower: Callable[[Record | None], None]) -> Callable[[], None]:
        """Does nothing: no other process has the file."""
        del name, follower
        return nothing_followed

    def follow_work(
        self, has_room: Callable[[str], bool], follower: Callable[[str], None]
    ) -> Callable[[], None]:
        """Does nothing: no other process has the file."""
        del has_room, follower
        return nothing_followed

    async def create(self, record: Record) -> Record:
        """Stores a new record, unless its ``request_id`` was used before."""
        return await self._writer.write(lambda commit: commit.create(record))

    async def apply(self, name: str, event: Event) -> Record:
        """Applies one event, and returns the record as it is then."""
        (outcome,) = await self.apply_all([(name, event)])
        if isinstance(outcome, LroError):
            raise outcome
        return outcome

    async def apply_all(self, changes: Sequence[Change]) -> Sequence[Record | LroError]:
        """Applies events in their order; the outcome of one does not touch the others."""
        return await self._writer.write(lambda commit: [commit.apply(*one) for one in changes])

    async def read(self, name: str) -> Record:
        """Returns the record of a name."""
        recent = self._recent_record(name)
        if recent is not None:
            return recent
        return self._damage.record(self._row(COLUMNS, name))

    async def read_attempts(self, name: str) -> tuple[Record, Sequence[AttemptRecord]]:
        """Returns the record of a name and its attempts."""
        # The record at hand wins, and the file may be ahead of it: a later attempt is left out.
        record = self._recent_record(name)
        self._fetch("BEGIN")
        try:
            record = record or self._damage.record(self._row(COLUMNS, name))
            rows = self._fetch(_ATTEMPTS, name)
        finally:
            self._fetch("ROLLBACK")
        return record, attempts_of(record, map(AttemptRecord._make, filter(is_sound, rows)))

    async def operation(self, name: str) -> bytes:
        """Returns the bytes that Get answers with."""
        recent = self._recent_record(name)
        if recent is not None:
            return recent.operation
        (operation,) = self._row("operation", name)
        return self._damage.served(name, operation)

    async def find_request(self, method: str, request_id: str, caller: str) -> Sequence[Record]:
        """Returns the operations that a caller has started under a ``request_id``."""
        rows = self._fetch(
            f"SELECT {COLUMNS} FROM operations"
            " WHERE method = ? AND request_id = ? AND caller = ? AND request_id <> ''",
            method,
            request_id,
            caller,
        )
        found: list[Record] = []
        for row in rows:
            with contextlib.suppress(OperationDamagedError):
                record = self._damage.record(row)
                found.append(self._recent.get(record.name) or record)
        return found

    async def find_id(self, operation_id: str) -> Sequence[str]:
        """Returns the names that end with an id."""
        rows = self._fetch(
            f"SELECT name FROM operations WHERE {OPERATION_ID} = ? AND NOT deleted LIMIT 2",
            operation_id,
        )
        return list(self._damage.names(rows))

    async def latest_rerun(self, name: str) -> str:
        """Returns the latest operation that runs another one again; empty for none."""
        rows = self._fetch(
            "SELECT name FROM operations WHERE source_operation = ? AND source_operation <> ''"
            " AND NOT deleted ORDER BY sequence DESC LIMIT 1",
            name,
        )
        return next(iter(self._damage.names(rows)), "")

    async def page(
        self,
        query: Query,
        *,
        position: bytes,
        size: int,
        examined: int = MOST_EXAMINED,
        records: bool = False,
    ) -> Page:
        """Returns the operations that a query asks for, in its order."""
        with self._telling():
            return await self._pages.page(
                query,
                position=position,
                size=size,
                examined=query.examined(examined),
                records=records,
            )

    async def counts(
        self, query: Query, *, most: int = MOST_COUNTED, examined: int = MOST_SUMMARIZED
    ) -> Counts:
        """Returns how many operations there are, by their methods and states."""
        if query.filter is not None and not condition(query.filter.expression).exact:
            return await counts_by_pages(self.page, query, examined)
        with self._telling():
            return await self._counting.counts(query, most, examined)

    async def exclusive_holder(self, target: str) -> str:
        """Returns the operation that has a target for itself; empty for none."""
        rows = self._fetch(BY_EXCLUSIVE_TARGET, target)
        return str(rows[0][0]) if rows else ""

    async def claimable(self, limits: Mapping[str, int]) -> Sequence[str]:
        """Returns the operations that are ready, oldest first."""
        return [
            name
            for method, limit in limits.items()
            for name in self._names(limit, partial(self._ready, method))
        ]

    async def claim(
        self,
        limits: Mapping[str, int],
        claim: Claim,
        *,
        left_out: Collection[str] = (),
        ready_before: int | None = None,
    ) -> Sequence[Claimed]:
        """Applies a claim to operations that are ready, oldest first."""
        claimed: list[Claimed] = []
        left = dict(limits)

        def claim_some(commit: Commit) -> tuple[Sequence[Claimed], bool]:
            passed_over = {*left_out, *(one.before.name for one in claimed)}
            return commit.claim(left, claim, passed_over, ready_before)

        more = True
        while more and any(left.values()):
            try:
                some, more = await self._writer.write(claim_some)
            except UnavailableError:
                if not claimed:
                    raise
                break  # what is claimed is this process's all the same
            claimed += some
            for one in some:
                left[one.before.method] -= 1
        return claimed

    async def claim_by_key(
        self,
        method: str,
        limit: int,
        per_key: int,
        claim: Claim,
        *,
        after: str = "",
        left_out: Collection[str] = (),
        ready_before: int | None = None,
    ) -> KeyedClaims:
        """Applies a claim to operations with a key that are ready, one key in turn."""
        return await self._writer.write(
            lambda commit: commit.claim_by_key(
                method, limit, per_key, claim, after, left_out, ready_before
            )
        )

    async def waiting(self, method: str, most: int, *, delayed: bool = False) -> Mapping[str, int]:
        """Returns how many operations wait for an attempt, by their callers."""
        return dict(self._fetch(_DELAYED_STARTS if delayed else _WAITING, method, most))

    async def waiting_methods(self) -> Mapping[str, int]:
        """Returns how many operations wait for an attempt, by their methods."""
        return dict(self._fetch(_WAITING_METHODS))

    async def held_of_key(self, method: str, concurrency_key: str, most: int) -> int:
        """Returns how many operations of a method that have a key an attempt holds."""
        ((number,),) = self._fetch(_HELD_OF_KEY, method, concurrency_key)
        return min(most, int(number))  # no more are held than this process has slots

    async def expired(self, limit: int, *, to_undo: bool = False) -> Sequence[str]:
        """Returns operations that time changes now."""
        now = self._now()

        def due(most: int) -> list[tuple[Any, ...]]:
            overdue = self._fetch(_OVERDUE, now, to_undo, most)
            others = (self._fetch(query, now, most) for query in (_EXPIRING, _RESTED))
            return list(dict.fromkeys(itertools.chain(overdue, *others)))

        return self._names(limit, due)

    async def leased(self, *, until: int | None = None) -> Sequence[Leased]:
        """Returns the operations that an attempt holds."""
        rows = self._fetch(
            "SELECT name, attempt FROM operations"
            " WHERE lease_expire_time <> 0 AND lease_expire_time <= ?",
            _END_OF_TIME if until is None else until,
        )
        attempts = {name: attempt for name, attempt in rows if type(attempt) is int}
        found = self._damage.names((name,) for name, _ in rows)
        return [Leased(name, attempts[name]) for name in found if name in attempts]

    async def take_completions(self, limit: int, lease: int) -> Sequence[Completion]:
        """Takes completions that are due."""
        with self._telling():
            return self._outbox.take(limit, lease)

    async def settle_completions(self, settlements: Sequence[Settlement]) -> None:
        """Settles completions that were taken."""
        ours = self._outbox.still_ours(settlements)
        if ours:
            await self._writer.write(lambda commit: commit.settle_completions(ours))
            self._outbox.settled(ours)

    async def read_completion(self, name: str, create_time: int) -> Completion | None:
        """Returns the completion of an operation, without its event."""
        with self._telling():
            return self._outbox.read(name, create_time)

    async def pending_completions(self, most: int = MOST_PENDING) -> int:
        """Returns how many completions wait to be told."""
        with self._telling():
            return await self._counting.pending_completions(most)

    def _ready(self, method: str, most: int) -> list[tuple[Any]]:
        """Returns the rows of so many names of a method that are ready, oldest first."""
        ready = [self._fetch(f"{rows} LIMIT ?", method, most) for rows in READY_ROWS]
        by_key = self._fetch(f"{READY_BY_KEY} LIMIT ?", method, most)
        return list(itertools.islice(itertools.chain(by_queue_time(ready), by_key), most))

    def _names(self, limit: int, fetch: Callable[[int], Sequence[tuple[Any]]]) -> list[str]:
        """Returns so many names that rows have, past those of damaged rows."""
        most = limit
        while True:
            rows = fetch(min(most, _END_OF_TIME))
            found = [*self._damage.names(rows)]
            if len(found) >= limit or len(rows) < most:
                return found[:limit]
            most = limit + len(rows) - len(found)

    def _row(self, columns: str, name: str) -> Any:
        query = f"SELECT {columns} FROM operations WHERE name = ? AND NOT deleted"
        with self._telling():
            try:
                row = self._damage.row(self._read_connection, query, name)
            except sqlite3.Error as cause:
                raise unavailable(cause) from cause
        if row is None:
            raise not_found(name)
        return row

    def _recent_record(self, name: str) -> Record | None:
        record = self._recent.get(name)
        if record is not None and record.deleted:
            raise not_found(name)
        return record

    def _fetch(self, query: str, *parameters: str | int | bytes) -> list[tuple[Any, ...]]:
        with self._telling():
            return fetch(self._read_connection, query, *parameters)

    @contextlib.contextmanager
    def _telling(self) -> Iterator[None]:
        """Surrounds a read: where SQLite fails, the log has its words, which no caller gets."""
        try:
            yield
        except UnavailableError as outage:
            if isinstance(outage.__cause__, sqlite3.Error):
                self._lines.say(logging.WARNING, failed(outage.__cause__).message)
            raise
