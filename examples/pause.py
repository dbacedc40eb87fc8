"""Pause: an operation lets go of its worker at a checkpoint, and goes on there when resumed.

$ python pause.py
attempt 1 begins with table 1
paused: …
attempt 2 begins with table …
made projects/p/locations/l/instances/shop
"""

import asyncio

import grpc.aio

import lro_grpc
from lro.example.v1 import fleet_service_lro
from lro.example.v1.fleet_service_pb2 import CreateInstanceRequest, Instance
from lro.v1.operation_metadata_pb2 import OperationMetadata

Op = lro_grpc.AsyncOperationContext[OperationMetadata]
TABLES = 10


class FleetService(fleet_service_lro.AsyncFleetServiceServicer):
    @lro_grpc.MethodOptions(pausable=True)
    async def CreateInstance(self, request: CreateInstanceRequest, op: Op) -> Instance:
        done = int(op.checkpoint_state or b"0")
        print(f"attempt {op.attempt} begins with table {done + 1}")
        for table in range(done + 1, TABLES + 1):
            await asyncio.sleep(0.1)  # the work
            op.progress(100 * table / TABLES, f"{table} of {TABLES} tables")
            await op.checkpoint(b"%d" % table)  # here it pauses
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
            if update.state.name == "JOB_STATE_PAUSED":
                print("paused:", update.status_detail)
                break
            if update.status_detail:
                await future.pause()
        await future.resume()
        print("made", (await future).name)
    await operations.stop(lambda: server.stop(grace=1))


asyncio.run(main())
