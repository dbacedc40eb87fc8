"""Filters as conditions in SQLite's SQL, over a table whose columns are those of ``Record``.

No part of a filter's text becomes SQL: columns and comparators are this package's own, and every
value is a bound parameter.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from lro_grpc._filtering.expression import (
    And,
    Compare,
    Expression,
    Like,
    Matches,
    Not,
    PartialFailures,
)
from lro_grpc._operation.states import JOB

_MAX_DEPTH = 16
"""Parentheses in parentheses at most; SQLite's own parser has room for about thirty."""

_TERMINAL = ", ".join(str(number) for number in JOB.states if JOB.is_terminal(number))
_DONE = f"(state IN ({_TERMINAL}))"


class Condition(NamedTuple):
    """A condition, as it stands behind ``WHERE``."""

    sql: str
    """An operand, which ``AND`` may join as it is."""
    parameters: tuple[str | int | bytes, ...] = ()
    """The values of its question marks, in order."""
    exact: bool = True
    """Whether it is true of no other records than the expression matches."""


_UNKNOWN = Condition("1", exact=False)


def condition(expression: Expression) -> Condition:
    """Returns the condition that is true of every record that an expression matches.

    Where SQL cannot decide, it is true of more records than those, and not ``exact``.
    """
    return _condition(expression, 0)


def _condition(expression: Expression, depth: int) -> Condition:
    if isinstance(expression, Compare):
        # The plus keeps it from being looked up in an index: a page has an order of its own.
        column = _DONE if expression.column == "done" else f"+{expression.column}"
        return Condition(f"{column} {expression.comparator} ?", (expression.value,))
    if isinstance(expression, Like):
        return _like(expression)
    if isinstance(expression, (Matches, PartialFailures)) or depth == _MAX_DEPTH:
        return _UNKNOWN
    if isinstance(expression, Not):
        part = _condition(expression.part, depth + 1)
        # The negation of a condition that is true of too many is true of too few.
        return part._replace(sql=f"NOT ({part.sql})") if part.exact else _UNKNOWN
    parts = (_condition(part, depth + 1) for part in expression.parts)
    return _joined("AND" if isinstance(expression, And) else "OR", parts)


def _joined(word: str, conditions: Iterable[Condition]) -> Condition:
    parts = list(conditions)
    nothing = "1" if word == "AND" else "0"
    return Condition(
        sql=f"({f' {word} '.join(part.sql for part in parts) or nothing})",
        parameters=tuple(one for part in parts for one in part.parameters),
        exact=all(part.exact for part in parts),
    )


def _like(like: Like) -> Condition:
    """Made of functions that, unlike ``LIKE`` and ``GLOB``, read texts beyond a NUL character."""
    text = f"lower({like.column})" if like.fold else like.column
    first, *middle, last = like.parts
    inner = [part for part in middle if part]
    conditions = [Condition(f"instr({text}, ?) > 0", (part,)) for part in inner]
    if first:
        conditions.append(Condition(f"instr({text}, ?) = 1", (first,)))
    if last:
        end, length = last.encode(), len((first + last).encode())
        data = f"CAST({text} AS BLOB)"
        # The length comes first, for of an empty text substr gives NULL.
        sql = f"length({data}) >= ? AND substr({data}, ?) = ?"
        conditions.append(Condition(sql, (length, -len(end), end)))
    # It does not ask that the parts inside come in order, apart from each other and the ends.
    alone = len(inner) + bool(first or last) <= 1
    return _joined("AND", conditions)._replace(exact=alone)
