"""One HTTP request, as far as a route may know of it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from starlette.datastructures import Headers, QueryParams
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope

from lro_grpc._http import failure
from lro_grpc._http.caller import Caller

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a request may ask of the gateway."""

    body: int
    """Bytes of a body at most."""
    seconds: float
    """How long a body may take to come."""


class Exchange:
    """A request that is to be answered.

    Args:
        scope: The request, as ASGI tells it.
        receive: Receives its body.
        bounds: How large and how slow that may be.
    """

    def __init__(self, scope: Scope, receive: Receive, bounds: Bounds) -> None:
        self.caller = Caller(scope)
        self._scope = scope
        self._receive = receive
        self._bounds = bounds

    @property
    def query(self) -> Sequence[tuple[str, str]]:
        """The query parameters, in their order."""
        text: bytes = self._scope["query_string"]
        return QueryParams(text).multi_items() if text else ()

    @property
    def headers(self) -> Headers:
        """The request's headers."""
        return Headers(scope=self._scope)

    async def body(self) -> bytes:
        """Returns the body, which is JSON as far as its headers tell.

        Raises:
            HttpError: If it is something else, or too large, or does not come.
            ClientDisconnect: If the client is gone.
        """
        headers = self.headers
        length = headers.get("content-length", "")
        # HTTP/2 needs neither of the two headers; a request of HTTP/1 without them has no body.
        is_marked = length or "transfer-encoding" in headers
        if not is_marked and self._scope["http_version"].startswith("1"):
            return b""
        if length.isdecimal() and int(length) > self._bounds.body:
            raise failure.too_large(self._bounds.body)
        try:
            body = await asyncio.wait_for(self._read(), self._bounds.seconds)
        except asyncio.TimeoutError as cause:
            raise failure.too_slow(self._bounds.seconds) from cause
        content_type = headers.get("content-type", "application/json")
        media_type = content_type.partition(";")[0].strip().lower()
        if body and not (media_type == "application/json" or media_type.endswith("+json")):
            raise failure.not_json(content_type)
        return body

    async def _read(self) -> bytes:
        body = bytearray()
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            body += message.get("body", b"")
            if len(body) > self._bounds.body:
                raise failure.too_large(self._bounds.body)
            if not message.get("more_body", False):
                return bytes(body)

    async def unless_gone(self, answer: Coroutine[Any, Any, T]) -> T:
        """Awaits an answer that may take long; ends it when the client is gone.

        Args:
            answer: What to await, once the body is read.

        Raises:
            ClientDisconnect: If the client is gone.
        """
        answering = asyncio.create_task(answer)
        leaving = asyncio.create_task(self._gone())
        try:
            await asyncio.wait({answering, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if not answering.done():
                raise ClientDisconnect
            return answering.result()
        finally:
            answering.cancel()
            leaving.cancel()
            await asyncio.gather(answering, leaving, return_exceptions=True)

    async def _gone(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
