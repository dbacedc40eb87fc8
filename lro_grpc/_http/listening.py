"""An HTTP server for an ASGI app: on the running event loop, or in a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import math
import sys
from collections.abc import AsyncIterator, Collection, Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Literal

import uvicorn
from starlette.types import ASGIApp

from lro_grpc._durations import Duration
from lro_grpc._errors import ConfigurationError
from lro_grpc._http.connections import MOST_HEAD, BoundedServer, ConnectionLimits
from lro_grpc._http.h11_connection import H11Connection
from lro_grpc._runtime.clock import as_duration
from lro_grpc._runtime.listener import listener_on
from lro_grpc._runtime.loop_thread import LoopThread
from lro_grpc._runtime.options import check_number

if TYPE_CHECKING:
    from lro_grpc._http.httptools_connection import HttptoolsConnection
if sys.platform != "win32":
    import resource

_BACKLOG = 2048
"""The most connections that wait to be accepted."""


@contextlib.asynccontextmanager
async def listening(
    app: ASGIApp,
    address: str,
    *,
    grace: Duration = timedelta(seconds=10),
    trusted_proxies: Collection[str] = (),
    max_connections: int | None = None,
    head_timeout: Duration = timedelta(seconds=10),
    write_timeout: Duration = timedelta(seconds=30),
    shares_port: bool = False,
    http_parser: Literal["auto", "h11", "httptools"] = "auto",
) -> AsyncIterator[int]:
    """Serves an app while the context lasts.

    Args:
        app: The app.
        address: ``HOST:PORT``; port 0 for any.
        grace: The time that requests have to end at the shutdown.
        trusted_proxies: Addresses and networks of the proxies in front, such as ``10.0.0.0/8``.
            Their ``X-Forwarded-For`` has the address of the client; nobody else's is believed.
        max_connections: The most connections. One above it takes the place of that which has waited
            longest for a request; while nearly all have a request in progress, the answer is 503.
            Half of the file descriptors that the process may have unless given, and 10,000 at most:
            gRPC and the store need some, too.
        head_timeout: The longest time until a request is there but for its body, on a connection
            that is new or has had its last answer.
        write_timeout: The longest time in which a client may read next to nothing of its answer.
        shares_port: Whether other processes may listen on the port, too, if they are of the same
            user and say so themselves (``SO_REUSEPORT``). Each has a share of the connections.
        http_parser: The package that parses HTTP: ``"h11"``; ``"httptools"``, of the extra
            ``speed``, with which a request takes less of a processor; or ``"auto"``, which is
            httptools where that is installed.

    Yields:
        The port.

    Raises:
        ConfigurationError: If the address cannot be listened on, a proxy's is none, a time or a
            number cannot be, or the parser is not installed.
    """
    grace = as_duration("grace", grace, least=timedelta(0))
    head_timeout = as_duration("head_timeout", head_timeout)
    write_timeout = as_duration("write_timeout", write_timeout)
    if max_connections is not None:
        check_number("max_connections", max_connections)
    limits = ConnectionLimits(
        _most_connections() if max_connections is None else max_connections,
        head_timeout.total_seconds(),
        write_timeout.total_seconds(),
    )
    connection = _connection_of(http_parser)
    for proxy in trusted_proxies:
        try:
            ipaddress.ip_network(proxy)
        except ValueError as cause:
            raise ConfigurationError(
                f"the trusted proxy {proxy!r} is no address and no network: {cause}"
            ) from cause
    with listener_on(address, shares_port=shares_port, backlog=_BACKLOG) as listener:
        config = uvicorn.Config(
            app,
            lifespan="off",
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=bool(trusted_proxies),
            forwarded_allow_ips=list(trusted_proxies),
            timeout_graceful_shutdown=math.ceil(grace.total_seconds()),
            h11_max_incomplete_event_size=MOST_HEAD,
        )
        server = BoundedServer(config, limits, connection)
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
    grace: Duration = timedelta(seconds=10),
    trusted_proxies: Collection[str] = (),
    max_connections: int | None = None,
    head_timeout: Duration = timedelta(seconds=10),
    write_timeout: Duration = timedelta(seconds=30),
    shares_port: bool = False,
    http_parser: Literal["auto", "h11", "httptools"] = "auto",
) -> Iterator[int]:
    """Serves an app while the context lasts, for a program without an event loop.

    See :func:`listening`.
    """
    thread = LoopThread()
    try:
        server = listening(
            app,
            address,
            grace=grace,
            trusted_proxies=trusted_proxies,
            max_connections=max_connections,
            head_timeout=head_timeout,
            write_timeout=write_timeout,
            shares_port=shares_port,
            http_parser=http_parser,
        )
        port = thread.run(server.__aenter__())
        try:
            yield port
        finally:
            thread.run(server.__aexit__(None, None, None))
    finally:
        thread.close()


def _most_connections() -> int:
    if sys.platform == "win32":
        return 1000
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 10_000 if descriptors == resource.RLIM_INFINITY else min(10_000, descriptors // 2)


def _connection_of(parser: str) -> type[H11Connection | HttptoolsConnection]:
    """Returns the kind of connection that has a parser."""
    if parser not in ("auto", "h11", "httptools"):
        raise ConfigurationError(f"http_parser is {parser!r}; give 'auto', 'h11' or 'httptools'")
    if parser != "h11":
        try:
            from lro_grpc._http.httptools_connection import HttptoolsConnection
        except ModuleNotFoundError as cause:
            if parser == "httptools":
                raise ConfigurationError(
                    "http_parser 'httptools' needs httptools: pip install 'lro-grpc[http,speed]'"
                ) from cause
        else:
            return HttptoolsConnection
    return H11Connection
