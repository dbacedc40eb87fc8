"""Batch: several targets, all of them or none.

$ python batch.py
creates shop-1
creates shop-2
deletes shop-1
shop-1 is ROLLED_BACK
shop-2 is FAILED
projects/p/locations/l/operations/op-… failed: RESOURCE_EXHAUSTED: no room
"""

import asyncio

import grpc.aio

import lro_grpc
from lro.example.v1 import fleet_service_lro
from lro.example.v1 import fleet_service_pb2 as pb
from lro.v1.batch_create_instances_pb2 import BatchCreateInstanceStatus
from lro.v1.operation_metadata_pb2 import OperationMetadata

Op = lro_grpc.AsyncOperationContext[OperationMetadata]
State = BatchCreateInstanceStatus.State


class FleetService(fleet_service_lro.AsyncFleetServiceServicer):
    async def BatchCreateInstances(
        self, request: pb.BatchCreateInstancesRequest, op: Op
    ) -> pb.BatchCreateInstancesResponse:
        async def create(target: str) -> None:
            print("creates", target)
            if target == "shop-2":
                raise lro_grpc.LroError("no room", code=lro_grpc.Code.RESOURCE_EXHAUSTED)

        async def delete(target: str) -> None:
            print("deletes", target)

        targets = [one.instance_id for one in request.requests]
        await op.batch(targets, create=create, delete=delete)
        return pb.BatchCreateInstancesResponse()


async def main() -> None:
    server = grpc.aio.server()
    operations = lro_grpc.Operations("memory:")
    fleet_service_lro.add_FleetServiceServicer_to_server(FleetService(), operations.attach(server))
    port = server.add_insecure_port("127.0.0.1:0")
    await operations.start()
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        fleet = fleet_service_lro.AsyncFleetServiceClient(channel)
        request = pb.BatchCreateInstancesRequest(parent="projects/p/locations/l")
        request.requests.add(instance_id="shop-1")
        request.requests.add(instance_id="shop-2")
        future = await fleet.BatchCreateInstances(request)
        error = await future.exception()
        assert future.metadata is not None
        batch = future.metadata.batch_create_instances_metadata
        for target in batch.instance_targets:
            print(target, "is", State.Name(batch.instance_statuses[target].state))
        print(error)
    await operations.stop(lambda: server.stop(grace=1))


asyncio.run(main())
