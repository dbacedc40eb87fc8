"""The frame of a store's tests: stores to open, operations to make, loops to run in."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any

from lro_grpc._conformance.samples import LEASE, name_of
from lro_grpc._errors import LroError
from lro_grpc._operation import metadata, publication
from lro_grpc._operation.record import Record
from lro_grpc._stores.store import MOST_EXAMINED, Leased, Now, Query, SharedStore, Store


class Cases:
    """Operations of tests, and a look at what a store has of them."""

    METHOD = "/contract.v1.Contract/Run"
    """The method of the operations that the tests make, unless they say otherwise."""
    PARENT = "projects/p/locations/l"
    """The parent of these operations."""
    START = 1_800_000_000_000_000
    """The time at which every test begins, in microseconds since 1970 UTC."""

    time: int = START
    """The time that the store gets, in microseconds since 1970 UTC; a test may set it."""

    def record(self, operation_id: str = "op-1", **values: Any) -> Record:
        """Returns a new record that no store knows yet."""
        chosen: dict[str, Any] = {
            "parent": self.PARENT,
            "method": self.METHOD,
            "request": b"request",
            "metadata_type": metadata.DEFAULT_TYPE.DESCRIPTOR.full_name,
            "now": self.time,
        }
        return publication.create(operation_id=operation_id, **{**chosen, **values})

    async def _is(self, store: Store, expected: Record) -> None:
        """Asserts that the store has exactly this of an operation."""
        assert await store.read(expected.name) == expected
        assert await store.operation(expected.name) == expected.operation

    async def _pages(
        self, store: Store, size: int, query: Query | None = None, examined: int = MOST_EXAMINED
    ) -> AsyncIterator[list[str]]:
        position = b""
        for _ in range(100):
            page = await store.page(
                query or Query(self.PARENT), position=position, size=size, examined=examined
            )
            yield [name_of(one) for one in page.operations]
            position = page.position
            if not position:
                return
        raise AssertionError("the pages have no end")

    async def _found(
        self, store: Store, query: Query, *, size: int = 1000, examined: int = MOST_EXAMINED
    ) -> list[str]:
        pages = self._pages(store, size, query, examined)
        return [name async for page in pages for name in page]

    async def _listed(self, store: Store, parent: str = PARENT) -> list[str]:
        return await self._found(store, Query(parent))


class StoreCases(Cases):
    """Tests of one store at a time."""

    def make_store(self, now: Now) -> Store:
        """Returns the store to test, not yet open; to be given by the subclass.

        The first one of a test is empty. A later one of the same test is made once the one before
        is closed, and has the same operations.

        Args:
            now: Returns the time in microseconds since 1970 UTC.
        """
        raise NotImplementedError

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[Store]:
        """Gives the store, open, and closes it again."""
        store = self.make_store(lambda: self.time)
        await store.open()
        try:
            yield store
        finally:
            await store.close()


def sync_test(
    check: Callable[[Any], Coroutine[Any, Any, None]],
) -> Callable[[Any], None]:
    """Makes a test of a coroutine function."""

    def test(self: Cases) -> None:
        asyncio.run(check(self))

    test.__name__, test.__doc__ = check.__name__, check.__doc__
    test.__qualname__, test.__module__ = check.__qualname__, check.__module__
    return test


def with_store(
    check: Callable[[Any, Store], Coroutine[Any, Any, None]],
) -> Callable[[Any], None]:
    """Makes a test of a coroutine function that takes an open, empty store."""

    async def run(self: StoreCases) -> None:
        async with self.opened() as store:
            await check(self, store)

    run.__name__, run.__doc__ = check.__name__, check.__doc__
    run.__qualname__, run.__module__ = check.__qualname__, check.__module__
    return sync_test(run)


async def refused(kind: type[LroError], call: Coroutine[Any, Any, object]) -> None:
    """Asserts that a call raises an error of this kind."""
    try:
        answer = await call
    except kind:
        return
    raise AssertionError(f"{kind.__name__} was not raised; the answer is {answer!r}")


async def renewed_leases(
    store: SharedStore, leased: Sequence[Leased]
) -> Sequence[Record | LroError]:
    """Renews leases on the loop that runs; it may be another one than the store's."""
    return await store.renew(leased, LEASE)
