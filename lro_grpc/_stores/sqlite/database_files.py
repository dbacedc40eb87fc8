"""The files of a database: itself, its write-ahead log, and the log's index.

**Whose they are.** One process has them, by a lock on the database and one on the log. The latter
holds where another database was put in the place of the one that is open: whoever opened that would
take the log for its own.

**What they are.** SQLite opens them by name once, and goes on with what it has opened, whatever
becomes of the names. A commit into a file that nobody finds again is lost, though SQLite has made
it. So after each commit, and before anyone is told of it, the names are looked up. A database that
got smaller is looked at as well: a VACUUM by another program does that; if it was anything else,
pages are missing.

**Who reads them.** They have requests, responses and the key of page tokens, and are made for their
owner alone, whatever the umask. The mode of a database that is there already is its owner's choice.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import stat
from pathlib import Path
from typing import NamedTuple

from lro_grpc._errors import ConfigurationError
from lro_grpc._stores.sqlite.file_lock import FileLock, Identity, identity

_log = logging.getLogger("lro_grpc")

_HEADER_BYTES = 100
"""With less than its header a file is no database: SQLite would take it for a new one."""

_LOG_MAGIC = (b"", b"\x37\x7f\x06\x82", b"\x37\x7f\x06\x83")
"""The first bytes of a log, which may be empty."""


class Fault(NamedTuple):
    """The loss of a file."""

    text: str
    log_is_whole: bool = True
    """Whether SQLite still has all of the log, under whatever name."""


def check_alone(path: Path, status: os.stat_result) -> None:
    """Refuses a database with several names: each would have a log of its own.

    Raises:
        ConfigurationError: If it has.
    """
    if status.st_nlink > 1:
        raise ConfigurationError(
            f"{path} has {status.st_nlink} names, by hard links, and each would have a write-ahead"
            " log of its own: what is in the other's would be missing. Remove the names that it is"
            " not to have; `lro db backup` makes a copy",
            reason="STORE_LINKED",
            metadata={"path": str(path)},
        )


class DatabaseFiles:
    """The files of one database, owned from ``acquire`` to ``release``.

    Args:
        path: The database, without links.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._beside = [path.with_name(path.name + suffix) for suffix in ("-wal", "-shm")]
        self._locks = [FileLock(path), FileLock(self._beside[0])]
        self._names: dict[str, Identity] = {}
        self._size = 0
        self.are_lost = False
        """Whether a commit may have gone into files that nobody finds again."""

    def acquire(self) -> None:
        """Takes the files, before SQLite opens them.

        Raises:
            BlockingIOError: If another process, or another store of this one, has them.
            ConfigurationError: If the database has several names.
            OSError: If the database cannot be opened.
        """
        database, log = self._locks
        database.acquire()
        try:
            status = database.status()
            check_alone(self._path, status)
            self._keep_private(status)
            if self._beside[0].exists():
                log.acquire()
                log.release()  # SQLite may remove a log that is of no use
        except BaseException:
            database.release()
            raise

    def opened(self) -> None:
        """Takes the log that SQLite has opened, and notes which files they are.

        Raises:
            OSError: If one of them is gone already, or the log is another's by now.
        """
        database, log = self._locks
        log.acquire()
        self.are_lost = False
        status = database.status()
        self._size = status.st_size
        self._names = {str(self._path): identity(status)}
        for beside in self._beside:
            self._names[str(beside)] = identity(beside.stat())

    def release(self) -> None:
        """Lets go of the files, after SQLite has closed them."""
        for lock in reversed(self._locks):
            lock.release()

    def fault(self) -> Fault | None:
        """Returns what is wrong with the files; None while they are those that were opened."""
        path, size = str(self._path), self._size
        for name, known in self._names.items():
            try:
                status = os.stat(name)
            except OSError as error:
                return Fault(f"{name} is gone: {error.strerror}")
            if identity(status) != known:
                return Fault(f"{name} is another file")
            if name == path:
                size = status.st_size
        if size < self._size and not self._is_whole(size):
            return Fault(f"{path} has lost a part: it has {size} bytes, and had {self._size}")
        try:
            beginning = self._locks[1].first_bytes(4)
        except OSError as error:
            return Fault(f"{path}-wal cannot be read: {error.strerror}", log_is_whole=False)
        if beginning not in _LOG_MAGIC:
            return Fault(f"{path}-wal has lost its beginning", log_is_whole=False)
        self._size = size
        return None

    def _is_whole(self, size: int) -> bool:
        if size < _HEADER_BYTES:
            return False  # and not to be opened anew, which would remove its log
        try:
            # A connection of its own, for others may remember pages that are missing.
            with contextlib.closing(sqlite3.connect(self._path)) as connection:
                found = connection.execute("PRAGMA quick_check").fetchall()
        except sqlite3.DatabaseError:
            return False
        # Pages come first; "NULL value in …" is damage to a row, which no page is missing for.
        return all(text == "ok" or " value in " in text for (text,) in found)

    def _keep_private(self, status: os.stat_result) -> None:
        """Gives a log that was left no wider mode than the database; warns of one too wide.

        SQLite makes new ones with the mode of the database.
        """
        if os.name == "nt":  # these bits say nothing there
            return
        mode = stat.S_IMODE(status.st_mode)
        if mode & stat.S_IRWXO:
            _log.warning(
                "%s has mode %04o: every user of this machine may use it, with its requests,"
                " responses and the key of page tokens; chmod 600 leaves it to its owner",
                *(self._path, mode),
            )
        for beside in self._beside:
            with contextlib.suppress(FileNotFoundError):
                found = stat.S_IMODE(beside.stat().st_mode)
                if found & ~mode:
                    beside.chmod(found & mode)
