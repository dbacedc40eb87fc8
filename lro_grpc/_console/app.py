"""The routes of the console, as an ASGI app at the path at which browsers reach it."""

from __future__ import annotations

from collections.abc import Collection

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from lro_grpc._console.pages import acting, files, lists, operations, session
from lro_grpc._console.security import Guard
from lro_grpc._console.visit import Answer, Site, Visit


def make_app(site: Site, hosts: Collection[str]) -> ASGIApp:
    """Returns the app of a console.

    Args:
        site: The console.
        hosts: Names by which browsers reach it.
    """

    def route(path: str, answer: Answer, *methods: str) -> Route:
        return Route(path, site.answering(answer), methods=methods or ("GET",))

    async def no_page(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return await Visit(site, request).no_page(error.status_code, error.headers or {})

    routes = [
        route("/", lists.show),
        route("/rows", lists.rows),
        route("/operation", operations.show),
        route("/operation/body", operations.body),
        route("/operation/form", operations.form),
        route("/operation.json", operations.as_file),
        route("/confirm", acting.confirm, "GET", "POST"),
        route("/act", acting.act, "POST"),
        route("/bulk", acting.begin_bulk, "POST"),
        route("/bulk/{id}", acting.bulk, "GET", "POST"),
        route("/signin", session.sign_in, "GET", "POST"),
        route("/signout", session.sign_out, "POST"),
        route("/static/{file}", files.static),
    ]
    pages = Starlette(routes=routes, exception_handlers={404: no_page, 405: no_page})
    pages.router.redirect_slashes = False
    return Guard(_Below(pages, site.prefix), hosts, site.callers)


class _Below:
    """Takes the prefix off a path, which a proxy in front may have taken off already.

    Args:
        app: The pages.
        prefix: The prefix; empty for none.
    """

    def __init__(self, app: ASGIApp, prefix: str) -> None:
        self._app = app
        self._prefix = prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        root: str = scope.get("root_path", "")
        path = scope["path"].removeprefix(root)
        if self._prefix and f"{path}/".startswith(f"{self._prefix}/"):
            root += self._prefix
            path = path.removeprefix(self._prefix)
        if not path:  # relative links would lead elsewhere
            query = scope["query_string"].decode("latin-1")
            there = f"{self._prefix or root}/" + (f"?{query}" if query else "")
            await RedirectResponse(there, 307)(scope, receive, send)
            return
        await self._app({**scope, "root_path": root, "path": root + path}, receive, send)
