"""An HTTP server for an ASGI app: on the running event loop, or in a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
from collections.abc import AsyncIterator, Collection, Iterator
from datetime import timedelta

import uvicorn
from starlette.types import ASGIApp

from lro_grpc._errors import ConfigurationError
from lro_grpc._runtime.loop_thread import LoopThread


class _Server(uvicorn.Server):
    """A server that leaves the process' signals to the program that runs the operations."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.asynccontextmanager
async def listening(
    app: ASGIApp,
    address: str,
    *,
    grace: timedelta = timedelta(seconds=10),
    trusted_proxies: Collection[str] = (),
) -> AsyncIterator[int]:
    """Serves an app while the context lasts.

    Args:
        app: The app.
        address: ``HOST:PORT``; port 0 for any.
        grace: The time that requests have to end at the shutdown.
        trusted_proxies: Addresses and networks of the proxies in front, such as ``10.0.0.0/8``.
            Their ``X-Forwarded-For`` has the address of the client; nobody else's is believed.

    Yields:
        The port.

    Raises:
        ConfigurationError: If the address cannot be listened on, or a proxy's is none.
    """
    for proxy in trusted_proxies:
        try:
            ipaddress.ip_network(proxy)
        except ValueError as cause:
            raise ConfigurationError(
                f"the trusted proxy {proxy!r} is no address and no network: {cause}"
            ) from cause
    with _bound(address) as listener:
        config = uvicorn.Config(
            app,
            lifespan="off",
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=bool(trusted_proxies),
            forwarded_allow_ips=list(trusted_proxies),
            timeout_graceful_shutdown=int(grace.total_seconds()),
        )
        server = _Server(config)
        serving = asyncio.create_task(server.serve([listener]))
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            await serving


@contextlib.contextmanager
def listening_in_thread(
    app: ASGIApp,
    address: str,
    *,
    grace: timedelta = timedelta(seconds=10),
    trusted_proxies: Collection[str] = (),
) -> Iterator[int]:
    """Serves an app while the context lasts, for a program without an event loop.

    See :func:`listening`.
    """
    thread = LoopThread()
    try:
        server = listening(app, address, grace=grace, trusted_proxies=trusted_proxies)
        port = thread.run(server.__aenter__())
        try:
            yield port
        finally:
            thread.run(server.__aexit__(None, None, None))
    finally:
        thread.close()


def _bound(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    try:
        found = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)
        family, kind, protocol, _, where = found[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(where)
        listener.listen()
    except (OSError, ValueError) as cause:
        raise ConfigurationError(
            f"cannot listen on {address}: {cause}; is another server running there?"
        ) from cause
    return listener
