"""The service whose operations others' clients follow."""

from __future__ import annotations

import asyncio
from typing import Any

from google.rpc import error_details_pb2

import lro_grpc
from lro.example.v1 import fleet_service_pb2, fleet_service_pb2_grpc

PARENT = "projects/p/locations/l"
ADD = fleet_service_pb2_grpc.add_FleetServiceServicer_to_server
Instance = fleet_service_pb2.Instance

NO_ROOM = error_details_pb2.QuotaFailure(
    violations=[error_details_pb2.QuotaFailure.Violation(subject="zone a", description="full")]
)


class FleetService(fleet_service_pb2_grpc.FleetServiceServicer):
    """What becomes of an instance is in its id."""

    @lro_grpc.method
    async def CreateInstance(self, request: Any, op: Any) -> Any:
        op.progress(40, "building")
        if request.instance_id == "held":
            await asyncio.Event().wait()
        if request.instance_id == "no-room":
            raise lro_grpc.LroError(
                "zone a is full",
                code=lro_grpc.Code.RESOURCE_EXHAUSTED,
                reason="NO_ROOM",
                domain="fleet.example.com",
                metadata={"zone": "a"},
                details=[NO_ROOM],
            )
        return Instance(name=op.target, size_bytes=4096)

    @CreateInstance.prepare
    def prepare_create_instance(self, request: Any, context: Any) -> lro_grpc.Prepared:
        if request.instance_id == "refused":
            raise lro_grpc.LroError("not here", code=lro_grpc.Code.FAILED_PRECONDITION)
        return lro_grpc.Prepared(target=f"{request.parent}/instances/{request.instance_id}")


def create(instance_id: str) -> fleet_service_pb2.CreateInstanceRequest:
    return fleet_service_pb2.CreateInstanceRequest(parent=PARENT, instance_id=instance_id)
