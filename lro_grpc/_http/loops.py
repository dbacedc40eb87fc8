"""An app whose event loop is not the HTTP server's."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from lro_grpc._server.operations import Operations

Loop = asyncio.AbstractEventLoop


class OnLoop:
    """Runs an app on the event loop of the operations, whatever loop the HTTP server has.

    They differ where the operations are attached to a ``grpc.server``.

    Args:
        app: The app.
        operations: The operations.
    """

    def __init__(self, app: ASGIApp, operations: Operations) -> None:
        self._app = app
        self._operations = operations

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        here, there = asyncio.get_running_loop(), self._operations.loop
        if there is None or there is here:
            await self._app(scope, receive, send)
            return
        answering = self._app(scope, _from(here, receive), _from(here, send))
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(_run(answering), there))


def _from(
    loop: Loop, function: Callable[..., Awaitable[Any]]
) -> Callable[..., Coroutine[Any, Any, Any]]:
    """Returns a function for another loop that calls one on this loop."""

    async def call(*arguments: Any) -> Any:
        running = asyncio.run_coroutine_threadsafe(_run(function(*arguments)), loop)
        return await asyncio.wrap_future(running)

    return call


async def _run(awaitable: Awaitable[Any]) -> Any:
    return await awaitable
