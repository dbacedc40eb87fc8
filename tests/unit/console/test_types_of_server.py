"""The types of a server as pages look them up: within bounds, whatever it answers."""

from __future__ import annotations

import asyncio

from google.protobuf import any_pb2
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionResponse

from lro_grpc._client.connection import Connection
from lro_grpc._console.servers import Credentials
from lro_grpc._console.types_of_server import ServerTypes
from lro_grpc._inspection.reflection import ReflectionCall, Reply

SLOW = 4.9
"""The seconds that an answer takes: less than the longest that one may take."""


class Endless:
    """A server each of whose files imports one more, and takes its time over it."""

    def __init__(self) -> None:
        self.now = 0.0
        self.calls = 0

    def connection(self, credentials: Credentials) -> Connection:
        raise NotImplementedError

    async def reflect(self, call: ReflectionCall, credentials: Credentials) -> Reply:
        del call, credentials
        self.calls += 1
        self.now += SLOW
        file = FileDescriptorProto(name=f"{self.calls}", dependency=[f"{self.calls + 1}"])
        response = ServerReflectionResponse()
        response.file_descriptor_response.file_descriptor_proto.append(file.SerializeToString())
        return response


def test_a_server_without_an_end_of_files_is_left_after_half_a_minute_and_asked_again_later() -> (
    None
):
    server = Endless()
    types = ServerTypes(server, lambda: server.now)

    async def ask(kind: str) -> int:
        """Returns the number of calls that it takes to find that the type is not known."""
        before = server.calls
        types.asked_by(())
        packed = any_pb2.Any(type_url=f"type.googleapis.com/acme.{kind}", value=b"x")
        assert await asyncio.to_thread(types.unpack, packed) is None
        return server.calls - before

    async def asked() -> None:
        assert 0 < await ask("A") <= 8
        assert await ask("B") == 0
        server.now += 61
        assert 0 < await ask("A") <= 8

    asyncio.run(asked())
