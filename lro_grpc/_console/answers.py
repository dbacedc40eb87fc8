"""HTTP answers: pages with an ETag, packed once for all who get them, and bounded forms."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from lro_grpc._errors import Code, LroError
from lro_grpc._http import responses
from lro_grpc._http.bodies import Bodies, BodyLimits

_LEAST_PACKED = 1024
"""The bytes from which on packing saves more than it costs."""

_FORMS = BodyLimits(size=1024 * 1024, seconds=10.0, values=2_000, held=16 * 1024 * 1024)
"""The limits of forms: a bulk action has a thousand names, of some hundred bytes each."""


class Rendered(NamedTuple):
    """A page, or a part of one, as it is sent."""

    body: bytes
    packed: bytes
    """The same with gzip; empty if it is too small for that."""
    tag: str
    """Its ETag."""


def rendered(html: str) -> Rendered:
    """Makes a page ready to be sent. To be called in a thread: packing takes time."""
    body = html.encode("utf-8", "replace")
    packed = gzip.compress(body, 4, mtime=0) if len(body) >= _LEAST_PACKED else b""
    return Rendered(body, packed, f'"{hashlib.blake2b(body, digest_size=9).hexdigest()}"')


_HTML = "text/html"


def page(
    request: Request,
    made: Rendered,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    media_type: str = _HTML,
) -> Response:
    """Answers with a page."""
    sent = {"vary": "accept-encoding", **(headers or {})}
    if made.packed and _takes_gzip(request):
        sent["content-encoding"] = "gzip"
        return Response(made.packed, status, sent, media_type=media_type)
    return Response(made.body, status, sent, media_type=media_type)


def part(
    request: Request, made: Rendered, headers: Mapping[str, str], media_type: str = _HTML
) -> Response:
    """Answers with a part of a page, or with 304 if the browser has it already."""
    sent = {**headers, "etag": made.tag}
    if has(request, made):
        return Response(status_code=304, headers=sent)
    return page(request, made, 200, sent, media_type)


def has(request: Request, made: Rendered) -> bool:
    """Whether the browser has a part already, by the ETag that it knows."""
    return responses.is_known(request.headers.get("if-none-match", ""), made.tag)


def _takes_gzip(request: Request) -> bool:
    return "gzip" in request.headers.get("accept-encoding", "")


class Form(NamedTuple):
    """A form that was sent."""

    fields: Mapping[str, str]
    """The first value of each field."""
    names: tuple[str, ...]
    """Every value of the field ``name``, each once."""


class Forms:
    """Reads forms within limits, of each and of all that arrive at a time."""

    def __init__(self) -> None:
        self._bodies = Bodies(_FORMS)

    async def read(self, request: Request) -> Form:
        """Returns the form of a request.

        Raises:
            LroError: If it is too large, too slow, or none.
            ClientDisconnect: If the client is gone.
        """
        with self._bodies.place() as hold:
            try:
                body = await asyncio.wait_for(_read(request, hold), _FORMS.seconds)
            except asyncio.TimeoutError as cause:
                raise responses.too_slow(_FORMS.seconds) from cause
            return _parsed(body)


async def _read(request: Request, hold: Callable[[int], None]) -> bytes:
    body = bytearray()
    async for piece in request.stream():
        if len(body) + len(piece) > _FORMS.size:
            raise responses.too_large(_FORMS.size)
        hold(len(body) + len(piece))
        body += piece
    return bytes(body)


def _parsed(body: bytes) -> Form:
    try:
        pairs = parse_qsl(
            body.decode("ascii"), keep_blank_values=True, max_num_fields=_FORMS.values
        )
    except ValueError as cause:
        raise LroError(f"the form cannot be read: {cause}", code=Code.INVALID_ARGUMENT) from cause
    names = dict.fromkeys(value for key, value in pairs if key == "name" and value)
    fields: dict[str, str] = {}
    for key, value in pairs:
        fields.setdefault(key, value)
    return Form(fields, tuple(names))


async def unless_gone(request: Request, seconds: float, event: asyncio.Future[Any]) -> bool:
    """Waits for an event, at most so long, and returns whether it has come.

    Args:
        request: The request, whose body has been read or is empty.
        seconds: The longest time.
        event: The event; it is left as it is.

    Raises:
        ClientDisconnect: If the client is gone.
    """
    leaving = asyncio.ensure_future(_gone(request))
    try:
        both: set[asyncio.Future[Any]] = {event, leaving}
        await asyncio.wait(both, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if leaving.done() and not event.done():
            raise ClientDisconnect
        return event.done()
    finally:
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
