"""The target of a request, in any of its forms: the path below where the app is mounted.

Clients send a path, and ``Host`` beside it. What believes to speak to a proxy sends a whole URL,
whose host counts then in place of ``Host``; ``*`` stands for the server (RFC 9112, 3.2).
"""

from __future__ import annotations

import re
from urllib.parse import quote, unquote

from starlette.types import Scope

SERVER = "*"
"""The target of an OPTIONS that is about no path."""

_ABSOLUTE = re.compile(rb"https?://([^/?#]*)(/.*)?", re.IGNORECASE | re.DOTALL)


def in_origin_form(scope: Scope) -> Scope:
    """Returns a request with a path for a target, and its host in ``Host``.

    Args:
        scope: The request, as ASGI describes it.
    """
    root = scope.get("root_path", "").encode("latin-1")
    absolute = _ABSOLUTE.fullmatch(_sent(scope).removeprefix(root))
    if absolute is None:
        return scope
    host, path = absolute.groups()
    if path is None:  # a proxy has sent it so for "*"
        path = SERVER.encode() if scope["method"] == "OPTIONS" else b"/"
    headers = [(b"host", host), *(one for one in scope["headers"] if one[0] != b"host")]
    raw_path = root + path
    decoded = unquote(raw_path.decode("latin-1"))
    return {**scope, "headers": headers, "raw_path": raw_path, "path": decoded}


def path_of(scope: Scope) -> str:
    """Returns the path as it was sent, percent-encoded, below where the app is mounted.

    Args:
        scope: The request, its target in origin form.
    """
    path = _sent(scope).decode("latin-1")
    root = scope.get("root_path", "")
    return path[len(root) :] if root and path.startswith(f"{root}/") else path


_OF_PATHS = "/:@!$&'()*+,;=[]"
"""Characters that stand in a path as they are, and in the host of a whole URL."""


def _sent(scope: Scope) -> bytes:
    """Returns the path as it was sent, or as it may have been: not every HTTP server tells it."""
    raw: bytes | None = scope.get("raw_path")
    if raw is not None:
        return raw
    return quote(scope["path"], safe=_OF_PATHS, errors="surrogateescape").encode()
