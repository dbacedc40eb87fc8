"""Reserves a port for processes that share it.

The kernel gives each new connection to one of the sockets that listen on the port with
``SO_REUSEPORT``. The reservation is bound to the port and never listens, so that it gets none. It
keeps the port while its processes come and go, and lets them share one that the kernel has chosen.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import sys
from collections.abc import Collection, Iterator
from typing import Any

_MOST_TRIES = 10
"""Ports that are tried, if any will do, until one is free on all addresses of the host."""

_NOT_HERE = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
"""Errors of an address that this machine does not have, such as ``::1`` without IPv6."""


@contextlib.contextmanager
def reserved_port(listen: str) -> Iterator[str]:
    """Reserves a port while the context lasts.

    Args:
        listen: ``HOST:PORT``; port 0 for any.

    Yields:
        The address, with the port that is reserved: for processes of the same user to listen on,
        with ``SO_REUSEPORT``.

    Raises:
        ValueError: If the address is not of that form.
        OSError: If another process has the port, or this system cannot share one.
    """
    host, _, port = listen.rpartition(":")
    if not (host and port.isdecimal() and int(port) < 1 << 16):
        raise ValueError("processes share a HOST:PORT only")
    if sys.platform == "win32" or not hasattr(socket, "SO_REUSEPORT"):
        raise OSError("processes cannot share a port on this system")
    found = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)
    for tries_left in reversed(range(_MOST_TRIES)):
        with contextlib.ExitStack() as stack:
            try:
                number = _bind_all(found, int(port), stack)
            except OSError as error:
                if error.errno == errno.EADDRINUSE and port == "0" and tries_left:
                    continue
                raise
            yield f"{host}:{number}"
            return


@contextlib.contextmanager
def reserved(listen: str) -> Iterator[str]:
    """Reserves a port as ``reserved_port`` does, for an option of a command.

    Raises:
        ConfigurationError: If it cannot be had.
    """
    from lro_grpc._errors import ConfigurationError  # not before: it loads gRPC

    with contextlib.ExitStack() as stack:
        try:
            address = stack.enter_context(reserved_port(listen))
        except (OSError, ValueError) as cause:
            raise ConfigurationError(f"cannot listen on {listen}: {cause}") from cause
        yield address


def _bind_all(found: Collection[Any], port: int, stack: contextlib.ExitStack) -> int:
    """Binds a socket to each address of a host, all to the same port; returns that."""
    absent: OSError | None = None
    bound = 0
    for family, _, _, _, (address, _, *scope) in found:
        try:
            one = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
            _bind(one, (address, bound or port, *scope))
        except OSError as error:
            if error.errno not in _NOT_HERE:
                raise
            absent = error
        else:
            bound = one.getsockname()[1]
    if not bound:
        raise absent or OSError("the host has no address")
    return bound


def _bind(one: socket.socket, where: tuple[Any, ...]) -> None:
    """Binds a socket to a port that nobody else has, and lets others listen there then.

    A socket without ``SO_REUSEADDR`` keeps the port from all others, though nobody listens yet. It
    gets none to which connections have just ended: there the option is needed.
    """
    if one.family == socket.AF_INET6:
        one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, where[0] != "::")
    try:
        one.bind(where)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.bind(where)
    # Not before: it would join those who share the port already, such as another server's workers.
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
