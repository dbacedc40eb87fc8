"""Trouble as a page tells it: a heading, a code, a message, and what to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lro_grpc._console.markup import cut
from lro_grpc._errors import Code, LroError


@dataclass(frozen=True, slots=True)
class Trouble:
    """An error that stands in the place of a page, or of a part of one."""

    heading: str
    code: str
    message: str
    advice: str
    status: int
    """The status of the HTTP answer."""
    again: str
    """The address to try again; empty if that is of no use."""
    back: str
    """The address to go back to; empty for the list."""


@dataclass(frozen=True, slots=True)
class _Kind:
    status: int
    heading: str
    advice: str


_KINDS: Mapping[Code, _Kind] = {
    Code.NOT_FOUND: _Kind(
        404, "There is no such operation", "It was deleted, has expired, or never was."
    ),
    Code.PERMISSION_DENIED: _Kind(
        403, "You may not see this", "Those who run the service say who may."
    ),
    Code.UNAUTHENTICATED: _Kind(401, "You are signed out", "Sign in to go on."),
    Code.INVALID_ARGUMENT: _Kind(
        400, "The server does not take this", "Look at the address, or begin again from the list."
    ),
    Code.FAILED_PRECONDITION: _Kind(
        409, "That is not possible now", "Look at the operation: its state may have changed."
    ),
    Code.ABORTED: _Kind(409, "Something else came first", "Look at it, and try again."),
    Code.UNIMPLEMENTED: _Kind(
        501, "This server does not have that", "It is another kind of server, or an older version."
    ),
    Code.UNAVAILABLE: _Kind(503, "The server does not answer", "It is away, or on its way back."),
    Code.DEADLINE_EXCEEDED: _Kind(
        504, "The server takes too long", "It is there, and has too much to do."
    ),
    Code.RESOURCE_EXHAUSTED: _Kind(
        503, "This is too much for the server", "Ask for less, or a little later."
    ),
}
_OTHER = _Kind(502, "The server refuses this", "The message is the server's own.")


def trouble_of(error: LroError, *, again: str = "", back: str = "") -> Trouble:
    """Returns the trouble that an error is.

    Args:
        error: It.
        again: The address to try again.
        back: The address to go back to; empty for the list.
    """
    kind = _KINDS.get(error.code, _OTHER)
    # The text that gRPC has for a server that is away names hosts, which are nobody's business.
    message = "" if error.code is Code.UNAVAILABLE else cut(error.message, 2_000)
    return Trouble(
        heading=kind.heading,
        code=error.code.name,
        message=message,
        advice=kind.advice,
        status=kind.status,
        again=again,
        back=back,
    )
