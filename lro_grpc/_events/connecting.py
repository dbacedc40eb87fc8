"""Connects to a host only if each of its addresses may be connected to.

The check is made when the connection is, and the connection goes to an address that was checked: a
host whose addresses change after a check, or that has a public one and a private one, gets no byte.
The name stays that of the host in TLS and in the request.
"""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial

import httpcore

from lro_grpc._runtime.threads import run_in_thread

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""Returns the addresses of a host, given with a port."""

_MOST_TRIED = 4
"""The most addresses of a host that are tried."""


class AddressRefusedError(httpcore.ConnectError):
    """A host has an address that must not be connected to.

    Args:
        why: The reason, as a sentence goes on behind "its address".
        address: The address; empty for none.
    """

    def __init__(self, why: str, address: str = "") -> None:
        super().__init__(f"its address {why}")
        self.address = address


class CheckedBackend(httpcore.AsyncNetworkBackend):
    """Connects by TCP; see the module.

    Args:
        resolve: Returns the addresses of a host.
        refusal: Returns why an address must not be connected to; empty if it may be.
    """

    def __init__(self, resolve: Resolve, refusal: Callable[[str], str]) -> None:
        self._resolve = resolve
        self._refusal = refusal
        self._backend = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connects to an address of a host.

        Raises:
            AddressRefusedError: If one of its addresses must not be connected to.
            httpcore.ConnectError: If it has none, or none of them answers.
        """
        try:
            addresses = await self._resolve(host, port)
        except (OSError, UnicodeError) as cause:
            raise httpcore.ConnectError(f"it is not found: {cause}") from cause
        if not addresses:
            raise httpcore.ConnectError("it has no address")
        for address in addresses:
            why = self._refusal(address)
            if why:
                raise AddressRefusedError(why, address)
        failure: Exception | None = None
        for address in addresses[:_MOST_TRIED]:
            try:
                return await self._backend.connect_tcp(
                    address, port, timeout, local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        assert failure is not None
        raise failure

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Refuses: a URL leads to no file."""
        del path, timeout, socket_options
        raise AddressRefusedError("is a file; a webhook is sent by TCP alone")

    async def sleep(self, seconds: float) -> None:
        """Returns after that many seconds."""
        await self._backend.sleep(seconds)


async def system_addresses(host: str, port: int) -> Sequence[str]:
    """Returns the addresses of a host, as the system's resolver has them.

    It is asked in a thread of its own: the few of the event loop's would be held by hosts that
    nobody answers for, and connections of others, as to a database, are looked up there.
    """
    look_up = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
    found = await run_in_thread("lro-webhook-host", look_up)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))
