"""A port that processes share: reserved for them, and refused to everyone else."""

from __future__ import annotations

import contextlib
import socket
from concurrent import futures
from typing import TYPE_CHECKING

import grpc
import pytest

from lro_grpc._cli.shared_port import reserved_port

if TYPE_CHECKING:
    from collections.abc import Iterator


def _has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


IPV6 = pytest.mark.skipif(not _has_ipv6(), reason="this machine has no IPv6")
HOSTS = [
    ("127.0.0.1", ["127.0.0.1"]),
    ("0.0.0.0", ["127.0.0.1"]),
    ("localhost", ["127.0.0.1"]),
    pytest.param("[::1]", ["::1"], marks=IPV6),
    pytest.param("[::]", ["127.0.0.1", "::1"], marks=IPV6),
]


@contextlib.contextmanager
def listening(address: str, *, shares_port: bool = True) -> Iterator[None]:
    """A gRPC server that listens as the worker does; a RuntimeError says that it cannot."""
    server = grpc.server(
        futures.ThreadPoolExecutor(1), options=[("grpc.so_reuseport", int(shares_port))]
    )
    server.add_insecure_port(address)
    server.start()
    try:
        yield
    finally:
        server.stop(0).wait()


def refused(address: str) -> bool:
    try:
        with reserved_port(address):
            return False
    except OSError:
        return True


@pytest.mark.parametrize(("host", "reached"), HOSTS)
def test_servers_share_a_port_that_is_reserved(host: str, reached: list[str]) -> None:
    with reserved_port(f"{host}:0") as address:
        port = int(address.removeprefix(f"{host}:"))
        assert port
        with listening(address), listening(address):
            for one in reached:
                socket.create_connection((one, port), timeout=20).close()
        with listening(address):  # it stays reserved while they come and go
            pass


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "localhost"])
def test_a_reservation_gets_no_connection(host: str) -> None:
    with reserved_port(f"{host}:0") as address:
        port = int(address.rpartition(":")[2])
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=20)


def test_a_server_that_does_not_share_is_refused() -> None:
    with (
        reserved_port("127.0.0.1:0") as address,
        pytest.raises(RuntimeError, match="Failed to bind"),
        listening(address, shares_port=False),
    ):
        pass


@pytest.mark.parametrize("shares_port", [False, True])
def test_a_port_on_which_others_listen_is_not_reserved(shares_port: bool) -> None:
    """Lest two services share the traffic of both."""
    with reserved_port("127.0.0.1:0") as address:
        pass
    with listening(address, shares_port=shares_port):
        assert refused(address)
    assert not refused(address)


def test_a_port_is_reserved_again_right_after_its_connections_have_ended() -> None:
    with reserved_port("127.0.0.1:0") as address:
        port = int(address.rpartition(":")[2])
        with socket.socket() as server:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            server.bind(("127.0.0.1", port))
            server.listen()
            client = socket.create_connection(("127.0.0.1", port), timeout=20)
            accepted, _ = server.accept()
            accepted.close()  # first, so that the port waits for what may come late
            assert client.recv(1) == b""
            client.close()
    assert not refused(address)


@pytest.mark.parametrize(
    "listen",
    ["unix:/tmp/socket", "127.0.0.1", ":0", "127.0.0.1:", "127.0.0.1:-1", "localhost:65536"],
)
def test_what_is_no_host_with_a_port_is_refused(listen: str) -> None:
    with pytest.raises(ValueError, match="HOST:PORT"), reserved_port(listen):
        pass


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(OSError, match="assign requested address"), reserved_port("192.0.2.1:0"):
        pass
