"""``lro db migrate``: the tables in PostgreSQL are made by one role, for another."""

from __future__ import annotations

import pytest
from lro_process import Lro
from test_cli_db_copy import as_role, numbers_in, role

__all__ = ["role"]


@pytest.fixture
def lro() -> Lro:
    return Lro("127.0.0.1:1")


def test_the_tables_are_made_and_then_up_to_date(lro: Lro, postgres: str) -> None:
    schema = postgres.rpartition("schema=")[2]
    for _ in range(2):
        done = lro("db", "migrate", postgres)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.endswith(
            f"/postgres: the tables in the schema {schema} are up to date\n"
        )
    assert numbers_in(postgres) == 0


def test_a_role_that_may_not_make_them_is_refused(lro: Lro, postgres: str, role: str) -> None:
    refused = lro("db", "migrate", as_role(postgres, role))
    assert refused.returncode == 2
    assert "permission denied for schema" in refused.stderr
    assert "unless its owner makes the tables by lro db migrate" in refused.stderr


@pytest.mark.parametrize("store", ["operations.db", "sqlite:///a.db", "mysql://u:secret@h/d"])
def test_what_is_no_database_of_postgres_is_refused(lro: Lro, store: str) -> None:
    refused = lro("db", "migrate", store)
    assert refused.returncode == 2
    assert "is no store in Postgres" in refused.stderr
    assert "secret" not in refused.stderr
