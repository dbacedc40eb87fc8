"""Connections of an HTTP server, within limits: of their number, and of the time that they idle.

A connection costs its client nothing: it need send no whole request, nor read an answer. Here each
holds a file descriptor of the process, which gRPC and the store need as well. So:

* **Their number** is limited. A connection that comes above it takes the place of the one that has
  waited longest for a request. Some places are left for refusing: where nearly all connections have
  a request in progress, such as a Watch, the next request is answered with 503.
* **A head** has few lines, and a time to arrive in whole, after the connection is made or the last
  answer given. (A body's time is the gateway's matter, and a request in progress has the limits of
  its RPC.)
* **A client that does not read** what it has asked for is cut off: after a time, or soon where too
  much waits for all clients together.
* **A read** takes little at a time, so that no connection keeps the event loop from the others: the
  less, the more work the same number of bytes may be.

uvicorn knows limits of its own, but none of these; and asyncio, when no descriptor is free, logs
each of thousands of attempts to accept. It parses HTTP in either of two ways, each of which has a
module here that is the rest of a connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import uvicorn
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.flow_control import FlowControl

from lro_grpc._dialects import longrunning
from lro_grpc._http import responses
from lro_grpc._http.responses import dumped, json_response
from lro_grpc._runtime.repeated_lines import PROCESS

_log = logging.getLogger("lro_grpc")

# What any client can bring about is no warning: the log would grow with it.
PROTOCOL_LOG = logging.getLogger("uvicorn.error").getChild("lro_grpc")
PROTOCOL_LOG.setLevel(logging.ERROR)

_READ = 16 * 1024
"""The most bytes of one read."""

_COSTLY_READ = 1024
"""The most bytes of a read that may be of lines of a head, or of chunks of a body: each of them
costs as much as a kilobyte of a body that is in one piece."""

MOST_HEAD = 96 * 1024
"""The most bytes of a request but for its body: its URL, and its headers."""

_MOST_LINES = 256
"""The most lines of a head."""

_END_OF_HEAD = re.compile(rb"\n\r?\n")

_PROGRESS = 16 * 1024
"""The least bytes that a client reads in the time that it has."""

_MOST_UNREAD = 256 * 1024 * 1024
"""The most bytes of all answers that wait for their clients to read them."""


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """The limits of a server's connections."""

    number: int
    """The most connections."""
    head_seconds: float
    """The longest time until the head of a request has arrived."""
    write_seconds: float
    """The longest time in which a client may read next to nothing of its answer."""

    @property
    def in_progress(self) -> int:
        """The most connections with a request in progress."""
        return self.number - self.number // 10


class BoundedServer(uvicorn.Server):
    """A server that leaves the process' signals to the program that runs the operations.

    Args:
        config: What uvicorn is to do.
        limits: The limits of its connections.
        connection: Makes a connection, of the server.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        limits: ConnectionLimits,
        connection: Callable[[BoundedServer], Connection],
    ) -> None:
        super().__init__(config)
        self._connection = connection
        self.limits = limits
        """The limits of its connections."""
        self.idle: dict[Connection, float] = {}
        """Connections that wait for a request, and since when; the longest first."""
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def connections(self) -> set[Any]:
        """All connections."""
        return self.server_state.connections

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Captures none."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begins to accept connections from the sockets."""
        await self.lifespan.startup()
        self.servers = []
        accepting = (self._accept(listener) for listener in sockets or ())
        self._tasks = [asyncio.create_task(one) for one in (*accepting, self._watch())]
        self.started = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Ends the connections."""
        *accepting, watching = self._tasks
        for task in accepting:
            task.cancel()
        await asyncio.gather(*accepting, return_exceptions=True)
        await super().shutdown(sockets)
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                client, _ = await loop.sock_accept(listener)
            except ConnectionAbortedError:
                continue
            except OSError as error:  # mostly because no file descriptor is free
                text = f"no HTTP connection can be accepted at present: {error}"
                PROCESS.say(logging.ERROR, text)
                await asyncio.sleep(1)
                continue
            try:
                await loop.connect_accepted_socket(lambda: _Reader(self._connection(self)), client)
            except OSError:  # it is gone already
                client.close()

    async def _watch(self) -> None:
        """Ends the connections that have idled for too long."""
        interval = min(1.0, self.limits.head_seconds / 2, self.limits.write_seconds / 2)
        while True:
            await asyncio.sleep(interval)
            now = asyncio.get_running_loop().time()
            for connection in tuple(self.connections):
                connection.check(now)
            self._end_unread()

    def _end_unread(self) -> None:
        """Ends connections while too much waits for clients; first of those that do not read."""
        unread = {one: one.transport.get_write_buffer_size() for one in self.connections}
        too_much = sum(unread.values()) - _MOST_UNREAD
        if too_much <= 0:
            return
        for connection in sorted(unread, key=lambda one: (one.reads_since, -unread[one])):
            if unread[connection]:
                connection.transport.abort()
                too_much -= unread[connection]
            if too_much <= 0:
                return


class _Reader(asyncio.BufferedProtocol):
    """Stands for a connection before the event loop.

    uvloop asks no ``asyncio.Protocol`` for a buffer, and those of uvicorn are such: it would read
    as much at a time as it likes.

    Args:
        connection: The connection.
    """

    def __init__(self, connection: Connection) -> None:
        for method in _OF_A_CONNECTION:
            setattr(self, method, getattr(connection, method))


_OF_A_CONNECTION = (
    "buffer_updated",
    "connection_lost",
    "connection_made",
    "get_buffer",
    "pause_writing",
    "resume_writing",
)
"""The methods that an event loop calls; uvicorn leaves the end of what a client sends unheard."""


class Connection(asyncio.BaseProtocol):
    """One connection, but for its HTTP: that is the part of a subclass, with one of uvicorn's.

    Args:
        server: Its server.
    """

    # Of uvicorn's protocols, which both have.
    app: Any
    config: uvicorn.Config
    cycle: Any
    data_received: Any
    flow: FlowControl
    loop: asyncio.AbstractEventLoop
    send_400_response: Any
    transport: asyncio.Transport

    def __init__(self, server: BoundedServer) -> None:
        self._server = server
        self._buffer = bytearray()
        self._lines = 0
        self._last = b""
        """The last bytes that were read."""
        self._unread = 0
        self.reads_since = 0.0
        """When the client has last read something."""

    @property
    def is_in_head(self) -> bool:
        """Whether the next byte belongs to a head."""
        raise NotImplementedError

    @property
    def is_plain_body(self) -> bool:
        """Whether a body comes, and not in chunks."""
        raise NotImplementedError

    @property
    def is_idle(self) -> bool:
        """Whether no request is in progress."""
        return self.cycle is None or self.cycle.response_complete

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Takes a place, or that of another connection."""
        # That of uvloop is no subclass of any.
        super().connection_made(cast("asyncio.Transport", transport))
        if len(self._server.connections) > self._server.limits.number:
            longest: Connection = next(iter(self._server.idle), self)
            longest.transport.abort()
            self._server.idle.pop(longest, None)
        self._server.idle[self] = self.loop.time()

    def connection_lost(self, exc: Exception | None) -> None:
        """Gives its place back."""
        self._server.idle.pop(self, None)
        super().connection_lost(exc)

    def get_buffer(self, sizehint: int) -> bytearray:
        """Returns a buffer for the next read."""
        del sizehint
        self._buffer = bytearray(_READ if self.is_plain_body else _COSTLY_READ)
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Takes what was read."""
        data, self._buffer = bytes(self._buffer[:nbytes]), bytearray()
        idle, limits = self._server.idle, self._server.limits
        is_full = len(self._server.connections) - len(idle) >= limits.in_progress
        self.app = _refuse if is_full and self.is_idle else self.config.loaded_app
        lines = self._lines_of_head(data)
        if self.is_in_head:
            self._lines += lines
            if self._lines > _MOST_LINES:
                self.send_400_response("The head has too many lines.")
                return
        self.data_received(data)
        if not self.is_idle:
            idle.pop(self, None)
        if nbytes == _COSTLY_READ:
            self._rest()

    def _rest(self) -> None:
        """Lets others have their turn before the next read: uvloop makes up to 32 in one round."""
        self.transport.pause_reading()
        self.loop.call_soon(self._read_on)

    def _read_on(self) -> None:
        if not (self.flow.read_paused or self.transport.is_closing()):
            self.transport.resume_reading()

    def _lines_of_head(self, data: bytes) -> int:
        """Returns how many of the lines that were read may belong to a head.

        The empty line that ends a head may have begun with the read before.
        """
        before, read = len(self._last), self._last + data
        end = _END_OF_HEAD.search(read)
        self._last = read[-2:]
        return read.count(b"\n", before, end.end() if end else len(read))

    @contextlib.contextmanager
    def ending_response(self) -> Iterator[None]:
        """Waits for the next request, which what is done in the context may begin with."""
        self._lines = 0
        self._server.idle[self] = self.loop.time()
        yield
        if not self.is_idle:
            self._server.idle.pop(self, None)

    def resume_writing(self) -> None:
        """Notes that the client reads."""
        super().resume_writing()
        self._unread = 0

    def check(self, now: float) -> None:
        """Ends the connection if it has idled for too long.

        Args:
            now: The time of the event loop.
        """
        limits, idle = self._server.limits, self._server.idle
        unread = self.transport.get_write_buffer_size()
        if unread:
            if not self._unread or unread <= self._unread - _PROGRESS:
                self._unread, self.reads_since = unread, now
            self._unread = max(unread, self._unread)
            if now - self.reads_since > limits.write_seconds:
                self.transport.abort()
            return
        if self._unread:
            self._unread = 0
            if idle.pop(self, None) is not None:
                idle[self] = now  # the last of them again
        if now - idle.get(self, now) > limits.head_seconds:
            self.transport.abort()


async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:
    error = responses.busy("other requests have all its connections")
    status, headers, shown = responses.http_error(error, "connections")
    body = dumped(longrunning.error_body(shown))
    await json_response(body, status=status, headers=headers)(scope, receive, send)
