"""Authorize: the server knows who calls, and an operation is its starter's alone.

$ python authorize.py
the handler works for ada
made projects/p/locations/l/instances/shop
PERMISSION_DENIED: Permission 'operations.get' denied on resource 'projects/…' …
"""

import asyncio
from typing import Any

import grpc.aio

import lro_grpc
from lro.example.v1 import fleet_service_lro
from lro.example.v1.fleet_service_pb2 import CreateInstanceRequest, Instance
from lro.v1.operation_metadata_pb2 import OperationMetadata

Op = lro_grpc.AsyncOperationContext[OperationMetadata]


class FleetService(fleet_service_lro.AsyncFleetServiceServicer):
    async def CreateInstance(self, request: CreateInstanceRequest, op: Op) -> Instance:
        print("the handler works for", op.caller)
        return Instance(name=f"{request.parent}/instances/{request.instance_id}")


def identify(context: grpc.aio.ServicerContext[Any, Any]) -> str:
    return str(dict(context.invocation_metadata() or ()).get("x-user", ""))  # or by a token


def authorize(access: lro_grpc.Access) -> bool:
    if access.permission == "operations.start":
        return access.caller != ""
    return access.operation is not None and access.operation.caller == access.caller


async def main() -> None:
    server = grpc.aio.server()
    operations = lro_grpc.Operations("memory:", identify=identify, authorize=authorize)
    fleet_service_lro.add_FleetServiceServicer_to_server(FleetService(), operations.attach(server))
    port = server.add_insecure_port("127.0.0.1:0")
    await operations.start()
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        fleet = fleet_service_lro.AsyncFleetServiceClient(channel)
        request = CreateInstanceRequest(parent="projects/p/locations/l", instance_id="shop")
        future = await fleet.CreateInstance(request, metadata=[("x-user", "ada")])
        print("made", (await future).name)
        eve = lro_grpc.AsyncOperationsClient(channel, call_metadata=[("x-user", "eve")])
        try:
            await eve.get(future.name)
        except lro_grpc.PermissionDeniedError as error:
            print(error)
    await operations.stop(lambda: server.stop(grace=1))


asyncio.run(main())
