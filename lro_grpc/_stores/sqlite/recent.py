"""The records of recent changes, as their listeners have seen them.

A writer finds what it changes here and need not read it; a reader finds here what it would have to
read. And it is here that reads and listeners agree. A commit is in the file a moment before the
event loop learns that it is durable and calls the listeners. A read of the file in that moment
would answer with the new state, and the next read, of the record at hand, with the old one again:
but what Get answers never goes back (R8), and whoever is woken by a listener reads that change or
a later one. Hence the rule of all reads:

    **A record that is at hand wins over its row.**

What that takes of each party:

* The writer puts a commit's records here only when it is durable, in the same step of the event
  loop in which it calls the listeners: no read comes between.
* A read of one operation looks here first (``SqliteStore.read``, ``operation``).
* A read of many rows, in a thread, replaces those by the records at hand that commits may have
  touched meanwhile (``pages``): hence ``committing``, and ``changes``.
* After an error of SQLite nobody knows whether the commit has happened: all is dropped, and the
  file is right.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator

from lro_grpc._operation.record import Record

MOST_RECORDS = 10_000
"""Records at hand at most; the oldest go first, and are read from the file when they are needed."""

MOST_BYTES = 64 * 1024 * 1024
"""The most bytes of requests, answers and the like in the records at hand."""


class RecentRecords:
    """Records by their names; see the module."""

    def __init__(self) -> None:
        self.committing: Collection[str] = ()
        """The operations whose rows may be ahead of their records here."""
        self._records: dict[str, Record] = {}
        self._sizes: dict[str, int] = {}
        self._bytes = 0
        self._collecting: list[set[str]] = []

    def __len__(self) -> int:
        """Returns the number of records."""
        return len(self._records)

    def get(self, name: str) -> Record | None:
        """Returns the record of a name, if it is at hand."""
        return self._records.get(name)

    @contextlib.contextmanager
    def changes(self) -> Iterator[Collection[str]]:
        """Collects the names of the operations that change while the context lasts."""
        changed: set[str] = set()
        self._collecting.append(changed)
        try:
            yield changed
        finally:
            self._collecting = [one for one in self._collecting if one is not changed]

    def keep(self, records: Collection[Record]) -> None:
        """Takes the records of a durable commit."""
        for changed in self._collecting:
            changed.update(record.name for record in records)
        for record in records:
            if record.deleted and record.done:
                self._drop(record.name)
            else:
                size = record.large_bytes
                self._bytes += size - self._sizes.get(record.name, 0)
                self._sizes[record.name] = size
                self._records[record.name] = record
        while len(self._records) > MOST_RECORDS or self._bytes > MOST_BYTES:
            self._drop(next(iter(self._records)))

    def clear(self) -> None:
        """Drops all records."""
        self._records.clear()
        self._sizes.clear()
        self._bytes = 0

    def _drop(self, name: str) -> None:
        self._records.pop(name, None)
        self._bytes -= self._sizes.pop(name, 0)
