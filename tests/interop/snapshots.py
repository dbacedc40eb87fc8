"""The service of Azure Face whose snapshots others' clients take."""

from __future__ import annotations

import threading
from typing import Any

from google.api import http_pb2
from google.protobuf import struct_pb2

import lro_grpc

TAKE = "/face.v1.SnapshotService/TakeSnapshot"
RULES = {TAKE: http_pb2.HttpRule(post="/face/v1.0/snapshots", body="*")}


class Snapshots:
    """What becomes of a snapshot is in the id of its object."""

    def __init__(self) -> None:
        self.may_end = threading.Event()

    def add_to(self, operations: lro_grpc.Operations) -> None:
        operations.add_method(
            TAKE,
            self.take,
            request=struct_pb2.Struct,
            response=struct_pb2.Struct,
            prepare=lambda request, context: lro_grpc.Prepared(
                target=f"snapshots/{request['objectId']}"
            ),
        )

    def take(self, request: Any, op: lro_grpc.OperationContext[Any]) -> Any:
        while not self.may_end.wait(0.01):
            op.raise_if_stopped()
        if request["objectId"] == "broken":
            raise lro_grpc.LroError("no such list", code=lro_grpc.Code.NOT_FOUND)
        return request
