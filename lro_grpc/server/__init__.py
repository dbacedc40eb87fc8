"""The server side: the mark, and the operations of a gRPC server."""

from __future__ import annotations

from lro_grpc.server.mark import Prepared, method
from lro_grpc.server.operations import Operations

__all__ = ["Operations", "Prepared", "method"]
