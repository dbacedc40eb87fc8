"""The rows that are set aside, because no record can be made of them.

One row that a disk has damaged must stop nothing but its own operation. So whoever reads rows asks
here for each of them: it is a record, or it is set aside, with one ERROR in the log that names it.
A damaged operation is DATA_LOSS to those who ask for it, is in no list, is claimed by nobody, and
can be deleted. A row that SQLite cannot write, for an index does not have it, can still be read.

That is damage to rows. Where the pages of the file's trees are damaged, so that SQLite itself finds
it malformed, rows beside the damaged one may be out of reach too: what cannot be read is
UNAVAILABLE, and the file has to be restored.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from lro_grpc._errors import OperationDamagedError
from lro_grpc._operation import integrity, names
from lro_grpc._operation.record import Record
from lro_grpc._stores.sqlite.schema import record_of

_log = logging.getLogger("lro_grpc")


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


class Damage:
    """The rows of one file that are set aside; see the module."""

    def __init__(self) -> None:
        self._logged: set[object] = set()
        self.unwritable: dict[str, OperationDamagedError] = {}
        """The operations whose rows SQLite cannot write, and their errors."""

    def __len__(self) -> int:
        """Returns the number of rows that are set aside."""
        return len(self._logged)

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
            raise self.found(name, f"its row cannot be read ({cause})") from cause

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
        record = record_of(row)
        fault = fault_in(record)
        if fault:
            raise self.found(record.name, fault)
        return record

    def served(self, name: object, operation: object) -> bytes:
        """Returns the bytes that Get answers with.

        Raises:
            OperationDamagedError: If they are none.
        """
        if type(name) is not str or type(operation) is not bytes:
            raise self.found(name, f"its operation is {type(operation).__name__}")
        fault = integrity.fault_in_served(operation)
        if fault:
            raise self.found(name, fault)
        return operation

    def names(self, rows: Iterable[tuple[object]]) -> Iterator[str]:
        """Yields the names of rows, as far as they are names."""
        for (name,) in rows:
            if type(name) is str and f"{names.COLLECTION}/" in name:
                yield name
            else:
                self.found(name, "its name is none")

    def found(self, name: object, why: str) -> OperationDamagedError:
        """Sets a row aside, and returns the error for those who ask for it."""
        error = integrity.damaged(name, why)
        if name not in self._logged:
            self._logged.add(name)
            _log.error("%s", error.message, extra={"operation": str(name)})
        return error

    def forget(self, name: str) -> None:
        """Takes back that a row is set aside: it is deleted."""
        self._logged.discard(name)
