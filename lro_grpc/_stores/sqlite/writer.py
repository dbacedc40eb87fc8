"""Writes changes in groups: one task, one commit for all the calls that wait.

The task takes the calls that wait, applies their changes to records in memory (``commit``), writes
each record that has changed once, and has a thread do the COMMIT: that alone waits for the disk,
and the event loop goes on meanwhile. The calls that arrive during a commit are the next group; so
the slower the disk, the larger the groups, and a thousand calls cost about as much as one. A group
has a bound in bytes and one in labels; the calls that it has no room for are the first of the next
one.

When the commit is durable, the records of the group are put at hand, its listeners are called with
each change in order, and then its callers get their answers: in one step of the event loop, for
the rule in ``recent``.

======================  ==========================================================================
what goes wrong         what becomes of the group
======================  ==========================================================================
a change is refused     its error is its answer; the others are not touched
a bug raises            its caller gets that; the others are not touched
a row is unwritable     all is rolled back, that operation is set aside (``damage``), and all calls
                        are made again: the calls that are about it alone get the error
a page is damaged       all is rolled back, and each call is made again in a commit of its own, so
                        that those alone that need the page get UNAVAILABLE
a record is unstorable  all is rolled back, and each call is made again in a commit of its own, so
                        that one caller alone gets the error
another program writes  the group waits for it, and the loop goes on; SQLite raises in the end
SQLite raises           all is rolled back, and every caller gets UNAVAILABLE; the log says so once
                        a minute. A COMMIT that has raised may have happened: the records at hand
                        are dropped
a file is lost          the callers of that commit, and all later ones, get UNAVAILABLE until the
                        server is started again: nobody knows what has happened meanwhile
a caller is cancelled   its changes are not made, if they wait; else they are made, and announced
the event loop ends     the commit under way is waited for, for a connection must not be closed
                        under it; the calls that wait, and all later ones, get UNAVAILABLE
the store is closed     all calls that wait are made first; later ones get UNAVAILABLE
======================  ==========================================================================
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

from lro_grpc._errors import UnavailableError
from lro_grpc._operation.record import Record
from lro_grpc._runtime.repeated_lines import RepeatedLines
from lro_grpc._stores.sqlite.commit import Commit, UnstorableError
from lro_grpc._stores.sqlite.connection import closed, failed, is_busy, unavailable
from lro_grpc._stores.sqlite.damage import SqliteDamage, is_malformed
from lro_grpc._stores.sqlite.database_files import DatabaseFiles
from lro_grpc._stores.sqlite.outbox import Outbox
from lro_grpc._stores.sqlite.recent import RecentRecords
from lro_grpc._stores.store import Listener, Now, announce

_log = logging.getLogger("lro_grpc")

T = TypeVar("T")

_MOST_CALLS = 1000
"""Calls in one commit at most, so that the first of them need not wait for ever."""

_PATIENCE_SECONDS = 30.0
"""The time that a commit waits for another program that writes: a VACUUM of some gigabytes."""
_PAUSE_SECONDS = 0.01


class FilesLostError(Exception):
    """A commit is in files that nobody else finds."""


class _UnwritableError(Exception):
    """Some rows of a commit cannot be written."""


class _Call(NamedTuple):
    """A call that waits: the changes that it makes, and the future of its answer."""

    change: Callable[[Commit], Any]
    answer: asyncio.Future[Any]


class _Answer(NamedTuple):
    """The answer to a call, to be given when its commit is durable."""

    future: asyncio.Future[Any]
    value: Any = None
    error: Exception | None = None

    def give(self) -> None:
        if self.future.done():  # its caller was cancelled meanwhile
            return
        if self.error is None:
            self.future.set_result(self.value)
        else:
            self.future.set_exception(self.error)


class Writer:
    """The one task, and the one connection, that change the file.

    Args:
        connection: The connection; nothing else may use it.
        files: The files that it has open.
        recent: Gets the records of each commit.
        outbox: Gets its completions.
        damage: The rows that are set aside.
        listeners: Get each change; may grow.
        now: Returns the time in microseconds since 1970 UTC.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        files: DatabaseFiles,
        recent: RecentRecords,
        outbox: Outbox,
        damage: SqliteDamage,
        listeners: Sequence[Listener],
        now: Now,
    ) -> None:
        self._connection = connection
        self._files = files
        self._recent = recent
        self._outbox = outbox
        self._damage = damage
        self._listeners = listeners
        self._now = now
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[_Call] = deque()
        self._more = asyncio.Event()
        self._closing = False
        self._lines = RepeatedLines(_log)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="lro-sqlite")
        self._task = asyncio.create_task(self._run(), name="lro-sqlite")

    async def write(self, change: Callable[[Commit], T]) -> T:
        """Makes changes in the next commit, and returns what ``change`` returns.

        Args:
            change: Makes the changes; is called again if the first commit comes to nothing.

        Raises:
            UnavailableError: If the store is closed, or SQLite fails.
            Exception: The error that ``change`` raises.
        """
        if self._closing:
            raise closed()
        answer: asyncio.Future[T] = self._loop.create_future()
        self._waiting.append(_Call(change, answer))
        self._more.set()
        return await answer

    async def close(self) -> None:
        """Makes the calls that wait, and ends."""
        self._closing = True
        self._more.set()
        await self._task
        self._thread.shutdown()
        self._lines.close()

    async def _run(self) -> None:
        try:
            while self._waiting or not self._closing:
                if not self._waiting:
                    self._more.clear()
                    await self._more.wait()
                number = min(len(self._waiting), _MOST_CALLS)
                await self._commit([self._waiting.popleft() for _ in range(number)])
                await asyncio.sleep(0)  # those that were just answered may have more for the next
        finally:
            self._closing = True  # the loop may end before anyone has closed the store
            self._finish([], [_Answer(call.answer, error=closed()) for call in self._waiting])

    async def _commit(self, calls: Sequence[_Call]) -> None:
        """Makes calls in one commit, and answers them."""
        if self._files.are_lost:
            self._finish([], [_Answer(call.answer, error=_lost()) for call in calls])
            return
        try:
            with Commit(self._connection, self._recent, self._damage, self._now) as commit:
                await self._begin()
                answers = []
                for number, call in enumerate(calls):
                    if commit.is_full:
                        self._waiting.extendleft(reversed(calls[number:]))
                        calls = calls[:number]
                        break
                    if not call.answer.done():
                        answers.append(self._made(call, commit))
                self._write(commit)
                self._recent.committing = commit.names
                await self._wait_for_disk()
        except FilesLostError:
            self._recent.clear()
            self._finish([], [_Answer(call.answer, error=_lost()) for call in calls])
        except sqlite3.Error as error:
            if is_malformed(error) and len(calls) > 1 and not self._recent.committing:
                for call in calls:
                    await self._commit([call])
                return
            self._recent.clear()
            self._report(error)
            self._finish([], [_Answer(call.answer, error=unavailable(error)) for call in calls])
        except _UnwritableError:
            await self._commit(calls)
        except UnstorableError as unstorable:
            if len(calls) > 1:
                for call in calls:
                    await self._commit([call])
            else:
                self._finish([], [_Answer(calls[0].answer, error=unstorable.public())])
        else:
            self._recent.keep(commit.records)
            self._outbox.keep(commit.completions)
            self._finish(commit.changes, answers)
        finally:
            self._recent.committing = ()

    async def _begin(self) -> None:
        """Begins a transaction, once no other program has one that writes, such as a VACUUM."""
        end = self._loop.time() + _PATIENCE_SECONDS
        while True:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if not is_busy(error) or self._loop.time() >= end:
                    raise
            else:
                return
            await asyncio.sleep(_PAUSE_SECONDS)

    def _write(self, commit: Commit) -> None:
        """Writes the rows of a commit.

        Raises:
            _UnwritableError: If some cannot be written, which are set aside now.
            sqlite3.Error: If SQLite fails.
        """
        try:
            commit.write()
        except sqlite3.Error as error:
            unwritable = commit.unwritable() if is_malformed(error) else {}
            if not unwritable:
                raise
            for name, why in unwritable.items():
                self._damage.cannot_write(name, why)
            raise _UnwritableError from error

    async def _wait_for_disk(self) -> None:
        try:
            await self._loop.run_in_executor(self._thread, self._commit_to_disk)
        except asyncio.CancelledError:  # the loop ends: the commit must be over before the rest
            self._thread.shutdown()
            raise

    def _commit_to_disk(self) -> None:
        self._connection.execute("COMMIT")
        fault = self._files.fault()
        if fault is not None:
            self._files.are_lost = True
            _log.error(
                "%s; a file that a server has open must not be moved, replaced or removed. The"
                " server stores nothing any more: put the file in its place, and start it again",
                fault.text,
            )
            if fault.log_is_whole:
                with contextlib.suppress(sqlite3.Error):
                    # So the database has all that was committed, whatever its name is now, and the
                    # log does no harm to another one that was put in its place.
                    self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            raise FilesLostError

    def _finish(
        self, changes: Sequence[tuple[Record | None, Record]], answers: Sequence[_Answer]
    ) -> None:
        for change in changes:
            announce(self._listeners, *change)
        for answer in answers:
            answer.give()

    def _made(self, call: _Call, commit: Commit) -> _Answer:
        try:
            return _Answer(call.answer, value=call.change(commit))
        except sqlite3.Error as error:
            if not is_malformed(error):
                raise  # the transaction cannot go on: no call of the group has happened
            self._report(error)
            return _Answer(call.answer, error=unavailable(error))
        except Exception as error:  # noqa: BLE001 - it is the answer to this call, and to no other
            return _Answer(call.answer, error=error)

    def _report(self, error: sqlite3.Error) -> None:
        """Logs that SQLite has failed a commit."""
        level = logging.ERROR if is_malformed(error) else logging.WARNING
        why = failed(error).message
        self._lines.say(level, f"{why}; the calls that change anything get UNAVAILABLE for it")


def _lost() -> UnavailableError:
    return UnavailableError(
        "the store has lost its file, and stores nothing until its server is started again",
        reason="STORE_UNAVAILABLE",
    )
