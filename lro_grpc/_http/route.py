"""What is where: routes, and the dialects that they belong to."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from google.rpc import status_pb2
from starlette.responses import Response
from starlette.types import ASGIApp

from lro_grpc._http.request import Exchange
from lro_grpc._http.routing import Template, verb_of


@dataclass(frozen=True, slots=True)
class Route:
    """One HTTP method at one kind of path."""

    http_method: str
    template: Template
    answer: Callable[[Exchange, Mapping[str, str]], Awaitable[ASGIApp]]
    """Is given a request and what the template has found in its path."""


class Dialect(Protocol):
    """One vendor's way of showing operations over HTTP."""

    prefix: str
    """What its paths begin with."""

    def routes(self) -> Iterable[Route]:
        """Returns its routes; where several match, the first one answers."""
        ...

    def error_body(self, status: status_pb2.Status) -> dict[str, Any]:
        """Returns the JSON of a refusal."""
        ...

    async def started(self, operation: bytes) -> Response:
        """Returns the response to a start at one of its paths.

        Args:
            operation: The serialized Operation; without a name if there is none (S8).
        """
        ...


class Router:
    """Finds the route of a request.

    Args:
        routes: All routes; where several match, the first one counts.
    """

    def __init__(self, routes: Iterable[Route]) -> None:
        self._routes: dict[str, dict[str, list[Route]]] = {}  # by HTTP method and verb
        for route in routes:
            of_method = self._routes.setdefault(route.http_method, {})
            of_method.setdefault(route.template.verb, []).append(route)

    def find(self, http_method: str, path: str) -> tuple[Route, Mapping[str, str]] | None:
        """Returns a route and what its template has found in the path; None for no route."""
        for route in self._routes.get(http_method, {}).get(verb_of(path), ()):
            variables = route.template.match(path)
            if variables is not None:
                return route, variables
        return None

    def methods(self, path: str) -> Sequence[str]:
        """Returns the HTTP methods that a path has routes for."""
        return sorted(method for method in self._routes if self.find(method, path))
