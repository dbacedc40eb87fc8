"""Exclusive: one operation at a time works on a target; another start is refused meanwhile.

$ python exclusive.py
the first one is started
ABORTED (OPERATION_IN_PROGRESS): projects/…/operations/op-… works on 'projects/…/shop', …
the first one is done, and then another one
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
        self.may_end = asyncio.Event()

    @lro_grpc.MethodOptions(exclusive=True)
    async def CreateInstance(self, request: CreateInstanceRequest, op: Op) -> Instance:
        await self.may_end.wait()  # the work
        return Instance(name=op.target)

    async def prepare_CreateInstance(
        self, request: CreateInstanceRequest, context: lro_grpc.AsyncPrepareContext
    ) -> lro_grpc.Prepared:
        return lro_grpc.Prepared(target=f"{request.parent}/instances/{request.instance_id}")


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
        print("the first one is started")
        try:
            await fleet.CreateInstance(request)
        except lro_grpc.OperationInProgressError as error:
            print(error)
        service.may_end.set()
        await future
        await (await fleet.CreateInstance(request))
        print("the first one is done, and then another one")
    await operations.stop(lambda: server.stop(grace=1))


asyncio.run(main())
