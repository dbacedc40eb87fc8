"""Changes of rows that another process has in hand: none waits for it, and none is lost (R14)."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import asyncpg
import pytest
from opened_postgres import opened
from postgres_server import with_options

from lro_grpc._errors import UnavailableError
from lro_grpc._operation.events import Cancel, Claim, Delete, Pause, Report, Resume, Terminate
from lro_grpc._stores.postgres import changes
from lro_grpc._stores.postgres.store import PostgresStore
from lro_grpc.conformance import StoreConformance
from lro_grpc.stores import Query

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine

    from lro_grpc.stores import Record

LEASE = 15_000_000


@contextlib.asynccontextmanager
async def in_hand(url: str, *names: str) -> AsyncIterator[None]:
    """Has rows locked by another connection while the context lasts."""
    parts = urlsplit(url)
    table = f"{parts.query.rpartition('schema=')[2]}.lro_operations"
    connection = await asyncpg.connect(parts._replace(query="").geturl())
    try:
        async with connection.transaction():
            await connection.fetch(f"SELECT 1 FROM {table} WHERE name = ANY($1) FOR UPDATE", names)
            yield
    finally:
        await connection.close()


async def two(store: PostgresStore) -> tuple[str, str]:
    one, other = [(await store.create(new(f"op-{n}"))).name for n in range(2)]
    await store.apply_all([(name, Claim(LEASE)) for name in (one, other)])
    return one, other


@contextlib.asynccontextmanager
async def locked(url: str) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """Has the whole table locked, and gives what waits until a statement waits for it."""
    parts = urlsplit(url)
    table = f"{parts.query.rpartition('schema=')[2]}.lro_operations"
    connection = await asyncpg.connect(parts._replace(query="").geturl())
    waiting = f"SELECT 1 FROM pg_locks WHERE relation = '{table}'::regclass AND NOT granted"

    async def until_one_waits() -> None:
        for _ in range(6000):
            if await connection.fetch(waiting):
                return
            await asyncio.sleep(0.01)
        raise AssertionError("no statement waits")

    try:
        async with connection.transaction():
            await connection.execute(f"LOCK TABLE {table} IN EXCLUSIVE MODE")
            yield until_one_waits
    finally:
        await connection.close()


def new(operation_id: str, **values: Any) -> Record:
    return StoreConformance().record(operation_id, **values)


class Halting(asyncpg.Connection):
    """A connection that stands still before it claims what a claim has found."""

    reached: asyncio.Event
    go_on: asyncio.Event

    async def fetch(self, query: str, *arguments: Any, **options: Any) -> Any:
        if query.startswith("WITH free"):
            self.reached.set()
            await self.go_on.wait()
        return await super().fetch(query, *arguments, **options)


def test_two_claims_at_once_do_not_both_take_the_last_place_of_a_key(
    postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though each would find it free, and an operation of its own for it."""

    async def check() -> None:
        async def claim(store: PostgresStore) -> list[str]:
            claims = await store.claim_by_key(StoreConformance.METHOD, 9, 3, Claim(LEASE))
            return [one.before.name.rpartition("/")[2] for one in claims.claimed]

        Halting.reached, Halting.go_on = asyncio.Event(), asyncio.Event()
        Halting.go_on.set()
        async with opened(postgres) as other:
            monkeypatch.setattr(
                asyncpg, "connect", functools.partial(asyncpg.connect, connection_class=Halting)
            )
            async with opened(postgres) as store:
                for number in range(2):
                    await store.create(new(f"op-{number}", concurrency_key="a"))
                assert await claim(store) == ["op-0", "op-1"]
                await store.create(new("op-2", concurrency_key="a"))
                Halting.go_on.clear()
                Halting.reached.clear()
                claiming = asyncio.create_task(claim(store))
                await Halting.reached.wait()  # it has counted two
                await other.create(new("op-sooner", concurrency_key="a", priority=1))
                sooner = await claim(other)
                Halting.go_on.set()
                assert (await claiming, sooner) == (["op-2"], [])
                assert len(await other.leased()) == 3
                await store.apply(f"{StoreConformance.PARENT}/operations/op-2", Terminate("enough"))
                assert await claim(other) == ["op-sooner"]

    asyncio.run(check())


@pytest.mark.parametrize(("per_key", "locks"), [(3, 5), (0, 0)], ids=["three", "any"])
def test_a_claim_locks_keys_only_where_it_counts_their_places(
    postgres: str, monkeypatch: pytest.MonkeyPatch, per_key: int, locks: int
) -> None:
    async def check() -> None:
        Halting.reached, Halting.go_on = asyncio.Event(), asyncio.Event()
        monkeypatch.setattr(
            asyncpg, "connect", functools.partial(asyncpg.connect, connection_class=Halting)
        )
        async with opened(postgres) as store:
            for number in range(5):
                await store.create(new(f"op-{number}", concurrency_key=f"key-{number}"))
            claim = store.claim_by_key(StoreConformance.METHOD, 9, per_key, Claim(LEASE))
            claiming = asyncio.create_task(claim)
            await Halting.reached.wait()
            connection = await asyncpg.connect(urlsplit(postgres)._replace(query="").geturl())
            class_ = f"{postgres.rpartition('schema=')[2]}.lro_operations"
            held = await connection.fetchval(
                "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
                f" AND classid = '{class_}'::regclass::oid"
            )
            await connection.close()
            Halting.go_on.set()
            assert (held, len((await claiming).claimed)) == (locks, 5)

    asyncio.run(check())


def test_a_row_in_hand_holds_up_its_own_changes_alone_and_in_their_order(postgres: str) -> None:
    async def check() -> None:
        async with opened(postgres) as store:
            one, other = await two(store)
            heard: list[str] = []
            store.subscribe(lambda _, after: heard.append(after.status_detail))
            async with in_hand(postgres, one):
                changes = [(one, Report(1, 10, "first")), (other, Report(1, 10, "other"))]
                both = asyncio.create_task(store.apply_all(changes))
                later = asyncio.create_task(store.apply(one, Report(1, 20, "second")))
                await asyncio.sleep(0)  # they have begun
                await store.apply(other, Report(1, 20, "another"))
                assert heard == ["other", "another"]
                assert not both.done()
                assert not later.done()
                assert (await store.read(one)).status_detail == ""
            first, _ = await both
            assert first.status_detail == "first"
            assert (await later).progress_percent == 20
            assert heard == ["other", "another", "first", "second"]

    asyncio.run(check())


def test_a_claim_passes_over_a_row_in_hand(postgres: str) -> None:
    async def check() -> None:
        async with opened(postgres) as store:
            names = [(await store.create(new(f"op-{n}"))).name for n in range(2)]
            limits = {StoreConformance.METHOD: 9}
            async with in_hand(postgres, names[0]):
                claimed = await store.claim(limits, Claim(LEASE))
                assert [one.before.name for one in claimed] == names[1:]
            claimed = await store.claim(limits, Claim(LEASE))
            assert [one.before.name for one in claimed] == names[:1]

    asyncio.run(check())


def test_a_row_that_is_never_let_go_of_is_unavailable_in_the_end(
    postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "_PATIENCE_SECONDS", 0.05)

    async def check() -> None:
        async with opened(postgres) as store:
            one, _ = await two(store)
            async with in_hand(postgres, one):
                with pytest.raises(UnavailableError, match="other processes are at"):
                    await store.apply(one, Report(1, 10))
            assert (await store.apply(one, Report(1, 10))).progress_percent == 10

    asyncio.run(check())


def test_a_row_that_is_never_let_go_of_fails_its_own_change_alone(
    postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "_PATIENCE_SECONDS", 0.05)

    async def check() -> None:
        async with opened(postgres) as store:
            one, other = await two(store)
            async with in_hand(postgres, one):
                changes = [(one, Report(1, 10)), (other, Report(1, 10))]
                failed, made = await store.apply_all(changes)
            assert isinstance(failed, UnavailableError)
            assert made == await store.read(other)

    asyncio.run(check())


def test_what_is_at_hand_of_an_operation_is_not_of_a_later_one_of_its_name(postgres: str) -> None:
    """Though their rows were changed as often."""

    async def check() -> None:
        async with opened(postgres) as store, opened(postgres) as other:
            former = await store.create(new("op-1", pausable=True, now=store.now()))
            await other.apply(former.name, Pause())
            await store.apply(former.name, Cancel())
            await store.apply(former.name, Delete())
            later = await store.create(new("op-1", pausable=True, now=store.now()))
            await store.apply(later.name, Pause())
            resumed = await other.apply(later.name, Resume())
            assert resumed.create_time == later.create_time > former.create_time
            assert resumed == await store.read(later.name)

    asyncio.run(check())


def test_a_store_that_closes_makes_what_is_set_aside_first(postgres: str) -> None:
    async def check() -> None:
        store = PostgresStore(postgres)
        await store.open()
        one, _ = await two(store)
        async with in_hand(postgres, one):
            report = asyncio.create_task(store.apply(one, Report(1, 10)))
            await store.read(one)
            closing = asyncio.create_task(store.close())
            await asyncio.sleep(0)
            with pytest.raises(UnavailableError, match="the store is closed"):
                await store.apply(one, Cancel())
            assert not report.done()
        assert (await report).progress_percent == 10
        await closing

    asyncio.run(check())


@pytest.mark.parametrize("kind", ["create", "apply", "claim"])
def test_what_nobody_waits_for_any_more_is_not_begun(postgres: str, kind: str) -> None:
    """As a start whose caller has gone in an outage, and makes it again."""

    async def check() -> None:
        async with opened(postgres) as store:
            made = [await store.create(new(f"op-{n}", pausable=True)) for n in range(3)]
            limits = {StoreConformance.METHOD: 1}
            calls: dict[str, Callable[[int], Coroutine[Any, Any, Any]]] = {
                "create": lambda n: store.create(new(f"new-{n}")),
                "apply": lambda n: store.apply(made[n].name, Pause()),
                "claim": lambda n: store.claim(limits, Claim(LEASE)),
            }
            async with locked(postgres) as until_one_waits:
                first = asyncio.create_task(calls[kind](0))
                await until_one_waits()
                second, third = (asyncio.create_task(calls[kind](n)) for n in (1, 2))
                await asyncio.sleep(0)  # they have come
                second.cancel()
                await asyncio.wait([second])
            await asyncio.gather(first, third)
            page = await store.page(
                Query(StoreConformance.PARENT), position=b"", size=9, records=True
            )
            changed = [one for one in page.records if one not in made]
            assert len(changed) == 2

    asyncio.run(check())


def test_a_caller_that_gives_up_costs_no_connection(postgres: str) -> None:
    who = "SELECT pid FROM pg_stat_activity WHERE application_name = 'lro-cancelled'"

    async def check() -> None:
        operator = await asyncpg.connect(urlsplit(postgres)._replace(query="").geturl())
        url = with_options(postgres, application_name="lro-cancelled", readers="1")
        async with opened(url) as store:
            await two(store)
            await store.renew([], LEASE)
            before = {row[0] for row in await operator.fetch(who)}
            for _ in range(20):
                page = asyncio.create_task(
                    store.page(Query(StoreConformance.PARENT), position=b"", size=9)
                )
                await asyncio.sleep(0.001)
                page.cancel()
                await asyncio.wait([page])
            page_of_all = await store.page(Query(StoreConformance.PARENT), position=b"", size=9)
            assert len(page_of_all.operations) == 2
            assert {row[0] for row in await operator.fetch(who)} == before
        await operator.close()

    asyncio.run(check())
