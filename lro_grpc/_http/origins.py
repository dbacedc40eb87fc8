"""Refuses requests that a page of a stranger's makes a browser send.

A browser sends a request wherever a page tells it to, with its user's cookies and from inside its
user's network. What it adds to the request gives such a page away; a client that is no browser adds
none of it, and is let in.

* **The host.** Once the name ``evil.example`` leads to this server (DNS rebinding), a page from
  there is of the server's own origin: it reads all answers, and only ``Host`` differs. An address
  and ``localhost`` cannot be led elsewhere; any other name has to be known.
* **The origin.** A page that cannot read the answer can still have the request sent, and what that
  changes is changed. So a request with a method that may change something comes from a page of
  this origin, or of one that is allowed. ``Sec-Fetch-Site`` says so; where a browser leaves that
  out, as it does for plain HTTP, ``Origin`` has the host that ``Host`` has. ``GET`` and ``HEAD``
  change nothing: ``method_routes`` binds no other method to them.
"""

from __future__ import annotations

import functools
import ipaddress
import re
from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import Scope

from lro_grpc._errors import ConfigurationError
from lro_grpc._http import responses

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
"""The methods that change nothing (RFC 9110, 9.2.1)."""

ANY = "*"
"""Stands for every origin, or every host."""


class Origins:
    """The hosts that a gateway answers for, and the origins whose pages may call it.

    Args:
        allow_origins: Origins besides its own, such as ``https://page.example``; ``*`` for any.
        allowed_hosts: Names of the server besides ``localhost``; ``*.example.com`` is for all below
            that name, and ``*`` for any.
        public_url: The URL at which clients reach the server; its host is allowed.

    Raises:
        ConfigurationError: If a host is none.
    """

    def __init__(
        self, allow_origins: Collection[str], allowed_hosts: Collection[str], public_url: str
    ) -> None:
        public = urlsplit(public_url)
        self._origins = {*allow_origins}
        if public.netloc:
            self._origins.add(f"{public.scheme}://{public.netloc}")
        self._hosts = {"localhost"}
        self._domains: tuple[str, ...] = ()
        self._any_host = ANY in allowed_hosts
        for text in {*allowed_hosts, public.netloc} - {ANY, ""}:
            host = _host_of(text.removeprefix("*."))
            if host is None:
                raise ConfigurationError(
                    f"the allowed host {text!r} is no host; give one such as api.example.com,"
                    " *.example.com for all below it, or * for any"
                )
            if text.startswith("*."):
                self._domains = (*self._domains, f".{host}")
            else:
                self._hosts.add(host)

    def check(self, scope: Scope) -> None:
        """Lets a request pass, or refuses it.

        Args:
            scope: The request, as ASGI describes it.

        Raises:
            HttpError: If it is sent to another host, or for a page of another origin.
        """
        headers = Headers(scope=scope)
        host = headers.get("host")
        # HTTP/1.0 has no Host, and no browser speaks that.
        if host is not None and not self._any_host and not self._has(host):
            raise responses.unknown_host(host)
        if scope["method"] in SAFE_METHODS:
            return
        site, origin = headers.get("sec-fetch-site"), headers.get("origin")
        if site is None:
            is_own = origin is None or origin.partition("://")[2] == host
        else:
            is_own = site in ("same-origin", "none")
        if not (is_own or origin in self._origins or ANY in self._origins):
            raise responses.cross_site(origin or f"another site ({site})")

    def _has(self, text: str) -> bool:
        host = _host_of(text)
        if host is None:
            return False
        return host in self._hosts or host.endswith(self._domains) or _is_address(host)


_HOST = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([\w.-]+))(?::\d*)?", re.ASCII)


def _host_of(text: str) -> str | None:
    """Returns the host of ``host`` or ``host:port``, in lower case; None if it is none."""
    found = _HOST.fullmatch(text)
    return (found[1] or found[2]).lower().removesuffix(".") if found else None


@functools.lru_cache(maxsize=128)
def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
