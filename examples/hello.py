"""Hello: a method that takes its time, the server that runs it, and a caller who waits for it.

$ python hello.py
started projects/p/locations/l/operations/op-…
made projects/p/locations/l/instances/shop
"""

import asyncio

import grpc.aio

import lro_grpc
from lro.example.v1 import fleet_service_lro
from lro.example.v1.fleet_service_pb2 import CreateInstanceRequest, Instance
from lro.v1.operation_metadata_pb2 import OperationMetadata

Op = lro_grpc.AsyncOperationContext[OperationMetadata]


class FleetService(fleet_service_lro.AsyncFleetServiceServicer):
    async def CreateInstance(self, request: CreateInstanceRequest, op: Op) -> Instance:
        await asyncio.sleep(0.1)  # the work, be it of hours
        return Instance(name=f"{request.parent}/instances/{request.instance_id}")


async def main() -> None:
    server = grpc.aio.server()
    operations = lro_grpc.Operations("memory:")  # or a file: "sqlite:///fleet.db"
    fleet_service_lro.add_FleetServiceServicer_to_server(FleetService(), operations.attach(server))
    port = server.add_insecure_port("127.0.0.1:0")
    await operations.start()
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        fleet = fleet_service_lro.AsyncFleetServiceClient(channel)
        request = CreateInstanceRequest(parent="projects/p/locations/l", instance_id="shop")
        future = await fleet.CreateInstance(request)
        print("started", future.name)
        instance = await future
        print("made", instance.name)
    await operations.stop(lambda: server.stop(grace=1))


asyncio.run(main())
