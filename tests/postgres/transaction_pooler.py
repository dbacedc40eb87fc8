"""Shares a few connections to PostgreSQL among many clients, as pgbouncer does by transactions.

Each transaction of a client runs on whichever connection is free, so nothing that belongs to a
session is there for the next one: no prepared statement, no LISTEN, no lock, no SET. A setting that
a client asks for as it connects is refused, but for the few that pgbouncer keeps itself. It does
without passwords, TLS and cancellation.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Coroutine

PATIENCE_SECONDS = 30
HOST = "127.0.0.1"

ENCRYPTION = (80877103, 80877104)
CANCELLATION = 80877102
KEPT_SETTINGS = {
    *("user", "database", "client_encoding", "application_name"),
    *("datestyle", "timezone", "standard_conforming_strings"),
}
"""Others are of one session."""


class Connection:
    """A connection on which messages are read and written, at either end."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def startup(self) -> bytes:
        """Reads a message without a type: a client's first ones."""
        length = await self._reader.readexactly(4)
        return await self._reader.readexactly(int.from_bytes(length, "big") - 4)

    async def message(self) -> tuple[bytes, bytes]:
        """Reads a message: its type, and what it holds."""
        kind = await self._reader.readexactly(1)
        return kind, await self.startup()

    def send(self, kind: bytes, body: bytes) -> None:
        """Writes a message; without a type, a client's first one."""
        self._writer.write(kind + (len(body) + 4).to_bytes(4, "big") + body)

    def send_bare(self, data: bytes) -> None:
        """Writes what is no message."""
        self._writer.write(data)

    async def sent(self) -> None:
        """Returns when there is room to write more."""
        await self._writer.drain()

    def break_off(self) -> None:
        self._writer.transport.abort()


class TransactionPooler:
    """A pooler at a port of its own.

    Args:
        target: The server's port.
        connections: How many it shares.
    """

    def __init__(self, target: int, connections: int = 3) -> None:
        self._target = target
        self._room = asyncio.Semaphore(connections)
        self._to_open = connections
        self._idle: collections.deque[Connection] = collections.deque()
        self._greeting: list[tuple[bytes, bytes]] = []
        self._clients: set[asyncio.Task[Any]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self.port = 0
        """Where clients connect to."""
        self._run(self._open())

    def close(self) -> None:
        """Breaks every connection and gives up the port."""
        self._run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE_SECONDS)
        self._loop.close()

    def _run(self, step: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(step, self._loop).result(PATIENCE_SECONDS)

    async def _open(self) -> None:
        self._server = await asyncio.start_server(self._accept, HOST, 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        self._server.close()
        for task in self._clients:
            task.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)
        for server in self._idle:
            server.break_off()
        await self._server.wait_closed()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        self._clients.add(task)
        client = Connection(reader, writer)
        with contextlib.suppress(OSError, EOFError, asyncio.CancelledError):
            await self._serve(client)
        client.break_off()
        self._clients.discard(task)

    async def _serve(self, client: Connection) -> None:
        while (code := _code(first := await client.startup())) in ENCRYPTION:
            client.send_bare(b"N")
        if code == CANCELLATION:
            return
        texts = first[4:].split(b"\0")
        asked = {text.decode().lower() for text in texts[:-2:2]} - KEPT_SETTINGS
        if asked:
            text = f"unsupported startup parameter: {sorted(asked)[0]}"
            client.send(b"E", b"SFATAL\0C08P01\0M" + text.encode() + b"\0\0")
            await client.sent()
            return
        self.give_back(await self.take(first), is_usable=True)
        for kind, body in self._greeting:
            client.send(kind, body)
        await _Session(self, client, first).run()

    async def _connected(self, first: bytes) -> Connection:
        """Returns a new connection to the server, which has greeted."""
        server = Connection(*await asyncio.open_connection(HOST, self._target))
        server.send(b"", first)
        self._greeting = [await server.message()]
        while self._greeting[-1][0] not in (b"Z", b"E"):
            self._greeting.append(await server.message())
        return server

    async def take(self, first: bytes) -> Connection:
        """Returns a connection for one transaction, once there is one: that longest unused."""
        await self._room.acquire()
        if not self._to_open:
            return self._idle.popleft()
        self._to_open -= 1
        try:
            return await self._connected(first)
        except BaseException:
            self._to_open += 1
            self._room.release()
            raise

    def give_back(self, server: Connection, *, is_usable: bool) -> None:
        """Takes a connection back for the next transaction of any client."""
        if is_usable:
            self._idle.append(server)
        else:
            server.break_off()
            self._to_open += 1
        self._room.release()


class _Session:
    """A client's messages, transaction by transaction."""

    def __init__(self, pooler: TransactionPooler, client: Connection, first: bytes) -> None:
        self._pooler, self._client, self._first = pooler, client, first
        self._server: Connection | None = None
        self._unanswered = 0
        self._answers: asyncio.Task[None] | None = None

    async def run(self) -> None:
        try:
            while True:
                kind, body = await self._client.message()
                if kind == b"X":
                    return
                if self._server is None:
                    self._server = await self._pooler.take(self._first)
                    self._answers = asyncio.create_task(self._answer(self._server))
                self._unanswered += kind in (b"Q", b"S")
                self._server.send(kind, body)
                await self._server.sent()
        finally:
            if self._server is not None:  # in the middle of a transaction
                self._answers.cancel()
                await asyncio.wait([self._answers])
                self._pooler.give_back(self._server, is_usable=False)

    async def _answer(self, server: Connection) -> None:
        """Passes on what the server says, until no transaction is under way."""
        try:
            while True:
                kind, body = await server.message()
                if kind == b"A":  # of a LISTEN, no one knows whose
                    continue
                self._client.send(kind, body)
                if kind == b"Z":
                    self._unanswered -= 1
                    if body == b"I" and not self._unanswered:
                        break
            self._server = None
            self._pooler.give_back(server, is_usable=True)
            await self._client.sent()
        except (OSError, EOFError):
            self._client.break_off()


def _code(first: bytes) -> int:
    return int.from_bytes(first[:4], "big")
