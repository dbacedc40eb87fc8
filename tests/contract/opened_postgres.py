"""A store in Postgres that is open while a test needs it."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from lro_grpc._stores.postgres.store import PostgresStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@contextlib.asynccontextmanager
async def opened(url: str) -> AsyncIterator[PostgresStore]:
    """Opens the store of a database, and closes it at the end."""
    store = PostgresStore(url)
    await store.open()
    try:
        yield store
    finally:
        await store.close()
