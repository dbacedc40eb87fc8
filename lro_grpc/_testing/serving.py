"""Serves a service for its own tests: real gRPC on 127.0.0.1, operations in memory."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent import futures
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, NoReturn

import grpc
import grpc.aio
from google.longrunning.operations_pb2_grpc import OperationsServicer

from lro_grpc._client.async_operations import AsyncOperationsClient
from lro_grpc._client.operations import OperationsClient
from lro_grpc._server.operations import Operations
from lro_grpc._stores.memory import MemoryStore
from lro_grpc._stores.open_url import is_postgres
from lro_grpc._stores.store import Store
from lro_grpc._testing.clock import ManualClock, RunningClock

_GRACE = timedelta(seconds=1)
_THREADS = 16
_ANY_PORT = "127.0.0.1:0"
_SOON = [(f"grpc.{which}_reconnect_backoff_ms", 50) for which in ("initial", "min", "max")]
"""So that a channel finds a server that was restarted at once."""


@dataclass(slots=True)
class Served:
    """A running server, with all that a test needs to call it."""

    target: str
    """The server's address: ``127.0.0.1:PORT``."""
    channel: grpc.Channel
    """For the service's own stub."""
    client: OperationsClient
    """Makes futures of the operations that the stub starts."""
    clock: ManualClock
    """The time of the operations: leases, sweeps and time stamps. It moves by hand only; beside a
    store that processes share it goes on by itself, too, as their time does."""
    operations: Operations
    """Those of the server that runs now."""
    _server: grpc.Server = field(repr=False)
    _begin: Callable[[str], tuple[grpc.Server, Operations, str]] = field(repr=False)

    def restart(self) -> None:
        """Ends the server as ``kill -9`` would, and begins it again on the same store.

        No handler gets to end well: its ``op.stop_reason`` is LEASE_LOST, an ``async def`` gets a
        CancelledError, and nothing that it does from then on is stored. Calls that wait are cut
        off. The next server has the same address, and runs again whatever was running. What the
        test's process has in memory stays, as it would not in a crash: the servicer too.

        If the next one cannot begin, such as because another program has taken the port, none runs,
        and a further restart tries again.
        """
        self.operations._crash_sync(lambda: self._server.stop(None).wait())
        self._server, self.operations, _ = self._begin(self.target)

    def lose_worker(self) -> None:
        """Lets every attempt lose its operation, as one does whose worker stood still for too long.

        Its handler is stopped, as in ``restart``, and the server begins the next attempt. It counts
        among the method's ``max_attempts``.
        """
        self.operations._lose_worker_sync()


@dataclass(slots=True)
class AsyncServed:
    """A running ``grpc.aio`` server, with all that a test needs to call it."""

    target: str
    """The server's address: ``127.0.0.1:PORT``."""
    channel: grpc.aio.Channel
    """For the service's own stub."""
    client: AsyncOperationsClient
    """Makes futures of the operations that the stub starts."""
    clock: ManualClock
    """The time of the operations: leases, sweeps and time stamps. It moves by hand only; beside a
    store that processes share it goes on by itself, too, as their time does."""
    operations: Operations
    """Those of the server that runs now."""
    _server: grpc.aio.Server = field(repr=False)
    _begin: Callable[[str], Awaitable[tuple[grpc.aio.Server, Operations, str]]] = field(repr=False)

    async def restart(self) -> None:
        """Ends the server as ``kill -9`` would, and begins another; see :meth:`Served.restart`."""
        await self.operations._crash(lambda: self._server.stop(None))
        self._server, self.operations, _ = await self._begin(self.target)

    async def lose_worker(self) -> None:
        """Lets every attempt lose its operation; see :meth:`Served.lose_worker`."""
        await self.operations._lose_worker()


@contextlib.contextmanager
def serve(
    servicer: Any = None,
    add: Callable[[Any, Any], None] | None = None,
    *,
    configure: Callable[[Operations], None] | None = None,
    messages: bool = False,
    fallback: OperationsServicer | None = None,
    **options: Any,
) -> Iterator[Served]:
    """Serves a servicer on a ``grpc.server`` while the context lasts.

    >>> from lro.example.v1 import fleet_service_pb2_grpc as fleet_grpc
    >>> from lro_grpc import testing
    >>> with testing.serve(
    ...     fleet_grpc.FleetServiceServicer(), fleet_grpc.add_FleetServiceServicer_to_server
    ... ) as served:
    ...     list(served.client.list("projects/p/locations/l"))
    []

    Args:
        servicer: A servicer with decorated methods.
        add: Its generated ``add_…Servicer_to_server``.
        configure: Is called with the operations before they start: for ``add_method`` and
            ``add_jobs``.
        messages: As for ``Operations.attach``.
        fallback: As for ``Operations.attach``; in a restart it stays the same.
        **options: Further arguments of :class:`lro_grpc.Operations`, such as ``authorize``.

    Yields:
        The server, with a channel and a client for it.
    """
    clock = _clock_beside(options.get("store"))
    how = _options(clock, options)

    def begin(address: str) -> tuple[grpc.Server, Operations, str]:
        operations, server = Operations(**how), grpc.server(futures.ThreadPoolExecutor(_THREADS))
        registrar = operations.attach(server, messages=messages, fallback=fallback)
        _register(registrar, operations, servicer, add, configure)
        operations.start_sync()
        try:
            target = _listen(server, address)
            server.start()
        except BaseException:
            operations._crash_sync(lambda: server.stop(None).wait())
            raise
        return server, operations, target

    server, operations, target = begin(_ANY_PORT)
    with grpc.insecure_channel(target, _SOON) as channel:
        client = OperationsClient(channel)
        served = Served(target, channel, client, clock, operations, server, begin)
        try:
            yield served
        finally:
            served._begin = _refuse_to_begin
            served.operations.stop_sync(lambda: served._server.stop(_GRACE.total_seconds()).wait())


@contextlib.asynccontextmanager
async def serve_async(
    servicer: Any = None,
    add: Callable[[Any, Any], None] | None = None,
    *,
    configure: Callable[[Operations], None] | None = None,
    messages: bool = False,
    fallback: OperationsServicer | None = None,
    **options: Any,
) -> AsyncIterator[AsyncServed]:
    """Serves a servicer on a ``grpc.aio`` server while the context lasts; see :func:`serve`.

    Args:
        servicer: A servicer with decorated methods.
        add: Its generated ``add_…Servicer_to_server``.
        configure: Is called with the operations before they start: for ``add_method`` and
            ``add_jobs``.
        messages: As for ``Operations.attach``.
        fallback: As for ``Operations.attach``; in a restart it stays the same.
        **options: Further arguments of :class:`lro_grpc.Operations`, such as ``authorize``.

    Yields:
        The server, with a channel and a client for it.
    """
    clock = _clock_beside(options.get("store"))
    how = _options(clock, options)

    async def begin(address: str) -> tuple[grpc.aio.Server, Operations, str]:
        operations, server = Operations(**how), grpc.aio.server()
        registrar = operations.attach(server, messages=messages, fallback=fallback)
        _register(registrar, operations, servicer, add, configure)
        await operations.start()
        try:
            target = _listen(server, address)
            await server.start()
        except BaseException:
            await operations._crash(lambda: server.stop(None))
            raise
        return server, operations, target

    server, operations, target = await begin(_ANY_PORT)
    async with grpc.aio.insecure_channel(target, _SOON) as channel:
        client = AsyncOperationsClient(channel)
        served = AsyncServed(target, channel, client, clock, operations, server, begin)
        try:
            yield served
        finally:
            served._begin = _refuse_to_begin
            await served.operations.stop(lambda: served._server.stop(_GRACE.total_seconds()))


def _clock_beside(store: Store | str | None) -> ManualClock:
    """Returns the clock for operations in a store; None is for one in memory.

    Other processes do not wait for a clock that a test moves: what they leave, or lose, has to be
    taken up in time.
    """
    is_shared = is_postgres(store) if isinstance(store, str) else store and not store.exclusive
    return RunningClock() if is_shared else ManualClock()


def _options(clock: ManualClock, given: dict[str, Any]) -> dict[str, Any]:
    """Returns the options of the operations; a store in memory outlives their restarts."""
    how = {"store": "memory:", "clock": clock, "grace": _GRACE, **given}
    if how["store"] == "memory:":
        how["store"] = MemoryStore(how["clock"].now)
    return how


def _register(
    registrar: Any,
    operations: Operations,
    servicer: Any,
    add: Callable[[Any, Any], None] | None,
    configure: Callable[[Operations], None] | None,
) -> None:
    if configure is not None:
        configure(operations)
    if add is not None:
        add(servicer, registrar)


def _refuse_to_begin(address: str) -> NoReturn:
    """Stands in for what begins a server once its context is over, for nobody would end it."""
    raise RuntimeError(f"the server at {address} is closed; restart it within its with block")


def _listen(server: Any, address: str) -> str:
    """Opens a port, and returns the address of it."""
    return f"127.0.0.1:{server.add_insecure_port(address)}"
