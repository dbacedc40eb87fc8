"""The damaged rows of a SQLite file, where any column can hold anything.

A row that SQLite cannot write, for an index does not have it, can still be read.

That is damage to rows. Where the pages of the file's trees are damaged, so that SQLite itself finds
it malformed, rows beside the damaged one may be out of reach too: what cannot be read is
UNAVAILABLE, and the file has to be restored.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import Any

from lro_grpc._errors import OperationDamagedError
from lro_grpc._operation import integrity
from lro_grpc._operation.record import Record
from lro_grpc._stores import damage
from lro_grpc._stores.sqlite.schema import record_of


class _Garbled(str):
    """A text of the file that is no Unicode: of another type than every other."""


def text_of(stored: bytes) -> str:
    """Returns a text of the file, for a connection's ``text_factory``."""
    try:
        return stored.decode()
    except UnicodeDecodeError:
        return _Garbled(stored.decode(errors="replace"))


def is_malformed(error: sqlite3.Error) -> bool:
    """Tells whether SQLite has found the file itself to be damaged."""
    return type(error) is sqlite3.DatabaseError  # SQLITE_CORRUPT has no class of its own


class SqliteDamage(damage.Damage):
    """The rows of one file that are set aside; see the module."""

    def __init__(self) -> None:
        super().__init__()
        self.unwritable: dict[str, OperationDamagedError] = {}
        """The operations whose rows SQLite cannot write, and their errors."""

    def cannot_write(self, name: str, why: sqlite3.Error) -> None:
        """Sets aside an operation whose row SQLite cannot write."""
        self.unwritable[name] = self.found(name, f"its row cannot be written ({why})")
        if len(self.unwritable) > damage.MOST_SET_ASIDE:
            del self.unwritable[next(iter(self.unwritable))]

    def row(self, connection: sqlite3.Connection, query: str, name: str) -> Any:
        """Returns the row of a query for one operation; None if there is none.

        Raises:
            OperationDamagedError: If SQLite cannot read it.
            sqlite3.Error: If SQLite fails.
        """
        try:
            return connection.execute(query, (name,)).fetchone()
        except sqlite3.DatabaseError as cause:
            if not is_malformed(cause):
                raise
            raise self.found(name, "its row cannot be read", cause) from cause

    def record(
        self, row: Sequence[Any], fault_in: Callable[[Record], str] = integrity.fault_in
    ) -> Record:
        """Returns the record of a row of ``COLUMNS``.

        Args:
            row: The row.
            fault_in: Finds what is wrong with it.

        Raises:
            OperationDamagedError: If it is none.
        """
        return self.checked(record_of(row), fault_in)
