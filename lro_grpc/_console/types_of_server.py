"""The message types of a server, looked up from the worker threads that make pages."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import time
from collections.abc import Callable
from typing import Any

import grpc
from google.protobuf import any_pb2
from google.protobuf.message import Message

from lro_grpc._console.servers import Credentials, Server
from lro_grpc._inspection.message_types import MessageTypes
from lro_grpc._inspection.reflection import ReflectionCall, Reply

_MISSED_FOR = 60.0
"""The seconds after which a server is asked again for a type that it did not have."""

_LONGEST_WAIT = 15.0
"""The seconds after which a thread takes the event loop for ended: a call takes less."""

_MOST_SECONDS = 30.0
"""The seconds that a server's answers may take together until it is asked anew: each of its files
may import one more, and a thread waits for all of them."""

_asker: contextvars.ContextVar[Credentials] = contextvars.ContextVar("asker")


class ServerTypes:
    """Opens ``Any``, by calls to the server where this process does not know the type.

    What the server answers to one caller is kept for all of them. It is used in threads, which run
    in the context of the task that has called ``asked_by``; the calls are made on the event loop.

    Args:
        server: The server.
        clock: Gives the monotonic time, in seconds.
    """

    def __init__(self, server: Server, clock: Callable[[], float] = time.monotonic) -> None:
        self._server = server
        self._clock = clock
        self._missed_at = float("inf")
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waited = 0.0
        self._types = self._new_types()

    def asked_by(self, credentials: Credentials) -> None:
        """Says for whom the running task asks; called on the loop on which the server is."""
        self._loop = asyncio.get_running_loop()
        _asker.set(credentials)
        if self._clock() - self._missed_at > _MISSED_FOR:
            self._missed_at = float("inf")
            self._types = self._new_types()

    def unpack(self, packed: any_pb2.Any) -> Message | None:
        """Returns the message inside of an ``Any``; None if it cannot be read. Blocks."""
        return self._types.unpack(packed)

    def to_dict(self, message: Message) -> dict[str, Any]:
        """Returns a message as protobuf JSON, each ``Any`` in it with its fields. Blocks."""
        return self._types.to_dict(message)

    def perform(self, call: ReflectionCall) -> Reply:
        """Makes a call to the server's reflection service. Blocks."""
        assert self._loop is not None, "nobody has asked"
        if self._waited > _MOST_SECONDS:
            return grpc.StatusCode.DEADLINE_EXCEEDED
        began = self._clock()
        reflecting = self._server.reflect(call, _asker.get())
        asking = asyncio.run_coroutine_threadsafe(reflecting, self._loop)
        try:
            return asking.result(_LONGEST_WAIT)
        except concurrent.futures.TimeoutError:
            return grpc.StatusCode.DEADLINE_EXCEEDED
        finally:
            self._waited += self._clock() - began

    def _new_types(self) -> MessageTypes:
        self._waited = 0.0
        return MessageTypes(self, note=self._note_miss)

    def _note_miss(self, _: str) -> None:
        self._missed_at = min(self._missed_at, self._clock())
