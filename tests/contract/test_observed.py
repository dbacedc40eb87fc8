"""A store that is observed is a store like any other."""

from __future__ import annotations

import asyncio
import contextvars
import time
from typing import TYPE_CHECKING

import pytest

from lro_grpc._operation import publication, states
from lro_grpc._operation.events import Cancel, Claim, Report
from lro_grpc._operation.telemetry import NO_TELEMETRY
from lro_grpc._stores.observed import ObservedStore
from lro_grpc.conformance import StoreConformance
from lro_grpc.stores import MemoryStore, SqliteStore
from lro_grpc.testing import ManualClock

if TYPE_CHECKING:
    from collections.abc import Awaitable
    from pathlib import Path

    from lro_grpc.stores import Now, Record


class TestObservedStore(StoreConformance):
    store: ObservedStore | None = None

    def make_store(self, now: Now) -> ObservedStore:
        made = self.store or ObservedStore(MemoryStore(now), NO_TELEMETRY, time.monotonic)
        self.store = made  # its records stay for the next open
        return made


class Broken:
    """An observer that raises at each change, which it must not."""

    def __getattr__(self, name: str) -> object:
        return getattr(NO_TELEMETRY, name)

    def changed(self, before: Record | None, after: Record) -> None:
        raise RuntimeError("the exporter is gone")


CALLER = contextvars.ContextVar("CALLER", default="")


class Counting:
    """An observer that notes each change, and the context in which it is called."""

    def __init__(self) -> None:
        self.changes: list[tuple[str, bool, int]] = []

    def __getattr__(self, name: str) -> object:
        return getattr(NO_TELEMETRY, name)

    def changed(self, before: Record | None, after: Record) -> None:
        self.changes.append((CALLER.get(), before is None, after.state))


def new(clock: ManualClock, operation_id: str = "op-1") -> Record:
    return publication.create(
        parent="",
        operation_id=operation_id,
        method="/test.v1.Tests/Run",
        request=b"",
        metadata_type="lro.v1.OperationMetadata",
        now=clock.now(),
    )


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_a_change_is_reported_once_in_the_context_of_its_caller(
    tmp_path: Path, kind: str
) -> None:
    clock, telemetry = ManualClock(), Counting()
    inner = MemoryStore(clock.now) if kind == "memory" else SqliteStore(tmp_path / "db", clock.now)
    store = ObservedStore(inner, telemetry, clock.monotonic)
    await store.open()

    async def call(caller: str, change: Awaitable[object]) -> None:
        CALLER.set(caller)
        await change

    try:
        one = new(clock)
        await asyncio.create_task(call("starter", store.create(one)))
        claim = [(one.name, Claim(1_000_000)), ("operations/none", Claim(1_000_000))]
        await asyncio.create_task(call("engine", store.apply_all(claim)))
        await asyncio.create_task(call("engine", store.apply(one.name, Report(1))))  # nothing new
        together = [
            asyncio.create_task(call("canceller", store.apply(one.name, Cancel()))),
            asyncio.create_task(call("handler", store.apply(one.name, Report(1, 50)))),
        ]
        await asyncio.gather(*together)
    finally:
        await store.close()
    assert telemetry.changes == [
        ("starter", True, states.QUEUED),
        ("engine", False, states.RUNNING),
        ("canceller", False, states.CANCELLING),
        ("handler", False, states.CANCELLING),
    ]


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_each_operation_that_a_claim_takes_is_reported_once(
    tmp_path: Path, kind: str
) -> None:
    clock, telemetry = ManualClock(), Counting()
    inner = MemoryStore(clock.now) if kind == "memory" else SqliteStore(tmp_path / "db", clock.now)
    store = ObservedStore(inner, telemetry, clock.monotonic)
    await store.open()
    try:
        one, other = new(clock), new(clock, "op-2")
        for record in (one, other):
            await store.create(record)
        telemetry.changes.clear()
        CALLER.set("engine")
        claim, again = Claim(1_000_000), Report(1)  # the second changes nothing
        limits = {one.method: 9}
        await asyncio.gather(store.claim(limits, claim), store.apply(one.name, again))
        assert len(await store.claim(limits, claim)) == 0
        await asyncio.gather(
            *(store.apply(record.name, Cancel()) for record in (one, other)),
            store.claim(limits, claim),
        )
    finally:
        await store.close()
    assert (
        telemetry.changes
        == [("engine", False, states.RUNNING)] * 2 + [("engine", False, states.CANCELLING)] * 2
    )


async def test_a_change_that_another_process_makes_is_not_reported() -> None:
    clock, telemetry = ManualClock(), Counting()
    shared = MemoryStore(clock.now)
    here = ObservedStore(shared, telemetry, clock.monotonic)
    there = ObservedStore(shared, NO_TELEMETRY, clock.monotonic)
    one = await there.create(new(clock))
    await there.apply(one.name, Cancel())
    assert telemetry.changes == []
    await here.create(new(clock, "op-2"))
    assert len(telemetry.changes) == 1


async def test_an_observer_that_raises_harms_neither_the_store_nor_its_listeners(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = ManualClock()
    heard = []
    store = ObservedStore(SqliteStore(tmp_path / "db", clock.now), Broken(), clock.monotonic)
    store.subscribe(lambda _, after: heard.append(after.name))
    await store.open()
    try:
        for number in range(2):
            made = new(clock, f"op-{number}")
            assert await asyncio.wait_for(store.create(made), 60) == made
    finally:
        await store.close()
    assert heard == ["operations/op-0", "operations/op-1"]
    assert len(caplog.records) == 2
