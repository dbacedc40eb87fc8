"""The names that generated ``*_lro.py`` modules import, besides ``lro_grpc`` itself.

Users commit such modules, so these names stay. They are not for use by hand.
"""

from __future__ import annotations

from lro_grpc._client.connection import CallMetadata
from lro_grpc._client.service_client import (
    AsyncRequests,
    AsyncServiceClient,
    CallIterator,
    ServiceClient,
)
from lro_grpc._server.rpc.servicer import AsyncServicer, Servicer, add_servicer
from lro_grpc._wire.method_kinds import (
    LongRunning,
    StreamStream,
    StreamUnary,
    UnaryStream,
    UnaryUnary,
)

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
