"""Who has sent an HTTP request, as a ServicerContext tells who has called an RPC."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from starlette.types import Scope

_OF_HTTP = frozenset(
    {"accept", "accept-encoding", "connection", "content-encoding", "content-length"}
    | {"content-type", "expect", "host", "keep-alive", "te", "trailer", "transfer-encoding"}
    | {"upgrade", "user-agent"}
)
"""Headers that are about the HTTP message or its connection."""

_KEY = re.compile(r"(?!grpc-)[0-9a-z_.-]+(?<!-bin)")
_VALUE = re.compile(r"[\x20-\x7e]*")


class Caller:
    """Stands in for a ServicerContext in ``identify``, ``authorize`` and ``prepare``.

    Its metadata are the request's headers, their names in lower case. It knows nothing of TLS:
    ``auth_context`` is empty.

    Args:
        scope: The request, as ASGI tells it.
    """

    def __init__(self, scope: Scope) -> None:
        self._scope = scope

    def invocation_metadata(self) -> Sequence[tuple[str, str]]:
        """Returns the request's headers."""
        headers: list[tuple[bytes, bytes]] = self._scope["headers"]
        return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]

    def metadata(self) -> Sequence[tuple[str, str]]:
        """Returns the headers that a gRPC server is to be told."""
        return [
            (name, value)
            for name, value in self.invocation_metadata()
            if name not in _OF_HTTP and _KEY.fullmatch(name) and _VALUE.fullmatch(value)
        ]

    def peer(self) -> str:
        """Returns the client's address, in the form of gRPC's own."""
        client: Any = self._scope.get("client")
        if not client:
            return ""
        host, port = client[0], client[1]
        return f"ipv6:[{host}]:{port}" if ":" in host else f"ipv4:{host}:{port}"

    def peer_identities(self) -> None:
        """Returns None: nobody is told by a certificate."""

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
