"""Checkpoint: the server is killed in the middle of the work, and the next one goes on there.

$ python checkpoint.py
attempt 1 loads table 1
attempt 1 loads table 2
attempt 1 loads table 3
the server is killed with signal 9
attempt 2 loads table 3
made projects/p/locations/l/instances/shop
"""

import asyncio
import subprocess
import sys
import tempfile

import grpc.aio

import lro_grpc
from lro.example.v1 import fleet_service_lro
from lro.example.v1.fleet_service_pb2 import CreateInstanceRequest, Instance
from lro.v1.operation_metadata_pb2 import OperationMetadata

Op = lro_grpc.AsyncOperationContext[OperationMetadata]


class FleetService(fleet_service_lro.AsyncFleetServiceServicer):
    async def CreateInstance(self, request: CreateInstanceRequest, op: Op) -> Instance:
        for table in range(int(op.checkpoint_state or b"0") + 1, 4):
            print(f"attempt {op.attempt} loads table {table}", flush=True)
            await asyncio.sleep(3600 if (op.attempt, table) == (1, 3) else 0)  # the work
            await op.checkpoint(b"%d" % table)  # bytes, or any message
            op.progress(30 * table)
        return Instance(name=f"{request.parent}/instances/{request.instance_id}")


async def serve(folder: str) -> None:
    server = grpc.aio.server()
    operations = lro_grpc.Operations(f"sqlite:///{folder}/fleet.db")
    fleet_service_lro.add_FleetServiceServicer_to_server(FleetService(), operations.attach(server))
    server.add_insecure_port(f"unix:{folder}/socket")
    await operations.run(server)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, folder]
        server = subprocess.Popen(command)
        with grpc.insecure_channel(f"unix:{folder}/socket") as channel:
            fleet = fleet_service_lro.FleetServiceClient(channel, wait_for_ready=True)
            request = CreateInstanceRequest(parent="projects/p/locations/l", instance_id="shop")
            future = fleet.CreateInstance(request)
            next(update for update in future.updates() if update.progress_percent == 60)
            server.kill()
            print("the server is killed with signal", -server.wait(), flush=True)
            with subprocess.Popen(command) as server:
                print("made", future.result().name)
                server.terminate()


if sys.argv[1:]:
    asyncio.run(serve(sys.argv[1]))
else:
    main()
