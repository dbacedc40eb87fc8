"""Filters in PostgreSQL's SQL, over a table whose texts are ``COLLATE "C"``.

That collation has them in the order of code points, and changes the case of A to Z alone, as a
filter means it, whatever the database's own is.
"""

from __future__ import annotations

import re

from lro_grpc._filtering.expression import Expression
from lro_grpc._operation.record import FIELDS
from lro_grpc._stores import sql_filter
from lro_grpc._stores.postgres.texts import PAIRED, text_of
from lro_grpc._stores.sql_filter import DONE, Condition, Value

_TYPES = {str: "text", int: "int8", bytes: "bytea"}


def condition(expression: Expression, *, first: int = 1) -> Condition:
    """Returns the condition that is true of every record that an expression matches.

    Where SQL cannot decide, it is true of more records than those, and not ``exact``. Its values
    are ``$1`` and so on, with their types.

    Args:
        expression: The expression.
        first: The number of its first value, in a statement that has others before it.
    """
    found = sql_filter.condition(expression, _Postgres())
    numbers = enumerate(found.parameters, first)
    return found._replace(sql=re.sub(r"\?", lambda _: _placeholder(*next(numbers)), found.sql))


def _placeholder(number: int, value: Value) -> str:
    return f"${number}::{_TYPES[type(value)]}"


class _Postgres:
    """PostgreSQL's SQL.

    Texts are compared as they are written. The beginning of one is the beginning of another then,
    too; but a part that begins with half of a pair may be found where the text does not have it.
    """

    max_depth = 100

    def operand(self, column: str) -> str:
        if column == "done":
            return f"{DONE}::int4"
        return f"{column}::int4" if FIELDS[column].type is bool else column

    def value(self, value: Value) -> Value:
        return text_of(value) if isinstance(value, str) else value

    def begins(self, text: str, first: str) -> Condition:
        return Condition(f"starts_with({text}, ?)", (text_of(first),))

    def contains(self, text: str, part: str) -> Condition:
        written = text_of(part)
        return Condition(f"strpos({text}, ?) > 0", (written,), not written.startswith(PAIRED))

    def ends(self, text: str, last: str, least: str) -> Condition:
        written = text_of(last)
        sql = f"char_length({text}) >= ? AND right({text}, ?::int4) = ?"
        values = (len(text_of(least)), len(written), written)
        return Condition(sql, values, not written.startswith(PAIRED))
