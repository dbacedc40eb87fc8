"""Fetches the files that define a server's message types from its reflection service.

A message type is made of the file that defines it and of every file that this one imports,
directly or not. A descriptor pool cannot await a file while it makes a type, so all of them are
fetched beforehand, and added after those that they import.

The server may be anyone's. protoc lets no files through that import each other in a circle, and a
pool would go round in it until the process dies: they are never added. Nor is a file added in which
a map is none, or one of protobuf's own types is another than it is here: JSON is made of these by
their names. All that a server sends has a bound, and so has the time for it: each file may import
one more.

``ReflectedFiles`` decides which call comes next, as a generator of steps, and
keeps what the answers hold. ``Reflection`` makes these calls on a sync channel,
``AsyncReflection`` on a channel of ``grpc.aio``.

There are two versions of the service, and a server may have either one. They differ in their names
only, not in a byte of their messages.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Generator, Iterable, Iterator
from typing import Any, NamedTuple, TypeVar

import grpc
import grpc.aio
from google.protobuf import (
    any_pb2,
    descriptor_pool,
    duration_pb2,
    field_mask_pb2,
    struct_pb2,
    timestamp_pb2,
    wrappers_pb2,
)
from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto
from google.protobuf.message import DecodeError
from grpc_reflection.v1alpha.reflection_pb2 import (
    ServerReflectionRequest,
    ServerReflectionResponse,
)

from lro_grpc._client.connection import CallMetadata

_SERVICES = ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection")
"""The newer one first."""

_TIMEOUT = 5.0
"""The longest that one call may take."""

_WITH_OWN_JSON = tuple(
    module.DESCRIPTOR
    for module in (any_pb2, duration_pb2, field_mask_pb2, struct_pb2, timestamp_pb2, wrappers_pb2)
)
"""The files of protobuf's types with a JSON of their own."""


class ReflectionCall(NamedTuple):
    """One call to a reflection service: a step of a plan."""

    service: str
    request: ServerReflectionRequest


Reply = ServerReflectionResponse | grpc.StatusCode | None
"""The first response to a call; the code that it failed with; None if it ended without either."""

ResultT = TypeVar("ResultT")
Steps = Generator[ReflectionCall, Reply, ResultT]
"""A plan that makes calls to a reflection service until it has its result."""


_MOST_CALLS = 1_000
_MOST_BYTES = 16 * 1024 * 1024
_MOST_SECONDS = 30.0
"""The bounds of what is fetched from one server."""


class ReflectedFiles:
    """The files that a server's reflection service has answered with.

    A server that has no such service, that fails to answer, or that has no end of files, is not
    asked again. Several plans may go on at a time: they share what they have fetched.
    """

    def __init__(self) -> None:
        self.pool = descriptor_pool.DescriptorPool()
        """The types of the files whose imports were found, too."""
        self.trouble = ""
        """The reason why the server cannot be asked; empty while it can be."""
        self._services = list(_SERVICES)
        self._files: dict[str, FileDescriptorProto] = {}
        self._added: set[str] = set()
        self._unavailable: set[str] = set()
        self._calls = self._bytes = 0
        for own in _WITH_OWN_JSON:
            self._files[own.name] = FileDescriptorProto.FromString(own.serialized_pb)
        self._add_to_pool()

    def fetch(self, symbol: str) -> Steps[None]:
        """Adds the file that defines a symbol, and all that it imports, if the server has them."""
        if self.trouble:
            return
        yield from self._fetch(ServerReflectionRequest(file_containing_symbol=symbol))
        yield from self._fetch_imports()
        self._add_to_pool()

    def _fetch_imports(self) -> Steps[None]:
        while missing := self._missing_imports():
            for name in missing:
                if self.trouble:
                    return
                yield from self._fetch(ServerReflectionRequest(file_by_filename=name))
                if name not in self._files:
                    self._unavailable.add(name)

    def _missing_imports(self) -> list[str]:
        """Returns the imports to fetch, in the order in which they are found."""
        files = list(self._files.values())  # at once: another thread may add to them
        imported = dict.fromkeys(name for file in files for name in file.dependency)
        return [
            name for name in imported if name not in self._files and name not in self._unavailable
        ]

    def _fetch(self, request: ServerReflectionRequest) -> Steps[None]:
        """Keeps the files of the server's answer, which may be none."""
        response = yield from self._answer(request)
        for data in response.file_descriptor_response.file_descriptor_proto:
            self._bytes += len(data)
            try:
                file = FileDescriptorProto.FromString(data)
            except DecodeError:
                continue  # its types stay unknown
            is_text = all(isinstance(one, str) for one in (file.name, *file.dependency))
            if is_text and _has_true_maps(file.message_type):
                self._files.setdefault(file.name, file)

    def _add_to_pool(self) -> None:
        """Adds each file whose imports were all added before it."""
        missing = {
            name: {one for one in file.dependency if one not in self._added}
            for name, file in list(self._files.items())
            if name not in self._added
        }
        importers: dict[str, list[str]] = {}
        for name, imports in missing.items():
            for one in imports:
                importers.setdefault(one, []).append(name)
        ready = [name for name, imports in missing.items() if not imports]
        while ready:
            name = ready.pop()
            try:
                self.pool.AddSerializedFile(self._files[name].SerializeToString())
            except TypeError:
                continue  # it is not in order, or says otherwise than a file before it
            self._added.add(name)
            for importer in importers.get(name, ()):
                missing[importer].remove(name)
                if not missing[importer]:
                    ready.append(importer)

    def _answer(self, request: ServerReflectionRequest) -> Steps[ServerReflectionResponse]:
        while not self.trouble:
            if self._calls >= _MOST_CALLS or self._bytes > _MOST_BYTES:
                self.trouble = "and its server has sent more files than it can be made of"
                break
            self._calls += 1
            service = self._services[0]
            reply = yield ReflectionCall(service, request)
            if not isinstance(reply, grpc.StatusCode):
                return reply or ServerReflectionResponse()  # an empty one names no file
            self._give_up(service, reply)
        return ServerReflectionResponse()

    def _give_up(self, service: str, code: grpc.StatusCode) -> None:
        """Turns to the older version of the service, or leaves it at that."""
        if service != self._services[0]:
            return  # another plan has turned to the older one in the meantime
        if code is not grpc.StatusCode.UNIMPLEMENTED:
            self.trouble = f"and the server's reflection service answers {code.name}"
        elif len(self._services) == 1:
            self.trouble = "and the server has no reflection service"
        else:
            del self._services[0]


def _has_true_maps(messages: Iterable[DescriptorProto]) -> bool:
    """Tells whether each map's entry has the fields that protoc gives it; a pool does not look."""
    return all(
        (not one.options.map_entry or [field.name for field in one.field] == ["key", "value"])
        and _has_true_maps(one.nested_type)
        for one in messages
    )


class _Patience:
    """The time that a server has for all calls together."""

    def __init__(self) -> None:
        self._left = _MOST_SECONDS

    @contextlib.contextmanager
    def call(self) -> Iterator[float]:
        """Gives the seconds that a call may take, and counts those that it takes."""
        begin = time.monotonic()
        try:
            yield min(_TIMEOUT, self._left)
        finally:
            self._left = max(0.0, self._left - (time.monotonic() - begin))


class Reflection:
    """A server's reflection service, called on a sync channel.

    Args:
        channel: The channel to the server.
        call_metadata: gRPC metadata that is sent with every call.
    """

    def __init__(self, channel: grpc.Channel, call_metadata: CallMetadata = ()) -> None:
        self._channel = channel
        self._call_metadata = call_metadata
        self._patience = _Patience()

    def perform(self, call: ReflectionCall) -> Reply:
        """Makes a call, and returns the reply to it."""
        with self._patience.call() as seconds:
            responses: Iterator[ServerReflectionResponse] = _method(self._channel, call.service)(
                call.request, timeout=seconds, metadata=self._call_metadata
            )
            try:
                return next(responses, None)
            except grpc.RpcError as error:
                return _code(error)


class AsyncReflection:
    """A server's reflection service, called on a ``grpc.aio`` channel.

    Args:
        channel: The channel to the server.
        call_metadata: gRPC metadata that is sent with every call.
    """

    def __init__(self, channel: grpc.aio.Channel, call_metadata: CallMetadata = ()) -> None:
        self._channel = channel
        self._call_metadata = call_metadata
        self._patience = _Patience()

    async def perform(self, call: ReflectionCall) -> Reply:
        """Makes a call, and returns the reply to it."""
        with self._patience.call() as seconds:
            responses = _method(self._channel, call.service)(
                call.request, timeout=seconds, metadata=self._call_metadata
            )
            try:
                response = await responses.read()
            except grpc.RpcError as error:
                return _code(error)
            finally:
                responses.cancel()  # one response is all that is wanted
        return None if response is grpc.aio.EOF else response


def _method(channel: Any, service: str) -> Any:
    # The method takes a stream. One request is the same on the wire if the call takes one only, and
    # goes out at once: grpc.aio calls it INTERNAL if a server ends a stream that is yet to be sent.
    return channel.unary_stream(
        f"/{service}/ServerReflectionInfo",
        request_serializer=ServerReflectionRequest.SerializeToString,
        response_deserializer=ServerReflectionResponse.FromString,
    )


def _code(error: Any) -> grpc.StatusCode:
    code: grpc.StatusCode = error.code()
    return code
