"""The ASGI app: finds a request's route, and answers it or refuses it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from lro_grpc._http import responses
from lro_grpc._http.request import BodyLimits, HttpRequest
from lro_grpc._http.responses import dumped, json_response
from lro_grpc._http.routing import Route, Router, VendorApi, api_of
from lro_grpc._server.operations import Operations


class Gateway:
    """An ASGI app that answers each request in the api of its path.

    Args:
        apis: The apis. A path that begins with the prefix of none has the first one's
            errors.
        methods: The routes of authors' methods.
        bounds: What a request may ask.
    """

    def __init__(
        self, apis: Sequence[VendorApi], methods: Iterable[Route], bounds: BodyLimits
    ) -> None:
        self._apis = apis
        own = [route for api in apis for route in api.routes()]
        self._router = Router([*own, *methods])
        self._bounds = bounds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})
            return
        assert scope["type"] == "http", f"the gateway takes no {scope['type']}"
        try:
            response = await self._answer(scope, receive)
            await response(scope, receive, send)
        except ClientDisconnect:
            pass  # nobody is there to be answered

    async def _answer(self, scope: Scope, receive: Receive) -> ASGIApp:
        http_method, path = scope["method"], _path(scope)
        try:
            route, variables = self._route(http_method, path)
            return await route.answer(HttpRequest(scope, receive, self._bounds), variables)
        except ClientDisconnect:
            raise
        except Exception as error:  # noqa: BLE001 - it is told to the client
            return self._refusal(error, http_method, path)

    def _route(self, http_method: str, path: str) -> tuple[Route, Mapping[str, str]]:
        found = self._router.find(http_method, path)
        if found is not None:
            return found
        allowed = self._router.methods(path)
        if allowed:
            raise responses.wrong_method(http_method, path, ", ".join(allowed))
        raise responses.no_route(http_method, path)

    def _refusal(self, error: Exception, http_method: str, path: str) -> ASGIApp:
        status, headers, told = responses.told(error, f"{http_method} {path}")
        body = api_of(path, self._apis).error_body(told)
        if isinstance(body["error"]["code"], int):
            body["error"]["code"] = status
        return json_response(dumped(body), status=status, headers=headers)


def _path(scope: Scope) -> str:
    """Returns the path as it was sent, percent-encoded, below where the app is mounted."""
    raw = scope.get("raw_path")
    path = raw.decode("latin-1") if raw is not None else quote(scope["path"])
    root = scope.get("root_path", "")
    return path[len(root) :] if root and path.startswith(f"{root}/") else path


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


Loop = asyncio.AbstractEventLoop


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
