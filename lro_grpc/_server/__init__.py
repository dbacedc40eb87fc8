"""The server side: the mark, and the operations of a gRPC server."""

from __future__ import annotations

from lro_grpc._server.access import Access, KnownOperation
from lro_grpc._server.decorator import MethodOptions, Prepared, method
from lro_grpc._server.limits import Limits
from lro_grpc._server.operations import Operations

__all__ = [
    "Access",
    "KnownOperation",
    "Limits",
    "MethodOptions",
    "Operations",
    "Prepared",
    "method",
]
