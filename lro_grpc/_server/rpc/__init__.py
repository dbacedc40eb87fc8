"""Methods of a gRPC server, be it ``grpc.aio`` or ``grpc.server``."""

from __future__ import annotations
