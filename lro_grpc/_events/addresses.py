"""The addresses that a webhook may connect to: a table, and the rule over it. No input or output.

A URL that comes from a request is a stranger's: it could have the server send requests into its own
network, to what trusts whoever is inside. So it has to lead to a public address. A URL in the
author's code may lead anywhere but to the addresses that no receiver has: those of links, and those
at which a cloud's machines find their own credentials.

An IPv6 address that stands for one of IPv4 is judged as that. ``ipaddress`` knows which addresses
are public, but lets some of these through, differently in each version; so they are listed here.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Sequence

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def _networks(*texts: str) -> Sequence[Network]:
    return [ipaddress.ip_network(text) for text in texts]


_NEVER = _networks(
    "0.0.0.0/8",  # this host, to some systems
    "169.254.0.0/16",  # links, and most clouds' metadata
    "fe80::/10",  # links
    "100.100.100.200/32",  # metadata of Alibaba Cloud
    "168.63.129.16/32",  # of Azure
    "192.0.0.192/32",  # of Oracle Cloud
    "fd00:ec2::/32",  # of AWS
    "fd20:ce::254/128",  # of Google Cloud
    "224.0.0.0/4",  # multicast
    "ff00::/8",
    "240.0.0.0/4",  # reserved, and broadcast
    # Ways to IPv4 whose end cannot be told, or that nobody uses any more.
    "64:ff9b:1::/48",
    "2001::/32",
    "2002::/16",
)
"""The addresses that nothing may lead to."""

_COMPATIBLE = ipaddress.IPv6Network("::/96")
_TRANSLATED = ipaddress.IPv6Network("64:ff9b::/96")

_GIVEN_OUT = ipaddress.IPv6Network("2000::/3")
"""All addresses of IPv6 that anybody was given for the public."""

_PRIVATE = _networks("100.64.0.0/10", "192.0.0.0/24", "3fff::/20")
"""The addresses that are not public, beside those that ``ipaddress`` knows."""

_LOOPBACK = ipaddress.IPv6Address("::1")


def refusal(address: str, *, may_be_private: bool, allowed: Collection[Network]) -> str:
    """Returns why a webhook may not connect to an address; empty if it may.

    Args:
        address: The address, as a resolver gives it.
        may_be_private: Whether it need not be public.
        allowed: Networks that count as public.
    """
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return "is no address"
    if isinstance(ip, ipaddress.IPv6Address):
        if ip in _COMPATIBLE and ip != _LOOPBACK:
            return "is reserved"
        ip = _without_wrapping(ip)
    if _is_in(ip, _NEVER):
        return "is a link's, a cloud's own, or reserved"
    if may_be_private or _is_in(ip, allowed):
        return ""
    is_given_out = ip.version == 4 or ip in _GIVEN_OUT
    return "" if is_given_out and ip.is_global and not _is_in(ip, _PRIVATE) else "is not public"


def _without_wrapping(ip: ipaddress.IPv6Address) -> Address:
    """Returns the address of IPv4 that one of IPv6 stands for, or itself."""
    if ip.ipv4_mapped is not None:
        return ip.ipv4_mapped
    return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF) if ip in _TRANSLATED else ip


def _is_in(ip: Address, networks: Collection[Network]) -> bool:
    return any(ip.version == one.version and ip in one for one in networks)
