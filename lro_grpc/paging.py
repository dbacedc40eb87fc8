"""Page tokens (AIP-158): opaque, signed, bound to the request that they continue."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac

from lro_grpc._errors import InvalidArgumentError, InvalidPageTokenError

__all__ = [
    "DEFAULT_PAGE_SIZE",
    "MAX_PAGE_SIZE",
    "PageTokens",
    "page_size",
]

DEFAULT_PAGE_SIZE = 50
"""Operations on a page when the caller names no size."""

MAX_PAGE_SIZE = 1000
"""Operations on a page at most, unless a server has another limit."""

_SIGNATURE_BYTES = 16


def page_size(asked: int, *, most: int = MAX_PAGE_SIZE) -> int:
    """Returns the size to use for the size that a caller asked for (S12).

    Args:
        asked: What the caller asked for; 0 for the default.
        most: What a larger one is clamped to.

    Raises:
        InvalidArgumentError: If it is negative.
    """
    if asked < 0:
        raise InvalidArgumentError(
            f"page_size is {asked}; give a positive number,"
            f" or 0 for the default of {DEFAULT_PAGE_SIZE}",
            reason="INVALID_PAGE_SIZE",
            metadata={"page_size": str(asked)},
        )
    return min(asked or DEFAULT_PAGE_SIZE, most)


class PageTokens:
    """Makes and reads the page tokens of one server.

    A token is encrypted nowhere, but says nothing that a user could build on: it is the position
    masked with a keystream, and a signature over it and every argument of the request but the
    page size. It carries no authorization (S15).

    Args:
        key: At least 16 secret bytes, the same for every server on one store.
    """

    def __init__(self, key: bytes) -> None:
        if len(key) < 16:
            raise ValueError(f"the key has {len(key)} bytes; give at least 16")
        self._key = key

    def make(self, position: bytes, *arguments: str) -> str:
        """Returns the token that goes on after ``position`` in a request with these arguments."""
        signature = self._signature(position, arguments)
        return base64.urlsafe_b64encode(signature + self._mask(signature, position)).decode("ascii")

    def read(self, token: str, *arguments: str) -> bytes:
        """Returns the position in a token.

        Raises:
            InvalidPageTokenError: If the token is not of this server, or was given for a request
                with other arguments (S13).
        """
        try:
            raw = base64.b64decode(token.encode("ascii"), altchars=b"-_", validate=True)
        except (UnicodeEncodeError, binascii.Error) as cause:
            raise _refused() from cause
        if base64.urlsafe_b64encode(raw).decode("ascii") != token:  # padded otherwise, say
            raise _refused()
        signature, masked = raw[:_SIGNATURE_BYTES], raw[_SIGNATURE_BYTES:]
        position = self._mask(signature, masked)
        if not hmac.compare_digest(signature, self._signature(position, arguments)):
            raise _refused()
        return position

    def _signature(self, position: bytes, arguments: tuple[str, ...]) -> bytes:
        parts = [position, *(one.encode("utf-8") for one in arguments)]
        text = b"".join(len(part).to_bytes(8, "big") + part for part in parts)
        return hmac.digest(self._key, b"page" + text, hashlib.sha256)[:_SIGNATURE_BYTES]

    def _mask(self, nonce: bytes, data: bytes) -> bytes:
        stream = b"".join(
            hmac.digest(self._key, b"mask" + nonce + block.to_bytes(4, "big"), hashlib.sha256)
            for block in range((len(data) + 31) // 32)
        )
        return bytes(a ^ b for a, b in zip(data, stream, strict=False))


def _refused() -> InvalidPageTokenError:
    return InvalidPageTokenError(
        "page_token is not one of this server's, or was given for a request with other arguments;"
        " repeat the request that gave it with the token as it was, or start without one"
    )
