"""A way to a Temporal server by TLS, for those who have an API key: as clusters have it."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Forward(grpc.GenericRpcHandler):
    """Passes on the calls that have the key."""

    def __init__(self, channel: grpc.aio.Channel, key: str) -> None:
        self._channel = channel
        self._key = key

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        call: Any = self._channel.unary_unary(details.method)

        async def forward(request: bytes, context: Any) -> Any:
            if dict(context.invocation_metadata()).get("authorization") != f"Bearer {self._key}":
                await context.abort(grpc.StatusCode.UNAUTHENTICATED, "the key is another one")
            try:
                return await call(request, timeout=context.time_remaining())
            except grpc.aio.AioRpcError as error:
                trailing = tuple(error.trailing_metadata() or ())
                await context.abort(error.code(), error.details() or "", trailing)

        return grpc.unary_unary_rpc_method_handler(forward)


@contextlib.asynccontextmanager
async def secured(
    address: str, key: str, credentials: grpc.ServerCredentials
) -> AsyncIterator[str]:
    """Gives the address by which a server is reached by TLS while a block lasts.

    Args:
        address: The server's own.
        key: The API key.
        credentials: The credentials of a server on 127.0.0.1.
    """
    async with grpc.aio.insecure_channel(address) as channel:
        server = grpc.aio.server(handlers=[Forward(channel, key)])
        port = server.add_secure_port("127.0.0.1:0", credentials)
        await server.start()
        try:
            yield f"127.0.0.1:{port}"
        finally:
            await server.stop(0)
