"""The bases of generated clients, whose long-running methods return futures."""

from __future__ import annotations

import random as random_module
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from typing import Any, TypeAlias, TypeVar

import grpc
import grpc.aio
from google.longrunning import operations_pb2
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from lro_grpc._client import grpc_quirks
from lro_grpc._client.async_future import AsyncOperationFuture
from lro_grpc._client.async_operations import AsyncOperationsClient
from lro_grpc._client.calls import random_uuid
from lro_grpc._client.connection import CallMetadata, checked_metadata
from lro_grpc._client.core import WaitMode
from lro_grpc._client.future import OperationFuture
from lro_grpc._client.operations import OperationsClient
from lro_grpc._client.plan import Call, Reply, Sleep, Step, call_steps
from lro_grpc._client.scheduler import SCHEDULER
from lro_grpc._durations import Duration, as_timeout
from lro_grpc._runtime.backoff import DEFAULT_RETRY, Retry, check_policy
from lro_grpc._runtime.clock import Clock, SystemClock
from lro_grpc._runtime.steps import async_drive, drive
from lro_grpc._wire import headers, request_params
from lro_grpc._wire.method_kinds import (
    LongRunning,
    MetadataT,
    RequestT,
    ResponseT,
    Rpc,
    StreamStream,
    StreamUnary,
    UnaryStream,
    UnaryUnary,
)

T_co = TypeVar("T_co", covariant=True)

AsyncRequests: TypeAlias = AsyncIterator[RequestT] | Iterator[RequestT] | None
"""The requests of a streaming call on a ``grpc.aio.Channel``; None to ``write`` them one by one."""

_CHANNEL_METHODS: dict[type[Rpc[Any, Any]], str] = {
    LongRunning: "unary_unary",
    UnaryUnary: "unary_unary",
    UnaryStream: "unary_stream",
    StreamUnary: "stream_unary",
    StreamStream: "stream_stream",
}


class CallIterator(grpc.Call, Iterator[T_co]):
    """The call of a method that answers with a stream, and the iterator of its responses."""


class _ServiceClient:
    """The part that the sync and the async client share: it makes a call of a request."""

    def __init__(
        self,
        channel: grpc.Channel | grpc.aio.Channel,
        call_metadata: CallMetadata,
        retry: Retry | None,
        new_request_id: Callable[[], str],
        wait_for_ready: bool | None,
        clock: Clock | None,
        random: Callable[[], float],
    ) -> None:
        self._channel = channel
        check_policy(retry)
        self._call_metadata = checked_metadata(call_metadata)
        self._retry = retry
        self._new_request_id = new_request_id
        self._wait_for_ready = wait_for_ready
        self._clock = clock or SystemClock()
        self._random = random
        self._multi_callables: dict[str, Any] = {}

    def _call(
        self,
        rpc: Rpc[Any, Any],
        request: Any,
        timeout: Duration | None,
        metadata: CallMetadata,
    ) -> Any:
        """Makes a call with one request, and returns gRPC's own object for it."""
        sent = self._call_metadata + checked_metadata(metadata, "metadata")
        routing = request_params.header_for(rpc.path, request)
        return self._send(rpc, request, timeout, (*sent, *routing))

    def _stream(
        self,
        rpc: Rpc[Any, Any],
        requests: Any,
        timeout: Duration | None,
        metadata: CallMetadata,
    ) -> Any:
        """Makes a call with many requests, for which there is no routing header."""
        sent = self._call_metadata + checked_metadata(metadata, "metadata")
        return self._send(rpc, requests, timeout, sent)

    def _send(
        self,
        rpc: Rpc[Any, Any],
        request: Any,
        timeout: Duration | None,
        metadata: CallMetadata,
    ) -> Any:
        call = self._multi_callables.get(rpc.path)
        if call is None:
            is_long_running = isinstance(rpc, LongRunning)
            response = operations_pb2.Operation if is_long_running else rpc.response
            make = getattr(self._channel, _CHANNEL_METHODS[type(rpc)])
            call = self._multi_callables[rpc.path] = make(
                rpc.path,
                request_serializer=rpc.request.SerializeToString,
                response_deserializer=response.FromString,
            )
        return call(
            request,
            timeout=grpc_quirks.deadline(timeout),
            metadata=metadata,
            wait_for_ready=self._wait_for_ready,
        )

    def _with_request_id(self, request: RequestT) -> RequestT:
        """Returns the request, or a copy with a ``request_id`` if that is unset (C7)."""
        if not _takes_request_id(request) or _has_request_id(request):
            return request
        copy: Any = type(request)()
        copy.CopyFrom(request)
        copy.request_id = self._new_request_id()
        with_id: RequestT = copy
        return with_id

    def _start_steps(
        self, rpc: LongRunning[Any, Any, Any], request: Message, timeout: Duration | None
    ) -> Generator[Step, Reply | None, operations_pb2.Operation]:
        """Plans a start; it is tried again only if a ``request_id`` makes that safe (C2)."""
        return call_steps(
            Call(rpc.path, request, as_timeout(timeout)),
            retry=self._retry if _has_request_id(request) else None,
            clock=self._clock.monotonic,
            random=self._random,
        )


class ServiceClient(_ServiceClient):
    """A client of one service, on a ``grpc.Channel``.

    Every method takes a request, and returns and raises the same as gRPC's own stub; but a
    long-running method returns an :class:`OperationFuture`, whose calls send the ``metadata`` of
    the start as well, and raises an :class:`LroError`. A string field ``request_id`` that is empty
    is filled with a UUID4, in a copy of the request, so that a start can be repeated and still
    start one operation.

    Args:
        channel: The service's channel; it stays the caller's to close.
        operations: Follows the operations; a client on the same channel unless given.
        call_metadata: gRPC metadata that is sent with every call, also of ``operations`` unless
            given.
        retry: When a start that has a ``request_id`` is made again; None for never (C2, C3). Also
            of ``operations`` unless given.
        wait: How a future waits, as for ``operations`` unless given.
        new_request_id: Makes a ``request_id``.
        wait_for_ready: Whether the service's methods wait, within their timeouts, for a server that
            does not listen yet, as gRPC's stubs do with that option.
        clock: The clock; for tests.
        random: Gives numbers uniform in [0, 1); for tests.

    Attributes:
        operations: The client that follows the operations.
    """

    def __init__(
        self,
        channel: grpc.Channel,
        *,
        operations: OperationsClient | None = None,
        call_metadata: CallMetadata = (),
        retry: Retry | None = DEFAULT_RETRY,
        wait: WaitMode = "auto",
        new_request_id: Callable[[], str] = random_uuid,
        wait_for_ready: bool | None = None,
        clock: Clock | None = None,
        random: Callable[[], float] = random_module.random,
    ) -> None:
        grpc_quirks.check_channel(channel, is_async=False)
        super().__init__(
            channel, call_metadata, retry, new_request_id, wait_for_ready, clock, random
        )
        self.operations = operations or OperationsClient(
            channel, call_metadata=self._call_metadata, retry=retry, wait=wait
        )

    def _start(
        self,
        rpc: LongRunning[RequestT, ResponseT, MetadataT],
        request: RequestT,
        timeout: Duration | None,
        metadata: CallMetadata,
    ) -> OperationFuture[ResponseT, MetadataT]:
        request = self._with_request_id(request)
        metadata = checked_metadata(metadata, "metadata")  # every call sends the same

        def perform(step: Step) -> Reply | None:
            if isinstance(step, Sleep):
                SCHEDULER.run(self._clock.sleep(step.seconds))
                return None
            assert isinstance(step, Call)
            try:
                return Reply(message=self._call(rpc, request, step.timeout, metadata))
            except Exception as error:  # noqa: BLE001 - it is in the reply
                return Reply(grpc_quirks.error_of_call(error))

        operation = drive(self._start_steps(rpc, request, timeout), perform)
        return self.operations.future(
            operation,
            response=rpc.response,
            metadata=rpc.metadata,
            call_metadata=_of_the_caller(metadata),
        )

    def _unary_unary(
        self,
        rpc: UnaryUnary[RequestT, ResponseT],
        request: RequestT,
        timeout: Duration | None,
        metadata: CallMetadata,
    ) -> ResponseT:
        response: ResponseT = self._call(rpc, self._with_request_id(request), timeout, metadata)
        return response

    def _unary_stream(
        self,
        rpc: UnaryStream[RequestT, ResponseT],
        request: RequestT,
        timeout: Duration | None,
        metadata: CallMetadata,
    ) -> CallIterator[ResponseT]:
        responses: CallIterator[ResponseT] = self._call(
            rpc, self._with_request_id(request), timeout, metadata
        )
        return responses

    def _stream_unary(
        self,
        rpc: StreamUnary[RequestT, ResponseT],
        requests: Iterator[RequestT],
        timeout: Duration | None,
        metadata: CallMetadata,
    ) -> ResponseT:
        response: ResponseT = self._stream(rpc, requests, timeout, metadata)
        return response

    def _stream_stream(
        self,
        rpc: StreamStream[RequestT, ResponseT],
        requests: Iterator[RequestT],
        timeout: Duration | None,
        metadata: CallMetadata,
    ) -> CallIterator[ResponseT]:
        responses: CallIterator[ResponseT] = self._stream(rpc, requests, timeout, metadata)
        return responses


class AsyncServiceClient(_ServiceClient):
    """A client of one service, on a ``grpc.aio.Channel``; see :class:`ServiceClient`.

    Args:
        channel: The service's channel; it stays the caller's to close.
        operations: Follows the operations; a client on the same channel unless given.
        call_metadata: gRPC metadata that is sent with every call, also of ``operations`` unless
            given.
        retry: When a start that has a ``request_id`` is made again; None for never (C2, C3). Also
            of ``operations`` unless given.
        wait: How a future waits, as for ``operations`` unless given.
        new_request_id: Makes a ``request_id``.
        wait_for_ready: Whether the service's methods wait, within their timeouts, for a server that
            does not listen yet, as gRPC's stubs do with that option.
        clock: The clock; for tests.
        random: Gives numbers uniform in [0, 1); for tests.

    Attributes:
        operations: The client that follows the operations.
    """

    def __init__(
        self,
        channel: grpc.aio.Channel,
        *,
        operations: AsyncOperationsClient | None = None,
        call_metadata: CallMetadata = (),
        retry: Retry | None = DEFAULT_RETRY,
        wait: WaitMode = "auto",
        new_request_id: Callable[[], str] = random_uuid,
        wait_for_ready: bool | None = None,
        clock: Clock | None = None,
        random: Callable[[], float] = random_module.random,
    ) -> None:
        grpc_quirks.check_channel(channel, is_async=True)
        super().__init__(
            channel, call_metadata, retry, new_request_id, wait_for_ready, clock, random
        )
        self.operations = operations or AsyncOperationsClient(
            channel, call_metadata=self._call_metadata, retry=retry, wait=wait
        )

    async def _start(
        self,
        rpc: LongRunning[RequestT, ResponseT, MetadataT],
        request: RequestT,
        timeout: Duration | None,
        metadata: CallMetadata,
    ) -> AsyncOperationFuture[ResponseT, MetadataT]:
        request = self._with_request_id(request)
        metadata = checked_metadata(metadata, "metadata")  # every call sends the same

        async def perform(step: Step) -> Reply | None:
            if isinstance(step, Sleep):
                await self._clock.sleep(step.seconds)
                return None
            assert isinstance(step, Call)
            try:
                call = self._call(rpc, request, step.timeout, metadata)
                return Reply(message=await grpc_quirks.await_call(call))
            except Exception as error:  # noqa: BLE001 - it is in the reply
                return Reply(grpc_quirks.error_of_call(error))

        operation = await async_drive(self._start_steps(rpc, request, timeout), perform)
        return self.operations.future(
            operation,
            response=rpc.response,
            metadata=rpc.metadata,
            call_metadata=_of_the_caller(metadata),
        )

    def _unary_unary(
        self,
        rpc: UnaryUnary[RequestT, ResponseT],
        request: RequestT,
        timeout: Duration | None,
        metadata: CallMetadata,
    ) -> grpc.aio.UnaryUnaryCall[RequestT, ResponseT]:
        call: grpc.aio.UnaryUnaryCall[RequestT, ResponseT] = self._call(
            rpc, self._with_request_id(request), timeout, metadata
        )
        return call

    def _unary_stream(
        self,
        rpc: UnaryStream[RequestT, ResponseT],
        request: RequestT,
        timeout: Duration | None,
        metadata: CallMetadata,
    ) -> grpc.aio.UnaryStreamCall[RequestT, ResponseT]:
        call: grpc.aio.UnaryStreamCall[RequestT, ResponseT] = self._call(
            rpc, self._with_request_id(request), timeout, metadata
        )
        return call

    def _stream_unary(
        self,
        rpc: StreamUnary[RequestT, ResponseT],
        requests: AsyncRequests[RequestT],
        timeout: Duration | None,
        metadata: CallMetadata,
    ) -> grpc.aio.StreamUnaryCall[RequestT, ResponseT]:
        call: grpc.aio.StreamUnaryCall[RequestT, ResponseT] = self._stream(
            rpc, requests, timeout, metadata
        )
        return call

    def _stream_stream(
        self,
        rpc: StreamStream[RequestT, ResponseT],
        requests: AsyncRequests[RequestT],
        timeout: Duration | None,
        metadata: CallMetadata,
    ) -> grpc.aio.StreamStreamCall[RequestT, ResponseT]:
        call: grpc.aio.StreamStreamCall[RequestT, ResponseT] = self._stream(
            rpc, requests, timeout, metadata
        )
        return call


def _of_the_caller(metadata: CallMetadata) -> CallMetadata:
    """Returns the metadata of a start as its future sends them: they no longer route the start."""
    return [(key, value) for key, value in metadata if key.lower() != headers.REQUEST_PARAMS]


def _takes_request_id(request: Message) -> bool:
    field = request.DESCRIPTOR.fields_by_name.get("request_id")
    return field is not None and field.type == FieldDescriptor.TYPE_STRING and not field.is_repeated


def _has_request_id(request: Any) -> bool:
    return _takes_request_id(request) and bool(request.request_id)
