"""The page ``/docs``: Swagger UI, which shows the document of the API, and calls it.

All that the page loads is from here, and its policy lets it load nothing else. What it sends comes
from a page of the own origin; so it may do what its reader has the credentials for, and no more.
"""

from __future__ import annotations

import functools
import gzip
from collections.abc import Iterator, Mapping
from importlib import resources

from starlette.responses import Response
from starlette.types import ASGIApp

from lro_grpc._http.request import HttpRequest
from lro_grpc._http.responses import PAGE_HEADERS, no_route
from lro_grpc._http.routing import Route, Template

DOCS = "/docs"
"""The path of the page; its files are below it."""

VERSION = "5.35.0"
"""The version of Swagger UI."""

_POLICY = "; ".join(
    (
        *("default-src 'none'", "script-src 'self'", "style-src 'self'", "img-src 'self' data:"),
        *("connect-src 'self'", "form-action 'none'", "base-uri 'none'", "frame-ancestors 'none'"),
    )
)

_HEADERS = {
    "content-security-policy": _POLICY,
    "referrer-policy": "no-referrer",
    **PAGE_HEADERS,
}

_PAGE = f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>API</title>
<link rel="icon" href="docs/icon.png?v={VERSION}">
<link rel="stylesheet" href="docs/swagger-ui.css?v={VERSION}">
<div id="api"></div>
<script src="docs/swagger-ui-bundle.js?v={VERSION}"></script>
<script src="docs/docs.js?v={VERSION}"></script>
</html>
"""

_MEDIA_TYPES = {
    "docs.js": "text/javascript; charset=utf-8",
    "icon.png": "image/png",
    "swagger-ui-bundle.js": "text/javascript; charset=utf-8",
    "swagger-ui.css": "text/css; charset=utf-8",
}

_FOR_EVER = "public, max-age=31536000, immutable"


def routes() -> Iterator[Route]:
    """Yields the routes; they are for anyone."""
    yield Route("GET", Template(DOCS), _page)
    yield Route("GET", Template(f"{DOCS}/{{file}}"), _file)


async def _page(http_request: HttpRequest, variables: Mapping[str, str]) -> ASGIApp:
    del http_request, variables
    headers = {**_HEADERS, "cache-control": "no-cache"}
    return Response(_PAGE, headers=headers, media_type="text/html")


async def _file(http_request: HttpRequest, variables: Mapping[str, str]) -> ASGIApp:
    name = variables["file"]
    media_type = _MEDIA_TYPES.get(name)
    if media_type is None:
        raise no_route("GET", f"{DOCS}/{name}")
    is_fresh = ("v", VERSION) in http_request.query
    headers = {
        **_HEADERS,
        "cache-control": _FOR_EVER if is_fresh else "no-cache",
        "content-type": media_type,
        "vary": "accept-encoding",
    }
    packed = _packed(name)
    if packed is None:
        return Response(_plain(name), headers=headers)
    if "gzip" in http_request.headers.get("accept-encoding", ""):
        return Response(packed, headers={**headers, "content-encoding": "gzip"})
    return Response(_unpacked(name), headers=headers)


@functools.cache
def _packed(name: str) -> bytes | None:
    """Returns a file as it is packed in the package; None if it is not packed."""
    file = resources.files(__package__) / "swagger_ui" / f"{name}.gz"
    return file.read_bytes() if file.is_file() else None


@functools.cache
def _unpacked(name: str) -> bytes:
    """Returns a packed file as it was, unpacked once: on the event loop that takes a while."""
    return gzip.decompress(_packed(name) or b"")


@functools.cache
def _plain(name: str) -> bytes:
    return (resources.files(__package__) / "swagger_ui" / name).read_bytes()
