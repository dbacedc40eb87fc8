"""Durable long-running operations for gRPC services.

The server side: mark methods with :func:`method`, serve them with :class:`Operations`. The client
side: :class:`OperationsClient` and :class:`AsyncOperationsClient` turn an operation into a future.
"""

from __future__ import annotations

from lro_grpc._client.as_completed import as_completed, async_as_completed, async_wait, wait
from lro_grpc._client.async_future import AsyncOperationFuture
from lro_grpc._client.async_operations import AsyncOperationsClient
from lro_grpc._client.future import OperationFuture
from lro_grpc._client.operations import OperationsClient
from lro_grpc._client.plan import Backoff, Retry
from lro_grpc._client.update import OperationUpdate
from lro_grpc._engine.context import AsyncOperationContext, OperationContext
from lro_grpc._errors import (
    AttemptStopped,
    Code,
    ConfigurationError,
    IllegalTransitionError,
    InvalidArgumentError,
    InvalidFilterError,
    InvalidNameError,
    InvalidPageTokenError,
    LimitReachedError,
    LroError,
    MalformedRequestError,
    OperationCancelledError,
    OperationFailedError,
    OperationInProgressError,
    OperationNotFoundError,
    OperationTimeoutError,
    PermissionDeniedError,
    RequestIdReusedError,
    RetryableError,
    StaleAttemptError,
    StopReason,
    UnavailableError,
    UnexpectedError,
    WrongTypeError,
)
from lro_grpc._server.access import Access, KnownOperation
from lro_grpc._server.decorator import MethodOptions, Prepared, method
from lro_grpc._server.limits import Limits
from lro_grpc._server.operations import Operations

__all__ = [
    "Access",
    "AsyncOperationContext",
    "AsyncOperationFuture",
    "AsyncOperationsClient",
    "AttemptStopped",
    "Backoff",
    "Code",
    "ConfigurationError",
    "IllegalTransitionError",
    "InvalidArgumentError",
    "InvalidFilterError",
    "InvalidNameError",
    "InvalidPageTokenError",
    "KnownOperation",
    "LimitReachedError",
    "Limits",
    "LroError",
    "MalformedRequestError",
    "MethodOptions",
    "OperationCancelledError",
    "OperationContext",
    "OperationFailedError",
    "OperationFuture",
    "OperationInProgressError",
    "OperationNotFoundError",
    "OperationTimeoutError",
    "OperationUpdate",
    "Operations",
    "OperationsClient",
    "PermissionDeniedError",
    "Prepared",
    "RequestIdReusedError",
    "Retry",
    "RetryableError",
    "StaleAttemptError",
    "StopReason",
    "UnavailableError",
    "UnexpectedError",
    "WrongTypeError",
    "as_completed",
    "async_as_completed",
    "async_wait",
    "method",
    "wait",
]
