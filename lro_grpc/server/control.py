"""lro.v1.OperationControlService over a store: bytes in, bytes out, errors raised."""

from __future__ import annotations

from collections.abc import Mapping

from lro.v1 import operation_control_service_pb2
from lro_grpc.events import Pause, Resume
from lro_grpc.server.access import Guard
from lro_grpc.server.asking import Asking
from lro_grpc.server.call import Call, Service
from lro_grpc.stores import Store


class ControlService:
    """Pausing and resuming.

    Args:
        store: Where the operations are kept.
        guard: Lets in who may.
    """

    def __init__(self, store: Store, guard: Guard) -> None:
        self._asking = Asking(store, guard)

    def methods(self) -> Mapping[str, Service]:
        """Returns the methods by their full names."""
        service = "/lro.v1.OperationControlService/"
        return {f"{service}PauseOperation": self.pause, f"{service}ResumeOperation": self.resume}

    async def pause(self, body: bytes, call: Call) -> bytes:
        """Asks to pause an operation; its state tells when it has (S28)."""
        kind = operation_control_service_pb2.PauseOperationRequest
        return await self._asking.ask("operations.pause", kind, Pause(), body, call)

    async def resume(self, body: bytes, call: Call) -> bytes:
        """Puts a paused operation back into the queue, or takes back a pause."""
        kind = operation_control_service_pb2.ResumeOperationRequest
        return await self._asking.ask("operations.resume", kind, Resume(), body, call)
