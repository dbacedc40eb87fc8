"""The warning of a method whose slots are all held by attempts that have started more of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

import pytest
from google.protobuf.wrappers_pb2 import StringValue as Text

from lro.v1 import operation_metadata_pb2
from lro_grpc._engine.attempt import Attempt
from lro_grpc._engine.held_slots import HeldSlots
from lro_grpc._operation import publication
from lro_grpc._operation.events import Cancel
from lro_grpc._operation.record import Record
from lro_grpc._operation.telemetry import NO_TELEMETRY
from lro_grpc.engines import Handler
from lro_grpc.stores import MemoryStore
from lro_grpc.testing import ManualClock

HANDLER = Handler(
    "/test.v1.Tests/Run",
    lambda request, op: request,
    Text,
    Text,
    operation_metadata_pb2.OperationMetadata,
    "test.example",
    concurrency=2,
)


class World:
    """Attempts that hold the slots of a method, and a store that has what they have started."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.store = MemoryStore(self.clock.now)
        self.attempts: dict[str, Attempt] = {}
        self.slots = HeldSlots(self.store, self.attempts)

    async def create(self, name: str) -> Record:
        made = publication.create(
            parent="p",
            operation_id=name,
            method=HANDLER.method,
            request=b"",
            metadata_type="lro.v1.OperationMetadata",
            now=self.clock.now(),
        )
        return await self.store.create(made)

    async def begin(self, name: str, *, starts: bool = True) -> Attempt:
        """Begins an attempt, which has started an operation unless it starts none."""
        attempt = Attempt(
            await self.create(name),
            HANDLER,
            self.store,
            self.clock,
            lease=15,
            claimed_at=self.clock.monotonic(),
            operation_bytes=1_000_000,
            telemetry=NO_TELEMETRY,
            on_progress=lambda _: None,
            random=lambda: 0.5,
        )
        if starts:
            attempt.own_started = (await self.create(f"{name}-inner")).name
        self.attempts[attempt.name] = attempt
        return attempt

    async def look(self, times: int) -> None:
        for _ in range(times):
            await self.slots.look()


def warnings(caplog: pytest.LogCaptureFixture) -> Sequence[str]:
    found = [one for one in caplog.records if "are held by attempts" in one.getMessage()]
    assert {one.levelno for one in found} <= {logging.WARNING}
    return [one.getMessage() for one in found]


def test_it_comes_at_the_second_sweep_and_once(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        world = World()
        await world.store.open()
        await world.begin("a")
        await world.begin("b")
        await world.look(1)
        assert warnings(caplog) == []
        await world.look(3)
        await world.store.close()

    asyncio.run(main())
    (line,) = warnings(caplog)
    assert line.startswith(f"all 2 slots of {HANDLER.method} are held")


@pytest.mark.parametrize("why", ["done", "deleted", "another attempt", "starts none"])
def test_it_does_not_come_as_long_as_one_slot_may_get_free(
    caplog: pytest.LogCaptureFixture, why: str
) -> None:
    async def main() -> None:
        world = World()
        await world.store.open()
        await world.begin("a")
        last = await world.begin("b", starts=why != "starts none")
        await world.look(1)
        if why == "done":
            assert (await world.store.apply(last.own_started, Cancel())).done
        elif why == "deleted":
            last.own_started = "p/operations/nothing"
        elif why == "another attempt":
            del world.attempts[last.name]
            await world.begin("c")
        await world.look(1)
        assert warnings(caplog) == []
        if why != "another attempt":
            assert not last.own_started
            await world.look(2)
            assert warnings(caplog) == []
        await world.store.close()

    asyncio.run(main())
