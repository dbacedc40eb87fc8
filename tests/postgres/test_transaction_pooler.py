"""The stand-in for pgbouncer: transactions are kept whole, and nothing of a session is."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import asyncpg
import pytest
from transaction_pooler import TransactionPooler

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def pooler(postgres_server: str) -> Iterator[TransactionPooler]:
    with contextlib.closing(TransactionPooler(urlsplit(postgres_server).port or 5432)) as pooler:
        yield pooler


async def connect(pooler: TransactionPooler, **options: Any) -> asyncpg.Connection:
    return await asyncpg.connect(
        f"postgresql://postgres@127.0.0.1:{pooler.port}/postgres", timeout=30, **options
    )


PID = "SELECT pg_backend_pid()"


def test_a_transaction_has_one_connection_and_a_session_has_several(
    pooler: TransactionPooler,
) -> None:
    async def check() -> None:
        clients = [await connect(pooler, statement_cache_size=0) for _ in range(10)]
        seen = set()
        for client in clients:
            seen |= {await client.fetchval(PID) for _ in range(5)}
            async with client.transaction():
                assert len({await client.fetchval(PID) for _ in range(5)}) == 1
        assert len(seen) == 3
        counts = await asyncio.gather(*(client.fetch(PID) for client in clients))
        assert len(counts) == 10
        for client in clients:
            await client.close()

    asyncio.run(check())


def test_prepared_statements_are_lost(pooler: TransactionPooler) -> None:
    async def check() -> None:
        client = await connect(pooler)
        await client.fetchval("SELECT $1::int", 1)
        with pytest.raises(asyncpg.PostgresError, match="prepared statement"):
            await client.fetchval("SELECT $1::int", 2)
        client.terminate()

    asyncio.run(check())


def test_a_setting_of_the_session_is_refused(pooler: TransactionPooler) -> None:
    async def check() -> None:
        with pytest.raises(asyncpg.PostgresError, match="startup parameter: search_path"):
            await connect(pooler, server_settings={"search_path": "x"})

    asyncio.run(check())


def test_a_transaction_that_a_client_leaves_is_rolled_back(pooler: TransactionPooler) -> None:
    """And its lock is given up, whoever has the connection next."""

    async def check() -> None:
        leaves = await connect(pooler, statement_cache_size=0)
        await leaves.execute("BEGIN")
        await leaves.execute("SELECT pg_advisory_xact_lock(7)")
        leaves.terminate()
        stays = await connect(pooler, statement_cache_size=0)
        await stays.execute("SELECT pg_advisory_xact_lock(7)", timeout=30)
        await stays.close()

    asyncio.run(check())
