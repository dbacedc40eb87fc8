"""``lro db check`` of a store in PostgreSQL, beside a server that may go on."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from lro_process import Lro
from test_cli_db_copy import as_role, execute, numbers_in, role

from lro_grpc.conformance import StoreConformance
from lro_grpc.stores import open_url

__all__ = ["role"]

NUMBER = 250
OPERATION = "projects/p/locations/l/operations/op-7"


@pytest.fixture
def lro() -> Lro:
    return Lro("127.0.0.1:1")


@pytest.fixture
def store(postgres: str) -> str:
    """A store with operations."""

    async def fill() -> None:
        one = open_url(postgres, lambda: StoreConformance.START)
        await one.open()
        try:
            await asyncio.gather(
                *(
                    one.create(StoreConformance().record(f"op-{n}", request=bytes(500)))
                    for n in range(NUMBER)
                )
            )
        finally:
            await one.close()

    asyncio.run(fill())
    return postgres


def tables(url: str) -> tuple[str, str]:
    schema = url.rpartition("schema=")[2]
    return f"{schema}.lro_operations", f"{schema}.lro_attempts"


def attempt(url: str, operation: str, error: str) -> str:
    operations, attempts = tables(url)
    return (
        f"INSERT INTO {attempts} SELECT {operation}, 3, 'w', 1, 1, 1, {error}"
        f" FROM {operations} WHERE name LIKE '%/op-7'"
    )


def test_a_store_in_good_order_is_said_to_be_and_left_as_it_is(lro: Lro, store: str) -> None:
    done = lro("db", "check", store)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith(" is in good order\n")
    assert numbers_in(store) == NUMBER


@pytest.mark.parametrize(
    ("column", "value", "fault"),
    [
        ("state", "99", "its state is 99"),
        ("operation", "'\\xff'", ""),
        ("update_time", "-1", ""),
        ("batch", "'\\x0a'", ""),
    ],
)
def test_a_damaged_operation_is_named(
    lro: Lro, store: str, column: str, value: str, fault: str
) -> None:
    execute(store, f"UPDATE {tables(store)[0]} SET {column} = {value} WHERE name LIKE '%/op-7'")
    done = lro("db", "check", store)
    assert done.returncode == 1
    (line,) = done.stdout.splitlines()
    assert "operations/op-7': " in line
    assert fault in line
    assert done.stderr.endswith("restore a backup, or delete the operations named here\n")


def test_a_damaged_attempt_is_named(lro: Lro, store: str) -> None:
    execute(store, attempt(store, "sequence", "'\\x08'"))
    done = lro("db", "check", store)
    assert done.returncode == 1
    assert done.stdout.endswith("operations/op-7': the row of its attempt 3 is none\n")


def test_an_attempt_of_no_operation_is_named(lro: Lro, store: str) -> None:
    """As after a restore of one of the tables alone."""
    attempts = tables(store)[1]
    name = attempts.partition(".")[2]
    execute(store, f"ALTER TABLE {attempts} DROP CONSTRAINT {name}_operation_fkey")
    execute(store, attempt(store, "999999", "''"))
    done = lro("db", "check", store)
    assert (done.returncode, done.stdout) == (
        1,
        "attempt 3: its operation is 999999, which is none\n",
    )


@pytest.mark.parametrize("number", [1, 2500])
def test_labels_of_no_operation_are_named(lro: Lro, store: str, number: int) -> None:
    labels = tables(store)[1].replace("attempts", "labels")
    rows = f"generate_series(900000, 900000 + {number} - 1) AS n"
    execute(store, f"INSERT INTO {labels} SELECT 'env', 'prod', n FROM {rows}")
    done = lro("db", "check", store)
    assert done.returncode == 1
    first, *others = done.stdout.splitlines()
    assert first == "label ('env', 'prod'): operation 900000 does not have it"
    assert len(others) == number - 1


def test_a_role_that_may_only_read_can_check(lro: Lro, store: str, role: str) -> None:
    schema = store.rpartition("schema=")[2]
    execute(store, f"GRANT USAGE ON SCHEMA {schema} TO {role}")
    execute(store, f"GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {role}")
    done = lro("db", "check", as_role(store, role))
    assert (done.returncode, done.stderr) == (0, "")


def test_a_database_without_a_store_is_refused_and_left_alone(lro: Lro, postgres: str) -> None:
    for _ in range(2):
        done = lro("db", "check", postgres)
        assert done.returncode == 2
        assert "it has no tables of a store" in done.stderr


def test_tables_of_an_earlier_release_are_refused(lro: Lro, store: str) -> None:
    execute(store, f"UPDATE {store.rpartition('schema=')[2]}.lro_schema SET version = 1")
    done = lro("db", "check", store)
    assert done.returncode == 2
    assert "its tables have version 1" in done.stderr
    assert "lro db migrate" in done.stderr


@pytest.mark.parametrize("url", ["mysql://u:secret@h/d", "memory:"])
def test_what_is_no_store_is_wrong_usage(lro: Lro, url: str) -> None:
    done: Any = lro("db", "check", url)
    assert done.returncode == 2
