"""``lro db copy``, as a process: from a file to PostgreSQL, and what stops it."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sqlite3
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import asyncpg
import grpc
import pytest
from lro_process import COMMAND, Lro
from postgres_server import with_options
from test_serve import PARENT, create, serving

from lro_grpc import OperationsClient
from lro_grpc.conformance import StoreConformance
from lro_grpc.stores import SqliteStore, open_url

if TYPE_CHECKING:
    from collections.abc import Iterator

    from postgres_server import PostgresServer

SOUND, DAMAGED = 1200, 1500
"""What is said of the damaged ones is more than a pipe holds."""


@pytest.fixture
def lro() -> Lro:
    return Lro("127.0.0.1:1")


def fill(path: Path, number: int) -> None:
    async def create_all() -> None:
        store = SqliteStore(path, lambda: StoreConformance.START)
        await store.open()
        records = [StoreConformance().record(f"op-{n}", request=bytes(500)) for n in range(number)]
        await asyncio.gather(*map(store.create, records))
        await store.close()

    asyncio.run(create_all())


def change(path: Path, statement: str) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(statement)


def numbers_in(url: str) -> int:
    """Returns the number of operations in a store."""

    async def count() -> int:
        store = open_url(url, lambda: StoreConformance.START)
        await store.open()
        try:
            return sum((await store.waiting_methods()).values())
        finally:
            await store.close()

    return asyncio.run(count())


def test_a_server_goes_on_in_postgres(lro: Lro, tmp_path: Path, postgres: str) -> None:
    with serving(cwd=tmp_path) as served, grpc.insecure_channel(served.target) as channel:
        name = create(channel, "one").name
        made = OperationsClient(channel).attach(name).result()
        served.process.kill()
    copied = lro("db", "copy", "operations.db", postgres, cwd=tmp_path)
    assert (copied.returncode, copied.stderr) == (0, "")
    place = f"127.0.0.1:{urlsplit(postgres).port}/postgres"
    assert copied.stdout == f"{place}: 1 operations of operations.db\n"
    with (
        serving("--store", postgres, cwd=tmp_path) as served,
        grpc.insecure_channel(served.target) as channel,
    ):
        client = OperationsClient(channel)
        assert client.attach(name).result() == made
        another = create(channel, "two").name
        client.attach(another).result()
        assert [one.name for one in client.list(PARENT)] == [another, name]


def test_a_file_that_is_served_is_refused(lro: Lro, tmp_path: Path, postgres: str) -> None:
    with serving(cwd=tmp_path):
        refused = lro("db", "copy", "operations.db", postgres, cwd=tmp_path)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith("lro: operations.db is in use by another process;")


def test_a_copy_that_is_killed_is_made_again(lro: Lro, tmp_path: Path, postgres: str) -> None:
    path = tmp_path / "operations.db"
    fill(path, SOUND + DAMAGED)
    change(path, f"UPDATE operations SET state = 99 WHERE sequence > {SOUND}")
    with lro.started("db", "copy", str(path), postgres) as process:
        # It waits for somebody to read what it says of the rest: so the first ones are written.
        assert "left out" in process.stderr.readline()
        process.kill()
    assert process.returncode == -signal.SIGKILL
    change(path, "UPDATE operations SET state = 1 WHERE state = 99")
    again = lro("db", "copy", str(path), postgres)
    assert (again.returncode, again.stderr) == (0, "")
    assert numbers_in(postgres) == SOUND + DAMAGED
    third = lro("db", "copy", str(path), postgres)
    assert third.returncode == 2
    assert "is a copy of" in third.stderr


def test_damaged_operations_make_it_fail(lro: Lro, tmp_path: Path, postgres: str) -> None:
    path = tmp_path / "operations.db"
    fill(path, 3)
    change(path, "UPDATE operations SET state = 99 WHERE sequence = 2")
    copied = lro("db", "copy", str(path), postgres)
    assert copied.returncode == 1
    assert copied.stderr.startswith("lro: left out: operation 'projects/")
    assert copied.stderr.endswith("op-1': its state is 99\n")
    assert copied.stdout.endswith(f"2 operations of {path}, 1 damaged ones left out\n")


def test_damaged_attempts_make_it_fail(lro: Lro, tmp_path: Path, postgres: str) -> None:
    path = tmp_path / "operations.db"
    fill(path, 3)
    change(path, "INSERT INTO attempts SELECT sequence, 3, 'w', 1, 1, 1, x'08' FROM operations")
    copied = lro("db", "copy", str(path), postgres)
    assert copied.returncode == 1
    assert copied.stderr.count(": the row of its attempt 3 is none\n") == 3
    assert copied.stdout.endswith(f"3 operations of {path}, 3 damaged attempts left out\n")


def test_ctrl_c_leaves_nothing(lro: Lro, tmp_path: Path) -> None:
    fill(tmp_path / "operations.db", SOUND + DAMAGED)
    change(tmp_path / "operations.db", f"UPDATE operations SET state = 99 WHERE sequence > {SOUND}")
    source, destination = tmp_path / "operations.db", tmp_path / "copy.db"
    with lro.started("db", "copy", str(source), str(destination)) as process:
        assert "left out" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode == 130
    assert [file.name for file in tmp_path.iterdir()] == ["operations.db"]


def test_a_disk_that_is_full_makes_it_fail(tmp_path: Path) -> None:
    """A limit on the size of files stands for the disk."""
    fill(tmp_path / "operations.db", 300)
    limited = ["sh", "-c", 'ulimit -f 64; exec "$@"', "sh", *COMMAND]
    failed = subprocess.run(
        [*limited, "db", "copy", "operations.db", "copy.db"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (failed.returncode, failed.stdout) == (1, "")
    assert "the store cannot answer" in failed.stderr
    assert [file.name for file in tmp_path.iterdir()] == ["operations.db"]


def test_a_terminal_shows_the_progress(lro: Lro, tmp_path: Path) -> None:
    fill(tmp_path / "operations.db", 300)
    source, destination = tmp_path / "operations.db", tmp_path / "copy.db"
    code, shown = lro.on_terminal("db", "copy", str(source), str(destination))
    assert code == 0
    assert "300/300" in shown
    assert shown.rstrip().endswith(f"{destination}: 300 operations of {source}")


def as_role(url: str, role: str) -> str:
    return url.replace("postgres@", f"{role}@", 1)


@pytest.fixture
def role(postgres: str) -> Iterator[str]:
    """A role that may log in, and nothing else."""
    name = f"r{postgres.rpartition('_')[2]}"
    execute(postgres, f"CREATE ROLE {name} LOGIN")
    yield name
    execute(postgres, f"DROP OWNED BY {name}")
    execute(postgres, f"DROP ROLE {name}")


def test_a_role_without_rights_is_told_which(
    lro: Lro, tmp_path: Path, postgres: str, role: str
) -> None:
    fill(tmp_path / "operations.db", 1)
    refused = lro("db", "copy", str(tmp_path / "operations.db"), as_role(postgres, role))
    assert refused.returncode == 2
    assert "permission denied for schema" in refused.stderr
    assert "grant its role USAGE on the schema, and CREATE unless its owner" in refused.stderr


def test_a_role_that_may_only_serve_is_told_who_may_copy(
    lro: Lro, tmp_path: Path, postgres: str, role: str
) -> None:
    fill(tmp_path / "operations.db", 1)
    assert numbers_in(postgres) == 0  # the tables are there
    schema = postgres.rpartition("schema=")[2]
    execute(postgres, f"GRANT USAGE ON SCHEMA {schema} TO {role}")
    execute(postgres, f"GRANT ALL ON ALL TABLES IN SCHEMA {schema} TO {role}")
    refused = lro("db", "copy", str(tmp_path / "operations.db"), as_role(postgres, role))
    assert refused.returncode == 2
    assert "permission denied for sequence" in refused.stderr
    assert refused.stderr.rstrip().endswith("run it as the owner of the tables")


def test_a_database_that_goes_away_makes_it_fail(
    lro: Lro, tmp_path: Path, killable_postgres: PostgresServer
) -> None:
    path = tmp_path / "operations.db"
    fill(path, SOUND + DAMAGED)
    change(path, f"UPDATE operations SET state = 99 WHERE sequence > {SOUND}")
    url = with_options(killable_postgres.url, schema="copied")
    with lro.started("db", "copy", str(path), url) as process:
        assert "left out" in process.stderr.readline()
        killable_postgres.kill()
        _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert f"127.0.0.1:{killable_postgres.port}/postgres has failed" in said.splitlines()[-1]
    killable_postgres.start()
    assert numbers_in(url) == 0


def execute(url: str, statement: str) -> Any:
    async def run() -> Any:
        connection = await asyncpg.connect(url.partition("?")[0])
        try:
            return await connection.fetch(statement)
        finally:
            await connection.close()

    return asyncio.run(run())
