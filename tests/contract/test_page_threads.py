"""In every store the filter of a page may take long, and holds up nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING

import pytest
from any_queries import plain
from google.longrunning import operations_pb2
from postgres_server import new_schema

from lro_grpc._filtering.expression import PartialFailures
from lro_grpc._filtering.parser import parse
from lro_grpc._stores.open_url import open_url
from lro_grpc.stores import Query, Store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence
    from pathlib import Path

    from lro_grpc._operation.record import Record

SECONDS = 30
COSTLY = Query("", parse("partial_failures:*"))


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "postgres":
        with new_schema(request.getfixturevalue("postgres_server")) as schema:
            yield schema
    else:
        yield "memory:" if request.param == "memory" else f"sqlite:///{tmp_path}/operations.db"


@contextlib.asynccontextmanager
async def opened(url: str) -> AsyncIterator[Store]:
    store = open_url(url, lambda: 1)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


class HeldFilter:
    """A filter that parses operations, and waits at the first one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[str] = []
        self.threads: set[int] = set()
        self.may_go_on = threading.Event()
        self._began = threading.Event()
        monkeypatch.setattr(PartialFailures, "matches", self._matches)

    def _matches(self, record: Record) -> bool:
        self.asked.append(record.name)
        self.threads.add(threading.get_ident())
        self._began.set()
        assert self.may_go_on.wait(SECONDS)
        return True

    async def began(self) -> None:
        assert await asyncio.to_thread(self._began.wait, SECONDS)


async def filled(store: Store, number: int = 5) -> list[str]:
    """Returns the names of new operations, the newest first."""
    names = [f"operations/op-{place}" for place in range(number)]
    for name in names:
        operation = operations_pb2.Operation(name=name).SerializeToString()
        await store.create(plain()._replace(name=name, operation=operation))
    return names[::-1]


async def listed(store: Store, query: Query) -> Sequence[str]:
    page = await store.page(query, position=b"", size=100)
    return [operations_pb2.Operation.FromString(one).name for one in page.operations]


async def test_what_else_is_asked_is_answered_while_a_filter_looks_at_rows(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(url) as store:
        names = await filled(store)
        held = HeldFilter(monkeypatch)
        listing = asyncio.create_task(listed(store, COSTLY))
        await held.began()
        assert (await store.read(names[0])).name == names[0]
        assert await listed(store, Query("")) == names
        assert await listed(store, Query("", parse("done = false"))) == names
        assert await listed(store, Query("-", parse("done = false"))) == names
        await store.create(plain()._replace(name="operations/op-new"))
        assert not listing.done()
        held.may_go_on.set()
        assert await listing == names
        assert threading.get_ident() not in held.threads


async def test_a_page_that_nobody_waits_for_any_more_looks_at_no_further_row(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(url) as store:
        names = await filled(store)
        held = HeldFilter(monkeypatch)
        listing = asyncio.create_task(listed(store, COSTLY))
        await held.began()
        listing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await listing
        held.may_go_on.set()
        assert await listed(store, COSTLY) == names  # in the same thread, once that one has ended
        assert held.asked == [names[0], *names]
        assert len(held.threads) == 1


async def test_a_page_that_is_given_up_while_it_waits_is_never_looked_at(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(url) as store:
        names = await filled(store)
        held = HeldFilter(monkeypatch)
        first = asyncio.create_task(listed(store, COSTLY))
        await held.began()
        given_up, last = (asyncio.create_task(listed(store, COSTLY)) for _ in range(2))
        await asyncio.wait([given_up], timeout=0)
        given_up.cancel()
        await asyncio.wait([given_up])
        held.may_go_on.set()
        assert await first == await last == names
        assert sorted(held.asked) == sorted(2 * names)


async def test_a_page_ends_where_its_filter_has_read_enough(url: str) -> None:
    """However few rows it has looked at; the pages behind it have the rest, in order."""
    query = Query("", parse("matches(status_detail, '(a|b){200}.*')"))
    async with opened(url) as store:
        names = []
        for place in range(60):
            name = f"operations/op-{place}"
            operation = operations_pb2.Operation(name=name).SerializeToString()
            await store.create(
                plain()._replace(name=name, operation=operation, status_detail=1000 * "ab")
            )
            names.insert(0, name)
        found, position = [], b""
        while position or not found:
            page = await store.page(query, position=position, size=100)
            named = [operations_pb2.Operation.FromString(one).name for one in page.operations]
            assert len(named) < len(names)
            found += named
            position = page.position
    assert found == names
