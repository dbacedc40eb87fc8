"""A Wait hears of what happens while it reads: it listens before it reads (R9)."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

from google.longrunning import operations_pb2

from lro_grpc import record
from lro_grpc.events import Cancel
from lro_grpc.server.access import Guard
from lro_grpc.server.call import Call, Waiters
from lro_grpc.server.limits import Limits
from lro_grpc.server.service import OperationsService
from lro_grpc.stores import Changes, MemoryStore
from lro_grpc.testing import ManualClock

HANGS = 5.0
"""Seconds after which a Wait that should be answered at once is given up."""


class Caller:
    """An RPC's context without a deadline."""

    def time_remaining(self) -> None:
        return None


class SlowStore(MemoryStore):
    """A store whose answer is on its way while the operation ends."""

    async def operation(self, name: str) -> bytes:
        body = await super().operation(name)
        if not operations_pb2.Operation.FromString(body).done:
            await self.apply(name, Cancel())
            await asyncio.sleep(0)
        return body


def test_an_end_that_comes_while_a_wait_reads_is_not_missed() -> None:
    async def wait() -> Any:
        clock = ManualClock()
        store = SlowStore(clock.now)
        made = record.create(
            parent="",
            operation_id="op-1",
            method="/test.v1.Tests/Run",
            request=b"",
            metadata_type="lro.v1.OperationMetadata",
            now=clock.now(),
        )
        await store.create(made)
        service = OperationsService(
            store, Changes(store), Guard(store), Limits(), max_wait=timedelta(hours=1)
        )
        call = Call(Caller(), "/google.longrunning.Operations/WaitOperation", Waiters(1))
        request = operations_pb2.WaitOperationRequest(name=made.name)
        return await asyncio.wait_for(service.wait(request.SerializeToString(), call), HANGS)

    assert operations_pb2.Operation.FromString(asyncio.run(wait())).error.code == 1
