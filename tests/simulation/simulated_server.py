"""A server in a simulated process: the real operations behind RPCs that need no socket."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
from simulated_loop import Process

from lro_grpc import Limits, Operations
from lro_grpc._errors import UnavailableError

if TYPE_CHECKING:
    from simulated_loop import SimulatedLoop

    from lro_grpc._testing.faulty_store import FaultyStore

START = 1_900_000_000_000_000
"""The time of day at which every simulation begins, in microseconds since 1970 UTC."""


Write = Callable[[bytes], Awaitable[None]]
"""Takes a message of a stream, and returns when there is room for the next one."""


class RpcError(Exception):
    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        super().__init__(f"{code.name}: {details}")
        self.code = code


class SimulatedClock:
    """The clocks of a machine: time of day can be set, and no time passes by that."""

    def __init__(self, loop: SimulatedLoop) -> None:
        self._loop = loop
        self.offset = 0

    def now(self) -> int:
        return START + self.offset + int(self._loop.time() * 1_000_000)

    def monotonic(self) -> float:
        return self._loop.time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class _Rpcs(grpc.aio.Server):
    """Takes the place of a ``grpc.aio`` server, and opens no port."""

    def __init__(self) -> None:
        self._handlers: list[Any] = []

    def add_generic_rpc_handlers(self, generic_rpc_handlers: Any) -> None:
        self._handlers += generic_rpc_handlers

    def handler(self, method: str) -> Any:
        for handler in self._handlers:
            found = handler.service(SimpleNamespace(method=method))
            if found is not None:
                return found.unary_unary or found.unary_stream
        raise AssertionError(f"nobody serves {method}")

    def add_insecure_port(self, address: str) -> int:
        raise NotImplementedError

    def add_secure_port(self, address: str, server_credentials: Any) -> int:
        raise NotImplementedError

    async def start(self) -> None:
        raise NotImplementedError

    async def stop(self, grace: float | None) -> None:
        raise NotImplementedError

    async def wait_for_termination(self, timeout: float | None = None) -> bool:
        raise NotImplementedError


class _Context:
    """The part of a ServicerContext that the operations use."""

    def __init__(self, loop: SimulatedLoop, deadline: float, write: Write | None) -> None:
        self.write = write
        self._loop = loop
        self._end = loop.time() + deadline

    def time_remaining(self) -> float:
        return self._end - self._loop.time()

    async def abort(self, code: grpc.StatusCode, details: str, trailing_metadata: Any) -> None:
        del trailing_metadata
        raise RpcError(code, details)


class SimulatedServer:
    """One process that serves, until it is killed or drained.

    Args:
        loop: The loop.
        number: The process's number.
        open_store: Makes the process's store.
        add_methods: Adds the long-running methods.
        clock: The clocks of its machine.
        lease: In seconds.
        sweep: In seconds.
        retention: In seconds.
        queue: How many operations of a method may wait.
    """

    def __init__(
        self,
        loop: SimulatedLoop,
        number: int,
        open_store: Callable[[Process], FaultyStore],
        add_methods: Callable[[Operations], None],
        clock: SimulatedClock,
        *,
        lease: float,
        sweep: float,
        retention: float,
        queue: int,
    ) -> None:
        self.process = Process(number)
        self.serving = False
        self.store = open_store(self.process)
        self._loop = loop
        self._open: dict[asyncio.Future[bytes], asyncio.Task[None]] = {}
        self._operations = Operations(
            self.store,
            lease=timedelta(seconds=lease),
            sweep=timedelta(seconds=sweep),
            retention=timedelta(seconds=retention),
            grace=timedelta(seconds=2),
            limits=Limits(queue=queue),
            clock=clock,
            worker=f"process {number}",
        )
        self._rpcs = _Rpcs()
        self._operations.attach(self._rpcs)
        add_methods(self._operations)
        self.started = self._spawn(self._start())

    @property
    def alive(self) -> bool:
        return self.process.alive

    async def _start(self) -> None:
        try:
            await self._operations.start()
        except UnavailableError:
            self.die()  # as a process does that cannot start
        else:
            self.serving = True

    def drain(self) -> asyncio.Task[None]:
        """Winds up, as on SIGTERM, and ends; returns the task that does."""
        self.serving = False
        return self._spawn(self._drain())

    async def _drain(self) -> None:
        async def stop_server() -> None:
            if self._open:
                await asyncio.wait(self._open.values(), timeout=2)

        await self._operations.stop(stop_server)
        self.die()

    def die(self) -> None:
        """Ends at once: nothing of the process ever happens any more."""
        self.serving = False
        self.process.alive = False
        for answer in self._open:
            if not answer.done():
                answer.set_exception(RpcError(grpc.StatusCode.UNAVAILABLE, "connection lost"))

    async def call(
        self, method: str, body: bytes, deadline: float, write: Write | None = None
    ) -> bytes:
        """Does an RPC for a client of another process.

        Args:
            method: The full name of the RPC's method.
            body: The request.
            deadline: In seconds.
            write: What takes the answers, if the method streams; then nothing is returned.

        Raises:
            RpcError: With the code that the client sees.
        """
        if not self.serving:
            raise RpcError(grpc.StatusCode.UNAVAILABLE, "nobody listens")
        answer = self._loop.create_future()
        context = _Context(self._loop, deadline, write)
        self._open[answer] = task = self._spawn(self._serve(method, body, context, answer))
        await asyncio.wait({answer}, timeout=deadline)
        del self._open[answer]
        if not answer.done():
            answer.cancel()
            self._loop.call_soon(task.cancel, context=self.process.context)
            raise RpcError(grpc.StatusCode.DEADLINE_EXCEEDED, "no answer in time")
        return answer.result()

    async def _serve(
        self, method: str, body: bytes, context: _Context, answer: asyncio.Future[bytes]
    ) -> None:
        try:
            result = await self._rpcs.handler(method)(body, context)
        except RpcError as failed:
            if not answer.done():
                answer.set_exception(failed)
        else:
            if not answer.done():
                answer.set_result(result or b"")

    def _spawn(self, work: Any) -> asyncio.Task[None]:
        return self.process.context.run(self._loop.create_task, work)
