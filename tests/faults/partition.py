"""A network between a client and a server that can be cut: a TCP proxy in a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import socket
import struct
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Coroutine

PATIENCE_SECONDS = 30
CHUNK_BYTES = 65536


class Cut(enum.Enum):
    """How a network fails."""

    STALL = "stall"
    """Nothing gets through, and all of it does once the network is back."""
    MUTE = "mute"
    """What is asked gets through, what is answered is lost."""
    RESET = "reset"
    """Every connection is broken, and none can be made."""


class Network:
    """Carries bytes between its own port and a server's, unless it is cut.

    Args:
        target: The server's port.
        latency: The seconds that bytes take from one end to the other.
    """

    def __init__(self, target: str, latency: float = 0.0) -> None:
        self._target = int(target)
        self._latency = latency
        self._cut: Cut | None = None
        self._last_words: bytes | None = None
        self._connections: dict[asyncio.Task[None], list[asyncio.StreamWriter]] = {}
        # Of asyncio: uvloop has no reader of a listening socket that one could remove.
        self._loop = asyncio.SelectorEventLoop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._whole = asyncio.Event()
        self.port = ""
        """Where clients connect to."""
        self._run(self._open())

    def cut(self, how: Cut) -> None:
        """Cuts it."""
        self._run(self._begin(how))

    def mute_after(self, text: bytes) -> None:
        """Cuts it once this text has got to the server: its answer is the first that is lost."""
        self._last_words = text

    def mend(self) -> None:
        """Ends a cut; connections over which bytes were lost are broken."""
        self._run(self._end())

    def close(self) -> None:
        """Breaks every connection and gives up the port; again does nothing."""
        if not self._loop.is_closed():
            self._run(self._close())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(PATIENCE_SECONDS)
            self._loop.close()

    def _run(self, step: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(step, self._loop).result(PATIENCE_SECONDS)

    async def _open(self) -> None:
        self._whole.set()
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = str(self._server.sockets[0].getsockname()[1])

    async def _begin(self, how: Cut) -> None:
        self._cut = how
        self._whole.clear()
        if how is Cut.RESET:
            await self._break_all()

    async def _end(self) -> None:
        if self._cut is Cut.MUTE:
            await self._break_all()
        self._cut = None
        self._whole.set()

    async def _close(self) -> None:
        self._cut = Cut.RESET
        # What the port has just accepted has a task, and is not among the connections yet; and it
        # would be left open if the server were closed before it becomes one of them.
        for accepting_socket in self._server.sockets:
            self._loop.remove_reader(accepting_socket)
        await self._break_all()
        while accepting := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(accepting)
        self._server.close()
        await self._server.wait_closed()

    async def _break_all(self) -> None:
        tasks = list(self._connections)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        ends = self._connections[task] = [client]
        with contextlib.suppress(OSError, asyncio.CancelledError):
            if self._cut is not Cut.RESET:
                answers, server = await asyncio.open_connection("127.0.0.1", self._target)
                ends.append(server)
                await _first_of(
                    self._carry(reader, server, lost_when=None),
                    self._carry(answers, client, lost_when=Cut.MUTE),
                )
        for end in ends:
            _break(end)
        del self._connections[task]

    async def _carry(
        self,
        source: asyncio.StreamReader,
        sink: asyncio.StreamWriter,
        *,
        lost_when: Cut | None,
    ) -> None:
        while data := await source.read(CHUNK_BYTES):
            await asyncio.sleep(self._latency)
            if self._cut is Cut.STALL:
                await self._whole.wait()
            if lost_when is None and self._last_words is not None and self._last_words in data:
                self._last_words = None
                self._cut = Cut.MUTE
                self._whole.clear()
            if self._cut is None or self._cut is not lost_when:
                sink.write(data)
                await sink.drain()


async def _first_of(*ways: Coroutine[Any, Any, None]) -> None:
    """Runs until one of them ends, and then ends the others."""
    tasks = [asyncio.create_task(way) for way in ways]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _break(end: asyncio.StreamWriter) -> None:
    """Ends a connection with a reset, as one that is lost does."""
    connection = end.get_extra_info("socket")
    if connection.fileno() >= 0:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    end.transport.abort()
