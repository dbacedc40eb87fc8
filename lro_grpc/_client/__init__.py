"""Clients of google.longrunning.Operations, sync and async, and the futures that they make."""

from __future__ import annotations

from lro_grpc._client.as_completed import as_completed, async_as_completed, async_wait, wait
from lro_grpc._client.async_future import AsyncOperationFuture
from lro_grpc._client.async_operations import AsyncOperationsClient
from lro_grpc._client.future import OperationFuture
from lro_grpc._client.operations import OperationsClient
from lro_grpc._client.update import OperationUpdate

__all__ = [
    "AsyncOperationFuture",
    "AsyncOperationsClient",
    "OperationFuture",
    "OperationUpdate",
    "OperationsClient",
    "as_completed",
    "async_as_completed",
    "async_wait",
    "wait",
]
