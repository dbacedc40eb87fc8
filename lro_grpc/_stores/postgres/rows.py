"""Rows of ``lro_operations``: a column for each field of a record, and some of the store's own.

Rows are written in groups, column by column, each an array. Its elements are what a write costs,
here and in the server; so a column is sent only as far as it says something:

* None of it, where nothing is set in new rows, or nothing has changed in changed ones.
* One value, where that is the value of all rows.
* Otherwise the values of all rows.

``statements`` has the server's side of this.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any, NamedTuple, get_type_hints

from lro_grpc._operation.attempts import AttemptRecord
from lro_grpc._operation.completion import Completion
from lro_grpc._operation.record import (
    CLEARED,
    FIELDS,
    FREE,
    KEPT,
    LARGE,
    ONCE,
    RISING,
    Record,
    that_change,
)
from lro_grpc._stores.postgres.texts import text_from, text_of

READY, DELAYED, LEASED, RESTING, DONE = range(5)
"""The phases of an operation; see ``phase_of``."""

COLUMNS = tuple(FIELDS)
CHANGING = that_change(CLEARED, ONCE, KEPT, RISING, FREE)
"""The columns that an event may change."""

_TYPES = {str: "text", bytes: "bytea", int: "int8", bool: "bool"}
TYPES = {name: _TYPES[field.type] for name, field in FIELDS.items()}
"""The types of the columns."""

ATTEMPT_COLUMNS = AttemptRecord._fields
ATTEMPT_TYPES = {name: _TYPES[type_] for name, type_ in get_type_hints(AttemptRecord).items()}
"""The types of the columns of ``lro_attempts``."""

COMPLETION_COLUMNS = Completion._fields
COMPLETION_TYPES = {name: _TYPES[type_] for name, type_ in get_type_hints(Completion).items()}
"""The types of the columns of ``lro_outbox``."""

NUMBERS = ", ".join(
    name if name == "name" or field.type in (int, bool) else f"''::{TYPES[name]} AS {name}"
    for name, field in FIELDS.items()
)
"""``COLUMNS`` for a ``SELECT`` in which texts and bytes are empty, but for the name."""

_CHANGING = tuple(COLUMNS.index(name) for name in CHANGING)
_LARGE = tuple(COLUMNS.index(name) for name in LARGE)
_CHANGING_LARGE = tuple(index for index in _CHANGING if index in _LARGE)
_TEXTS = tuple(index for index, field in enumerate(FIELDS.values()) if field.type is str)


class Known(NamedTuple):
    """A record as some version of its row has it. Each change of a row makes the next version."""

    version: int
    record: Record
    is_whole: bool = True
    """Whether the record has its large values; else they are empty."""


def first_version(record: Record) -> int:
    """Returns the version of a new row.

    It is higher than all of an earlier row of the same name, which had fewer changes than it was
    microseconds old: so no version stands for two records. It is the time of its storing, not of
    its creation, which another server may have seen long ago.
    """
    return max(1, record.update_time)


def phase_of(record: Record) -> int:
    """Returns the phase of an operation.

    It is the one changing column that the indexes of claims ask of: a heartbeat or a report leaves
    it alone, and so touches no index.
    """
    if record.done:
        return DONE
    if record.lease_expire_time:
        return LEASED
    if not record.claimable:
        return RESTING
    return DELAYED if record.scheduled_time else READY


def bounded(
    columns: Iterable[str], most: str, of: str = "", *, left_out: Collection[str] = ()
) -> str:
    """Returns columns for a ``SELECT``: those that may be large are NULL if they are too large.

    All of them or none: the server knows the bytes of each without reading it.

    Args:
        columns: The columns.
        most: The expression for the most bytes of all that may be large in a row.
        of: What stands before the name of a column.
        left_out: Columns that are empty instead.
    """
    columns = tuple(columns)
    large = [name for name in columns if name in LARGE and name not in left_out]
    size = " + ".join(f"octet_length({of}{name})::int8" for name in large)

    def column(name: str) -> str:
        if name in left_out:
            return f"''::{TYPES[name]} AS {name}"
        if name in LARGE:
            return f"CASE WHEN {size} <= {most} THEN {of}{name} END AS {name}"
        return f"{of}{name}"

    return ", ".join(map(column, columns))


def is_whole(row: Sequence[Any]) -> bool:
    """Returns whether a row of one more column and then ``COLUMNS`` lacks no value."""
    return row[1 + _LARGE[0]] is not None


def record_from(row: Sequence[Any]) -> Record:
    """Returns the record of a row of ``COLUMNS``."""
    values = list(row)
    for index in _TEXTS:
        values[index] = text_from(values[index])
    return Record._make(values)


def known_from(row: Sequence[Any]) -> Known:
    """Returns what a row of ``version`` and ``COLUMNS`` says."""
    return Known(row[0], record_from(row[1:]))


def rest_from(row: Sequence[Any]) -> Known:
    """Returns what is left of a row that lacks values: they are empty here."""
    version, *values = row
    kinds = (field.type for field in FIELDS.values())
    rest = [kind() if one is None else one for one, kind in zip(values, kinds, strict=True)]
    return Known(version, record_from(rest), is_whole=False)


def arrays_of(records: Sequence[Record]) -> list[Sequence[Any]]:
    """Returns the values of new rows, column by column: versions, phases, and then ``COLUMNS``."""
    columns: list[Sequence[Any]] = [
        _shortened(values) if any(values) else () for values in zip(*records, strict=True)
    ]
    for index in _TEXTS:
        columns[index] = [text_of(text) for text in columns[index]]
    versions = [first_version(record) for record in records]
    return [versions, [phase_of(record) for record in records], *columns]


def arrays_of_changes(changes: Sequence[tuple[Known, Record]]) -> list[Sequence[Any]]:
    """Returns the values of changed rows, column by column.

    Those are the names, the versions that are changed, the phases, and then ``CHANGING``. What may
    be large is None where it stays: in place of it the server keeps what it has.
    """
    columns: list[Sequence[Any]] = [
        [text_of(record.name) for _, record in changes],
        [known.version for known, _ in changes],
        [phase_of(record) for _, record in changes],
    ]
    before = list(zip(*(known.record for known, _ in changes), strict=True))
    after = list(zip(*(record for _, record in changes), strict=True))
    for index in _CHANGING:
        values: Sequence[Any] = after[index]
        if values == before[index]:
            values = ()
        elif index in _LARGE:
            pairs = zip(before[index], values, strict=True)
            values = [None if old == new else new for old, new in pairs]
        else:
            values = _shortened(values)
        if index in _TEXTS:
            values = [None if text is None else text_of(text) for text in values]
        columns.append(values)
    return columns


def _shortened(values: Sequence[Any]) -> Sequence[Any]:
    """Returns one value where that is the value of all rows."""
    return values[:1] if values.count(values[0]) == len(values) else values


def arrays_of_attempts(
    attempts: Sequence[tuple[str | int, AttemptRecord]],
) -> list[Sequence[Any]]:
    """Returns the values of attempts, column by column.

    Args:
        attempts: Of each that which tells its operation, and itself.
    """
    operations = [operation for operation, _ in attempts]
    rows = (one._replace(worker=text_of(one.worker)) for _, one in attempts)
    return [operations, *(list(zip(*rows, strict=True)) or [()] * len(ATTEMPT_COLUMNS))]


def attempt_from(row: Sequence[Any]) -> AttemptRecord:
    """Returns the attempt of a row of ``ATTEMPT_COLUMNS``."""
    attempt = AttemptRecord._make(row)
    return attempt._replace(worker=text_from(attempt.worker))


def arrays_of_completions(completions: Sequence[Completion]) -> list[Sequence[Any]]:
    """Returns the values of completions, column by column."""
    rows = (one._replace(name=text_of(one.name)) for one in completions)
    return list(zip(*rows, strict=True)) or [()] * len(COMPLETION_COLUMNS)


def completion_from(row: Sequence[Any]) -> Completion:
    """Returns the completion of a row of ``COMPLETION_COLUMNS``."""
    completion = Completion._make(row)
    return completion._replace(name=text_from(completion.name))


def size_of_change(
    change: tuple[Known, Record, Sequence[AttemptRecord], Completion | None],
) -> int:
    """Returns the bytes of all that may be large in a change: what stays is not written."""
    known, after, superseded, completion = change
    size = sum(len(one.error) for one in superseded) + (completion.size if completion else 0)
    for index in _CHANGING_LARGE:
        value: Any = after[index]
        if value is not known.record[index]:
            size += len(value)
    return size
