"""Engines: what claims operations and runs their handlers."""

from __future__ import annotations

from lro_grpc.engine.context import AsyncOperationContext, OperationContext
from lro_grpc.engine.handler import Handler
from lro_grpc.engine.inprocess import EngineOptions, InProcessEngine

__all__ = [
    "AsyncOperationContext",
    "EngineOptions",
    "Handler",
    "InProcessEngine",
    "OperationContext",
]
