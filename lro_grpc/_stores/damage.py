"""Sets aside the rows of which no record can be made.

One row that a disk has damaged must stop nothing but its own operation. So whoever reads rows asks
here for each of them: it is a record, or it is set aside, with an ERROR in the log that names it.
Of many rows a few are named, and the others counted; ``lro db check`` names them all. A damaged
operation is DATA_LOSS to those who ask for it, is in no list, is claimed by nobody, and can be
deleted.

So many rows are set aside at most; of more the oldest are taken back, and found anew when they are
next read. So whoever looks for sound rows has to know by itself which ones it has passed over: then
it comes to its end however many are damaged.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Set

from lro_grpc._errors import OperationDamagedError
from lro_grpc._operation import integrity, metadata, names, publication
from lro_grpc._operation.record import Record
from lro_grpc._operation.states import FAILED
from lro_grpc._runtime.repeated_lines import RepeatedLines

_log = logging.getLogger("lro_grpc")


MOST_SET_ASIDE = 10_000
"""The most rows of a store that are set aside at a time."""


class Damage:
    """The rows of one store that are set aside; see the module. Any thread may call it."""

    def __init__(self) -> None:
        self._names: dict[object, None] = {}
        """In the order in which they were found."""
        self._is_full = False
        self._lock = threading.Lock()
        self.lines = RepeatedLines(_log)
        """Logs what is damaged."""

    def set_aside(self) -> Set[object]:
        """Returns the names of the rows that are set aside now."""
        with self._lock:
            return {*self._names}

    def checked(
        self, record: Record, fault_in: Callable[[Record], str] = integrity.fault_in
    ) -> Record:
        """Returns what was read as a record, if it is one.

        Args:
            record: What was read.
            fault_in: Finds what is wrong with it.

        Raises:
            OperationDamagedError: If it is none.
        """
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

    def found(
        self, name: object, why: str, cause: BaseException | None = None
    ) -> OperationDamagedError:
        """Sets a row aside, and returns the error for those who ask for it.

        Args:
            name: Its name, as far as it has one.
            why: What is wrong with it, for strangers, too.
            cause: What its database says of it, for the log alone.
        """
        error = integrity.damaged(name, why)
        with self._lock:
            is_new = name not in self._names
            was_full = self._is_full
            self._names[name] = None
            if len(self._names) > MOST_SET_ASIDE:
                self._is_full = True
                del self._names[next(iter(self._names))]
        if is_new and not was_full:
            said = error.message if cause is None else f"{error.message} ({cause})"
            self.lines.say(logging.ERROR, said, kind="row", extra={"operation": str(name)})
            if self._is_full:
                _log.error(
                    "more than %d rows are damaged: no more are named here; restore the database"
                    " from a backup",
                    MOST_SET_ASIDE,
                )
        return error

    def forget(self, name: str) -> None:
        """Takes back that a row is set aside: it is deleted, or was mended."""
        with self._lock:
            self._names.pop(name, None)
            self._is_full = self._is_full and len(self._names) > MOST_SET_ASIDE // 2


def deleted_damaged(name: str, now: int) -> tuple[Record, Record]:
    """Returns records in the place of a damaged one: before its delete, and after it."""
    parent, _, operation_id = name.rpartition(f"{names.COLLECTION}/")
    made = publication.create(
        parent=parent.rstrip("/"),
        operation_id=operation_id,
        method="",
        request=b"",
        metadata_type=metadata.DEFAULT_TYPE.DESCRIPTOR.full_name,
        now=now,
    )
    before = made._replace(state=FAILED, end_time=now)
    return before, before._replace(deleted=True)
