"""A database that is written in one go, and has its name only when it is complete."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path

from lro_grpc._errors import ConfigurationError


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[sqlite3.Connection]:
    """Gives an empty database to write.

    At the end of the context it is on the disk, under its name, and for its owner alone; after an
    error there is none.

    Args:
        path: The name; there is no such file yet.

    Raises:
        ConfigurationError: If there is one, or a log that SQLite would take for this one's.
        OSError: If it cannot be made there.
    """
    for there in (path, path.with_name(f"{path.name}-wal")):
        if there.exists():
            raise ConfigurationError(f"{there} is there already; give a new name")
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".partial")
    try:
        with contextlib.closing(sqlite3.connect(name, isolation_level=None)) as connection:
            # It is discarded unless it gets complete.
            connection.execute("PRAGMA journal_mode = OFF")
            connection.execute("PRAGMA synchronous = OFF")
            yield connection
        os.fsync(descriptor)
        Path(name).rename(path)
    except BaseException:
        Path(name).unlink()
        raise
    finally:
        os.close(descriptor)
    _sync_folder(path)


def _sync_folder(path: Path) -> None:
    """Makes the name of a file outlast a power failure."""
    if os.name == "nt":  # it cannot open a folder
        return
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
