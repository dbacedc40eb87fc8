"""Starts that the engine expects: they are claimed in the commit that stores them, if at all."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING

import asyncpg
import pytest
from google.longrunning import operations_pb2

import lro_grpc
from lro.example.v1 import fleet_service_pb2
from lro.v1 import state_pb2
from lro_grpc._operation.record import Record
from lro_grpc._runtime.clock import SystemClock
from lro_grpc._stores.postgres.options import parse
from lro_grpc._stores.postgres.statements import prefix_of
from lro_grpc._stores.postgres.store import PostgresStore
from lro_grpc.stores import Change, ForwardingStore, MemoryStore, SqliteStore, Store

if TYPE_CHECKING:
    from pathlib import Path

METHOD = "/lro.example.v1.FleetService/CreateInstance"
SECONDS = 30


def request(instance_id: str, request_id: str = "") -> bytes:
    return fleet_service_pb2.CreateInstanceRequest(
        parent="projects/p/locations/l", instance_id=instance_id, request_id=request_id
    ).SerializeToString()


@contextlib.asynccontextmanager
async def running(
    store: Store, sweep: float = 1.0, **options: int
) -> AsyncIterator[lro_grpc.Operations]:
    async def run(
        request: fleet_service_pb2.CreateInstanceRequest, op: object
    ) -> fleet_service_pb2.Instance:
        return fleet_service_pb2.Instance(name=request.instance_id)

    operations = lro_grpc.Operations(store, sweep=sweep)
    operations.add_method(
        METHOD,
        run,
        request=fleet_service_pb2.CreateInstanceRequest,
        response=fleet_service_pb2.Instance,
        options=lro_grpc.MethodOptions(**options),
    )
    await operations.start()
    try:
        yield operations
    finally:
        await operations.stop(lambda: asyncio.sleep(0))


async def test_starts_are_stored_with_their_claims(tmp_path: Path):
    """Not each of them: the engine may be about to claim others just then."""
    store = SqliteStore(tmp_path / "operations.db", SystemClock().now)
    states: list[int] = []
    ended: asyncio.Queue[str] = asyncio.Queue()

    def look(before: Record | None, record: Record) -> None:
        if before is None:
            with contextlib.closing(sqlite3.connect(store.path)) as file:
                query = "SELECT state FROM operations WHERE name = ?"
                states.extend(state for (state,) in file.execute(query, (record.name,)))
        if record.done:
            ended.put_nowait(record.name)

    async with running(store) as operations:
        store.subscribe(look)
        for number in range(10):
            await operations.local().call(METHOD, request(f"i{number}"), None)
            await asyncio.wait_for(ended.get(), SECONDS)
    assert len(states) == 10
    assert state_pb2.JOB_STATE_RUNNING in states


async def test_starts_on_a_database_that_processes_share_are_stored_with_their_claims(
    postgres: str,
):
    """A row that was changed by its end alone has the version after its first one."""
    store = PostgresStore(postgres)
    ended: asyncio.Queue[str] = asyncio.Queue()
    begun: dict[str, int] = {}

    def look(before: Record | None, record: Record) -> None:
        if before is None or record.lease_expire_time:
            begun[record.name] = record.update_time
        elif record.done:
            ended.put_nowait(record.name)

    async with running(store) as operations:
        store.subscribe(look)
        for number in range(10):
            await operations.local().call(METHOD, request(f"i{number}"), None)
            await asyncio.wait_for(ended.get(), SECONDS)
        options = parse(postgres)
        connection = await asyncpg.connect(options.url)
        table = f"{prefix_of(options.schema)}lro_operations"
        rows = await connection.fetch(f"SELECT name, version FROM {table}")
        await connection.close()
    assert len(rows) == 10
    assert [name for name, version in rows if version == begun[name] + 1]


class EarlyStore(ForwardingStore):
    """It looks for what is to be claimed before that is stored, and answers after it is."""

    is_early = False

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self._looked, self._created = asyncio.Event(), asyncio.Event()

    async def create(self, record: Record) -> Record:
        if not self.is_early:
            return await super().create(record)
        await self._looked.wait()
        try:
            return await super().create(record)
        finally:
            self._created.set()

    async def apply_all(self, changes: Sequence[Change]) -> Sequence[Record | lro_grpc.LroError]:
        outcomes = await super().apply_all(changes)
        if self.is_early:
            self._looked.set()
            await self._created.wait()
        return outcomes


async def test_a_start_whose_claim_has_come_too_early_is_claimed_again():
    """No sweep finds it."""
    store = EarlyStore(MemoryStore(SystemClock().now))
    ended: asyncio.Queue[str] = asyncio.Queue()
    async with running(store, sweep=3600.0) as operations:
        store.subscribe(lambda _, record: ended.put_nowait(record.name) if record.done else None)
        for is_early in (False, True):  # the engine's first look is at all that the store has
            store.is_early = is_early
            await operations.local().call(METHOD, request("a"), None)
            await asyncio.wait_for(ended.get(), SECONDS)


KINDS = ["memory", "sqlite", "postgres"]


def made(kind: str, folder: Path, url: str) -> Store:
    now = SystemClock().now
    if kind == "postgres":
        return PostgresStore(url)
    return MemoryStore(now) if kind == "memory" else SqliteStore(folder / "operations.db", now)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_start_that_stores_nothing_takes_no_slot(tmp_path: Path, postgres: str, kind: str):
    store = made(kind, tmp_path, postgres)
    ended: asyncio.Queue[str] = asyncio.Queue()
    async with running(store, concurrency=1) as operations:
        store.subscribe(lambda _, record: ended.put_nowait(record.name) if record.done else None)
        calls = operations.local()
        same = request("a", "b3f1c2de-0f3a-4c58-9f5e-6d6c1a2b3c4d")
        again = [calls.call(METHOD, same, None) for _ in range(3)]
        others = [calls.call(METHOD, request(one), None) for one in "bcd"]
        answers = await asyncio.gather(*again, *others)
        started = {operations_pb2.Operation.FromString(answer.body).name for answer in answers}
        assert len(started) == 4
        assert {await asyncio.wait_for(ended.get(), SECONDS) for _ in started} == started


@pytest.mark.parametrize("kind", KINDS)
async def test_a_start_with_the_name_of_another_begins_nothing_of_that(
    tmp_path: Path, postgres: str, kind: str
):
    """It would begin out of turn, beyond the places of its key."""
    store = made(kind, tmp_path, postgres)
    begun: asyncio.Queue[str] = asyncio.Queue()
    going_on = asyncio.Event()

    async def run(
        request: fleet_service_pb2.CreateInstanceRequest, op: object
    ) -> fleet_service_pb2.Instance:
        begun.put_nowait(request.instance_id)
        await going_on.wait()
        return fleet_service_pb2.Instance()

    def prepare(
        request: fleet_service_pb2.CreateInstanceRequest, context: object
    ) -> lro_grpc.Prepared:
        return lro_grpc.Prepared(concurrency_key=request.instance.schema_sql)

    def start(instance_id: str, key: str) -> bytes:
        return fleet_service_pb2.CreateInstanceRequest(
            parent="projects/p/locations/l",
            instance_id=instance_id,
            instance=fleet_service_pb2.Instance(schema_sql=key),
        ).SerializeToString()

    operations = lro_grpc.Operations(store, new_id=lambda request: request.instance_id)
    operations.add_method(
        METHOD,
        run,
        request=fleet_service_pb2.CreateInstanceRequest,
        response=fleet_service_pb2.Instance,
        prepare=prepare,
        options=lro_grpc.MethodOptions(concurrency_per_key=1),
    )
    await operations.start()
    try:
        calls = operations.local()
        await calls.call(METHOD, start("first", "key"), None)
        assert await asyncio.wait_for(begun.get(), SECONDS) == "first"
        await calls.call(METHOD, start("second", "key"), None)
        with pytest.raises(lro_grpc.LroError, match="exists"):
            await calls.call(METHOD, start("second", ""), None)
        await calls.call(METHOD, start("third", ""), None)
        assert await asyncio.wait_for(begun.get(), SECONDS) == "third"
    finally:
        going_on.set()
        await operations.stop(lambda: asyncio.sleep(0))
