"""Wait and Watch hear of what happens while they read: they listen before they read (R9)."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from google.longrunning import operations_pb2

from lro.v1 import operation_control_service_pb2
from lro_grpc._operation import publication
from lro_grpc._operation.events import Cancel
from lro_grpc._server.guarded_store import GuardedStore
from lro_grpc._server.limits import Limits
from lro_grpc._server.poll_advice import PollAdvice
from lro_grpc._server.rpc.call import Call, Waiters
from lro_grpc._server.services.control import ControlService
from lro_grpc._server.services.operations import OperationsService
from lro_grpc._server.unserved import Unserved
from lro_grpc.stores import MemoryStore, Notifier
from lro_grpc.testing import ManualClock

if TYPE_CHECKING:
    from collections.abc import Coroutine

HANGS = 5.0
"""Seconds after which what should be answered at once is given up."""


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


async def stored() -> tuple[SlowStore, str]:
    """Returns a store, and the name of an operation in it."""
    clock = ManualClock()
    store = SlowStore(clock.now)
    made = publication.create(
        parent="",
        operation_id="op-1",
        method="/test.v1.Tests/Run",
        request=b"",
        metadata_type="lro.v1.OperationMetadata",
        now=clock.now(),
    )
    await store.create(made)
    return store, made.name


def in_time(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(work, HANGS))


def test_an_end_that_comes_while_a_wait_reads_is_not_missed() -> None:
    async def wait() -> bytes:
        store, name = await stored()
        service = OperationsService(
            GuardedStore(store),
            Notifier(store),
            Limits(),
            max_wait=timedelta(hours=1),
            cancel=Cancel(),
            advice=PollAdvice(None),
            unserved=Unserved(store, {}),
            served={},
        )
        call = Call(Caller(), "/google.longrunning.Operations/WaitOperation", Waiters(1))
        request = operations_pb2.WaitOperationRequest(name=name)
        return await service.wait(request.SerializeToString(), call)

    assert operations_pb2.Operation.FromString(in_time(wait())).error.code == 1


def test_an_end_that_comes_while_a_watch_reads_is_not_missed() -> None:
    async def watch() -> list[bytes]:
        store, name = await stored()
        service = ControlService(
            GuardedStore(store),
            Notifier(store),
            watch_resend=timedelta(hours=1),
            advice=PollAdvice(None),
        )
        call = Call(Caller(), "/lro.v1.OperationControlService/WatchOperation", Waiters(1))
        request = operation_control_service_pb2.WatchOperationRequest(name=name)
        return [state async for state in service.watch(request.SerializeToString(), call)]

    states = map(operation_control_service_pb2.WatchOperationResponse.FromString, in_time(watch()))
    assert [state.operation.error.code for state in states] == [0, 1]
