"""Stores in Postgres keep the contract far away from it, and lose nothing by a cut."""

from __future__ import annotations

import asyncio
import contextlib
import os
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import pytest
from partition import Cut, Network
from postgres_server import at_port, with_options

from lro_grpc import UnavailableError
from lro_grpc._operation.events import Cancel, Claim
from lro_grpc._stores.postgres.store import PostgresStore
from lro_grpc.conformance import SharedStoreConformance, StoreConformance
from lro_grpc.stores import Query

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from lro_grpc.stores import Now

T = TypeVar("T")

LATENCY_SECONDS = 0.001
LEASE = 15_000_000
METHOD, PARENT, START = StoreConformance.METHOD, StoreConformance.PARENT, StoreConformance.START
PATIENCE_SECONDS = 60


@pytest.fixture(scope="module")
def far(postgres_server: str) -> Iterator[Network]:
    if "LRO_TEST_POSTGRES" in os.environ:
        pytest.skip("the network is before a server on this machine")
    with contextlib.closing(Network(str(urlsplit(postgres_server).port), LATENCY_SECONDS)) as far:
        yield far


class TestFarStores(SharedStoreConformance):
    """Whatever can come between two statements does."""

    @pytest.fixture(autouse=True)
    def _place(self, postgres: str, far: Network) -> None:
        self.url = at_port(postgres, far.port)

    def make_store(self, now: Now) -> PostgresStore:
        return PostgresStore(self.url, now)


@pytest.mark.parametrize("how", Cut)
async def test_what_a_cut_keeps_from_being_answered_is_there_once(
    postgres: str, far: Network, how: Cut
) -> None:
    """Calls under way end; made again they find what they have done, and followers hear again."""
    limits = {"statement_timeout": "1", "connect_timeout": "1"}
    store = PostgresStore(with_options(at_port(postgres, far.port), **limits), lambda: START)
    other = PostgresStore(postgres, lambda: START)
    await store.open()
    await other.open()
    made = [StoreConformance().record(f"op-{n}", request_id=f"r{n}") for n in range(10)]
    name = (await store.create(made[0])).name
    told: asyncio.Queue[Any] = asyncio.Queue()
    store.follow(name, told.put_nowait)

    await asyncio.to_thread(far.cut, how)
    calls: list[Awaitable[Any]] = [
        *(store.create(one) for one in made[1:]),
        store.claim({METHOD: 9}, Claim(LEASE)),
        store.apply(name, Cancel()),
        store.page(Query(PARENT), position=b"", size=9),
    ]
    outcomes = await asyncio.wait_for(
        asyncio.gather(*calls, return_exceptions=True), PATIENCE_SECONDS
    )
    assert {type(one) for one in outcomes} == {UnavailableError}
    await asyncio.to_thread(far.mend)

    for one in made:
        assert (await answered(partial(store.create, one))).name == one.name
    page = await answered(lambda: store.page(Query(PARENT), position=b"", size=99))
    assert len(page.operations) == len(made)
    changed = await other.apply(name, Cancel())
    while await asyncio.wait_for(told.get(), PATIENCE_SECONDS) != changed:
        pass
    await store.close()
    await other.close()


async def answered(call: Callable[[], Awaitable[T]]) -> T:
    """Calls until the store can answer again."""

    async def again() -> T:
        while True:
            with contextlib.suppress(UnavailableError):
                return await call()
            await asyncio.sleep(0.05)

    return await asyncio.wait_for(again(), PATIENCE_SECONDS)
