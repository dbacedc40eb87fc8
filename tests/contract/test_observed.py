"""A store that is observed is a store like any other."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from lro_grpc._operation import publication
from lro_grpc._operation.telemetry import NO_TELEMETRY
from lro_grpc._stores.observed import ObservedStore
from lro_grpc.conformance import StoreConformance
from lro_grpc.stores import MemoryStore, SqliteStore
from lro_grpc.testing import ManualClock

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

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
            new = publication.create(
                parent="",
                operation_id=f"op-{number}",
                method="/test.v1.Tests/Run",
                request=b"",
                metadata_type="lro.v1.OperationMetadata",
                now=clock.now(),
            )
            assert await asyncio.wait_for(store.create(new), 5) == new
    finally:
        await store.close()
    assert heard == ["operations/op-0", "operations/op-1"]
    assert len(caplog.records) == 2
