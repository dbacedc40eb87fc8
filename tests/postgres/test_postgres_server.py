"""The PostgreSQL of the tests: what it keeps, and that it leaves nothing behind."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from postgres_server import new_schema, programs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from postgres_server import PostgresServer

PATIENCE_SECONDS = 60
SERVERS = Path(__file__).parents[1] / "servers"

BEGINS_ONE = """
import sys
from pathlib import Path
from postgres_server import PostgresServer, programs
print(PostgresServer(programs(), Path(sys.argv[1])).port, flush=True)
sys.stdin.read()
"""


async def fetch(url: str, sql: str) -> list[Any]:
    connection = await asyncpg.connect(url.partition("?")[0])
    try:
        return [row[0] for row in await connection.fetch(sql)]
    finally:
        await connection.close()


def schemas(url: str) -> list[str]:
    found = "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'lro_test_%'"
    return asyncio.run(fetch(url, found))


def test_a_schema_lasts_as_long_as_its_test(postgres_server: str) -> None:
    with new_schema(postgres_server) as one, new_schema(postgres_server) as other:
        names = [url.rpartition("schema=")[2] for url in (one, other)]
        assert len({*names}) == 2
        assert {*names} <= {*schemas(postgres_server)}
    assert {*names}.isdisjoint(schemas(postgres_server))


def test_a_commit_waits_for_the_disk(killable_postgres: PostgresServer) -> None:
    """As it does for users: what the tests say of outages is of no use without."""
    for setting in ("fsync", "synchronous_commit", "full_page_writes"):
        assert asyncio.run(fetch(killable_postgres.url, f"SHOW {setting}")) == ["on"]


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_what_is_committed_outlives_its_server(killable_postgres: PostgresServer, how: str) -> None:
    url = killable_postgres.url
    asyncio.run(fetch(url, "CREATE TABLE kept AS SELECT 7"))
    getattr(killable_postgres, how)()
    with pytest.raises(OSError):  # noqa: PT011 - asyncpg's own choice of one
        asyncio.run(fetch(url, "TABLE kept"))
    killable_postgres.start()
    assert asyncio.run(fetch(url, "TABLE kept")) == [7]


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that another user may pass."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o711)
        yield Path(folder)


@pytest.mark.usefixtures("killable_postgres")  # without the programs this is skipped
def test_a_server_ends_with_the_process_that_began_it(place: Path) -> None:
    """However that ends, and nothing of it is left."""
    assert programs()
    beginner = subprocess.Popen(
        [sys.executable, "-c", BEGINS_ONE, place],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=SERVERS,
    )
    with beginner:
        port = int(beginner.stdout.readline())
        socket.create_connection(("127.0.0.1", port)).close()
        assert [*place.iterdir()]
        beginner.kill()
    end = time.monotonic() + PATIENCE_SECONDS
    while [*place.iterdir()]:
        assert time.monotonic() < end, "its folder is still there"
        time.sleep(0.05)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
