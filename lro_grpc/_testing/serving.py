"""Serves a service for its own tests: real gRPC on 127.0.0.1, operations in memory."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent import futures
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import grpc
import grpc.aio

from lro_grpc._client.async_operations import AsyncOperationsClient
from lro_grpc._client.operations import OperationsClient
from lro_grpc._server.operations import Operations
from lro_grpc._testing.clock import ManualClock

_GRACE = timedelta(seconds=1)
_THREADS = 16


@dataclass(frozen=True, slots=True)
class Served:
    """A running server, with all that a test needs to call it."""

    target: str
    """The server's address: ``127.0.0.1:PORT``."""
    channel: grpc.Channel
    """For the service's own stub."""
    client: OperationsClient
    """Makes futures of the operations that the stub starts."""
    clock: ManualClock
    """The time of the operations: leases, sweeps and time stamps. It moves by hand only."""
    operations: Operations


@dataclass(frozen=True, slots=True)
class AsyncServed:
    """A running ``grpc.aio`` server, with all that a test needs to call it."""

    target: str
    """The server's address: ``127.0.0.1:PORT``."""
    channel: grpc.aio.Channel
    """For the service's own stub."""
    client: AsyncOperationsClient
    """Makes futures of the operations that the stub starts."""
    clock: ManualClock
    """The time of the operations: leases, sweeps and time stamps. It moves by hand only."""
    operations: Operations


@contextlib.contextmanager
def serve(
    servicer: Any = None,
    add: Callable[[Any, Any], None] | None = None,
    *,
    configure: Callable[[Operations], None] | None = None,
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
        **options: Further arguments of :class:`lro_grpc.Operations`, such as ``authorize``.

    Yields:
        The server, with a channel and a client for it.
    """
    clock = ManualClock()
    operations = Operations(**{"store": "memory:", "clock": clock, "grace": _GRACE, **options})
    server = grpc.server(futures.ThreadPoolExecutor(_THREADS))
    target = _prepare(server, operations, servicer, add, configure)
    operations.start_sync()
    server.start()
    try:
        with grpc.insecure_channel(target) as channel:
            yield Served(target, channel, OperationsClient(channel), clock, operations)
    finally:
        operations.stop_sync(lambda: server.stop(_GRACE.total_seconds()).wait())


@contextlib.asynccontextmanager
async def serve_async(
    servicer: Any = None,
    add: Callable[[Any, Any], None] | None = None,
    *,
    configure: Callable[[Operations], None] | None = None,
    **options: Any,
) -> AsyncIterator[AsyncServed]:
    """Serves a servicer on a ``grpc.aio`` server while the context lasts; see :func:`serve`.

    Args:
        servicer: A servicer with decorated methods.
        add: Its generated ``add_…Servicer_to_server``.
        configure: Is called with the operations before they start: for ``add_method`` and
            ``add_jobs``.
        **options: Further arguments of :class:`lro_grpc.Operations`, such as ``authorize``.

    Yields:
        The server, with a channel and a client for it.
    """
    clock = ManualClock()
    operations = Operations(**{"store": "memory:", "clock": clock, "grace": _GRACE, **options})
    server = grpc.aio.server()
    target = _prepare(server, operations, servicer, add, configure)
    await operations.start()
    await server.start()
    try:
        async with grpc.aio.insecure_channel(target) as channel:
            yield AsyncServed(target, channel, AsyncOperationsClient(channel), clock, operations)
    finally:
        await operations.stop(lambda: server.stop(_GRACE.total_seconds()))


def _prepare(
    server: Any,
    operations: Operations,
    servicer: Any,
    add: Callable[[Any, Any], None] | None,
    configure: Callable[[Operations], None] | None,
) -> str:
    """Adds the operations and the servicer to a server, and returns its address."""
    registrar = operations.attach(server)
    if configure is not None:
        configure(operations)
    if add is not None:
        add(servicer, registrar)
    return f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
