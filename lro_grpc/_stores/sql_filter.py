"""Filters as conditions in SQL, over a table whose columns are those of ``Record``.

No part of a filter's text becomes SQL: columns and comparators are this package's own, and every
value is a bound parameter. What databases call by different names is a ``SqlDialect``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, Protocol, Union

from lro_grpc._filtering.expression import (
    And,
    Compare,
    Expression,
    Label,
    Like,
    Matches,
    Not,
    PartialFailures,
)
from lro_grpc._filtering.in_message import InMessage
from lro_grpc._operation import labels
from lro_grpc._operation.names import ANY_PARENT
from lro_grpc._operation.record import LARGE, SHOWN
from lro_grpc._operation.states import JOB
from lro_grpc._stores.store import Query

_TERMINAL = ", ".join(str(number) for number in JOB.states if JOB.is_terminal(number))
DONE = f"(state IN ({_TERMINAL}))"
"""The condition that an operation is done; a filter may ask for it as for a column."""

NOT_ASKED = frozenset(LARGE) - {
    *(field.name for field in SHOWN.values()),
    *("handler_metadata", "operation"),
}
"""The columns that may be large, and that no filter looks at: a page without records reads none."""

_WILDCARD = re.compile("(?<![^/])-(?![^/])")

Value = Union[str, int, float, bytes]  # noqa: UP007 - is evaluated


class Condition(NamedTuple):
    """A condition, as it stands behind ``WHERE``."""

    sql: str
    """An operand, which ``AND`` may join as it is."""
    parameters: tuple[Value, ...] = ()
    """The values of its question marks, in order."""
    exact: bool = True
    """Whether it is true of no other records than the expression matches."""


def condition_of(query: Query, condition: Callable[[Expression], Condition]) -> Condition:
    """Returns the condition on the rows that a page looks at.

    The parent is part of it, unless these rows are those of one.

    Args:
        query: What the list asks for.
        condition: Makes the condition of an expression, in a dialect.
    """
    filter_ = query.filter.expression if query.filter else And(())
    if not query.has_wildcard:
        if not query.labels:
            return condition(filter_)
        parent = Compare("parent", "=", query.parent)
        return condition(And((parent, Compare("deleted", "=", 0), filter_)))
    if query.parent == ANY_PARENT:
        return condition(And((Compare("deleted", "=", 0), filter_)))
    parents = Like("parent", tuple(_WILDCARD.split(query.parent)))
    # Unlike a wildcard, the gap between the parts of a text may hold slashes: hence not exact.
    return condition(And((parents, Compare("deleted", "=", 0), filter_)))._replace(exact=False)


_UNKNOWN = Condition("TRUE", exact=False)
_NEVER = Condition("FALSE")

_OF_PYTHON = (Matches, PartialFailures, InMessage)
"""Conditions that no SQL says."""


class SqlDialect(Protocol):
    """The SQL of one database, with a question mark for each value.

    Of a condition on texts ``text`` is the operand, and the other texts are as a filter has them.
    """

    @property
    def max_depth(self) -> int:
        """Parentheses in parentheses at most."""
        ...

    def operand(self, column: str) -> str:
        """Returns what is compared with a value, given the name of a column or ``done``."""
        ...

    def value(self, value: Value) -> Value:
        """Returns the parameter for a value, which is compared as the value is."""
        ...

    def begins(self, text: str, first: str) -> Condition:
        """Returns whether a text begins with another."""
        ...

    def contains(self, text: str, part: str) -> Condition:
        """Returns whether a text has another in it."""
        ...

    def ends(self, text: str, last: str, least: str) -> Condition:
        """Returns whether a text ends with another, and is as long as a third at least."""
        ...


def condition(expression: Expression, dialect: SqlDialect, depth: int = 0) -> Condition:
    """Returns the condition that is true of every record that an expression matches.

    Where SQL cannot decide, it is true of more records than those, and not ``exact``.

    Args:
        expression: The expression.
        dialect: The SQL to write it in.
        depth: The number of parentheses that it stands in.
    """
    if isinstance(expression, Compare):
        operand = dialect.operand(expression.column)
        value = dialect.value(expression.value)
        return Condition(f"{operand} {expression.comparator} ?", (value,))
    if isinstance(expression, Like):
        return _like(expression, dialect)
    if isinstance(expression, Label):
        return _label(expression, dialect)
    if isinstance(expression, _OF_PYTHON) or depth == dialect.max_depth:
        return _UNKNOWN
    if isinstance(expression, Not):
        return _negated(condition(expression.part, dialect, depth + 1))
    parts = (condition(part, dialect, depth + 1) for part in expression.parts)
    return _joined("AND" if isinstance(expression, And) else "OR", parts)


def _label(label: Label, dialect: SqlDialect) -> Condition:
    """Returns the condition on the text of all labels, in which each stands as ``,key=value,``."""

    def beginning(value: str, end: str = "") -> Condition:
        if not labels.is_value(value):
            return _NEVER
        return dialect.contains("labels", f",{label.key}={value}{end}")

    present, test = beginning(""), label.test
    if isinstance(test, Compare) and test.comparator in ("=", "!="):
        equal = beginning(str(test.value), ",")
        return equal if test.comparator == "=" else _joined("AND", (present, _negated(equal)))
    if isinstance(test, Not):
        part: Any = test.part
        return _joined("AND", (present, _negated(_label(Label(label.key, part), dialect))))
    if isinstance(test, Like) and not test.fold:
        first, *others = test.parts
        return beginning(first)._replace(exact=not any(others))
    return present._replace(exact=test is None)


def _negated(part: Condition) -> Condition:
    # The negation of a condition that is true of too many is true of too few.
    return part._replace(sql=f"NOT ({part.sql})") if part.exact else _UNKNOWN


def _joined(word: str, conditions: Iterable[Condition]) -> Condition:
    parts = list(conditions)
    nothing = "TRUE" if word == "AND" else "FALSE"
    return Condition(
        sql=f"({f' {word} '.join(part.sql for part in parts) or nothing})",
        parameters=tuple(one for part in parts for one in part.parameters),
        exact=all(part.exact for part in parts),
    )


def _like(like: Like, dialect: SqlDialect) -> Condition:
    text = f"lower({like.column})" if like.fold else like.column
    first, *middle, last = like.parts
    conditions = [dialect.contains(text, part) for part in middle if part]
    # It does not ask that the parts inside come in order, apart from each other and the ends.
    alone = len(conditions) + bool(first or last) <= 1
    if first:
        conditions.append(dialect.begins(text, first))
    if last:
        conditions.append(dialect.ends(text, last, first + last))
    joined = _joined("AND", conditions)
    return joined._replace(exact=joined.exact and alone)
