"""Durable long-running operations for gRPC services.

The server side: mark methods with :func:`method`, serve them with :class:`Operations`. The client
side: :class:`OperationsClient` and :class:`AsyncOperationsClient` turn an operation into a future.
"""

from __future__ import annotations

from lro_grpc.client import (
    AsyncOperationFuture,
    AsyncOperationsClient,
    OperationFuture,
    OperationsClient,
)
from lro_grpc.engine import AsyncOperationContext, OperationContext
from lro_grpc.errors import (
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
from lro_grpc.polling import Backoff
from lro_grpc.server import (
    Access,
    KnownOperation,
    Limits,
    MethodOptions,
    Operations,
    Prepared,
    method,
)

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
    "Operations",
    "OperationsClient",
    "PermissionDeniedError",
    "Prepared",
    "RequestIdReusedError",
    "RetryableError",
    "StaleAttemptError",
    "StopReason",
    "UnavailableError",
    "UnexpectedError",
    "WrongTypeError",
    "method",
]
