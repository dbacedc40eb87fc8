"""Retry: an error that may pass has the handler run once more, after a pause.

$ python retry.py
attempt 1: no machine is free
attempt 2: no machine is free
attempt 3: a machine is free
made projects/p/locations/l/instances/shop
"""

import asyncio

import grpc.aio

import lro_grpc
from lro.example.v1 import fleet_service_lro
from lro.example.v1.fleet_service_pb2 import CreateInstanceRequest, Instance
from lro.v1.operation_metadata_pb2 import OperationMetadata

Op = lro_grpc.AsyncOperationContext[OperationMetadata]
QUICKLY = lro_grpc.Backoff(initial=0.1)


class FleetService(fleet_service_lro.AsyncFleetServiceServicer):
    @lro_grpc.MethodOptions(max_attempts=5, backoff=QUICKLY)
    async def CreateInstance(self, request: CreateInstanceRequest, op: Op) -> Instance:
        if op.attempt < 3:
            print(f"attempt {op.attempt}: no machine is free")
            raise lro_grpc.RetryableError("no machine is free")
        print(f"attempt {op.attempt}: a machine is free")
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
        request = CreateInstanceRequest(parent="projects/p/locations/l", instance_id="shop")
        future = await fleet.CreateInstance(request)
        print("made", (await future).name)
    await operations.stop(lambda: server.stop(grace=1))


asyncio.run(main())
