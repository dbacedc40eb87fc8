"""Engines: what claims operations and runs their handlers."""

from __future__ import annotations

from lro_grpc._engine.context import AsyncOperationContext, OperationContext
from lro_grpc._engine.handler import RETRY_BACKOFF, Handler
from lro_grpc._engine.inprocess import EngineOptions, InProcessEngine

__all__ = [
    "RETRY_BACKOFF",
    "AsyncOperationContext",
    "EngineOptions",
    "Handler",
    "InProcessEngine",
    "OperationContext",
]
