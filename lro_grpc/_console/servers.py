"""The way to a server of operations: behind a channel, or in this process."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import functools
from collections.abc import AsyncGenerator, Callable
from typing import Protocol, TypeAlias

import grpc
import grpc.aio
from google.longrunning import operations_pb2
from google.protobuf import message_factory

from lro.v1 import operation_control_service_pb2
from lro.v1.operation_control_service_pb2 import WatchOperationResponse
from lro_grpc._client import experience, plan
from lro_grpc._client.connection import AsyncConnection, Connection, SharedStream
from lro_grpc._errors import Code, LroError, UnavailableError
from lro_grpc._http.request import Caller
from lro_grpc._inspection.reflection import AsyncReflection, ReflectionCall, Reply
from lro_grpc._server.operations import Operations

Credentials: TypeAlias = tuple[tuple[str, str | bytes], ...]
"""The metadata by which a server knows its caller."""

MakeChannel: TypeAlias = Callable[[], grpc.aio.Channel]

_MOST_BYTES = 64 * 1024 * 1024
"""The largest answer that is taken: a page of operations may be above gRPC's own 4 MiB."""

CHANNEL_OPTIONS = (("grpc.max_receive_message_length", _MOST_BYTES),)
"""The options of a channel that the console makes itself."""


class Server(Protocol):
    """A server of google.longrunning.Operations; used on one event loop."""

    def connection(self, credentials: Credentials) -> Connection:
        """Returns the connection of one caller."""
        ...

    async def reflect(self, call: ReflectionCall, credentials: Credentials) -> Reply:
        """Asks the server for its message types, for one caller."""
        ...


class ChannelServer:
    """A server behind a channel, which is made on the event loop that uses it first.

    A ``grpc.aio`` channel belongs to the loop on which it was made, and an app that is mounted in
    another one has no start-up at which that loop would run.

    Args:
        make: Makes the channel.
    """

    def __init__(self, make: MakeChannel) -> None:
        self._make = make

    @functools.cached_property
    def _channel(self) -> grpc.aio.Channel:
        return self._make()

    def connection(self, credentials: Credentials) -> Connection:
        """Returns the connection of one caller."""
        return AsyncConnection(self._channel, credentials)

    async def reflect(self, call: ReflectionCall, credentials: Credentials) -> Reply:
        """Asks the server's reflection service."""
        return await AsyncReflection(self._channel, credentials).perform(call)


class LocalServer:
    """The operations of this process, with their guard.

    Args:
        operations: The operations.
    """

    def __init__(self, operations: Operations) -> None:
        self._operations = operations
        self._unusable = experience.Unusable()

    def connection(self, credentials: Credentials) -> Connection:
        """Returns the connection of one caller."""
        return _LocalConnection(self._operations, credentials, self._unusable)

    async def reflect(self, call: ReflectionCall, credentials: Credentials) -> Reply:
        """Finds nothing: the types of these operations are those of this process."""
        del call, credentials
        return grpc.StatusCode.UNIMPLEMENTED


_METHODS = {
    method.name: (
        f"/{service.full_name}/{method.name}",
        message_factory.GetMessageClass(method.output_type),
    )
    for file in (operations_pb2.DESCRIPTOR, operation_control_service_pb2.DESCRIPTOR)
    for service in file.services_by_name.values()
    for method in service.methods
}
"""The full name and the response of each method of the two services, by its name."""


class _LocalConnection:
    """The connection of one caller to the operations of this process."""

    def __init__(
        self, operations: Operations, credentials: Credentials, unusable: experience.Unusable
    ) -> None:
        self.unusable = unusable
        self._operations = operations
        self._calls = operations.local()
        self._headers = [(key.encode(), _header(value)) for key, value in credentials]

    async def call(self, call: plan.Call) -> plan.Reply:
        """Makes a unary call; its error is in the reply."""
        path, response = _METHODS[call.method]
        try:
            self._check_running()
            answer = await asyncio.wait_for(
                self._calls.call(path, call.request.SerializeToString(), self._caller()),
                None if call.timeout is None else call.timeout.total_seconds(),
            )
        except asyncio.TimeoutError:
            late = LroError("no answer in time", code=Code.DEADLINE_EXCEEDED)
            return plan.Reply(late)
        except LroError as error:
            return plan.Reply(error)
        return plan.Reply(message=response.FromString(answer.body))

    async def watch(self, watch: plan.Watch) -> AsyncGenerator[operations_pb2.Operation, None]:
        """Yields the states that a WatchOperation sends."""
        path, _ = _METHODS[watch.method]
        self._check_running()
        body = watch.request.SerializeToString()
        async with contextlib.aclosing(self._calls.stream(path, body, self._caller())) as states:
            async for state in states:
                yield WatchOperationResponse.FromString(state).operation

    def open_shared(self) -> SharedStream:
        """Raises an LroError: an operation that somebody looks at is watched alone."""
        raise LroError("operations of this process are watched alone", code=Code.UNIMPLEMENTED)

    def _caller(self) -> Caller:
        return Caller({"headers": self._headers})

    def _check_running(self) -> None:
        if self._operations.loop is None:
            raise UnavailableError("the server is not ready, or goes down; try again later")


def _header(value: str | bytes) -> bytes:
    return base64.b64encode(value) if isinstance(value, bytes) else value.encode("latin-1")
