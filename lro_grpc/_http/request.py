"""One HTTP request: its query, its body within limits, and its caller."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import functools
import re
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Sequence
from typing import Any, TypeVar
from urllib.parse import parse_qsl

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope

from lro_grpc._errors import MalformedRequestError, cut
from lro_grpc._http import responses
from lro_grpc._http.bodies import Bodies
from lro_grpc._http.conversion import has_more_values

T = TypeVar("T")

_MOST_PARAMETERS = 1000
"""The most parameters of a query."""


class HttpRequest:
    """A request that is to be answered.

    Args:
        scope: The request, as ASGI describes it.
        receive: Receives its body.
        bodies: Counts the bodies of all requests.
    """

    def __init__(self, scope: Scope, receive: Receive, bodies: Bodies) -> None:
        self.caller = Caller(scope)
        self._scope = scope
        self._receive = receive
        self._bodies = bodies

    @property
    def root_path(self) -> str:
        """Where the app is mounted; empty at the root."""
        root: str = self._scope.get("root_path", "")
        return root

    @property
    def query(self) -> Sequence[tuple[str, str]]:
        """The query parameters, in their order."""
        text: bytes = self._scope["query_string"]
        if text.count(b"&") >= _MOST_PARAMETERS:
            raise MalformedRequestError(
                f"the query has more than {_MOST_PARAMETERS} parameters; send less"
            )
        try:
            return parse_qsl(text.decode("latin-1"), keep_blank_values=True, errors="strict")
        except UnicodeDecodeError as cause:
            raise MalformedRequestError(
                f"the query is not percent-encoded UTF-8: {cause}"
            ) from cause

    @property
    def headers(self) -> Headers:
        """The request's headers."""
        return Headers(scope=self._scope)

    @property
    def has_body(self) -> bool:
        """Whether there may be a body."""
        # HTTP/2 needs neither of the two headers; a request of HTTP/1 without them has no body.
        headers = self.headers
        is_announced = bool(headers.get("content-length")) or "transfer-encoding" in headers
        return is_announced or not self._scope["http_version"].startswith("1")

    @contextlib.asynccontextmanager
    async def body(self) -> AsyncIterator[bytes]:
        """Gives the body, which is JSON by its headers, and counts it while the context lasts.

        Raises:
            HttpError: If it is something else, or too large, or does not arrive.
            ClientDisconnect: If the client is gone.
        """
        if not self.has_body:
            yield b""
            return
        headers = self.headers
        length = headers.get("content-length", "")
        if length.isdecimal() and int(length) > self._bodies.limits.size:
            raise responses.too_large(self._bodies.limits.size)
        with self._bodies.place() as hold:
            try:
                body = await asyncio.wait_for(self._read(hold), self._bodies.limits.seconds)
            except asyncio.TimeoutError as cause:
                raise responses.too_slow(self._bodies.limits.seconds) from cause
            self._check_type(body)
            yield body

    def check_values(self, body: bytes) -> None:
        """Raises an ``HttpError`` if the JSON of the body has too many values."""
        if has_more_values(body, self._bodies.limits.values):
            raise responses.too_many_values(self._bodies.limits.values)

    def _check_type(self, body: bytes) -> None:
        content_type = self.headers.get("content-type", "")  # without one, any page may send it
        media_type = content_type.partition(";")[0].strip().lower()
        if body and not (media_type == "application/json" or media_type.endswith("+json")):
            raise responses.not_json(content_type)

    async def _read(self, hold: Callable[[int], None]) -> bytes:
        body = bytearray()
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            part: bytes = message.get("body", b"")
            size = len(body) + len(part)
            if size > self._bodies.limits.size:
                raise responses.too_large(self._bodies.limits.size)
            hold(size)
            body += part
            if not message.get("more_body", False):
                return bytes(body)

    async def unless_gone(self, answer: Coroutine[Any, Any, T]) -> T:
        """Awaits an answer that may take long; ends it when the client is gone.

        Args:
            answer: Makes the answer. The body has been read by then.

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


class Caller:
    """Stands in for a ServicerContext in ``identify``, ``authorize`` and ``prepare``.

    Its metadata are the request's headers, their names in lower case, but for those that are about
    HTTP itself, such as ``cookie``, and those that gRPC could not carry. So ``identify`` finds the
    same whether the gateway is beside the operations or in front of them. It knows nothing of TLS:
    ``auth_context`` is empty.

    Args:
        scope: The request, as ASGI describes it.
    """

    def __init__(self, scope: Scope) -> None:
        self.identity: str | None = None
        """The caller, as ``identify`` has named them; None as long as it was not asked."""
        self._scope = scope

    def invocation_metadata(self) -> Sequence[tuple[str, str | bytes]]:
        """Returns the metadata of the call."""
        return self._metadata

    @functools.cached_property
    def _metadata(self) -> Sequence[tuple[str, str | bytes]]:
        headers: list[tuple[bytes, bytes]] = self._scope["headers"]
        found: list[tuple[str, str | bytes]] = []
        for raw_name, raw_value in headers:
            name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
            if _is_of_http(name) or not _KEY.fullmatch(name) or not _VALUE.fullmatch(value):
                continue
            if not name.endswith("-bin"):
                found.append((name, value))
            elif _BASE64.fullmatch(value):
                found.append((name, base64.b64decode(value + "=" * (-len(value) % 4))))
        return found

    def forwarded_metadata(self) -> Sequence[tuple[str, str | bytes]]:
        """Returns the metadata to send on to a gRPC server, with the client's address."""
        client: Any = self._scope.get("client")
        return [*self._metadata, ("x-forwarded-for", client[0])] if client else self._metadata

    def peer(self) -> str:
        """Returns the client's address, written as gRPC writes it."""
        client: Any = self._scope.get("client")
        if not client:
            return ""
        host, port = client[0], client[1]
        return f"ipv6:[{host}]:{port}" if ":" in host else f"ipv4:{host}:{port}"

    def peer_identities(self) -> None:
        """Returns None: no certificate names the caller."""

    def peer_identity_key(self) -> None:
        """Returns None, as ``peer_identities``."""

    def auth_context(self) -> dict[str, list[bytes]]:
        """Returns nothing: see the class."""
        return {}

    def time_remaining(self) -> None:
        """Returns None: HTTP has no deadlines."""

    def is_active(self) -> bool:
        """Returns True."""
        return True

    def send_initial_metadata(self, initial_metadata: Any) -> None:
        """Does nothing: the response's headers are the gateway's own."""


_OF_HTTP = frozenset(
    {"accept", "accept-charset", "accept-encoding", "cache-control", "connection", "cookie"}
    | {"cookie2", "expect", "host", "http2-settings", "keep-alive", "last-event-id", "origin"}
    | {"pragma", "priority", "range", "referer", "set-cookie", "set-cookie2", "te", "trailer"}
    | {"transfer-encoding", "upgrade", "upgrade-insecure-requests", "user-agent"}
    # The client's address, as anyone may claim it; ``peer`` has the one that is known.
    | {"forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-port"}
    | {"x-forwarded-proto", "x-real-ip"}
)
"""Headers about the HTTP message and its connection, and the state that a browser keeps."""


def _is_of_http(name: str) -> bool:
    return name in _OF_HTTP or name.startswith(
        ("access-control-", "content-", "grpc-", "if-", "proxy-", "sec-")
    )


_KEY = re.compile(r"[0-9a-z_.-]+")
_VALUE = re.compile(r"[\x20-\x7e]*")
_BASE64 = re.compile(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2,3}=?=?)?")

SYSTEM_PARAMETERS = frozenset(
    {"$.xgafv", "$alt", "$callback", "$fields", "$httpHeaders", "$outputDefaults", "$prettyPrint"}
    | {"$unique", "access_token", "alt", "bearer_token", "callback", "fields", "key"}
    | {"oauth_token", "prettyPrint", "quotaUser", "uploadType", "upload_protocol"}
)
"""Query parameters that Google's clients send with any request; they are no fields."""


def single_values(query: Sequence[tuple[str, str]], known: Collection[str]) -> dict[str, str]:
    """Returns the values of the query parameters, without those that Google's clients always send.

    Args:
        query: All parameters.
        known: The names of the parameters that there are.

    Raises:
        MalformedRequestError: If a parameter is not known, or given twice.
    """
    found: dict[str, str] = {}
    for name, text in query:
        if name in SYSTEM_PARAMETERS:
            continue
        if name not in known:
            raise bad_parameter(name, "is not known here")
        if name in found:
            raise bad_parameter(name, "is given twice")
        found[name] = text
    return found


def bad_parameter(name: str, problem: str) -> MalformedRequestError:
    """Returns the error for a parameter, by its name and the problem with it."""
    return MalformedRequestError(
        f"the parameter {cut(name)!r} {problem}", metadata={"parameter": cut(name)}
    )
