"""A command's session with a server."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from lro_grpc._cli.connection import ConnectionOptions
from lro_grpc._cli.output import print_message
from lro_grpc._client.operations import OperationsClient
from lro_grpc._inspection.message_types import MessageTypes
from lro_grpc._inspection.reflection import Reflection


@dataclass(frozen=True, slots=True)
class CommandSession:
    """A connection in use."""

    connection: ConnectionOptions
    client: OperationsClient
    types: MessageTypes
    """The types of the messages that the server sends."""


@contextlib.contextmanager
def open_session(connection: ConnectionOptions) -> Iterator[CommandSession]:
    """Gives a session while the context lasts."""
    metadata = connection.call_metadata
    with connection.channel() as channel:
        yield CommandSession(
            connection,
            OperationsClient(channel, call_metadata=metadata, retry=None),
            MessageTypes(Reflection(channel, metadata), note=print_message),
        )
