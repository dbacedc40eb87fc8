"""The futures of operations of Google's clients."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, TypeVar, cast

from google.api_core.extended_operation import ExtendedOperation
from google.api_core.operation import Operation
from google.api_core.operation_async import AsyncOperation

from lro_grpc._client.async_future import AsyncOperationFuture
from lro_grpc._client.connection import AsyncConnection, ThreadConnection
from lro_grpc._client.core import ClientCore, WaitMode
from lro_grpc._client.future import OperationFuture
from lro_grpc._client.future_state import FutureState
from lro_grpc._client.payloads import MetadataT, ResponseT
from lro_grpc._compat.connection import AsyncWrappedConnection, ThreadWrappedConnection
from lro_grpc._compat.wrapped import parts_of
from lro_grpc._runtime.backoff import DEFAULT_BACKOFF, DEFAULT_RETRY, Backoff, Retry
from lro_grpc._wire import proto_plus

if TYPE_CHECKING:
    import grpc
    import grpc.aio
    from google.longrunning import operations_pb2
    from google.protobuf.message import Message
    from typing_extensions import TypeVar as TypeVarWithDefault

    from lro_grpc._client.update import OperationUpdate

    # Of a type that the caller does not give, only the Google client knows.
    R = TypeVarWithDefault("R", bound=Message, default=Any)
    M = TypeVarWithDefault("M", bound=Message, default=Any)

T = TypeVar("T")


class _DeclaredTypes(FutureState[ResponseT, MetadataT]):
    """A future whose types may be proto-plus classes, which wrap a protobuf message."""

    def __init__(
        self,
        core: ClientCore,
        operation: operations_pb2.Operation,
        response: type[ResponseT] | None,
        metadata: type[MetadataT] | None,
    ) -> None:
        super().__init__(core, operation, _unwrapped(response), _unwrapped(metadata))
        self._declared_response = response
        self._declared_metadata = metadata

    @property
    def metadata(self) -> MetadataT | None:
        """The operation's metadata in the latest state that was seen, as of any future."""
        return _as_declared(self._declared_metadata, super().metadata)

    def _update(self, operation: operations_pb2.Operation) -> OperationUpdate[MetadataT]:
        update = super()._update(operation)
        metadata = _as_declared(self._declared_metadata, update.metadata)
        return dataclasses.replace(update, metadata=metadata)

    def _result(self) -> ResponseT:
        return _as_declared(self._declared_response, super()._result())


class GoogleOperationFuture(
    _DeclaredTypes[ResponseT, MetadataT], OperationFuture[ResponseT, MetadataT]
):
    """The future of an ``Operation``."""


class AsyncGoogleOperationFuture(
    _DeclaredTypes[ResponseT, MetadataT], AsyncOperationFuture[ResponseT, MetadataT]
):
    """The future of an ``AsyncOperation``."""


def future(
    operation: Operation,
    *,
    response: type[R] | None = None,
    metadata: type[M] | None = None,
    channel: grpc.Channel | None = None,
    backoff: Backoff = DEFAULT_BACKOFF,
    retry: Retry | None = DEFAULT_RETRY,
    wait: WaitMode = "auto",
) -> OperationFuture[R, M]:
    """Turns the operation that a Google client returned into a future.

    Makes no RPC. Get and Cancel go through the wrapped object: with the client's credentials and
    transport, gRPC or REST, but without its repetitions and its deadline of ten minutes, for the
    future has better ones. Pause, Resume and Delete are UNIMPLEMENTED.

    An error of a call is an LroError with the server's code, reason and details. It is also the
    exception that google-api-core has raised, such as ``NotFound``, but for its ``code``.

    Args:
        operation: The operation that the client returned.
        response: The type of the response, for type checkers: a proto-plus or a protobuf class. The
            one that the client declares unless given.
        metadata: The type of the metadata, in the same manner. If the client declares none either,
            the one that the type URL names.
        channel: The client's channel, such as ``client.transport.grpc_channel``. The future then
            makes all calls over it, and so can use every method of the server: WatchOperation,
            WaitOperation, Pause, Resume, Delete.
        backoff: The pauses between polls, and after UNAVAILABLE.
        retry: As for an ``OperationsClient``.
        wait: As for an ``OperationsClient``, where a channel is given.

    Returns:
        A future whose results, metadata and updates are of these types. An
        ``OperationFailedError`` has the metadata as a protobuf message.

    Raises:
        TypeError: If the operation is of another class than ``Operation``; an
            ``ExtendedOperation`` is none of google.longrunning.
        ConfigurationError: If this version of google-api-core keeps an operation's parts in
            another way.
        InvalidNameError: If the operation has no name and is not done.
    """
    _refuse_extended(operation)
    if not isinstance(operation, Operation):
        raise TypeError(
            f"{operation!r} is no google.api_core.operation.Operation; is it for async_future?"
        )
    wrapped = parts_of(operation)
    connection = (
        ThreadConnection(channel, wrapped.call_metadata)
        if channel
        else ThreadWrappedConnection(wrapped)
    )
    return GoogleOperationFuture(
        ClientCore(connection, backoff=backoff, retry=retry, wait=wait),
        operation.operation,
        response or wrapped.response,
        metadata or wrapped.metadata,
    )


def async_future(
    operation: AsyncOperation,
    *,
    response: type[R] | None = None,
    metadata: type[M] | None = None,
    channel: grpc.aio.Channel | None = None,
    backoff: Backoff = DEFAULT_BACKOFF,
    retry: Retry | None = DEFAULT_RETRY,
    wait: WaitMode = "auto",
) -> AsyncOperationFuture[R, M]:
    """Turns the operation that an async Google client returned into a future.

    Arguments, result and errors are those of ``future``.
    """
    _refuse_extended(operation)
    if not isinstance(operation, AsyncOperation):
        raise TypeError(
            f"{operation!r} is no google.api_core.operation_async.AsyncOperation;"
            " is it for future, or still to be awaited?"
        )
    wrapped = parts_of(operation)
    connection = (
        AsyncConnection(channel, wrapped.call_metadata)
        if channel
        else AsyncWrappedConnection(wrapped)
    )
    return AsyncGoogleOperationFuture(
        ClientCore(connection, backoff=backoff, retry=retry, wait=wait),
        operation.operation,
        response or wrapped.response,
        metadata or wrapped.metadata,
    )


def _refuse_extended(operation: object) -> None:
    if isinstance(operation, ExtendedOperation):
        raise TypeError(
            f"{type(operation).__name__} is an ExtendedOperation, as Compute Engine has it: no"
            " operation of google.longrunning, without metadata and with a service of its own;"
            " wait for it by its own result() or done()"
        )


def _unwrapped(declared: Any) -> Any:
    return None if declared is None else proto_plus.protobuf_class(declared)


def _as_declared(declared: Any, message: T) -> T:
    if message is None or declared is None:
        return message
    return cast("T", proto_plus.as_declared(cast("Message", message), declared))
