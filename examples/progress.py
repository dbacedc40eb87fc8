"""Progress: a handler says how far it is, and its caller is told while it goes on.

Of changes within a tenth of a second a caller is told the last one only, so yours may differ:

$ python progress.py
…
SUCCEEDED  100%  5 of 5 tables
made projects/p/locations/l/instances/shop
"""

import asyncio

import grpc.aio

import lro_grpc
from lro.example.v1 import fleet_service_lro
from lro.example.v1.fleet_service_pb2 import CreateInstanceRequest, Instance
from lro.v1.operation_metadata_pb2 import OperationMetadata

Op = lro_grpc.AsyncOperationContext[OperationMetadata]
TABLES = 5


class FleetService(fleet_service_lro.AsyncFleetServiceServicer):
    async def CreateInstance(self, request: CreateInstanceRequest, op: Op) -> Instance:
        for table in range(1, TABLES + 1):
            await asyncio.sleep(0.2)  # the work
            op.progress(100 * table / TABLES, f"{table} of {TABLES} tables")
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
        async for update in future.updates():
            state = update.state.name.removeprefix("JOB_STATE_")
            print(f"{state:9} {update.progress_percent:4}%  {update.status_detail}".rstrip())
        print("made", (await future).name)
    await operations.stop(lambda: server.stop(grace=1))


asyncio.run(main())
