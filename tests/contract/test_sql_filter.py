"""In the SQL of each database a filter selects what its predicate is true of."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import sqlite3
from typing import TYPE_CHECKING, Protocol

import asyncpg
import pytest
from any_queries import TEXT_COLUMNS, TREES, plain, records
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lro_grpc._filtering.expression import And, Compare, Like, Not, Or
from lro_grpc._operation.record import FIELDS
from lro_grpc._stores.postgres import filter as postgres_filter
from lro_grpc._stores.postgres.texts import text_of
from lro_grpc._stores.sqlite import filter as sqlite_filter

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lro_grpc._filtering.expression import Expression
    from lro_grpc._operation.record import Record

SQLITE_TYPES = {str: "TEXT", bytes: "BLOB", int: "INTEGER", bool: "INTEGER"}
POSTGRES_TYPES = {str: 'text COLLATE "C"', bytes: "bytea", int: "int8", bool: "bool"}

# The database is each example's own: it holds what the example puts into it, and nothing else.
EACH_EXAMPLE = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def columns(types: dict[type, str]) -> str:
    return ", ".join(f"{one.name} {types[one.type]}" for one in FIELDS.values())


class Database(Protocol):
    def fill(self, made: Sequence[Record]) -> None:
        """Has these records, and no others."""

    def places(self, expression: Expression) -> tuple[set[int], bool]:
        """Returns which records are selected, and whether that is said to be exact."""


class Sqlite:
    def __init__(self) -> None:
        self._connection = sqlite3.connect(":memory:")
        self._connection.execute(f"CREATE TABLE operations (place, {columns(SQLITE_TYPES)})")

    def fill(self, made: Sequence[Record]) -> None:
        self._connection.execute("DELETE FROM operations")
        marks = ", ".join("?" * (len(FIELDS) + 1))
        rows = [(place, *one) for place, one in enumerate(made)]
        self._connection.executemany(f"INSERT INTO operations VALUES ({marks})", rows)

    def places(self, expression: Expression) -> tuple[set[int], bool]:
        sql, parameters, exact = sqlite_filter.condition(expression)
        found = self._connection.execute(f"SELECT place FROM operations WHERE {sql}", parameters)
        return {place for (place,) in found}, exact

    def close(self) -> None:
        self._connection.close()


class Postgres:
    def __init__(self, url: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._connection = self._loop.run_until_complete(asyncpg.connect(url))
        table = f"CREATE TEMP TABLE operations (place int8, {columns(POSTGRES_TYPES)})"
        self._loop.run_until_complete(self._connection.execute(table))

    def fill(self, made: Sequence[Record]) -> None:
        rows = [
            (place, *(text_of(value) if isinstance(value, str) else value for value in one))
            for place, one in enumerate(made)
        ]
        self._loop.run_until_complete(self._fill(rows))

    async def _fill(self, rows: Sequence[tuple[object, ...]]) -> None:
        await self._connection.execute("DELETE FROM operations")
        await self._connection.copy_records_to_table("operations", records=rows)

    def places(self, expression: Expression) -> tuple[set[int], bool]:
        sql, parameters, exact = postgres_filter.condition(expression, first=2)
        statement = f"SELECT place FROM operations WHERE place >= $1 AND {sql}"
        found = self._connection.fetch(statement, 0, *parameters)
        return {place for (place,) in self._loop.run_until_complete(found)}, exact

    def close(self) -> None:
        self._loop.run_until_complete(self._connection.close())
        self._loop.close()


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest) -> Iterator[Database]:
    is_sqlite = request.param == "sqlite"
    made = Sqlite() if is_sqlite else Postgres(request.getfixturevalue("postgres_server"))
    with contextlib.closing(made):
        yield made


def check(database: Database, made: Sequence[Record], expression: Expression) -> bool:
    """Asserts that no record is missing, and none too many unless it says so."""
    wanted = {place for place, one in enumerate(made) if expression.matches(one)}
    places, exact = database.places(expression)
    assert wanted == places if exact else wanted <= places, (expression, exact)
    return exact


@EACH_EXAMPLE
@given(
    made=st.lists(records(), min_size=1, max_size=12),
    trees=st.lists(TREES, min_size=1, max_size=6),
)
def test_sql_and_the_predicate_agree(
    database: Database, made: Sequence[Record], trees: Sequence[Expression]
) -> None:
    database.fill(made)
    for tree in trees:
        check(database, made, tree)
        check(database, made, Not(tree))


def test_every_text_is_parted_from_every_other(database: Database) -> None:
    """Where texts end, hold a NUL or what stands for it, or take many bytes a character."""
    letters = [*itertools.chain(*(itertools.product("aA\xe9\0\1\2", repeat=n) for n in range(4)))]
    made = [plain()._replace(target="".join(one)) for one in letters]
    database.fill(made)
    parts = ["", "a", "\xe9", "aa", "a\xe9", "\0a", "\1", "\2"]
    patterns = [*itertools.product(parts, repeat=2), *itertools.product(parts, repeat=3)]
    for pattern, fold in itertools.product(patterns, (True, False)):
        check(database, made, like := Like("target", pattern, fold))
        check(database, made, Not(like))


def test_texts_have_the_order_of_code_points(database: Database) -> None:
    """SQL alone says so, of NUL characters, too, and whatever the order of the database is."""
    letters = "\0\1\2 -Aa_~\xc9\xe9\ue000\uffff\U0001f600"
    texts = ["", *map("".join, itertools.product(letters, repeat=2)), *letters]
    made = [plain()._replace(target=text) for text in texts]
    database.fill(made)
    for text, comparator in itertools.product(texts[::7], ("=", "!=", "<", "<=", ">", ">=")):
        assert check(database, made, Compare("target", comparator, text))


@pytest.mark.parametrize("column", [*TEXT_COLUMNS, "parent"])
def test_only_the_case_of_a_to_z_is_folded(database: Database, column: str) -> None:
    letters = "AZaz\xc9\xe9\u0130\u0131\u212a\u1e9e\xdf\u03a3\u03c2"
    made = [plain()._replace(**{column: letter}) for letter in letters]
    database.fill(made)
    for letter in letters:
        assert check(database, made, Like.containing(column, (letter,)))


def test_a_text_without_control_characters_is_searched_by_sql_alone(database: Database) -> None:
    """Not one record more is read than a page needs."""
    for tree in (
        Like("target", ("", "a", "")),
        Like("target", ("a", "")),
        Like("target", ("", "\xe9\0")),
        Not(Like.containing("target", ("a\1",))),
    ):
        assert database.places(tree)[1], tree


def test_parentheses_may_be_as_deep_as_a_filter_has_them(database: Database) -> None:
    made = [plain()._replace(target=text) for text in "ab"]
    database.fill(made)
    tree: Expression = Compare("target", "=", "a")
    for _ in range(60):
        tree = Or((Not(And((tree,))), Compare("verb", "=", "c")))
        check(database, made, tree)
