"""Makes the gRPC server of ``lro serve`` and ``lro demo``: operations, health, reflection, TLS."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import re
import socket
import ssl
from pathlib import Path

import grpc
import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

import lro_grpc
from lro_grpc._cli.servicers import AddServicers
from lro_grpc._cli.symbols import Symbols
from lro_grpc._errors import ConfigurationError

_log = logging.getLogger("lro_grpc")

_HEALTH_SECONDS = 0.5
"""The interval at which the health of the operations is looked at."""

_SOCKETS = ("unix:", "unix-abstract:", "vsock:")
"""The beginnings of the addresses of gRPC's that have no port."""

MOST_PORT = 65_535
"""The highest port of TCP."""

DEMO_PARENT = "projects/demo/locations/local"
"""The parent of the demo's instances."""


async def make_server(
    operations: lro_grpc.Operations,
    add: AddServicers,
    listen: str,
    credentials: grpc.ServerCredentials | None = None,
    *,
    shares_port: bool = False,
) -> tuple[grpc.aio.Server, int, health.aio.HealthServicer]:
    """Makes a server that is ready to start, with health and reflection for its services.

    Args:
        operations: The operations to attach.
        add: Adds the servicers.
        listen: ``HOST:PORT``; port 0 for any.
        credentials: The server's TLS; None for none.
        shares_port: Whether other processes may listen on the port, too.

    Returns:
        The server, its port and its health checks.

    Raises:
        ConfigurationError: If the address cannot be listened on.
    """
    # Without so_reuseport a second server on the port fails, instead of sharing its traffic.
    options = (*lro_grpc.SERVER_OPTIONS, ("grpc.so_reuseport", int(shares_port)))
    server = grpc.aio.server(options=options)
    registrar = operations.attach(server)
    add(registrar)
    checks = health.aio.HealthServicer()
    for name in operations.services:
        await checks.set(name, health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    services = (*operations.services, health.SERVICE_NAME, reflection.SERVICE_NAME)
    reflection.enable_server_reflection(services, server, Symbols())
    try:
        if credentials is None:
            port = server.add_insecure_port(listen)
        else:
            port = server.add_secure_port(listen, credentials)
    except RuntimeError as cause:
        if credentials is not None and not _takes(server, credentials):
            raise ConfigurationError(
                "gRPC does not take the certificate of --tls-cert, as its log says; give one whose"
                " key is of RSA, or of ECDSA on P-256"
            ) from cause
        raise ConfigurationError(
            f"cannot listen on {listen}; is another server running there?"
        ) from cause
    return server, port, checks


async def follow_health(checks: health.aio.HealthServicer, operations: lro_grpc.Operations) -> None:
    """Turns all health checks to NOT_SERVING, for good, once the operations are not to be called.

    A drain does so itself, at once; this is for a store that has lost its file.
    """
    while operations.is_serving:  # noqa: ASYNC110 - nothing tells of a store that is lost
        await asyncio.sleep(_HEALTH_SECONDS)
    await checks.enter_graceful_shutdown()


def _takes(server: grpc.aio.Server, credentials: grpc.ServerCredentials) -> bool:
    """Returns whether a server, which is not going to be started, takes credentials."""
    try:
        return bool(server.add_secure_port("localhost:0", credentials))
    except RuntimeError:
        return False


def warn_if_open(listen: str, protocol: str, *, is_authenticated: bool) -> None:
    """Logs a warning if callers from other machines are let in without authentication.

    Args:
        listen: ``HOST:PORT``, or another address of gRPC's; empty for none.
        protocol: What is spoken there.
        is_authenticated: Whether callers have to show a certificate.
    """
    if is_authenticated or not listen or is_local(listen):
        return
    _log.warning(
        "no authentication of %s on %s: whoever reaches that address may see, start and end"
        " all operations; listen on 127.0.0.1%s",
        protocol,
        listen,
        " behind a proxy that authenticates" if protocol == "HTTP" else ", or give --tls-client-ca",
    )


def check_address(option: str, address: str, example: str, *, takes_sockets: bool = False) -> None:
    """Refuses what is no address: gRPC takes 443 where a port is missing, or another if it is high.

    Args:
        option: The option that has it.
        address: ``HOST:PORT``, or another address of gRPC's.
        example: Such an address, for the error.
        takes_sockets: Whether it may be one of gRPC's addresses that have no port, such as
            ``unix:PATH``.

    Raises:
        ConfigurationError: If the host or the port is missing, or the port is no number of one.
    """
    if takes_sockets and address.startswith(_SOCKETS):
        return
    host, _, port = address.rpartition(":")
    if not host or re.fullmatch("[0-9]{1,5}", port) is None or int(port) > MOST_PORT:
        raise ConfigurationError(f"{option} {address!r} is no HOST:PORT, such as {example}")


def names_of(listen: str) -> list[str]:
    """Returns the host of ``HOST:PORT``, if it is a name: browsers may ask for that."""
    host = listen.rpartition(":")[0]
    return [host] if re.fullmatch(r"[\w.-]+", host) else []


def is_local(listen: str) -> bool:
    """Returns whether an address is reached from this machine only.

    Args:
        listen: ``HOST:PORT``, or another address of gRPC's.
    """
    if listen.startswith(("unix:", "unix-abstract:")):
        return True
    host = listen.removeprefix("ipv4:").removeprefix("ipv6:").rpartition(":")[0].strip("[]")
    try:
        found = socket.getaddrinfo(host or None, 0, flags=socket.AI_PASSIVE)
    except OSError:
        return False
    return all(
        ipaddress.ip_address(str(where[0]).partition("%")[0]).is_loopback for *_, where in found
    )


def read_credentials(
    cert: Path | None, key: Path | None, client_ca: Path | None
) -> grpc.ServerCredentials | None:
    """Reads the files of a server's TLS, and checks them: gRPC would not until a client comes.

    Args:
        cert: The server's certificate, and those between it and its authority (PEM).
        key: The certificate's private key (PEM).
        client_ca: The authorities of the clients (PEM): a client without a certificate is refused.

    Returns:
        The credentials; None without files.

    Raises:
        ConfigurationError: If the files do not go together.
    """
    if (cert is None) != (key is None):
        raise ConfigurationError("TLS needs both --tls-cert and --tls-key; give the other one")
    if client_ca is not None and cert is None:
        raise ConfigurationError("--tls-client-ca needs --tls-cert and --tls-key")
    if cert is None or key is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)

    def no_password() -> str:
        raise ConfigurationError(
            f"{key} is encrypted, and a server has nobody to ask for its password; decrypt it with"
            f" openssl pkey -in {key}"
        )

    try:
        context.load_cert_chain(cert, key, no_password)
    except OSError as cause:  # of which ssl.SSLError is one
        raise ConfigurationError(
            f"{cert} and {key} are not a certificate and its key in PEM: {cause}"
        ) from cause
    try:
        context.load_verify_locations(client_ca or cert)
    except OSError as cause:
        raise ConfigurationError(
            f"{client_ca or cert} is no certificate in PEM: {cause}"
        ) from cause
    authorities = client_ca.read_bytes() if client_ca else None
    return grpc.ssl_server_credentials(
        [(key.read_bytes(), cert.read_bytes())],
        root_certificates=authorities,
        require_client_auth=authorities is not None,
    )
