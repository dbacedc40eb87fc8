"""What generated code imports, besides ``lro_grpc`` itself. Not for anyone else."""

from __future__ import annotations

from lro_grpc.client.connection import CallMetadata
from lro_grpc.client.service import AsyncRequests, AsyncServiceClient, CallIterator, ServiceClient
from lro_grpc.rpc import LongRunning, StreamStream, StreamUnary, UnaryStream, UnaryUnary
from lro_grpc.server.servicer import AsyncServicer, Servicer, add_servicer

__all__ = [
    "AsyncRequests",
    "AsyncServiceClient",
    "AsyncServicer",
    "CallIterator",
    "CallMetadata",
    "LongRunning",
    "ServiceClient",
    "Servicer",
    "StreamStream",
    "StreamUnary",
    "UnaryStream",
    "UnaryUnary",
    "add_servicer",
]
