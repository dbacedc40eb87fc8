"""Idempotent start: a request that is sent twice, under one id, starts one operation only.

$ python idempotent_start.py
the handler runs
sent again, it is the same operation: True
ALREADY_EXISTS (REQUEST_ID_REUSED): request_id '…' was used for another request of …
"""

import asyncio
import uuid

import grpc.aio

import lro_grpc
from lro.example.v1 import fleet_service_lro
from lro.example.v1.fleet_service_pb2 import CreateInstanceRequest, Instance
from lro.v1.operation_metadata_pb2 import OperationMetadata

Op = lro_grpc.AsyncOperationContext[OperationMetadata]


class FleetService(fleet_service_lro.AsyncFleetServiceServicer):
    async def CreateInstance(self, request: CreateInstanceRequest, op: Op) -> Instance:
        print("the handler runs")
        return Instance(name=f"{request.parent}/instances/{request.instance_id}")


async def main() -> None:
    server = grpc.aio.server()
    operations = lro_grpc.Operations("memory:")
    fleet_service_lro.add_FleetServiceServicer_to_server(FleetService(), operations.attach(server))
    port = server.add_insecure_port("127.0.0.1:0")
    await operations.start()
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        fleet = fleet_service_lro.AsyncFleetServiceClient(channel)
        request = CreateInstanceRequest(
            parent="projects/p/locations/l", instance_id="shop", request_id=str(uuid.uuid4())
        )
        first = await fleet.CreateInstance(request)
        await first
        again = await fleet.CreateInstance(request)  # as a caller whose connection was lost
        print("sent again, it is the same operation:", again.name == first.name)
        request.instance_id = "another-shop"
        try:
            await fleet.CreateInstance(request)
        except lro_grpc.RequestIdReusedError as error:
            print(error)
    await operations.stop(lambda: server.stop(grace=1))


asyncio.run(main())
