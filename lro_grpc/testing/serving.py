"""A service's own server for its tests: real gRPC on 127.0.0.1, operations in memory."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent import futures
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import grpc
import grpc.aio

from lro_grpc.client import AsyncOperationsClient, OperationsClient
from lro_grpc.server import Operations
from lro_grpc.testing.clock import ManualClock

_GRACE = timedelta(seconds=1)
_THREADS = 16


@dataclass(frozen=True, slots=True)
class Served:
    """A running server, and what a test needs of it."""

    channel: grpc.Channel
    """For the service's own stub."""
    client: OperationsClient
    """Makes futures of the operations that the stub starts."""
    clock: ManualClock
    """The time of the operations: leases, sweeps and time stamps. It moves by hand only."""
    operations: Operations


@dataclass(frozen=True, slots=True)
class AsyncServed:
    """A running ``grpc.aio`` server, and what a test needs of it."""

    channel: grpc.aio.Channel
    """For the service's own stub."""
    client: AsyncOperationsClient
    """Makes futures of the operations that the stub starts."""
    clock: ManualClock
    """The time of the operations: leases, sweeps and time stamps. It moves by hand only."""
    operations: Operations


@contextlib.contextmanager
def serve(servicer: Any, add: Callable[[Any, Any], None], **options: Any) -> Iterator[Served]:
    """Serves a servicer on a ``grpc.server`` while the context lasts.

    >>> from lro.example.v1 import fleet_service_pb2_grpc as fleet_grpc
    >>> from lro_grpc import testing
    >>> with testing.serve(
    ...     fleet_grpc.FleetServiceServicer(), fleet_grpc.add_FleetServiceServicer_to_server
    ... ) as served:
    ...     list(served.client.list("projects/p/locations/l"))
    []

    Args:
        servicer: A servicer, its long-running methods marked.
        add: Its generated ``add_…Servicer_to_server``.
        **options: What :class:`lro_grpc.Operations` is to be given besides, such as ``authorize``.

    Yields:
        What a test needs to call it.
    """
    clock = ManualClock()
    operations = Operations(**{"store": "memory:", "clock": clock, "grace": _GRACE, **options})
    server = grpc.server(futures.ThreadPoolExecutor(_THREADS))
    add(servicer, operations.attach(server))
    port = server.add_insecure_port("127.0.0.1:0")
    operations.start_sync()
    server.start()
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield Served(channel, OperationsClient(channel), clock, operations)
    finally:
        operations.stop_sync(lambda: server.stop(_GRACE.total_seconds()).wait())


@contextlib.asynccontextmanager
async def serve_async(
    servicer: Any, add: Callable[[Any, Any], None], **options: Any
) -> AsyncIterator[AsyncServed]:
    """Serves a servicer on a ``grpc.aio`` server while the context lasts; see :func:`serve`.

    Args:
        servicer: A servicer, its long-running methods marked.
        add: Its generated ``add_…Servicer_to_server``.
        **options: What :class:`lro_grpc.Operations` is to be given besides, such as ``authorize``.

    Yields:
        What a test needs to call it.
    """
    clock = ManualClock()
    operations = Operations(**{"store": "memory:", "clock": clock, "grace": _GRACE, **options})
    server = grpc.aio.server()
    add(servicer, operations.attach(server))
    port = server.add_insecure_port("127.0.0.1:0")
    await operations.start()
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield AsyncServed(channel, AsyncOperationsClient(channel), clock, operations)
    finally:
        await operations.stop(lambda: server.stop(_GRACE.total_seconds()))
