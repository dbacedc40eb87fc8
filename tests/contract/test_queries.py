"""Every store answers a query as the predicate does, whatever the records and the filter are."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from any_queries import FILTERS, PARENTS, START, plain, records
from google.longrunning import operations_pb2
from hypothesis import given, settings
from hypothesis import strategies as st
from postgres_server import new_schema

from lro_grpc._filtering.expression import Filter, Like, Not
from lro_grpc._filtering.parser import MAX_DEPTH, MAX_TERMS, parse
from lro_grpc._stores.postgres.store import PostgresStore
from lro_grpc.stores import MemoryStore, Query, SqliteStore, Store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from lro_grpc._operation.record import Record


@contextlib.asynccontextmanager
async def filled(
    made: Sequence[Record], url: str = "", *, reopened: bool
) -> AsyncIterator[Sequence[Store]]:
    """Gives a store of each kind with these records; one that was reopened has none at hand.

    That in Postgres is among them if there is a URL for it, for each takes its time to open.
    """
    with tempfile.TemporaryDirectory() as folder:
        memory = MemoryStore(lambda: START)
        others: list[Store] = [SqliteStore(Path(folder) / "operations.db", lambda: START)]
        others += [PostgresStore(url, lambda: START)] if url else []
        for store in others:
            await store.open()
        try:
            for store in (memory, *others):
                await asyncio.gather(*(store.create(one) for one in made))
            for store in others if reopened else ():
                await store.close()
                await store.open()
            yield memory, *others
        finally:
            for store in others:
                await store.close()


async def listed(store: Store, query: Query, *, size: int = 1000, examined: int = 1000) -> Any:
    """The names of what is served, page after page."""
    found: list[bytes] = []
    position = b""
    for _ in range(100):
        page = await store.page(query, position=position, size=size, examined=examined)
        assert len(page.operations) <= size
        found += page.operations
        position = page.position
        if not position:
            return [operations_pb2.Operation.FromString(one).name for one in found]
    raise AssertionError("the pages have no end")


def expected(made: Sequence[Record], query: Query) -> list[str]:
    """The names of what is to be served; each record's place is its name."""
    return [str(n) for n, one in reversed([*enumerate(made)]) if query.matches(one)]


def numbered(made: Sequence[Record]) -> list[Record]:
    """Makes each record's place the name that it is served with."""
    name = operations_pb2.Operation
    return [
        one._replace(
            name=f"{n}{''.join(filter(str.isprintable, one.target))}",
            operation=one.operation + name(name=str(n)).SerializeToString(),
        )
        for n, one in enumerate(made)
    ]


@given(
    made=st.lists(records(), min_size=1, max_size=12).map(numbered),
    filters=st.lists(FILTERS, min_size=1, max_size=6),
    parent=PARENTS,
    size=st.integers(1, 4),
    examined=st.integers(1, 5),
    reopened=st.booleans(),
)
def test_every_store_answers_as_the_predicate_does(made, filters, parent, size, examined, reopened):
    """From the records at hand, and from the file alone."""
    own = made[0].parent
    wild = "/".join(["-", *own.split("/")[1:]])

    async def check() -> None:
        async with filled(made, reopened=reopened) as stores:
            for store, one, of in itertools.product(stores, filters, (own, wild, parent)):
                query = Query(of, one)
                names = await listed(store, query, size=size, examined=examined)
                assert names == expected(made, query)

    asyncio.run(check())


class OpenPostgres:
    """A store in Postgres that stays open while its operations come and go."""

    def __init__(self, url: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._store = PostgresStore(url, lambda: START)
        self._sweeper = self.run(asyncpg.connect(url.partition("?")[0]))
        self._table = f"{url.rpartition('schema=')[2]}.lro_operations"
        self.run(self._store.open())

    def run(self, step: Any) -> Any:
        return self._loop.run_until_complete(step)

    async def filled(self, made: Sequence[Record]) -> Store:
        """Returns the store, with these operations alone."""
        await self._sweeper.execute(f"TRUNCATE {self._table} CASCADE")
        await asyncio.gather(*(self._store.create(one) for one in made))
        return self._store

    def close(self) -> None:
        self.run(self._store.close())
        self.run(self._sweeper.close())
        self._loop.close()


@pytest.fixture(scope="module")
def open_postgres(postgres_server: str) -> Iterator[OpenPostgres]:
    with new_schema(postgres_server) as url, contextlib.closing(OpenPostgres(url)) as opened:
        yield opened


@settings(max_examples=25)
@given(
    made=st.lists(records(), min_size=1, max_size=12).map(numbered),
    filters=st.lists(FILTERS, min_size=1, max_size=6),
    parent=PARENTS,
    size=st.integers(1, 4),
    examined=st.integers(1, 5),
)
def test_postgres_answers_as_the_predicate_does(
    open_postgres, made, filters, parent, size, examined
):
    own = made[0].parent
    wild = "/".join(["-", *own.split("/")[1:]])

    async def check() -> None:
        store = await open_postgres.filled(made)
        for one, of in itertools.product(filters, (own, wild, parent)):
            query = Query(of, one)
            names = await listed(store, query, size=size, examined=examined)
            assert names == expected(made, query)

    open_postgres.run(check())


def test_every_pattern_is_parted_from_every_other(postgres):
    """Where texts end, hold a NUL, or take more than one byte a character."""
    letters = [*itertools.chain(*(itertools.product("aA\xe9\x00", repeat=n) for n in range(4)))]
    made = numbered([plain()._replace(target="".join(one)) for one in letters])
    parts = ["", "a", "\xe9", "aa", "a\xe9", "\x00a"]
    patterns = [*itertools.product(parts, repeat=2), *itertools.product(parts, repeat=3)]

    async def check() -> None:
        async with filled(made, postgres, reopened=True) as stores:
            for pattern, fold in itertools.product(patterns, (True, False)):
                for tree in (like := Like("target", pattern, fold), Not(like)):
                    query = Query("", Filter("", tree))
                    for store in stores:
                        assert await listed(store, query) == expected(made, query), tree

    asyncio.run(check())


def test_every_parent_is_parted_from_every_other(postgres):
    segments = ["a", "b-", "-", "*", "a\x00"]
    parents = ["/".join(one) for n in (1, 2, 3) for one in itertools.product(segments, repeat=n)]
    made = numbered([plain()._replace(parent=one) for one in ("", *parents)])

    async def check() -> None:
        async with filled(made, postgres, reopened=True) as stores:
            for parent, store in itertools.product(("", *parents), stores):
                query = Query(parent)
                assert await listed(store, query) == expected(made, query), parent

    asyncio.run(check())


def test_the_deepest_filter_is_no_trouble_to_a_store(postgres):
    """However SQLite's own parser is limited."""
    nests = ["({})", "-({})", "zzz OR ({})", '"z" (zzz OR -(-({})))', "a -(b OR ({} OR c))"]

    async def check() -> None:
        made = numbered([plain()])
        async with filled(made, postgres, reopened=True) as stores:
            for nest, store in itertools.product(nests, stores):
                text = "a"
                while nest.format(text).count("(") <= MAX_DEPTH:
                    text = nest.format(text)
                query = Query("", parse(text))
                assert await listed(store, query) == expected(made, query), text

    asyncio.run(check())


def test_the_most_that_a_filter_can_ask_is_no_trouble_to_a_store(postgres):
    """And a page looks at fewer records for it, so that no page takes long."""
    most = [
        " OR ".join(["a"] * MAX_TERMS),
        " ".join(["-target=b"] * MAX_TERMS),
        " OR ".join(["end_time > 2026-01-01T00:00:00Z"] * 110),
        "*".join("b" * MAX_TERMS),
        'target = "' + "*b" * (MAX_TERMS - 1) + '"',
    ]
    plains = [plain()._replace(target="a")] + [plain()._replace(target="c")] * 520
    made = numbered(plains)

    async def check() -> None:
        async with filled(made, postgres, reopened=True) as stores:
            for text, store in itertools.product(most, stores):
                query = Query("", parse(text))
                page = await store.page(query, position=b"", size=1000)
                assert page.position
                assert await listed(store, query) == expected(made, query), text

    asyncio.run(check())
