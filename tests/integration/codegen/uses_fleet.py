"""A program that a strict type checker has to accept, without a cast; see test_types.py."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import grpc
import grpc.aio
from google.protobuf.empty_pb2 import Empty
from typing_extensions import assert_type

import lro_grpc
from lro.example.v1 import fleet_service_lro
from lro.example.v1.fleet_service_pb2 import (
    CreateInstanceRequest,
    DeleteInstanceRequest,
    GetInstanceRequest,
    Instance,
    ListInstancesRequest,
)
from lro.v1.operation_metadata_pb2 import OperationMetadata


def call(channel: grpc.Channel) -> str:
    client = fleet_service_lro.FleetServiceClient(channel, call_metadata=[("x-user", "ada")])
    assert_type(client.operations, lro_grpc.OperationsClient)
    future = client.CreateInstance(CreateInstanceRequest(parent="projects/p", instance_id="i"))
    assert_type(future, lro_grpc.OperationFuture[Instance, OperationMetadata])
    for update in future.updates():
        assert_type(update, lro_grpc.OperationUpdate[OperationMetadata])
        assert_type(update.metadata.target, str)
    instance = future.result()
    assert_type(instance, Instance)
    assert_type(client.DeleteInstance(DeleteInstanceRequest()).result(), Empty)
    assert_type(client.GetInstance(GetInstanceRequest(name=instance.name)), Instance)
    return instance.name


async def call_async(channel: grpc.aio.Channel) -> Sequence[Instance]:
    client = fleet_service_lro.AsyncFleetServiceClient(channel)
    assert_type(client.operations, lro_grpc.AsyncOperationsClient)
    future = await client.CreateInstance(CreateInstanceRequest(parent="projects/p"))
    assert_type(future, lro_grpc.AsyncOperationFuture[Instance, OperationMetadata])
    async for update in future.updates():
        assert_type(update, lro_grpc.OperationUpdate[OperationMetadata])
    assert_type(await future, Instance)
    assert_type(await client.GetInstance(GetInstanceRequest()), Instance)
    page = await client.ListInstances(ListInstancesRequest(parent="projects/p"))
    return page.instances


class Fleet(fleet_service_lro.FleetServiceServicer):
    @lro_grpc.MethodOptions(pausable=True)
    def CreateInstance(
        self,
        request: CreateInstanceRequest,
        op: lro_grpc.OperationContext[OperationMetadata],
    ) -> Instance:
        assert_type(op.metadata, OperationMetadata)
        op.metadata.status_detail = "begun"
        return Instance(name=op.target)

    def prepare_CreateInstance(
        self, request: CreateInstanceRequest, context: grpc.ServicerContext
    ) -> lro_grpc.Prepared:
        return lro_grpc.Prepared(target=f"{request.parent}/instances/{request.instance_id}")

    def DeleteInstance(
        self, request: DeleteInstanceRequest, op: lro_grpc.OperationContext
    ) -> Empty:
        """Does not care which metadata there is."""
        op.progress(50)
        return Empty()

    def GetInstance(self, request: GetInstanceRequest, context: grpc.ServicerContext) -> Instance:
        return Instance(name=request.name)


class AsyncFleet(fleet_service_lro.AsyncFleetServiceServicer):
    @lro_grpc.MethodOptions(pausable=True)
    async def CreateInstance(
        self,
        request: CreateInstanceRequest,
        op: lro_grpc.AsyncOperationContext[OperationMetadata],
    ) -> Instance:
        assert_type(op.metadata, OperationMetadata)
        await op.checkpoint(b"1")
        return Instance(name=op.target)

    async def prepare_CreateInstance(
        self, request: CreateInstanceRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> lro_grpc.Prepared | None:
        return None

    async def GetInstance(
        self,
        request: GetInstanceRequest,
        context: grpc.aio.ServicerContext[GetInstanceRequest, Instance],
    ) -> Instance:
        return Instance(name=request.name)


async def serve(operations: lro_grpc.Operations) -> None:
    server = grpc.aio.server()
    fleet_service_lro.add_FleetServiceServicer_to_server(AsyncFleet(), operations.attach(server))
    await operations.run(server)


def serve_on_threads(operations: lro_grpc.Operations, server: grpc.Server) -> None:
    fleet_service_lro.add_FleetServiceServicer_to_server(Fleet(), operations.attach(server))
    operations.run(server)
