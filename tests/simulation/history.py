"""Checks whether the answers that clients got can all be true."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from google.longrunning import operations_pb2

from lro.v1 import operation_metadata_pb2
from lro_grpc._operation.states import JOB

if TYPE_CHECKING:
    from collections.abc import Iterable

    from observer import Observer

Operation = operations_pb2.Operation


@dataclass(frozen=True)
class Known:
    """What at least everyone has to see of an operation."""

    update_time: int = 0
    progress: int = 0
    outcome: Operation | None = None
    """The whole operation, once it is done."""
    deleted: bool = False

    def after(self, operation: Operation) -> Known:
        """Returns what a client knows that has this answer."""
        shown = shown_of(operation)
        return replace(
            self,
            update_time=max(self.update_time, shown.update_time.ToMicroseconds()),
            progress=max(self.progress, shown.progress_percent),
            outcome=operation if operation.done else self.outcome,
        )


def shown_of(operation: Operation) -> operation_metadata_pb2.OperationMetadata:
    return operation_metadata_pb2.OperationMetadata.FromString(operation.metadata.value)


@dataclass
class History:
    """Takes each answer, with what was known when its question was asked.

    An answer that contradicts what any client knew before asking is a problem.
    """

    observer: Observer
    """Takes what must not be, and knows which operations may be gone by now."""
    started: dict[str, set[str]] = field(default_factory=dict)
    """The names that were answered to the starts with a ``request_id``."""
    known: dict[str, Known] = field(default_factory=dict)
    """By the operation's name."""
    lost: set[str] = field(default_factory=set)
    """The operations that were started, and are not there."""
    doubled: set[str] = field(default_factory=set)
    """The ``request_id`` that have started two operations, or more."""

    @property
    def names(self) -> list[str]:
        return list(self.known)

    def ask(self, name: str) -> Known:
        return self.known.get(name, Known())

    def start(self, request_id: str, known: dict[str, Known], answer: Operation) -> None:
        """Takes what a start has answered."""
        name = answer.name
        names = self.started.setdefault(request_id, set())
        names.add(name)
        there = [one for one in names if not self.observer.may_be_gone(one)]
        if len(there) > 1:
            self.doubled.add(request_id)
            self.observer.problems.append(f"{request_id} has started {there}")
        self.answered(name, known.get(name, Known()), answer)

    def answered(self, name: str, before: Known, operation: Operation) -> Known:
        """Takes the answer to a client that knew that much when it called.

        Returns:
            What they know from then on.
        """
        shown = shown_of(operation)
        update_time = shown.update_time.ToMicroseconds()
        wrong = []
        if operation.name != name:
            wrong.append("another name")
        if before.deleted:
            wrong.append("though it was deleted")
        if before.outcome is not None and operation != before.outcome:
            wrong.append("though it was done otherwise")
        if update_time < before.update_time or shown.progress_percent < before.progress:
            wrong.append("an earlier state")
        if operation.done != JOB.is_terminal(shown.state):
            wrong.append("done, or not, in the wrong state")
        problems = [f"{name} was answered as {what}: {before}, then {operation}" for what in wrong]
        self.observer.problems += problems
        self.known[name] = self.ask(name).after(operation)
        return before.after(operation)

    def not_found(self, name: str) -> None:
        """Takes the answer that there is no such operation."""
        if not self.observer.may_be_gone(name):
            self.lost.add(name)
            self.observer.problems.append(f"{name} was started, and is not found")

    def deleted(self, name: str) -> None:
        """Takes the answer to a delete."""
        self.known[name] = replace(self.ask(name), deleted=True)

    def listed(self, known: dict[str, Known], answers: Iterable[Operation]) -> None:
        """Takes a whole list, which has all that was there before it was asked for."""
        found = set()
        for operation in answers:
            found.add(operation.name)
            self.answered(operation.name, known.get(operation.name, Known()), operation)
        missing = {name for name in known.keys() - found if not self.observer.may_be_gone(name)}
        if missing:
            self.lost |= missing
            self.observer.problems.append(f"{missing} were started, and are not listed")
