"""A Postgres store tells of what others make of operations, whether it hears them or not."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
from google.protobuf.wrappers_pb2 import StringValue as Text
from postgres_server import with_options
from transaction_pooler import TransactionPooler

from lro.v1.operation_metadata_pb2 import OperationMetadata
from lro_grpc._operation import publication
from lro_grpc._operation.events import Cancel, Claim, Delete
from lro_grpc._runtime.clock import SystemClock
from lro_grpc._stores.postgres.store import PostgresStore
from lro_grpc.engines import Handler, InProcess, Workbench
from lro_grpc.stores import ForwardingStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
    from typing import Any

    from lro_grpc import OperationContext
    from lro_grpc.stores import Claimed, Record

METHOD = "/test.v1.Tests/Run"
PATIENCE_SECONDS = 60.0

NO_NAMES = [
    "",
    "operations/\0",
    "operations/\1",
    "operations/\ud800",
    "operations/" + "x" * 100_000,
]
"""No operation has one of them; the database cannot even have some."""


class Hearing(logging.Handler):
    """Waits until stores say in the log that they hear the others; what is to come is heard.

    Args:
        stores: How many.
    """

    def __init__(self, stores: int) -> None:
        super().__init__()
        self._left = stores
        self._heard = asyncio.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self._left -= "hears the other processes" in record.getMessage()
        if not self._left:
            self._heard.set()

    async def wait(self) -> None:
        await asyncio.wait_for(self._heard.wait(), PATIENCE_SECONDS)


@pytest.fixture
def both_hear(caplog: pytest.LogCaptureFixture) -> Iterator[Hearing]:
    logger, hearing = logging.getLogger("lro_grpc"), Hearing(2)
    caplog.set_level(logging.INFO, logger.name)
    logger.addHandler(hearing)
    yield hearing
    logger.removeHandler(hearing)


@contextlib.asynccontextmanager
async def two_stores(first: str, second: str) -> AsyncIterator[tuple[PostgresStore, PostgresStore]]:
    stores = PostgresStore(first), PostgresStore(second)
    async with contextlib.AsyncExitStack() as opened:
        for store in stores:
            await store.open()
            opened.push_async_callback(store.close)
        yield stores


async def start(store: PostgresStore, operation_id: str = "op-1", method: str = METHOD) -> Record:
    return await store.create(
        publication.create(
            parent="",
            operation_id=operation_id,
            method=method,
            request=b"",
            metadata_type="lro.v1.OperationMetadata",
            now=store.now(),
        )
    )


async def until_done(store: PostgresStore, name: str) -> None:
    """Returns when a follower is told that an operation is done."""
    done = asyncio.Event()

    def follower(record: Record | None) -> None:
        if record is not None and record.done:
            done.set()

    end = store.follow(name, follower)
    await asyncio.wait_for(done.wait(), PATIENCE_SECONDS)
    end()


@pytest.mark.parametrize("options", [{}, {"pgbouncer": "1"}])
async def test_names_that_no_operation_has_keep_nothing_from_the_others(
    postgres: str, options: dict[str, str]
) -> None:
    async with two_stores(with_options(postgres, **options), postgres) as (one, other):
        name = (await start(other)).name
        gone: set[str] = set()

        def follow(no_name: str) -> None:
            def follower(record: Record | None) -> None:
                assert record is None
                gone.add(no_name)

            one.follow(no_name, follower)

        for no_name in NO_NAMES:
            follow(no_name)
        waiting = asyncio.create_task(until_done(one, name))
        await other.apply(name, Cancel())
        await waiting
        assert gone <= {*NO_NAMES}


async def test_behind_a_pooler_a_store_is_heard_and_looks_by_itself(postgres: str) -> None:
    """The pooler drops its LISTEN, and says nothing."""
    parts = urlsplit(postgres)
    with contextlib.closing(TransactionPooler(parts.port or 5432)) as pooler:
        behind = parts._replace(netloc=f"postgres@127.0.0.1:{pooler.port}").geturl()
        async with two_stores(with_options(behind, pgbouncer="1"), postgres) as (one, other):
            for changing, following in ((one, other), (other, one)):
                name = (await start(changing)).name
                waiting = asyncio.create_task(until_done(following, name))
                await changing.apply(name, Cancel())
                await waiting
                await changing.apply(name, Delete())


async def test_a_store_behind_a_pooler_hears_on_a_connection_around_it(
    postgres: str, both_hear: Hearing
) -> None:
    parts = urlsplit(postgres)
    around = parts._replace(query="").geturl()
    with contextlib.closing(TransactionPooler(parts.port or 5432)) as pooler:
        behind = parts._replace(netloc=f"postgres@127.0.0.1:{pooler.port}").geturl()
        one = with_options(behind, pgbouncer="1", notices_url=around)
        async with two_stores(one, one) as (following, changing):
            name = (await start(changing)).name
            waiting = asyncio.create_task(until_done(following, name))
            await changing.apply(name, Cancel())
            await waiting
            await both_hear.wait()


class TakesItsTime(ForwardingStore):
    """A store whose claims are answered once something has happened after them."""

    def __init__(self, store: PostgresStore, meanwhile: Callable[[], Awaitable[None]]) -> None:
        super().__init__(store)
        self._meanwhile = meanwhile

    async def claim(self, limits: Mapping[str, int], claim: Claim, **how: Any) -> Sequence[Claimed]:
        claimed = await super().claim(limits, claim, **how)
        if claimed:
            await self._meanwhile()
        return claimed


async def test_a_cancel_that_is_heard_before_the_claim_is_answered_reaches_the_handler(
    postgres: str, both_hear: Hearing
) -> None:
    """And not with the next heartbeat: that is minutes away."""
    stopped: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def run(request: object, op: OperationContext) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set_result(op.stop_reason.name)

    async with two_stores(postgres, postgres) as (one, other):
        await both_hear.wait()
        name = (await start(other)).name
        witness = (await start(other, "op-2", method="/test.v1.Tests/Other")).name
        witnessed = asyncio.create_task(until_done(one, witness))

        async def cancel() -> None:
            await other.apply(name, Cancel())
            await other.apply(witness, Cancel())
            await witnessed  # so this one has heard of the first, too

        store = TakesItsTime(one, cancel)
        handlers = {METHOD: Handler(METHOD, run, Text, Text, OperationMetadata, "test.example", 1)}
        workbench = Workbench(
            store, handlers, SystemClock(), lease=timedelta(minutes=30), sweep=timedelta(seconds=5)
        )
        engine = InProcess(workbench)
        await engine.start()
        try:
            assert await asyncio.wait_for(stopped, PATIENCE_SECONDS) == "CANCEL"
            await until_done(other, name)
        finally:
            await engine.stop(timedelta(seconds=1))
