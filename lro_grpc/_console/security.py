"""Guards the pages: refuses strangers' requests, and says what a browser may do with an answer."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Collection

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lro_grpc._client.connection import checked_metadata
from lro_grpc._console.servers import Credentials
from lro_grpc._errors import Code, ConfigurationError
from lro_grpc._http.bodies import check_framing
from lro_grpc._http.origins import Origins
from lro_grpc._http.responses import PAGE_HEADERS, HttpError, cross_site

_POLICY = "; ".join(
    (
        *("default-src 'none'", "script-src 'self'", "style-src 'self'", "img-src 'self'"),
        *("connect-src 'self'", "form-action 'self'", "base-uri 'none'", "frame-ancestors 'none'"),
        *("require-trusted-types-for 'script'", "trusted-types 'none'"),
    )
)
"""The policy of a page: it loads nothing but what the console itself serves, and no inline code."""

HEADERS = {
    "content-security-policy": _POLICY,
    # With no-referrer a browser would say that a form's origin is "null".
    "referrer-policy": "same-origin",
    **PAGE_HEADERS,
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}
"""The headers of every answer, beside ``cache-control``."""

_REFUSALS = {
    "UNKNOWN_HOST": "This console does not answer for the host {host}. Whoever runs it allows more"
    " hosts with --host NAME, or hosts=[…].",
    "CROSS_SITE": "This request comes from a page of another site: {origin}.",
}


class Guard:
    """An ASGI app in front of another: it refuses strangers' requests, and adds the headers.

    * A request for another host is refused: else a page whose name leads to this machine (DNS
      rebinding) could read and do all that the console's own may.
    * A request that may change something has to come from a page of the console itself. There is
      no token: its secret would have to be shared by all replicas, and kept over restarts.
    * A page of another site may lead here by a link, and have nothing of here in itself: it could
      not read it, but have the server asked by a picture.
    * A request of which a proxy in front may think otherwise is refused: of its end, or its caller.

    Args:
        app: The app.
        hosts: Names by which browsers reach it; an address and ``localhost`` need not be given.
        callers: Tells who sends a request.

    Raises:
        ConfigurationError: If a host is none.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str], callers: Callers) -> None:
        self._app = app
        self._origins = Origins((), hosts, "")
        self._callers = callers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("cache-control", "no-store")
            await send(message)

        try:
            self._origins.check(scope)
            _check_use(scope)
            check_framing(scope)
            self._callers.check(scope)
        except HttpError as refusal:
            await _plain(refusal)(scope, receive, send_guarded)
            return
        await self._app(scope, receive, send_guarded)


def _check_use(scope: Scope) -> None:
    """Refuses what another site's page loads, other than by a link.

    Raises:
        HttpError: If the request is one of these.
    """
    headers = Headers(scope=scope)
    site, mode = headers.get("sec-fetch-site"), headers.get("sec-fetch-mode", "navigate")
    use = headers.get("sec-fetch-dest", "document")  # a frame is navigated, too
    if site in ("cross-site", "same-site") and (mode, use) != ("navigate", "document"):
        raise cross_site(f"another site ({site}, {mode}, {use})")


def _plain(refusal: HttpError) -> Response:
    """Returns a refusal as a line of text: there is no page, for there is no caller to show it."""
    own = _REFUSALS.get(refusal.reason)
    if own is not None:
        return PlainTextResponse(own.format_map(refusal.metadata), 403)
    return PlainTextResponse(refusal.message, refusal.status, refusal.headers)


_COOKIE = "lro_console"
_MOST_CREDENTIAL = 2_900
"""The most characters of a credential: a browser keeps 4,096 bytes of a cookie, in base64."""

_HEADER = re.compile(r"[a-z0-9_.-]+")
_NEVER_FORWARDED = frozenset(
    {"connection", "content-length", "content-type", "cookie", "host", "te", "user-agent"}
)
"""Headers of HTTP's own, of gRPC's, and the browser's cookies."""


class Callers:
    """Tells who sends a request: the credentials with which the server is called for them.

    Args:
        metadata: The console's own, sent for everyone.
        forward: The headers that a proxy in front sets, and that become metadata; no others do.
        sign_in: The metadata whose value a caller types in at the sign-in; empty for no sign-in.
        target: The server, so that another console on the same host has another cookie.

    Raises:
        ConfigurationError: If a header is none, or ``cookie``.
    """

    def __init__(
        self, metadata: Credentials, forward: Collection[str], sign_in: str, target: str
    ) -> None:
        try:
            self._metadata = checked_metadata(metadata, "metadata")
        except (TypeError, ValueError) as cause:
            raise ConfigurationError(str(cause)) from cause
        self._forward = [_checked_header(name, "forward") for name in forward]
        self.sign_in = _checked_header(sign_in, "sign_in") if sign_in else ""
        """The metadata of the sign-in; empty for none."""
        self._target = target

    def check(self, scope: Scope) -> None:
        """Refuses a request whose caller is not plain from what a proxy in front has set.

        Without the header the server would take the request for one of the console's own.

        Raises:
            HttpError: If a header is there twice, or has what metadata cannot have; or if there is
                none at all, and the console has metadata of its own.
        """
        headers = Headers(scope=scope)
        if self._metadata and self._forward and not any(one in headers for one in self._forward):
            raise HttpError(
                f"the request has no {' and no '.join(self._forward)}; the proxy in front has to"
                " set it, for without it the server would take the request for the console's own",
                status=400,
                code=Code.INVALID_ARGUMENT,
                reason="UNCLEAR_CALLER",
            )
        for name in self._forward:
            values = headers.getlist(name)
            if len(values) > 1 or not all(map(_is_sendable, values)):
                raise HttpError(
                    f"the request has {name} {len(values)} times, or with characters that metadata"
                    " cannot have; the proxy in front has to set it once, in printable ASCII, in"
                    " place of whatever it has received under that name",
                    status=400,
                    code=Code.INVALID_ARGUMENT,
                    reason="UNCLEAR_CALLER",
                )

    def credentials(self, request: Request, root: str) -> Credentials:
        """Returns the metadata of the caller who sends a request.

        Args:
            request: The request.
            root: The path below which the pages are.
        """
        forwarded = [
            (name, request.headers[name]) for name in self._forward if name in request.headers
        ]
        value = self._value(request, root)
        signed_in = [(self.sign_in, value)] if value else []
        return (*self._metadata, *forwarded, *signed_in)

    def is_signed_in(self, request: Request, root: str) -> bool:
        """Whether the caller has signed in."""
        return bool(self._value(request, root))

    def sign(self, response: Response, request: Request, value: str, root: str) -> None:
        """Has the browser keep a credential, for its session.

        The cookie is the credential itself, so that replicas share nothing. Not ``Strict``: a link
        in another page, or in a message, would arrive signed out.
        """
        response.set_cookie(
            self._cookie(request, root),
            base64.urlsafe_b64encode(value.encode()).decode(),
            httponly=True,
            samesite="lax",
            secure=request.url.scheme == "https",
            path=root or "/",
        )

    def sign_out(self, response: Response, request: Request, root: str) -> None:
        """Has the browser forget the credential."""
        response.delete_cookie(
            self._cookie(request, root),
            httponly=True,
            samesite="lax",
            secure=request.url.scheme == "https",
            path=root or "/",
        )

    def _cookie(self, request: Request, root: str) -> str:
        """Returns the name of the cookie.

        A browser sends that of ``/`` to ``/ops``, too, and that of one port of a host to all.
        """
        which = f"{self._target} {request.url.port} {root}".encode()
        return f"{_COOKIE}_{hashlib.blake2b(which, digest_size=4).hexdigest()}"

    def _value(self, request: Request, root: str) -> str:
        if not self.sign_in:
            return ""
        cookie = request.cookies.get(self._cookie(request, root), "")
        try:
            value = base64.urlsafe_b64decode(cookie).decode("ascii")
        except ValueError:
            return ""
        return value if _is_sendable(value) else ""


def problem_of(credential: str) -> str:
    """Returns why a text cannot be a credential; empty if it can."""
    if not credential:
        return "Give a value."
    if not _is_sendable(credential):
        return "The value has characters that metadata cannot have: give printable ASCII."
    if len(credential) > _MOST_CREDENTIAL:
        return f"The value has {len(credential):,} characters, of at most {_MOST_CREDENTIAL:,}."
    return ""


def local_path(text: str, root: str) -> str:
    r"""Returns a path below the root if the text is one, and else the root itself.

    A browser takes ``//host``, and ``/\host``, for another site, and leaves out tabs before.
    ``/..`` leads upwards, at the end, too, and as ``/%2e%2e``.
    """
    below = text.startswith(f"{root}/") and _LOCAL.fullmatch(text) and not _UP.search(text)
    return text if below else f"{root}/"


_LOCAL = re.compile(r"/(?![/\\])[!-\[\]-~]*")
_UP = re.compile(r"^[^?#]*/(?:\.|%2e){2}(?:[/?#]|$)", re.IGNORECASE)
"""A path that leads upwards, as browsers read it."""


def _is_sendable(value: str) -> bool:
    return value.isascii() and value.isprintable()


def _checked_header(name: str, option: str) -> str:
    lower = name.lower()
    is_own = lower in _NEVER_FORWARDED or lower.startswith("grpc-") or lower.endswith("-bin")
    if is_own or not _HEADER.fullmatch(lower):
        raise ConfigurationError(
            f"{option} has {name!r}, which cannot be sent on; give the name of a header such as"
            " authorization, with a text for its value"
        )
    return lower
