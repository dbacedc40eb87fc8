"""An outage of the database: calls fail, nothing acknowledged is lost, and then all goes on."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import asyncpg
import pytest
from google.protobuf import empty_pb2
from opened_postgres import opened
from partition import Cut, Network
from postgres_server import at_port, with_options

from lro_grpc import _anys
from lro_grpc._errors import LroError, StaleAttemptError, UnavailableError
from lro_grpc._operation.events import Claim, Heartbeat, Report, Succeed
from lro_grpc._stores.postgres.store import PostgresStore
from lro_grpc.conformance import StoreConformance
from lro_grpc.stores import Leased, Query

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from postgres_server import PostgresServer

    from lro_grpc._operation.events import Event
    from lro_grpc.stores import Record

LEASE = 15_000_000
RESPONSE = _anys.packed_bytes(empty_pb2.Empty())
CLIENTS = 20


def new() -> Record:
    return StoreConformance().record(f"op-{secrets.token_hex(8)}")


async def answered(call: Callable[[], Any]) -> Any:
    """Makes a call until it is answered, and returns what it was answered with."""
    while True:
        try:
            return await call()
        except UnavailableError:
            await asyncio.sleep(0.05)
        except LroError as refusal:
            return refusal


class Load:
    """Clients that start operations, claim and finish them, whatever becomes of the database."""

    def __init__(self, store: PostgresStore) -> None:
        self._store = store
        self.done: list[str] = []
        self._more = asyncio.Event()

    async def run(self) -> None:
        while True:
            made = new()
            started = await answered(lambda: self._store.create(made))  # noqa: B023
            # Its answer may have been lost, and then it is there already.
            assert started == made or started.reason == "NAME_TAKEN"
            claimed = await answered(lambda: self._store.apply(made.name, Claim(LEASE)))  # noqa: B023
            assert not isinstance(claimed, LroError) or isinstance(claimed, StaleAttemptError)
            end = Succeed(Report(1), RESPONSE)
            ended = await answered(lambda: self._store.apply(made.name, end))  # noqa: B023
            assert not isinstance(ended, LroError) or isinstance(ended, StaleAttemptError)
            self.done.append(made.name)
            self._more.set()

    async def until(self, count: int) -> None:
        """Returns when so many more operations are done."""
        goal = len(self.done) + count
        while len(self.done) < goal:
            self._more.clear()
            await asyncio.wait_for(self._more.wait(), 60)


@contextlib.asynccontextmanager
async def loaded(store: PostgresStore) -> AsyncIterator[Load]:
    load = Load(store)
    clients = [asyncio.create_task(load.run()) for _ in range(CLIENTS)]
    try:
        yield load
    finally:
        for client in clients:
            client.cancel()
        ends = await asyncio.gather(*clients, return_exceptions=True)
    assert [end for end in ends if not isinstance(end, asyncio.CancelledError)] == []


def test_a_server_that_is_killed_costs_nothing_that_was_acknowledged(
    killable_postgres: PostgresServer,
) -> None:
    async def check() -> None:
        async with opened(killable_postgres.url) as store:
            async with loaded(store) as load:
                for end in (killable_postgres.kill, killable_postgres.stop, killable_postgres.kill):
                    await load.until(50)
                    await asyncio.to_thread(end)
                    with pytest.raises(UnavailableError):
                        await store.read("operations/op-1")
                    await asyncio.to_thread(killable_postgres.start)
                await load.until(50)
            records = [await store.read(name) for name in load.done]
        assert [one for one in records if not (one.done and one.attempt == 1)] == []

    asyncio.run(check())


def test_connections_that_the_server_ends_are_made_anew(postgres: str) -> None:
    end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE $1"
    schema = postgres.rpartition("schema=")[2]

    async def check() -> None:
        operator = await asyncpg.connect(urlsplit(postgres)._replace(query="").geturl())
        async with opened(postgres) as store, loaded(store) as load:
            for _ in range(3):
                await load.until(50)
                await operator.execute(end, f"%{schema}.lro_operations%")
            await load.until(50)
        await operator.close()

    asyncio.run(check())


@pytest.fixture
def network(postgres_server: str) -> Iterator[Network]:
    with contextlib.closing(Network(str(urlsplit(postgres_server).port))) as network:
        yield network


@pytest.mark.parametrize("cut", Cut)
def test_a_network_that_is_cut_holds_no_call_for_ever(
    postgres: str, network: Network, cut: Cut
) -> None:
    url = at_port(postgres, network.port)
    url = with_options(url, statement_timeout="0.5", connect_timeout="0.5", sslmode="disable")

    async def renewed(store: PostgresStore, name: str) -> Any:
        """Renews a lease as an engine does: on another loop, in another thread."""

        def renew() -> Any:
            return asyncio.run(answered(lambda: store.renew([Leased(name, 1)], LEASE)))

        return await asyncio.to_thread(renew)

    async def check() -> None:
        async with opened(url) as store:
            made = await answered(lambda: store.create(new()))
            await answered(lambda: store.apply(made.name, Claim(LEASE)))
            network.cut(cut)
            calls = [
                lambda: store.create(new()),
                lambda: store.apply(made.name, Report(1, 50)),
                lambda: store.read(made.name),
                lambda: store.operation(made.name),
                lambda: store.claim({made.method: 5}, Claim(LEASE)),
                lambda: store.claimable({made.method: 5}),
                lambda: store.renew([Leased(made.name, 1)], LEASE),
            ]
            for call in calls:
                with pytest.raises(UnavailableError, match="the store cannot answer") as raised:
                    await asyncio.wait_for(call(), 30)
                assert "127.0.0.1" not in str(raised.value)  # a stranger may get it
            network.mend()
            assert (await answered(lambda: store.create(new()))).attempt == 0
            reported = await answered(lambda: store.apply(made.name, Report(1, 60)))
            assert reported.progress_percent == 60
            assert await answered(lambda: store.operation(made.name)) == reported.operation
            (held,) = await renewed(store, made.name)
            assert held.attempt == 1

    asyncio.run(check())


def test_an_event_that_cannot_be_stored_fails_its_own_call_alone(postgres: str) -> None:
    async def check() -> None:
        async with opened(postgres) as store:
            names = [(await store.create(new())).name for _ in range(3)]
            await store.apply_all([(name, Claim(LEASE)) for name in names])
            details = ["fine", "\ud800", "fine"]
            answers = await asyncio.gather(
                *(
                    store.apply_all([(name, Report(1, 50, detail))])
                    for name, detail in zip(names, details, strict=True)
                ),
                return_exceptions=True,
            )
            failed = [isinstance(one, LroError) or isinstance(one[0], LroError) for one in answers]
            assert failed == [False, True, False]
            shown = [(await store.read(name)).progress_percent for name in names]
            assert shown == [50, 0, 50]

    asyncio.run(check())


def test_an_event_that_cannot_be_stored_fails_alone_within_its_call(
    postgres: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def check() -> None:
        async with opened(postgres) as store:
            names = [(await store.create(new())).name for _ in range(5)]
            await store.apply_all([(name, Claim(LEASE)) for name in names])
            events: list[Event] = [Report(1, 50)] * 5
            events[2] = Heartbeat(1, 2**63)
            outcomes = await store.apply_all([*zip(names, events, strict=True)])
            (failed,) = [one for one in outcomes if isinstance(one, LroError)]
            assert outcomes[2] is failed
            assert failed.message == "a record has a value that the store cannot take"
            assert "out of int64 range" in caplog.text  # for its operator
            stored = [await store.read(name) for name in names]
            assert [one.progress_percent for one in stored] == [50, 50, 0, 50, 50]

    asyncio.run(check())


def test_what_the_database_says_of_a_refused_call_is_for_the_log_alone(
    postgres: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It quotes what the call has sent, and may quote what others have."""
    calls: list[Callable[[PostgresStore, str], Any]] = [
        lambda store, text: store.page(Query(text), position=b"", size=9),
        lambda store, text: store.find_id(text),
        lambda store, text: store.claimable({text: 1}),
        lambda store, text: store.claim({text: 1}, Claim(LEASE)),
        lambda store, text: store.create(new()._replace(request_id=text)),
    ]

    async def check() -> None:
        async with opened(postgres) as store:
            for number, call in enumerate(calls):
                with pytest.raises(LroError) as raised:
                    await call(store, f"\ud800{number}")
                assert raised.value.message in (
                    "the store cannot answer: its database cannot take a value of the call",
                    "a record has a value that the store cannot take",
                )
                assert f"ud800{number}" in caplog.text
            (outcome,) = await store.renew([Leased("\ud800renewed", 1)], LEASE)
            assert isinstance(outcome, LroError)
            assert outcome.message == "a record has a value that the store cannot take"
            assert "ud800renewed" in caplog.text

    asyncio.run(check())


@pytest.mark.parametrize(
    ("cut", "said"), [(Cut.RESET, "connect"), (Cut.STALL, "no answer in time")]
)
def test_notices_that_cannot_be_had_are_told_in_words(
    postgres: str, network: Network, cut: Cut, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Not in those of the driver's code, such as ``TimeoutError()``."""
    url = with_options(at_port(postgres, network.port), connect_timeout="0.5", sslmode="disable")

    async def told() -> str:
        while True:
            for record in caplog.records:
                if "no notices for now" in record.getMessage():
                    return record.getMessage()
            await asyncio.sleep(0.05)

    async def check() -> None:
        async with opened(url):
            network.cut(cut)
            line = await asyncio.wait_for(told(), 60)
            network.mend()
        assert said in line.lower()
        assert "Error(" not in line

    asyncio.run(check())
