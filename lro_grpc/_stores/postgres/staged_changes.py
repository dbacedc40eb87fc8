"""Events applied in memory to records whose versions are known: one statement's worth of changes.

Nothing here reads or writes. Ten events of one operation make one change of its row.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from lro_grpc._errors import LroError, OperationDamagedError
from lro_grpc._operation.attempts import AttemptRecord, superseded
from lro_grpc._operation.completion import Completion, completed
from lro_grpc._operation.events import Delete, Event, apply_safely
from lro_grpc._operation.publication import not_found
from lro_grpc._operation.record import Record
from lro_grpc._stores.damage import deleted_damaged
from lro_grpc._stores.postgres.rows import Known


class RowChange(NamedTuple):
    """One change of a row."""

    known: Known
    """The row before the change, as it is known."""
    after: Record
    """The record that is to be there instead."""
    superseded: Sequence[AttemptRecord]
    """The attempts of which the row tells no more."""
    completion: Completion | None
    """That which is left behind if the operation ends."""


class StagedChanges:
    """The changes of some operations.

    Args:
        known: What is known of them; a name that is missing has no row.
        damaged: The errors of those of which no record can be made.
        now: The time, in microseconds since 1970 UTC.
    """

    def __init__(
        self, known: Mapping[str, Known], damaged: Mapping[str, OperationDamagedError], now: int
    ) -> None:
        self._known = known
        self._damaged = damaged
        self._now = now
        self._latest: dict[str, Record | None] = {}
        self._transitions: dict[str, list[tuple[Record, Record]]] = {}
        self._in_order: list[tuple[Record, Record]] = []
        self._superseded: dict[str, list[AttemptRecord]] = {}
        self._completions: dict[str, Completion] = {}

    def apply(self, name: str, event: Event) -> Record | LroError:
        """Applies an event to the record of a name; returns that record, or the error."""
        known = self._known.get(name)
        if known is None and name in self._damaged:
            return self._damaged[name]  # there is a row, which nobody can read
        before = self._latest.get(name, known.record) if known is not None else None
        if before is None:
            return not_found(name)
        if name in self._damaged and name not in self._latest:
            if not isinstance(event, Delete):
                return self._damaged[name]
            before, after = deleted_damaged(name, self._now)
        else:
            outcome = apply_safely(event, before, self._now)
            if isinstance(outcome, LroError) or outcome is before:
                return outcome
            after = outcome
        self._latest[name] = None if is_gone(after) else after
        self._transitions.setdefault(name, []).append((before, after))
        self._in_order.append((before, after))
        if attempt := superseded(before, after):
            self._superseded.setdefault(name, []).append(attempt)
        if completion := completed(before, after):
            self._completions[name] = completion
        return after

    def has_changed(self, name: str) -> bool:
        """Whether an event has changed an operation."""
        return name in self._transitions

    def transitions(self, name: str) -> Sequence[tuple[Record, Record]]:
        """Returns the changes of an operation in order, each as the records before and after."""
        return self._transitions.get(name, ())

    def transitions_of(self, names: Collection[str]) -> Sequence[tuple[Record, Record]]:
        """Returns the changes of some operations, in the order in which they were applied."""
        return [transition for transition in self._in_order if transition[1].name in names]

    @property
    def changed(self) -> Sequence[RowChange]:
        """The changes of rows."""
        return [
            RowChange(
                self._known[name],
                transitions[-1][1],
                self._superseded.get(name, ()),
                self._completions.get(name),
            )
            for name, transitions in self._transitions.items()
        ]


def is_gone(record: Record) -> bool:
    """Returns whether nothing is left of an operation: it is done and deleted."""
    return record.deleted and record.done
