"""Durable long-running operations for gRPC services.

The server side: decorate methods with :func:`method`, and serve them with :class:`Operations`. The
client side: :class:`OperationsClient` and :class:`AsyncOperationsClient` turn an operation into a
future.

A name is loaded when it is first asked for, so that a client loads no server, and a process that
only starts others loads no gRPC.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lro_grpc._client.as_completed import as_completed, async_as_completed, async_wait, wait
    from lro_grpc._client.async_future import AsyncOperationFuture
    from lro_grpc._client.async_operations import AsyncOperationsClient
    from lro_grpc._client.future import OperationFuture
    from lro_grpc._client.operations import OperationsClient
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
        OperationDamagedError,
        OperationFailedError,
        OperationInProgressError,
        OperationNotFoundError,
        OperationTimeoutError,
        OperationTooLargeError,
        PermissionDeniedError,
        RequestIdReusedError,
        RetryableError,
        StaleAttemptError,
        StopReason,
        UnavailableError,
        UndeliverableError,
        UnexpectedError,
        UnservedError,
        WrongTypeError,
    )
    from lro_grpc._operation.completion_event import CompletionEvent
    from lro_grpc._operation.old_operation import OldOperation
    from lro_grpc._operation.telemetry import AttemptTelemetry, Telemetry
    from lro_grpc._runtime.backoff import Backoff, Retry
    from lro_grpc._runtime.clock import Clock
    from lro_grpc._server.access import Access, KnownOperation
    from lro_grpc._server.decorator import MethodOptions, Prepared, method
    from lro_grpc._server.limits import Limits
    from lro_grpc._server.operations import Operations
    from lro_grpc._server.rpc.hook_context import AsyncPrepareContext, PrepareContext
    from lro_grpc._server.server_options import SERVER_OPTIONS
    from lro_grpc._stores.importer import Imported

__all__ = [
    "SERVER_OPTIONS",
    "Access",
    "AsyncOperationContext",
    "AsyncOperationFuture",
    "AsyncOperationsClient",
    "AsyncPrepareContext",
    "AttemptStopped",
    "AttemptTelemetry",
    "Backoff",
    "Clock",
    "Code",
    "CompletionEvent",
    "ConfigurationError",
    "IllegalTransitionError",
    "Imported",
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
    "OldOperation",
    "OperationCancelledError",
    "OperationContext",
    "OperationDamagedError",
    "OperationFailedError",
    "OperationFuture",
    "OperationInProgressError",
    "OperationNotFoundError",
    "OperationTimeoutError",
    "OperationTooLargeError",
    "OperationUpdate",
    "Operations",
    "OperationsClient",
    "PermissionDeniedError",
    "PrepareContext",
    "Prepared",
    "RequestIdReusedError",
    "Retry",
    "RetryableError",
    "StaleAttemptError",
    "StopReason",
    "Telemetry",
    "UnavailableError",
    "UndeliverableError",
    "UnexpectedError",
    "UnservedError",
    "WrongTypeError",
    "as_completed",
    "async_as_completed",
    "async_wait",
    "method",
    "wait",
]

_HOMES = {
    "Access": "_server.access",
    "AsyncOperationContext": "_engine.context",
    "AsyncOperationFuture": "_client.async_future",
    "AsyncOperationsClient": "_client.async_operations",
    "AsyncPrepareContext": "_server.rpc.hook_context",
    "AttemptStopped": "_errors",
    "AttemptTelemetry": "_operation.telemetry",
    "Backoff": "_runtime.backoff",
    "Clock": "_runtime.clock",
    "Code": "_errors",
    "CompletionEvent": "_operation.completion_event",
    "ConfigurationError": "_errors",
    "IllegalTransitionError": "_errors",
    "Imported": "_stores.importer",
    "InvalidArgumentError": "_errors",
    "InvalidFilterError": "_errors",
    "InvalidNameError": "_errors",
    "InvalidPageTokenError": "_errors",
    "KnownOperation": "_server.access",
    "LimitReachedError": "_errors",
    "Limits": "_server.limits",
    "LroError": "_errors",
    "MalformedRequestError": "_errors",
    "MethodOptions": "_server.decorator",
    "OldOperation": "_operation.old_operation",
    "OperationCancelledError": "_errors",
    "OperationDamagedError": "_errors",
    "OperationContext": "_engine.context",
    "OperationFailedError": "_errors",
    "OperationFuture": "_client.future",
    "OperationInProgressError": "_errors",
    "OperationNotFoundError": "_errors",
    "OperationTimeoutError": "_errors",
    "OperationTooLargeError": "_errors",
    "OperationUpdate": "_client.update",
    "Operations": "_server.operations",
    "OperationsClient": "_client.operations",
    "PermissionDeniedError": "_errors",
    "PrepareContext": "_server.rpc.hook_context",
    "Prepared": "_server.decorator",
    "RequestIdReusedError": "_errors",
    "Retry": "_runtime.backoff",
    "RetryableError": "_errors",
    "SERVER_OPTIONS": "_server.server_options",
    "StaleAttemptError": "_errors",
    "StopReason": "_errors",
    "Telemetry": "_operation.telemetry",
    "UnavailableError": "_errors",
    "UndeliverableError": "_errors",
    "UnexpectedError": "_errors",
    "UnservedError": "_errors",
    "WrongTypeError": "_errors",
    "as_completed": "_client.as_completed",
    "async_as_completed": "_client.as_completed",
    "async_wait": "_client.as_completed",
    "method": "_server.decorator",
    "wait": "_client.as_completed",
}
"""The private module that defines each name."""

if not TYPE_CHECKING:  # a type checker would take every name for one of ours

    def __getattr__(name: str) -> Any:
        """Loads a name when it is first asked for."""
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return __all__
