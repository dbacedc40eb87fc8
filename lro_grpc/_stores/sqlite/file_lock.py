"""An exclusive lock on a file, which the operating system lets go of when its process ends.

The lock is on the file itself, so that it holds whatever names the file has or is given. It is one
byte of the file, in the page that SQLite leaves to locks, beyond those that SQLite itself takes.
The lock belongs to the open descriptor, and not to the process as SQLite's own locks do: POSIX lets
go of all those as soon as a process closes any descriptor of the file. For that reason

* a second lock in the same process is refused before it opens the file;
* the descriptor is closed after SQLite's connections.
"""

from __future__ import annotations

import errno
import os
import struct
import sys
from pathlib import Path

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

_OFFSET = (1 << 30) + 1024
"""The page of the locks is at 1 GiB, and has no content; SQLite locks its first 512 bytes."""

Identity = tuple[int, int]
"""The device of a file, and its number there."""

_locked: set[Identity] = set()
"""The files that this process has locked."""


class FileLock:
    """A lock that at most one process has.

    Args:
        path: The file to lock; made when it is missing, for its owner alone.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = -1
        self._identity: Identity = (0, 0)

    def acquire(self) -> None:
        """Takes the lock, or fails at once.

        Raises:
            BlockingIOError: If another process, or another lock of this one, has it.
            OSError: If the file cannot be opened.
        """
        if self._path.exists() and identity(os.stat(self._path)) in _locked:
            raise BlockingIOError(f"{self._path} is locked by this process")
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            _lock(descriptor)
        except OSError:
            os.close(descriptor)
            raise
        self._descriptor = descriptor
        self._identity = identity(self.status())
        _locked.add(self._identity)

    def status(self) -> os.stat_result:
        """Returns the status of the locked file, wherever it is now."""
        return os.fstat(self._descriptor)

    def first_bytes(self, size: int) -> bytes:
        """Returns the beginning of the locked file."""
        if sys.platform == "win32":
            os.lseek(self._descriptor, 0, os.SEEK_SET)
            return os.read(self._descriptor, size)
        return os.pread(self._descriptor, size, 0)

    def release(self) -> None:
        """Lets go of the lock, if it has it."""
        if self._descriptor >= 0:
            _locked.remove(self._identity)
            os.close(self._descriptor)
            self._descriptor = -1


def identity(status: os.stat_result) -> Identity:
    """Returns what tells a file from all others, by whatever name."""
    return status.st_dev, status.st_ino


def _lock(descriptor: int) -> None:
    if sys.platform == "win32":
        os.lseek(descriptor, _OFFSET, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except PermissionError as cause:  # the name of the same error on Windows
            raise BlockingIOError(*cause.args) from cause
    elif sys.platform == "darwin":
        wanted = struct.pack("qqihh", _OFFSET, 1, 0, fcntl.F_WRLCK, os.SEEK_SET)
        fcntl.fcntl(descriptor, 90, wanted)  # F_OFD_SETLK, which Python 3.10 does not name
    else:
        wanted = struct.pack("hhqqi0q", fcntl.F_WRLCK, os.SEEK_SET, _OFFSET, 1, 0)
        try:
            fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, wanted)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            # gVisor has no such locks. There, flock does not meet those of SQLite, as it would on
            # a network file system or another kernel.
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
