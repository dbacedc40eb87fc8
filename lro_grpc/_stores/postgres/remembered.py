"""Remembers the records of recent changes, with the versions of their rows.

A process mostly changes what it has just changed itself: it creates, claims and finishes. The
record is here for its next change, and need not be read. Another process may have changed the row
since; then the version is another one, the change is refused, and made again from the row. So what
is here may be old, and no read is answered from it.

What is done is changed by its delete alone, and is not here: thousands of records that nobody asks
for would be searched by Python for cycles again and again.

The thread that renews leases looks here, too: each method is one step for the interpreter.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from lro_grpc._stores.postgres.rows import Known

MOST_BYTES = 64 * 1024 * 1024
"""The most bytes of records here; the oldest go first."""

_RECORD_BYTES = 2000
"""About what a record takes beside the values that may be large."""


class RememberedRecords:
    """Records by their names; see the module."""

    def __init__(self, max_bytes: int = MOST_BYTES) -> None:
        self._max_bytes = max_bytes
        self._known: dict[str, Known] = {}
        self._bytes = 0

    def get(self, name: str) -> Known | None:
        """Returns what is known of a name."""
        return self._known.get(name)

    def of(self, names: Iterable[str]) -> Iterator[tuple[str, Known]]:
        """Yields what is known of some names."""
        for name in names:
            known = self._known.get(name)
            if known is not None:
                yield name, known

    def keep(self, known: Known) -> None:
        """Takes a record, unless a later version of it is here.

        One that is done is dropped, and so is one that lacks its large values.
        """
        name = known.record.name
        former = self._known.get(name)
        if former is not None:
            if former.version > known.version:
                return
            self.drop(name)
        if known.record.done or not known.is_whole:
            return
        self._known[name] = known
        self._bytes += _size(known)
        while self._bytes > self._max_bytes:
            self.drop(next(iter(self._known)))

    def drop(self, name: str) -> None:
        """Drops the record of a name."""
        known = self._known.pop(name, None)
        if known is not None:
            self._bytes -= _size(known)


def _size(known: Known) -> int:
    return _RECORD_BYTES + known.record.large_bytes
