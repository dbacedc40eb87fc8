"""The expression that a filter means: a tree that matches records."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Union

from google.longrunning import operations_pb2

from lro_grpc import _anys
from lro_grpc._filtering.in_message import InMessage, Read, Test
from lro_grpc._filtering.patterns import Pattern
from lro_grpc._operation import labels
from lro_grpc._operation.record import Record

_COMPARATORS: Mapping[str, Callable[[Any, Any], Any]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}

_FOLDED = {letter: letter + 32 for letter in range(ord("A"), ord("Z") + 1)}
"""From the letters A to Z to a to z."""


@dataclass(frozen=True, slots=True)
class And:
    """All of the parts; of none, true."""

    parts: tuple[Expression, ...]

    def matches(self, record: Record) -> bool:
        """Whether it is true of a record."""
        return all(part.matches(record) for part in self.parts)


@dataclass(frozen=True, slots=True)
class Or:
    """At least one of the parts."""

    parts: tuple[Expression, ...]

    def matches(self, record: Record) -> bool:
        """Whether it is true of a record."""
        return any(part.matches(record) for part in self.parts)


@dataclass(frozen=True, slots=True)
class Not:
    """The opposite."""

    part: Expression

    def matches(self, record: Any) -> bool:
        """Whether it is true of a record."""
        return not self.part.matches(record)


@dataclass(frozen=True, slots=True)
class Compare:
    """A record's value compared with another of its type; texts in the order of code points."""

    column: str
    """The name of a field of ``Record``, or ``done``."""
    comparator: str
    """One of ``= != < <= > >=``."""
    value: str | int | float | bytes

    def matches(self, record: object) -> bool:
        """Whether it is true of a record."""
        return bool(_COMPARATORS[self.comparator](getattr(record, self.column), self.value))


@dataclass(frozen=True, slots=True)
class Like:
    """A record's text that has these parts in this order, and any text between them."""

    column: str
    """The name of a field of ``Record``."""
    parts: tuple[str, ...]
    """Two at least: the text begins with the first and ends with the last."""
    fold: bool = False
    """Whether A to Z in the record's text count as a to z; the parts have no A to Z then."""

    @classmethod
    def containing(cls, column: str, parts: tuple[str, ...]) -> Like:
        """Returns the search for these parts anywhere in a text, whatever the case of A to Z."""
        return cls(column, ("", *(part.translate(_FOLDED) for part in parts), ""), fold=True)

    def matches(self, record: object) -> bool:
        """Whether it is true of a record."""
        text = getattr(record, self.column)
        if self.fold:
            text = text.translate(_FOLDED)
        first, *middle, last = self.parts
        place, end = len(first), len(text) - len(last)
        if place > end or not text.startswith(first) or not text.endswith(last):
            return False
        for part in middle:
            found = text.find(part, place, end)
            if found < 0:
                return False
            place = found + len(part)
        return True


@dataclass(frozen=True, slots=True)
class Matches:
    """A record's text that a regular expression matches, all of it; see ``patterns``."""

    column: str
    """The name of a field of ``Record``."""
    pattern: Pattern

    def matches(self, record: object) -> bool:
        """Whether it is true of a record."""
        return self.pattern.matches(getattr(record, self.column))


@dataclass(frozen=True, slots=True)
class PartialFailures:
    """Metadata, as it is served, that lists failures of parts."""

    def matches(self, record: Record) -> bool:
        """Whether it is true of a record."""
        served = operations_pb2.Operation.FromString(record.operation).metadata
        message = _anys.unpack(served)
        if message is None:
            return False  # the service no longer has the type
        field = message.DESCRIPTOR.fields_by_name.get("partial_failures")
        return field is not None and bool(field.is_repeated and getattr(message, field.name))


@dataclass(frozen=True, slots=True)
class Label:
    """A label, whose value is compared; true of no record without it."""

    key: str
    """Its key, which is one: ``labels.is_key``."""
    test: Test | None = None
    """The condition on its value; None if any will do."""

    def matches(self, record: Record) -> bool:
        """Whether it is true of a record."""
        value = labels.value_in(record.labels, self.key)
        if value is None:
            return False
        return self.test is None or self.test.matches(Read(value))


Expression = Union[  # noqa: UP007 - is evaluated
    And, Or, Not, Compare, Like, Matches, Label, PartialFailures, InMessage
]


@dataclass(frozen=True, slots=True)
class Filter:
    """A filter that is well formed."""

    text: str
    expression: Expression

    def matches(self, record: Record) -> bool:
        """Whether a record is to be listed."""
        return self.expression.matches(record)


def comparisons(expression: Expression) -> int:
    """Returns how many comparisons an expression makes with a record at most."""
    if isinstance(expression, Not):
        return comparisons(expression.part)
    if isinstance(expression, (And, Or)):
        return sum(map(comparisons, expression.parts))
    if isinstance(expression, (InMessage, Label)):
        test = expression.test
        return 1 + (comparisons(test) if isinstance(test, (Compare, Like, Matches, Not)) else 0)
    if isinstance(expression, Matches):
        return expression.pattern.size
    return len(expression.parts) if isinstance(expression, Like) else 1


def is_costly(expression: Expression) -> bool:
    """Returns whether it takes long to find what an expression matches.

    Such a one has to parse what is stored, or reads texts by their characters.
    """
    if isinstance(expression, Not):
        return is_costly(expression.part)
    if isinstance(expression, (And, Or)):
        return any(map(is_costly, expression.parts))
    if isinstance(expression, Label):
        return isinstance(expression.test, Matches)
    if isinstance(expression, Like):
        return len(expression.parts) > 2  # more than how it begins and ends
    return isinstance(expression, (Matches, PartialFailures, InMessage))


_STEPS_OF_A_SET = 32
"""Positions of a pattern that are looked at, at worst, in the time of a step."""


def steps(expression: Expression) -> Mapping[str, float]:
    """Returns the columns that are read by their characters, with the steps that each one takes.

    A step is a character of a text that a regular expression reads.
    """
    if isinstance(expression, Not):
        return steps(expression.part)
    if isinstance(expression, (And, Or)):
        total: dict[str, float] = {}
        for part in expression.parts:
            for column, number in steps(part).items():
                total[column] = total.get(column, 0) + number
        return total
    if isinstance(expression, Matches):
        return {expression.column: 1 + expression.pattern.size / _STEPS_OF_A_SET}
    if isinstance(expression, (Label, InMessage)) and isinstance(expression.test, Matches):
        # What is read of the message or the labels is a part of them.
        column = "labels" if isinstance(expression, Label) else expression.source.column
        return {column: steps(expression.test)[expression.test.column]}
    return {}


_OF_DESCRIPTION = frozenset({"caller", "worker"})
"""The columns that a description tells, and a list does not."""


def is_of_description(expression: Expression) -> bool:
    """Returns whether an expression asks for what a description tells, and a list does not."""
    if isinstance(expression, Not):
        return is_of_description(expression.part)
    if isinstance(expression, (And, Or)):
        return any(map(is_of_description, expression.parts))
    return isinstance(expression, (Compare, Like, Matches)) and expression.column in _OF_DESCRIPTION


def labels_in(expression: Expression) -> Sequence[tuple[str, str]]:
    """Returns labels, each a key and a value, that all have that an expression matches."""
    if isinstance(expression, And):
        return tuple(dict.fromkeys(one for part in expression.parts for one in labels_in(part)))
    test = expression.test if isinstance(expression, Label) else None
    if isinstance(expression, Label) and isinstance(test, Compare) and test.comparator == "=":
        return ((expression.key, str(test.value)),)
    return ()
