"""A fleet that is served, and the command for it."""

from __future__ import annotations

import threading
from typing import Any

from google.longrunning import operations_pb2
from grpc_reflection.v1alpha import reflection
from lro_process import Lro
from server_harness import PARENT, Server

import lro_grpc
from lro.example.v1 import fleet_service_pb2, fleet_service_pb2_grpc

Instance = fleet_service_pb2.Instance


class Fleet(fleet_service_pb2_grpc.FleetServiceServicer):
    """A fleet that does what the schema of an instance says: succeed, fail, hold, or pause."""

    def __init__(self) -> None:
        self.may_go_on = threading.Event()

    @lro_grpc.method(pausable=True, concurrency_per_key=1)
    def CreateInstance(self, request: Any, op: lro_grpc.OperationContext[Any]) -> Any:
        op.progress(40, "building")
        match request.instance.schema_sql:
            case "fail":
                raise lro_grpc.LroError(
                    "the disk\tis full", code=lro_grpc.Code.RESOURCE_EXHAUSTED, reason="DISK_FULL"
                )
            case "hold":
                while not self.may_go_on.wait(0.01):
                    op.checkpoint()
        return Instance(name=op.target, size_bytes=42)

    @CreateInstance.prepare
    def prepare_create_instance(self, request: Any, context: Any) -> lro_grpc.Prepared:
        del context
        return lro_grpc.Prepared(
            target=f"{request.parent}/instances/{request.instance_id}",
            concurrency_key="tenant 7" if request.instance_id == "keyed" else "",
        )

    @lro_grpc.method
    def BatchCreateInstances(self, request: Any, op: lro_grpc.OperationContext[Any]) -> Any:
        def create(name: str) -> None:
            op.progress(50, f"creating {name}")
            if name == "two":
                self.may_go_on.wait()
                raise lro_grpc.LroError("no room", code=lro_grpc.Code.RESOURCE_EXHAUSTED)

        op.batch(
            [one.instance_id for one in request.requests], create=create, delete=lambda _: None
        )
        return fleet_service_pb2.BatchCreateInstancesResponse()


class World:
    """A served fleet, and the command for it."""

    def __init__(self, fleet: Fleet, server: Server) -> None:
        self.fleet = fleet
        self.server = server
        self.lro = Lro(server.target)

    def create(self, schema: str = "", instance_id: str = "one") -> str:
        """Starts an operation, and returns its name."""
        return self.server.create(
            instance_id=instance_id, instance=Instance(schema_sql=schema)
        ).name

    def batch(self) -> str:
        """Starts a batch whose second instance fails when the fleet may go on."""
        requests = [
            fleet_service_pb2.CreateInstanceRequest(instance_id=one)
            for one in ("one", "two", "three")
        ]
        return self.server.fleet.BatchCreateInstances(
            fleet_service_pb2.BatchCreateInstancesRequest(parent=PARENT, requests=requests)
        ).name

    def done(self, name: str) -> operations_pb2.Operation:
        return self.server.done(name)


def add(fleet: Fleet, server: Any) -> None:
    fleet_service_pb2_grpc.add_FleetServiceServicer_to_server(fleet, server)
    reflection.enable_server_reflection(("lro.example.v1.FleetService",), server)
