"""Filters in SQLite's SQL."""

from __future__ import annotations

from lro_grpc._filtering.expression import Expression
from lro_grpc._stores import sql_filter
from lro_grpc._stores.sql_filter import DONE, Condition, Value


def condition(expression: Expression) -> Condition:
    """Returns the condition that is true of every record that an expression matches.

    Where SQL cannot decide, it is true of more records than those, and not ``exact``.
    """
    return sql_filter.condition(expression, _Sqlite())


class _Sqlite:
    """SQLite's SQL, in functions that, unlike ``LIKE`` and ``GLOB``, read texts beyond a NUL."""

    max_depth = 16
    """Its own parser has room for about thirty."""

    def operand(self, column: str) -> str:
        # The plus keeps it from being looked up in an index: a page has an order of its own.
        return DONE if column == "done" else f"+{column}"

    def value(self, value: Value) -> Value:
        return value

    def begins(self, text: str, first: str) -> Condition:
        return Condition(f"instr({text}, ?) = 1", (first,))

    def contains(self, text: str, part: str) -> Condition:
        return Condition(f"instr({text}, ?) > 0", (part,))

    def ends(self, text: str, last: str, least: str) -> Condition:
        end, data = last.encode(), f"CAST({text} AS BLOB)"
        # The length comes first, for of an empty text substr gives NULL.
        sql = f"length({data}) >= ? AND substr({data}, ?) = ?"
        return Condition(sql, (len(least.encode()), -len(end), end))
