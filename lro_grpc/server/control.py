"""lro.v1.OperationControlService over a store: bytes in, bytes out, errors raised."""

from __future__ import annotations

from collections.abc import Mapping

from lro.v1 import operation_control_service_pb2
from lro_grpc import names
from lro_grpc.engine.log import log_asked
from lro_grpc.events import Event, Pause, Resume
from lro_grpc.server.access import Guard
from lro_grpc.server.call import EMPTY, Call, Service, parse
from lro_grpc.stores import Store


class ControlService:
    """Pausing and resuming.

    Args:
        store: Where the operations are kept.
        guard: Lets in who may.
    """

    def __init__(self, store: Store, guard: Guard) -> None:
        self._store = store
        self._guard = guard

    def methods(self) -> Mapping[str, Service]:
        """Returns the methods by their full names."""
        service = "/lro.v1.OperationControlService/"
        return {f"{service}PauseOperation": self.pause, f"{service}ResumeOperation": self.resume}

    async def pause(self, body: bytes, call: Call) -> bytes:
        """Asks to pause an operation; its state tells when it has (S28)."""
        request = parse(operation_control_service_pb2.PauseOperationRequest, body)
        await self._guard.check("operations.pause", request.name, request, call)
        return await self._apply(request.name, Pause())

    async def resume(self, body: bytes, call: Call) -> bytes:
        """Puts a paused operation back into the queue, or takes back a pause."""
        request = parse(operation_control_service_pb2.ResumeOperationRequest, body)
        await self._guard.check("operations.resume", request.name, request, call)
        return await self._apply(request.name, Resume())

    async def _apply(self, name: str, event: Event) -> bytes:
        names.split(name)
        log_asked(event, await self._store.apply(name, event))
        return EMPTY
