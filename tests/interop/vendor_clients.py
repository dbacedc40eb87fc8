"""The clients of a vendor's package over each of its transports, against a server of ours.

A test module lists them as ``SDKS``, by their names in the table; its tests run once for each.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio

import lro_grpc
from lro_grpc import testing

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    Connect = Callable[[testing.Served, asyncio.AbstractEventLoop], AbstractContextManager[Any]]
    """Connects a client to a server; the loop is for an asyncio client."""

NOBODY = [("x-user", "nobody")]
"""What a caller sends who may do nothing."""


@contextlib.contextmanager
def serving(configure: Callable[[lro_grpc.Operations], None]) -> Iterator[testing.Served]:
    """Serves while the context lasts; ``nobody`` may do nothing there."""

    def identify(context: Any) -> str:
        return dict(context.invocation_metadata()).get("x-user", "someone")

    def authorize(access: lro_grpc.Access) -> bool:
        return access.caller != "nobody"

    with testing.serve(configure=configure, identify=identify, authorize=authorize) as served:
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
