"""The addresses that a webhook may connect to, however they are spelled."""

from __future__ import annotations

import ipaddress

import pytest

from lro_grpc._events.addresses import refusal

PUBLIC = ["93.184.216.34", "8.8.8.8", "2606:2800:220:1::1", "::ffff:8.8.8.8", "64:ff9b::808:808"]
PRIVATE = [
    *("127.0.0.1", "127.1.2.3", "10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1"),
    *("192.0.0.8", "198.18.0.1", "192.0.2.1", "::1", "fc00::1", "fd12::1", "fec0::1"),
    *("::ffff:127.0.0.1", "::ffff:7f00:1", "::ffff:10.0.0.1", "64:ff9b::a00:1", "2001:db8::1"),
    # What nobody was given yet, and what some systems take for an address of IPv4.
    *("::ffff:0:127.0.0.1", "::ffff:0:a9fe:a9fe", "200::1", "3fff::1", "4000::1", "5f00::1"),
]
NEVER = [
    *("0.0.0.0", "0.1.2.3", "::", "::127.0.0.1", "::a9fe:a9fe"),
    *("169.254.169.254", "169.254.0.1", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe"),
    *("64:ff9b:1::a9fe:a9fe", "2002:a9fe:a9fe::1", "2001:0:a9fe::1"),
    *("fe80::1", "fe80::1%eth0", "fd00:ec2::254", "fd20:ce::254"),
    *("192.0.0.192", "168.63.129.16", "100.100.100.200"),
    *("224.0.0.1", "255.255.255.255", "240.0.0.1", "ff02::1"),
    *("", "example.com", "127.1", "0x7f.1", "2130706433", "1.2.3.4.5"),
]
EVERYTHING = [ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0")]


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_may_be_connected_to(address: str) -> None:
    assert refusal(address, may_be_private=False, allowed=[]) == ""


@pytest.mark.parametrize("address", PRIVATE)
def test_a_private_address_may_be_where_the_author_says_so(address: str) -> None:
    assert refusal(address, may_be_private=False, allowed=[]) == "is not public"
    assert refusal(address, may_be_private=True, allowed=[]) == ""
    assert refusal(address, may_be_private=False, allowed=EVERYTHING) == ""


@pytest.mark.parametrize("address", NEVER)
def test_some_addresses_may_never_be(address: str) -> None:
    """Whatever is allowed: links, clouds' own, ways to IPv4 whose end cannot be told."""
    for may_be_private in (False, True):
        assert refusal(address, may_be_private=may_be_private, allowed=EVERYTHING)


def test_an_allowed_network_allows_no_other() -> None:
    allowed = [ipaddress.ip_network("10.1.0.0/16")]
    assert refusal("10.1.2.3", may_be_private=False, allowed=allowed) == ""
    assert refusal("::ffff:10.1.2.3", may_be_private=False, allowed=allowed) == ""
    assert refusal("10.2.0.1", may_be_private=False, allowed=allowed)
