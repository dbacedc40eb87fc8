"""What may help after an error, in a few words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lro_grpc._errors import Code

if TYPE_CHECKING:
    from lro_grpc._cli.connection import Connection
    from lro_grpc._errors import LroError

_OF_CODE = {
    Code.NOT_FOUND: "try `lro list PARENT`; names without a parent are under `operations`",
    Code.UNAUTHENTICATED: "try --metadata 'authorization=Bearer …'",
    Code.PERMISSION_DENIED: "try as someone else, with --metadata or --cert",
    Code.DEADLINE_EXCEEDED: "try a longer --timeout",
}


def hint(error: LroError, connection: Connection) -> str:
    """Returns what to look at or to try; empty if the error says it all."""
    if error.code is Code.UNAVAILABLE:
        return _unavailable(error.message, connection)
    if error.code is Code.UNIMPLEMENTED:
        return f"the server at {connection.target} does not offer this"
    return _OF_CODE.get(error.code, "")


def _unavailable(message: str, connection: Connection) -> str:
    """Tells by gRPC's own words, which change, what stands in the way of a connection."""
    listening = f"is a server listening on {connection.target}?"
    if "http1.x" in message:
        return f"what listens on {connection.target} does not speak gRPC"
    dropped = "Socket closed" in message or "reset by peer" in message
    if not connection.is_secure:
        return f"{listening} if it expects TLS, give --tls" if dropped else listening
    if dropped and connection.cert is None:
        return f"{listening} if it expects a certificate, give --cert and --key"
    if dropped:
        return f"{listening} if so, it may not accept --cert"
    if "WRONG_VERSION_NUMBER" in message:
        return "the server does not speak TLS: leave out the TLS options"
    if "security handshaker" in message or "empty address list" in message:
        return "are --ca-cert, --cert and --key PEM files, the last two a pair?"
    if "Hostname Verification" in message or "not in peer certificate" in message:
        return "the certificate is for another name: give --server-name"
    if "certificate" in message.lower():
        return "the certificate is not by an authority that is trusted: give --ca-cert"
    return listening
