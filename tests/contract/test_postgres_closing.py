"""A store in Postgres that is closed leaves no connection open, and holds nobody up."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import asyncpg
import pytest
from postgres_server import with_options

from lro_grpc._errors import UnavailableError
from lro_grpc._stores.postgres import pages
from lro_grpc._stores.postgres.store import PostgresStore
from lro_grpc.conformance import StoreConformance
from lro_grpc.stores import Page, Query

if TYPE_CHECKING:
    from collections.abc import Coroutine

PATIENCE_SECONDS = 60
PARENT, METHOD = StoreConformance.PARENT, StoreConformance.METHOD


async def connections(url: str) -> int:
    """Returns the connections of a store of this module that stay open."""
    query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'lro-closing'"
    operator = await asyncpg.connect(urlsplit(url)._replace(query="").geturl())
    try:
        for _ in range(PATIENCE_SECONDS * 20):
            left: int = await operator.fetchval(query)
            if not left:
                break
            await asyncio.sleep(0.05)
        return left
    finally:
        await operator.close()


async def opened(url: str) -> PostgresStore:
    store = PostgresStore(with_options(url, application_name="lro-closing"))
    await store.open()
    return store


@pytest.mark.parametrize("part", ["writer", "renewals", "notices", "reader", "pages", "pool"])
async def test_a_part_that_fails_to_close_leaves_no_other_one_open(
    postgres: str, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await opened(postgres)
    closing = getattr(store, f"_{part}")
    close = closing.close

    async def fail() -> None:
        await close()
        raise RuntimeError("it broke")

    monkeypatch.setattr(closing, "close", fail)
    with pytest.raises(RuntimeError, match="it broke"):
        await store.close()
    assert await connections(postgres) == 0


async def test_a_store_that_is_closed_opens_no_connection_again(postgres: str) -> None:
    store = await opened(postgres)
    await store.close()
    with pytest.raises(UnavailableError, match="the store is closed"):
        await store.claimable({METHOD: 1})
    assert await connections(postgres) == 0


async def test_a_page_that_takes_long_holds_up_nothing_else_while_the_store_closes(
    postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = threading.Event(), threading.Event()
    take = pages._take

    def slow(*arguments: Any, **options: Any) -> None:
        begun.set()
        assert go_on.wait(PATIENCE_SECONDS), "the loop stands still"
        take(*arguments, **options)

    monkeypatch.setattr(pages, "_take", slow)
    store = await opened(postgres)
    await store.create(StoreConformance().record("op-1"))
    page = asyncio.create_task(store.page(Query(PARENT), position=b"", size=9))
    await asyncio.to_thread(begun.wait, PATIENCE_SECONDS)
    close = pages.Pages.close

    def closing(of: pages.Pages) -> Coroutine[Any, Any, None]:
        asyncio.get_running_loop().call_soon(go_on.set)
        return close(of)

    monkeypatch.setattr(pages.Pages, "close", closing)
    await store.close()
    (outcome,) = await asyncio.gather(page, return_exceptions=True)
    assert isinstance(outcome, (Page, UnavailableError))
