"""The API about itself, for anyone: it shows methods and messages, and nothing of an operation.

=====================  ===========================================================================
``GET /``              the index: where everything is
``GET /openapi.json``  the document of the API, in OpenAPI 3.1
``GET /docs``          a page that shows it, where asked for
=====================  ===========================================================================

A method of the service's own that is at one of these paths, or at those of health, wins.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from starlette.responses import Response
from starlette.types import ASGIApp

from lro_grpc._errors import ConfigurationError
from lro_grpc._http import docs_page
from lro_grpc._http.comments import Comments
from lro_grpc._http.conversion import converted
from lro_grpc._http.openapi import MOST_BYTES, document, with_servers
from lro_grpc._http.openapi_paths import parents_of
from lro_grpc._http.request import HttpRequest
from lro_grpc._http.responses import dumped, is_known, json_response
from lro_grpc._http.routing import Root, Route, Router, Template, VendorApi

OPENAPI = "/openapi.json"
"""The path of the document."""


def routes(
    services: Sequence[str],
    apis: Sequence[VendorApi],
    own: Sequence[Route],
    served: Sequence[Route],
    *,
    public_url: str,
    comments: Comments,
    has_document: bool,
    has_page: bool,
    more: Mapping[str, Any],
) -> Iterator[Route]:
    """Yields the routes.

    Args:
        services: The service's own services, by their full names.
        apis: The vendors' APIs.
        own: The routes of the service's own methods.
        served: All other routes of the API, and those.
        public_url: The URL at which clients reach it; empty if it is not known.
        comments: The comments of the protos.
        has_document: Whether there is a document.
        has_page: Whether there is a page that shows it.
        more: What else the index names.

    Raises:
        ConfigurationError: If there cannot be a page.
    """
    theirs = Router(own)
    pages = (OPENAPI, docs_page.DOCS, f"{docs_page.DOCS}/docs.js") if has_page else ()
    taken = [path for path in pages if theirs.find("GET", path) is not None]
    if taken or (has_page and not has_document):
        why = f"{taken[0]} is a method of the service's own" if taken else "openapi is False"
        raise ConfigurationError(
            f"docs=True shows {OPENAPI} at {docs_page.DOCS}, but {why}; leave docs out, or change"
            " that"
        )
    has_document = has_document and theirs.find("GET", OPENAPI) is None
    parents = parents_of([route.template for route in own])
    index = {
        "services": services,
        "dialects": {
            dialect: [api.prefix or "/" for api in apis if api.dialect == dialect]
            for dialect in dict.fromkeys(api.dialect for api in apis)
        },
        **({"openapi": OPENAPI} if has_document else {}),
        **({"docs": docs_page.DOCS} if has_page else {}),
        **more,
    }
    about = _About(public_url, index, lambda: document(services, served, apis, parents, comments))
    yield Route("GET", Root(), about.show_index)
    if has_document:
        yield Route("GET", Template(OPENAPI), about.show_document)
    if has_page:
        yield from docs_page.routes()


class _About:
    """Answers what the API says about itself.

    Args:
        public_url: As of ``routes``.
        index: What there is, by names: services, and paths.
        make_document: Makes the document, once.
    """

    def __init__(
        self, public_url: str, index: Mapping[str, Any], make_document: Callable[[], bytes]
    ) -> None:
        self._public_url = public_url.rstrip("/")
        self._index = index
        self._make_document = make_document
        self._document = b""

    async def show_index(self, http_request: HttpRequest, variables: Mapping[str, str]) -> ASGIApp:
        """Returns the index, its paths below where the API is."""
        del variables
        base = self._public_url or http_request.root_path
        return json_response(dumped(_linked(self._index, base)))

    async def show_document(
        self, http_request: HttpRequest, variables: Mapping[str, str]
    ) -> ASGIApp:
        """Returns the document."""
        del variables
        # In the one thread for what takes long, so that it is made once, however many ask.
        document = self._document or await converted(MOST_BYTES, self._made_once)
        base = self._public_url or http_request.root_path
        return _validated(http_request, with_servers(document, [{"url": base}] if base else []))

    def _made_once(self) -> bytes:
        if not self._document:
            self._document = self._make_document()
        return self._document


def _validated(http_request: HttpRequest, body: bytes) -> Response:
    """Returns a response with its ETag, or 304 if the client knows that already."""
    tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    headers = {"cache-control": "no-cache", "etag": tag}
    if is_known(http_request.headers.get("if-none-match", ""), tag):
        return Response(status_code=304, headers=headers)
    return json_response(body, headers=headers)


def _linked(value: Any, base: str) -> Any:
    """Returns a value with links in place of the paths in it."""
    if isinstance(value, str):
        return f"{base}{value}" if value.startswith("/") else value
    if isinstance(value, Mapping):
        return {name: _linked(one, base) for name, one in value.items()}
    return [_linked(one, base) for one in value]
