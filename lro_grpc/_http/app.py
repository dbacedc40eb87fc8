"""The ASGI app: finds the route of a request, and answers with its response or with an error."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any

from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from lro_grpc._http import responses
from lro_grpc._http.bodies import Bodies, check_framing
from lro_grpc._http.origins import Origins
from lro_grpc._http.request import HttpRequest
from lro_grpc._http.request_target import SERVER, in_origin_form, path_of
from lro_grpc._http.responses import dumped, json_response
from lro_grpc._http.routing import Route, Router, VendorApi, api_of
from lro_grpc._server.operations import Operations


class Gateway:
    """An ASGI app that answers each request as the vendor of its path does.

    Args:
        apis: The vendors' APIs, whose errors there are: of a path below several prefixes, that with
            the longest; below none, the first.
        routes: All routes; where several match, the first one counts.
        bodies: Counts the bodies of requests.
        origins: Refuses requests of strangers' pages.
    """

    def __init__(
        self,
        apis: Sequence[VendorApi],
        routes: Iterable[Route],
        bodies: Bodies,
        origins: Origins,
    ) -> None:
        self._apis = apis
        self._router = Router(routes)
        self._bodies = bodies
        self._origins = origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})
            return
        assert scope["type"] == "http", f"the gateway takes no {scope['type']}"
        scope = in_origin_form(scope)
        try:
            response = await self._respond(scope, receive)
            await response(scope, receive, send)
        except ClientDisconnect:
            pass  # there is nobody to answer

    async def _respond(self, scope: Scope, receive: Receive) -> ASGIApp:
        http_method, path = scope["method"], path_of(scope)
        if http_method == "HEAD":
            http_method = "GET"  # the HTTP server leaves the body out
        try:
            self._origins.check(scope)
            check_framing(scope)
            _check_length(path, scope)
            if (http_method, path) == ("OPTIONS", SERVER):
                allowed = ", ".join(self._router.all_methods)
                return Response(status_code=204, headers={"allow": allowed})
            route, variables = self._route(http_method, path)
            return await route.respond(HttpRequest(scope, receive, self._bodies), variables)
        except ClientDisconnect:
            raise
        except Exception as error:  # noqa: BLE001 - the client sees it
            return self._error_response(error, http_method, path)

    def _route(self, http_method: str, path: str) -> tuple[Route, Mapping[str, str]]:
        found = self._router.find(http_method, path)
        if found is not None:
            return found
        allowed = self._router.methods(path)
        if allowed:
            raise responses.wrong_method(http_method, path, ", ".join(allowed))
        raise responses.no_route(http_method, path)

    def _error_response(self, error: Exception, http_method: str, path: str) -> ASGIApp:
        http_status, headers, status = responses.http_error(error, f"{http_method} {path}")
        body = api_of(path, self._apis).error_body(status)
        if isinstance(body["error"]["code"], int):
            body["error"]["code"] = http_status
        return json_response(dumped(body), status=http_status, headers=headers)


_MOST_URL_BYTES = 64 * 1024
"""The most bytes of a path and its query."""


def _check_length(path: str, scope: Scope) -> None:
    if len(path) + len(scope["query_string"]) > _MOST_URL_BYTES:
        raise responses.too_long(_MOST_URL_BYTES)


class Beside:
    """Two apps: what is at a path, and below it, is the second one's.

    Args:
        app: The app of all other paths.
        other: The app of that path, which is mounted there.
        path: It, such as ``/console``.
    """

    def __init__(self, app: ASGIApp, other: ASGIApp, path: str) -> None:
        self._app = app
        self._other = other
        self._path = path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        root = scope.get("root_path", "")
        path = scope.get("path", "").removeprefix(root)
        if scope["type"] == "http" and f"{path}/".startswith(f"{self._path}/"):
            await self._other({**scope, "root_path": root + self._path}, receive, send)
        else:
            await self._app(scope, receive, send)


class OnLoop:
    """Runs an app on the event loop of the operations, whichever loop the HTTP server has.

    The two differ if the operations are attached to a ``grpc.server``: their loop then has a thread
    of its own.

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
        on_there = _on_loop(there, self._app)
        await on_there(scope, _on_loop(here, receive), _on_loop(here, send))


def _on_loop(
    loop: asyncio.AbstractEventLoop, function: Callable[..., Awaitable[Any]]
) -> Callable[..., Coroutine[Any, Any, Any]]:
    """Returns a function, for any loop, that calls another one on its own loop."""

    async def call(*arguments: Any) -> Any:
        async def run() -> Any:
            return await function(*arguments)

        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(run(), loop))

    return call
