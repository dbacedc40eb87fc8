"""The server that a command is connected to: its channel, its clients, its types of messages."""

from __future__ import annotations

import contextlib
import queue
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import grpc

from lro_grpc._cli.connection import ConnectionOptions
from lro_grpc._cli.output import print_message
from lro_grpc._client.operations import OperationsClient
from lro_grpc._inspection.message_types import MessageTypes
from lro_grpc._inspection.reflection import Reflection
from lro_grpc._wire.headers import UNSERVED

_STATE_SECONDS = 5.0
"""The longest that the state of a channel, which gRPC knows without a call, is waited for."""


@dataclass(frozen=True, slots=True)
class ConnectedServer:
    """A server that a command is connected to."""

    connection: ConnectionOptions
    channel: grpc.Channel
    client: OperationsClient
    polling_client: OperationsClient
    """A client that asks by GetOperation alone."""
    types: MessageTypes
    """The types of the messages that the server sends."""
    headers: dict[str, str]
    """The initial metadata of the latest call that was answered."""

    @property
    def unserved(self) -> str:
        """The reason why the operation of the latest Get waits in vain; empty if it does not."""
        return self.headers.get(UNSERVED, "")

    def is_connected(self) -> bool:
        """Whether there is a connection to the server now."""
        states: queue.SimpleQueue[grpc.ChannelConnectivity] = queue.SimpleQueue()
        tell = states.put
        self.channel.subscribe(tell)  # it tells of the present state first
        try:
            return states.get(timeout=_STATE_SECONDS) is grpc.ChannelConnectivity.READY
        except queue.Empty:
            return False
        finally:
            self.channel.unsubscribe(tell)


@contextlib.contextmanager
def connected(connection: ConnectionOptions) -> Iterator[ConnectedServer]:
    """Gives the server, connected while the context lasts."""
    metadata = connection.call_metadata
    headers: dict[str, str] = {}
    with connection.channel() as channel:
        noting = grpc.intercept_channel(channel, _NotesHeaders(headers))
        yield ConnectedServer(
            connection,
            channel,
            OperationsClient(noting, call_metadata=metadata, retry=None),
            OperationsClient(noting, call_metadata=metadata, retry=None, wait="poll"),
            MessageTypes(Reflection(channel, metadata), note=print_message),
            headers,
        )


class _NotesHeaders(grpc.UnaryUnaryClientInterceptor):
    """Keeps the initial metadata of the latest call that was answered.

    Args:
        headers: Where to.
    """

    def __init__(self, headers: dict[str, str]) -> None:
        self._headers = headers

    def intercept_unary_unary(
        self, continuation: Callable[[Any, Any], Any], client_call_details: Any, request: Any
    ) -> Any:
        """See ``grpc.UnaryUnaryClientInterceptor``."""
        call = continuation(client_call_details, request)
        call.add_done_callback(self._note)
        return call

    def _note(self, call: Any) -> None:
        self._headers.clear()
        if call.code() is grpc.StatusCode.OK:
            found = call.initial_metadata() or ()
            self._headers.update((key, value) for key, value in found if isinstance(value, str))
