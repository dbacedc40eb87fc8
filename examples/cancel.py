"""Cancel: a caller asks for the end, and the handler cleans up before it comes.

$ python cancel.py
the handler begins
the handler removes what it has made
projects/p/locations/l/operations/op-… was cancelled: the operation was cancelled
"""

import asyncio

import grpc.aio

import lro_grpc
from lro.example.v1 import fleet_service_lro
from lro.example.v1.fleet_service_pb2 import CreateInstanceRequest, Instance
from lro.v1.operation_metadata_pb2 import OperationMetadata

Op = lro_grpc.AsyncOperationContext[OperationMetadata]


class FleetService(fleet_service_lro.AsyncFleetServiceServicer):
    def __init__(self) -> None:
        self.begun = asyncio.Event()

    async def CreateInstance(self, request: CreateInstanceRequest, op: Op) -> Instance:
        print("the handler begins")
        self.begun.set()
        try:
            await asyncio.sleep(3600)  # the work
        except asyncio.CancelledError:
            if op.cancel_requested:  # and not a server that goes down: then it is run again
                print("the handler removes what it has made")
            raise
        return Instance(name=f"{request.parent}/instances/{request.instance_id}")


async def main() -> None:
    service, server = FleetService(), grpc.aio.server()
    operations = lro_grpc.Operations("memory:")
    fleet_service_lro.add_FleetServiceServicer_to_server(service, operations.attach(server))
    port = server.add_insecure_port("127.0.0.1:0")
    await operations.start()
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        fleet = fleet_service_lro.AsyncFleetServiceClient(channel)
        request = CreateInstanceRequest(parent="projects/p/locations/l", instance_id="shop")
        future = await fleet.CreateInstance(request)
        await service.begun.wait()
        await future.cancel()
        try:
            await future
        except lro_grpc.OperationCancelledError as error:
            print(error)
    await operations.stop(lambda: server.stop(grace=1))


asyncio.run(main())
