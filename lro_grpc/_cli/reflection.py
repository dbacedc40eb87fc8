"""What a server's reflection service tells of its message types."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
from google.protobuf.descriptor_database import DescriptorDatabase
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_reflection.v1alpha.reflection_pb2 import (
    ServerReflectionRequest,
    ServerReflectionResponse,
)

_SERVICES = ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection")
"""The newer one first. They differ in their names only, not in a byte of their messages."""

_TIMEOUT = 5.0


class Reflection(DescriptorDatabase):
    """The files of a server, fetched as a ``DescriptorPool`` asks for them.

    A server that does not answer is not asked again.

    Args:
        channel: The channel to the server.
        call_metadata: gRPC metadata that is sent with every call.
    """

    def __init__(
        self, channel: grpc.Channel, call_metadata: tuple[tuple[str, str | bytes], ...]
    ) -> None:
        super().__init__()
        self.trouble = ""
        """Why the server cannot be asked; empty while it can be."""
        self._channel = channel
        self._call_metadata = call_metadata
        self._services = list(_SERVICES)
        self._files: set[str] = set()

    def FindFileByName(self, name: str) -> FileDescriptorProto:  # noqa: N802 - the base's
        """Returns a file; KeyError if the server does not know it."""
        if name not in self._files:
            self._fetch(ServerReflectionRequest(file_by_filename=name))
        return super().FindFileByName(name)

    def FindFileContainingSymbol(self, symbol: str) -> FileDescriptorProto:  # noqa: N802
        """Returns the file that defines a symbol; KeyError if the server does not know it."""
        try:
            return super().FindFileContainingSymbol(symbol)
        except KeyError:
            self._fetch(ServerReflectionRequest(file_containing_symbol=symbol))
        return super().FindFileContainingSymbol(symbol)

    def _fetch(self, request: ServerReflectionRequest) -> None:
        """Adds the files of the server's answer, which may be none."""
        for data in self._ask(request).file_descriptor_response.file_descriptor_proto:
            file = FileDescriptorProto.FromString(data)
            if file.name not in self._files:
                self._files.add(file.name)
                self.Add(file)

    def _ask(self, request: ServerReflectionRequest) -> ServerReflectionResponse:
        while not self.trouble:
            try:
                return self._call(self._services[0], request)
            except grpc.RpcError as error:
                self._give_up(error)
        return ServerReflectionResponse()

    def _call(self, service: str, request: ServerReflectionRequest) -> ServerReflectionResponse:
        method = self._channel.stream_stream(
            f"/{service}/ServerReflectionInfo",
            request_serializer=ServerReflectionRequest.SerializeToString,
            response_deserializer=ServerReflectionResponse.FromString,
        )
        answers: Iterator[Any] = method(
            iter([request]), timeout=_TIMEOUT, metadata=self._call_metadata
        )
        return next(answers, ServerReflectionResponse())  # an empty one names no file

    def _give_up(self, error: Any) -> None:
        """Goes over to the older service, or leaves it at that."""
        if error.code() is not grpc.StatusCode.UNIMPLEMENTED:
            self.trouble = f"and the server's reflection service answers {error.code().name}"
        elif len(self._services) == 1:
            self.trouble = "and the server has no reflection service"
        else:
            del self._services[0]
