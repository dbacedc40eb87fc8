"""A program of which a strict type checker has to refuse each line so marked; see test_types.py."""

from __future__ import annotations

from typing import Any

import grpc
import grpc.aio

import lro_grpc
from lro.example.v1 import fleet_service_lro
from lro.example.v1.fleet_service_pb2 import (
    CreateInstanceRequest,
    DeleteInstanceRequest,
    Instance,
    Snapshot,
    TakeSnapshotRequest,
    TakeSnapshotResponse,
)
from lro.v1.batch_create_instances_pb2 import BatchCreateInstancesMetadata
from lro.v1.operation_metadata_pb2 import OperationMetadata


def call(channel: grpc.Channel) -> None:
    client = fleet_service_lro.FleetServiceClient(channel)
    client.CreateInstance(DeleteInstanceRequest())  # wrong: another method's request
    client.CreateInstance(CreateInstanceRequest(), timeout="5")  # wrong: a timeout is a duration
    snapshot: Snapshot = client.CreateInstance(  # wrong: the response is an Instance
        CreateInstanceRequest()
    ).result()
    del snapshot


class Fleet(fleet_service_lro.FleetServiceServicer):
    def CreateInstance(  # wrong: the response is an Instance
        self,
        request: CreateInstanceRequest,
        op: lro_grpc.OperationContext[OperationMetadata],
    ) -> Snapshot:
        return Snapshot()

    def TakeSnapshot(
        self,
        request: TakeSnapshotRequest,
        op: lro_grpc.OperationContext[BatchCreateInstancesMetadata],  # wrong: other metadata
    ) -> TakeSnapshotResponse:
        return TakeSnapshotResponse()

    def prepare_TakeSnapshot(
        self,
        request: CreateInstanceRequest,  # wrong: another method's request
        context: grpc.ServicerContext,
    ) -> lro_grpc.Prepared:
        return lro_grpc.Prepared()

    async def prepare_CreateInstance(  # wrong: a coroutine in a servicer for threads
        self, request: CreateInstanceRequest, context: Any
    ) -> lro_grpc.Prepared:
        return lro_grpc.Prepared()


class AsyncFleet(fleet_service_lro.AsyncFleetServiceServicer):
    async def CreateInstance(
        self,
        request: CreateInstanceRequest,
        op: lro_grpc.OperationContext[OperationMetadata],  # wrong: the context of a def
    ) -> Instance:
        return Instance()

    @lro_grpc.MethodOptions(pausable="yes")  # wrong: not a bool
    async def TakeSnapshot(
        self,
        request: TakeSnapshotRequest,
        op: lro_grpc.AsyncOperationContext[OperationMetadata],
    ) -> TakeSnapshotResponse:
        return TakeSnapshotResponse()


def serve(server: grpc.Server) -> None:
    fleet_service_lro.add_FleetServiceServicer_to_server(object(), server)  # wrong: no servicer
