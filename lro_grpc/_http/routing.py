"""Finds the route of a path, by the path templates of ``google.api.http``.

::

    Template = "/" Segments [ ":" LITERAL ]
    Segments = Segment { "/" Segment }
    Segment  = "*" | "**" | LITERAL | "{" FieldPath [ "=" Segments ] "}"

``*`` stands for one segment, ``**`` for any number of them, also none. There may be one ``**``, not
only at the end as in Google's own grammar, or two around the rest of the last variable: the routes
of google.longrunning need that, and the time to match a path still grows with its length alone. In
a path, the verb begins at the first colon of the last segment, and is never part of a value; any
other colon is percent-encoded.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import unquote

from google.rpc import status_pb2
from starlette.responses import Response
from starlette.types import ASGIApp

from lro_grpc._errors import ConfigurationError, MalformedRequestError, cut
from lro_grpc._http.described import Described, Shown
from lro_grpc._http.request import HttpRequest
from lro_grpc._server.rpc.local_calls import Answer


@dataclass(frozen=True, slots=True)
class Route:
    """One HTTP method at one kind of path."""

    http_method: str
    template: Template
    respond: Callable[[HttpRequest, Mapping[str, str]], Awaitable[ASGIApp]]
    """Makes the response, given the values of the template's variables in the path as well."""
    is_served: bool = True
    """Whether it is of use; False if all that it does is to say why it is not."""
    described: Described | None = None
    """Its part in the document of the API; None for none."""


ANY_METHOD = "*"
"""The HTTP method of a route for each that has none of its own, as of a ``custom`` pattern."""


class VendorApi(Protocol):
    """One vendor's HTTP API for operations: its routes, and the shape of its answers."""

    prefix: str
    """The beginning of all its paths."""
    dialect: str
    """The dialect of its answers."""

    def routes(self) -> Iterable[Route]:
        """Returns its routes; where several match, the first one counts."""
        ...

    def error_body(self, status: status_pb2.Status) -> dict[str, Any]:
        """Returns the JSON body of an error response."""
        ...

    async def started(self, answer: Answer) -> Response:
        """Returns the response to a start at one of its paths.

        Args:
            answer: The Operation; without a name if there is none (S8).
        """
        ...

    @property
    def start(self) -> Shown:
        """The response to a start, as the document of the API describes it."""
        ...

    @property
    def error(self) -> Shown:
        """The body of an error response, likewise."""
        ...


def api_of(path: str, apis: Sequence[VendorApi]) -> VendorApi:
    """Returns the API with the longest prefix of a path, or else the first one."""
    inside = (one for one in apis if path.startswith(f"{one.prefix}/"))
    return max(inside, key=lambda one: len(one.prefix), default=apis[0])


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
        """Returns a route and the values of its variables; None for no route."""
        for one in (http_method, ANY_METHOD):
            for route in self._routes.get(one, {}).get(verb_of(path), ()):
                variables = route.template.match(path)
                if variables is not None:
                    return route, variables
        return None

    def methods(self, path: str) -> Sequence[str]:
        """Returns the HTTP methods that a path is served for."""
        found = ((method, self.find(method, path)) for method in self._routes)
        return _with_head(method for method, one in found if one is not None and one[0].is_served)

    @property
    def all_methods(self) -> Sequence[str]:
        """The HTTP methods that there are routes for."""
        return _with_head(self._routes.keys() - {ANY_METHOD})


def _with_head(methods: Iterable[str]) -> Sequence[str]:
    found = {*methods}
    return sorted(found | {"HEAD"} if "GET" in found else found)


class Template:
    """A path template, ready to match paths.

    Args:
        text: The template.

    Raises:
        ConfigurationError: If it is none by the grammar above.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.fields: list[str] = []
        """The paths of the fields that it has variables for, in their order."""
        self.parts: list[tuple[str, Sequence[str]]] = []
        """Its segments: what each variable stands for, with its field, and what is between them."""
        self._is_one_segment: list[bool] = []
        pattern, position = "", 0
        while part := _PART.match(text, position):
            position = part.end()
            if part["item"]:
                pattern += _pattern(part["item"])
                self.parts.append(("", (part["item"],)))
                continue
            items = part["items"] or "*"
            self.parts.append((part["field"], items.split("/")))
            pattern += f"({''.join(map(_pattern, items.split('/')))})"
            self.fields.append(part["field"])
            self._is_one_segment.append(items == "*")
        self.verb = text[position:]
        """The verb with its colon; empty for none."""
        is_template = position and (not self.verb or _VERB.fullmatch(self.verb))
        is_linear = text.count("**") <= (2 if _TWO_AROUND.search(text) else 1)
        if not is_template or len(set(self.fields)) < len(self.fields) or not is_linear:
            raise ConfigurationError(
                f"{text!r} is not a path template of google.api.http; expected one such as"
                " /v1/{name=projects/*/locations/*}:verb with each field, and **, once at most"
            )
        self._pattern = re.compile(pattern)

    def match(self, path: str) -> Mapping[str, str] | None:
        """Returns the values of the variables, by the paths of their fields; None for no match.

        Literals match only as they stand in the template. Values are percent-decoded: those of one
        segment wholly; those of several all but ``%2F``, so that an encoded slash never becomes a
        separator.

        Args:
            path: The path as it was sent, percent-encoded and without a query.

        Raises:
            MalformedRequestError: If a value is not percent-encoded UTF-8.
        """
        segments = path.removesuffix(self.verb)
        if verb_of(path) != self.verb or "//" in segments or segments.endswith("/"):
            return None
        found = self._pattern.fullmatch(segments)
        if found is None:
            return None
        return {
            field: _decoded(value[1:], all_of_it=is_one_segment)
            for field, value, is_one_segment in zip(
                self.fields, found.groups(), self._is_one_segment, strict=True
            )
        }


class Root(Template):
    """The path ``/``, which no rule of ``google.api.http`` can be at."""

    def __init__(self) -> None:
        self.text = "/"
        self.fields = []
        self.parts = []
        self.verb = ""

    def match(self, path: str) -> Mapping[str, str] | None:
        """Returns no values for that path; None for any other."""
        return {} if path == self.text else None


def verb_of(path: str) -> str:
    """Returns the verb of a path, with its colon; empty for none."""
    if ":" not in path:
        return ""
    _, colon, verb = path.rpartition("/")[2].partition(":")
    return colon + verb


_LITERAL = r"[\w.~%!$&'()+,;=@-]+"
_ITEM = rf"\*\*|\*|{_LITERAL}"
_PART = re.compile(
    rf"/(?:(?P<item>{_ITEM})|"
    rf"\{{(?P<field>[a-z_]\w*(?:\.[a-z_]\w*)*)(?:=(?P<items>(?:{_ITEM})(?:/(?:{_ITEM}))*))?\}})",
    re.ASCII,
)
_VERB = re.compile(rf":{_LITERAL}", re.ASCII)
_TWO_AROUND = re.compile(r"=\*\*/[^{}]+/\*\*\}(?::[^/]*)?\Z")
_STRAY_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_SLASH = re.compile(r"(%2[Ff])")


def _pattern(item: str) -> str:
    """Returns the pattern of an item with the slash before it."""
    return {"*": "/[^/]+", "**": "(?:/[^/]+)*"}.get(item) or f"/{re.escape(item)}"


def _decoded(value: str, *, all_of_it: bool) -> str:
    if "%" not in value:
        return value
    parts = [value] if all_of_it else _SLASH.split(value)
    try:
        return "".join(
            part if not all_of_it and _SLASH.fullmatch(part) else _unquoted(part) for part in parts
        )
    except ValueError as cause:
        raise MalformedRequestError(
            f"the path has {cut(value)!r}, which is not percent-encoded UTF-8: {cause}",
            metadata={"value": cut(value)},
        ) from cause


def _unquoted(part: str) -> str:
    if _STRAY_PERCENT.search(part):
        raise ValueError("a % stands without two hexadecimal digits")
    return unquote(part, errors="strict")
