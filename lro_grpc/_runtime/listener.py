"""A socket that listens on ``HOST:PORT``, for servers that are not gRPC's."""

from __future__ import annotations

import socket

from lro_grpc._errors import ConfigurationError


def listener_on(address: str, *, shares_port: bool, backlog: int) -> socket.socket:
    """Returns a socket that listens, and does not block.

    Args:
        address: ``HOST:PORT``; port 0 for any.
        shares_port: Whether other processes of the same user may listen on the port, too, if they
            say so themselves (``SO_REUSEPORT``).
        backlog: The connections that may wait to be accepted.

    Raises:
        ConfigurationError: If the address cannot be listened on.
    """
    host, _, port = address.rpartition(":")
    if shares_port and not hasattr(socket, "SO_REUSEPORT"):
        raise ConfigurationError(
            f"cannot listen on {address}: processes cannot share a port on this system; give each"
            " one of its own"
        )
    try:
        found = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)
        family, kind, protocol, _, where = found[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if shares_port:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            listener.bind(where)
            listener.setblocking(False)
            listener.listen(backlog)
        except BaseException:
            listener.close()
            raise
    except (OSError, OverflowError, ValueError) as cause:
        raise ConfigurationError(
            f"cannot listen on {address}: {cause}; is another server running there?"
        ) from cause
    return listener
