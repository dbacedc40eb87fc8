"""The clients of a vendor's package over each of its transports, against a server of ours.

A test module lists them as ``SDKS``, by their names in the table; its tests run once for each.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
from google.auth.credentials import AnonymousCredentials

import lro_grpc
from lro_grpc import testing
from lro_grpc._http.gateway import gateway
from lro_grpc.http import listening_in_thread

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    Connect = Callable[[testing.Served, asyncio.AbstractEventLoop], AbstractContextManager[Any]]
    """Connects a client to a server; the loop is for an asyncio client."""

NOBODY = [("x-user", "nobody")]
"""The metadata of a caller that may do nothing."""


@contextlib.contextmanager
def serving(
    configure: Callable[[lro_grpc.Operations], None] | None = None, *servicer: Any
) -> Iterator[testing.Served]:
    """Serves while the context lasts; ``nobody`` may do nothing there.

    Args:
        configure: Is called with the operations before they start.
        *servicer: A servicer and its adder, if there is one.
    """

    def identify(context: Any) -> str:
        return dict(context.invocation_metadata()).get("x-user", "someone")

    def authorize(access: lro_grpc.Access) -> bool:
        return access.caller != "nobody"

    with testing.serve(
        *servicer, configure=configure, identify=identify, authorize=authorize
    ) as served:
        yield served


def over_grpc(client: Any, transport: Any) -> Connect:
    """Returns what connects a client by one of the package's gRPC transports."""

    @contextlib.contextmanager
    def connect(served: testing.Served, loop: asyncio.AbstractEventLoop) -> Iterator[Any]:
        del loop
        yield client(transport=transport(channel=served.channel))

    return connect


def over_asyncio(client: Any, transport: Any) -> Connect:
    """Returns what connects an asyncio client by one of the package's transports for those."""

    @contextlib.contextmanager
    def connect(served: testing.Served, loop: asyncio.AbstractEventLoop) -> Iterator[Any]:
        async def made() -> tuple[grpc.aio.Channel, Any]:
            channel = grpc.aio.insecure_channel(served.target)
            return channel, client(transport=transport(channel=channel))

        channel, connected = loop.run_until_complete(made())
        yield connected
        loop.run_until_complete(channel.close())

    return connect


def over_rest(client: Any, transport: Any, **how: Any) -> Connect:
    """Returns what connects a client by one of the package's REST transports, to a gateway.

    Args:
        client: The client's class.
        transport: The transport's class.
        **how: What the gateway is to be given.
    """

    @contextlib.contextmanager
    def connect(served: testing.Served, loop: asyncio.AbstractEventLoop) -> Iterator[Any]:
        del loop
        app = gateway(served.operations, **how)
        with listening_in_thread(app, "127.0.0.1:0") as port:
            yield client(
                transport=transport(
                    host=f"127.0.0.1:{port}",
                    url_scheme="http",
                    credentials=AnonymousCredentials(),
                )
            )

    return connect
