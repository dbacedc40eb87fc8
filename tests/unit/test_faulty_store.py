from __future__ import annotations

import asyncio
from random import Random
from typing import Any

import pytest

from lro_grpc._errors import OperationNotFoundError, UnavailableError
from lro_grpc._operation.events import Cancel
from lro_grpc._operation.record import Record
from lro_grpc._testing.faulty_store import NO_FAULTS, Faults, FaultyStore
from lro_grpc.conformance import StoreConformance
from lro_grpc.stores import MemoryStore

START = StoreConformance.START

RECORD = StoreConformance().record()


def faulty(seed: int = 0, **faults: Any) -> tuple[FaultyStore, MemoryStore]:
    sound = MemoryStore(lambda: START)
    rates = {"before": 0, "after": 0, "delay": 0, "disconnect": 0, **faults}
    return FaultyStore(sound, Random(seed), Faults(**rates)), sound


async def outcomes(store: FaultyStore) -> list[str]:
    found = []
    for _ in range(200):
        try:
            await store.leased()
            found.append("answer")
        except UnavailableError as error:
            found.append(error.message)
    return found


def test_without_faults_it_is_the_store() -> None:
    async def check() -> None:
        store, sound = faulty()
        assert await store.create(RECORD) == RECORD
        assert await sound.read(RECORD.name) == RECORD
        assert set(await outcomes(store)) == {"answer"}

    asyncio.run(check())


def test_a_call_that_fails_before_has_done_nothing() -> None:
    async def check() -> None:
        store, sound = faulty(before=1.0)
        with pytest.raises(UnavailableError):
            await store.create(RECORD)
        with pytest.raises(OperationNotFoundError):
            await sound.read(RECORD.name)

    asyncio.run(check())


def test_a_call_that_fails_after_has_done_and_announced_all() -> None:
    async def check() -> None:
        store, sound = faulty(after=1.0)
        records: list[Record] = []
        store.subscribe(lambda _, after: records.append(after))
        with pytest.raises(UnavailableError):
            await store.create(RECORD)
        with pytest.raises(UnavailableError):
            await store.apply(RECORD.name, Cancel())
        assert (await sound.read(RECORD.name)).done
        assert len(records) == 2

    asyncio.run(check())


def test_a_disconnect_lasts_for_several_calls() -> None:
    store, _ = faulty(disconnect=0.05)
    found = asyncio.run(outcomes(store))
    assert store.injected["disconnect"] < found.count("the store is disconnected for a while")


def test_it_can_be_cut_off_and_healed() -> None:
    async def check() -> None:
        store, _ = faulty(before=1.0, disconnect=1.0)
        store.connected = False
        assert "answer" not in await outcomes(store)
        store.heal()
        assert store.faults == NO_FAULTS
        assert set(await outcomes(store)) == {"answer"}

    asyncio.run(check())


def test_the_same_seed_gives_the_same_faults() -> None:
    faults = {"before": 0.1, "after": 0.1, "delay": 0.1, "disconnect": 0.05, "longest_delay": 0}
    first, again, other = (asyncio.run(outcomes(faulty(seed, **faults)[0])) for seed in (1, 1, 2))
    assert first == again != other
