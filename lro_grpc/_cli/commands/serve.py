"""``lro serve``: a grpc.aio server with health, reflection and operations."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import os
import ssl
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from lro.example.v1 import fleet_service_lro
from lro_grpc._errors import ConfigurationError
from lro_grpc._example.service import FleetService
from lro_grpc._server.operations import Operations


@dataclass(frozen=True, slots=True)
class ServeTls:
    """What makes a server's TLS.

    Raises:
        ConfigurationError: If the files do not go together.
    """

    cert: Path | None = None
    """The server's certificate, and those between it and its authority (PEM)."""
    key: Path | None = None
    """The certificate's private key (PEM)."""
    client_ca: Path | None = None
    """The authorities of the clients (PEM): a client without a certificate is refused."""

    def __post_init__(self) -> None:
        """Checks what gRPC would not tell before the first client comes."""
        if (self.cert is None) != (self.key is None):
            raise ConfigurationError("TLS needs both --tls-cert and --tls-key; give the other one")
        if self.client_ca is not None and self.cert is None:
            raise ConfigurationError("--tls-client-ca needs --tls-cert and --tls-key")
        if self.cert is None:
            return
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            context.load_cert_chain(self.cert, self.key)
        except ssl.SSLError as cause:
            raise ConfigurationError(
                f"{self.cert} and {self.key} are not a certificate and its key in PEM: {cause}"
            ) from cause
        try:
            context.load_verify_locations(self.client_ca or self.cert)
        except ssl.SSLError as cause:
            raise ConfigurationError(
                f"{self.client_ca} is no certificate in PEM: {cause}"
            ) from cause

    def credentials(self) -> grpc.ServerCredentials | None:
        """Returns what gRPC needs; None without TLS."""
        if self.cert is None or self.key is None:
            return None
        authorities = self.client_ca.read_bytes() if self.client_ca else None
        return grpc.ssl_server_credentials(
            [(self.key.read_bytes(), self.cert.read_bytes())],
            root_certificates=authorities,
            require_client_auth=authorities is not None,
        )


AddServicers = Callable[[Any], object]
"""Adds servicers to a server, or to what stands in for it."""

PARENT = "projects/demo/locations/local"
"""Where the example's instances live when nobody says otherwise."""


def run(
    service: str | None,
    listen: str,
    store: str,
    data: Path | None,
    http: str,
    public_url: str,
    tls: tuple[Path | None, Path | None, Path | None],
) -> None:
    """Serves until it is told to stop; exits with 2 and one line if it cannot start."""
    try:
        credentials = ServeTls(*tls).credentials()
        with _servicers(service, store, data) as add:
            next_command = _next_command(service, listen, is_secure=credentials is not None)
            serving = _serve(add, listen, store, next_command, http, public_url, credentials)
            asyncio.run(serving)
    except ConfigurationError as error:
        print(f"lro: {error.message}", file=sys.stderr)
        sys.exit(2)


async def _serve(
    add: AddServicers,
    listen: str,
    store: str,
    next_command: str,
    http: str,
    public_url: str,
    credentials: grpc.ServerCredentials | None,
) -> None:
    operations = Operations(store)
    server, port, checks = await assemble(operations, add, listen, credentials)
    async with _over_http(operations, http, public_url) as http_port:

        def banner() -> None:
            host = listen.rpartition(":")[0]
            print(f"listening on   {host}:{port}")
            if http:
                print(f"over HTTP on   {http.rpartition(':')[0]}:{http_port}")
            print(f"operations in  {store}")
            print(f"recovered      {operations.recovered}")
            print(f"try            {next_command.replace(listen, f'{host}:{port}')}", flush=True)

        await operations.run(server, ready=banner, draining=checks.enter_graceful_shutdown)


@contextlib.asynccontextmanager
async def _over_http(
    operations: Operations, address: str, public_url: str
) -> AsyncIterator[int | None]:
    """Serves the operations over HTTP, if there is an address for it, and gives the port."""
    if not address:
        yield None
        return
    try:
        from lro_grpc._http.gateway import gateway
        from lro_grpc._http.listening import listening
    except ModuleNotFoundError as cause:
        raise ConfigurationError(
            f"--http needs {cause.name}: pip install 'lro-grpc[http]'"
        ) from cause
    async with listening(gateway(operations, public_url=public_url), address) as port:
        yield port


async def assemble(
    operations: Operations,
    add: AddServicers,
    listen: str,
    credentials: grpc.ServerCredentials | None = None,
) -> tuple[grpc.aio.Server, int, health.aio.HealthServicer]:
    """Makes a server that is ready to start, with health and reflection for what it serves.

    Args:
        operations: The operations to attach.
        add: Adds the servicers.
        listen: ``HOST:PORT``; port 0 for any.
        credentials: With which to listen; None for no TLS.

    Returns:
        The server, its port and its health checks.

    Raises:
        ConfigurationError: If the address cannot be listened on.
    """
    # Without so_reuseport a second server on the port fails, instead of sharing its traffic.
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    registrar = operations.attach(server)
    add(registrar)
    services = ("google.longrunning.Operations", *operations.services)
    checks = health.aio.HealthServicer()
    for name in services:
        await checks.set(name, health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    reflection.enable_server_reflection(
        (*services, health.SERVICE_NAME, reflection.SERVICE_NAME), server
    )
    try:
        if credentials is None:
            port = server.add_insecure_port(listen)
        else:
            port = server.add_secure_port(listen, credentials)
    except RuntimeError as cause:
        raise ConfigurationError(
            f"cannot listen on {listen}; is another server running there?"
        ) from cause
    return server, port, checks


@contextlib.contextmanager
def _servicers(service: str | None, store: str, data: Path | None) -> Iterator[AddServicers]:
    if service is not None:
        yield _load(service)
        return
    with contextlib.ExitStack() as stack:
        path = data or _default_data(store) or Path(stack.enter_context(_temporary()))
        path.mkdir(parents=True, exist_ok=True)
        yield lambda server: fleet_service_lro.add_FleetServiceServicer_to_server(
            FleetService(path), server
        )


def _default_data(store: str) -> Path | None:
    scheme, _, path = store.partition(":///")
    return Path(f"{path}.d") if scheme == "sqlite" and path else None


def _temporary() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="lro-fleet-")


def _load(service: str) -> AddServicers:
    """Returns the callable that ``MODULE:ATTRIBUTE`` names, looked for in this folder too."""
    module_name, separator, attribute = service.partition(":")
    if not (module_name and separator and attribute):
        raise ConfigurationError(f"{service!r} is not of the form MODULE:ATTRIBUTE")
    sys.path.insert(0, os.getcwd())
    try:
        found: Any = importlib.import_module(module_name)
        for part in attribute.split("."):
            found = getattr(found, part)
    except ModuleNotFoundError as cause:
        raise ConfigurationError(f"{service}: {cause}") from cause
    except AttributeError as cause:
        raise ConfigurationError(f"{service}: {cause}") from cause
    if not callable(found):
        raise ConfigurationError(
            f"{service} is {found!r}; give a callable (server) -> None that adds servicers"
        )
    add: AddServicers = found
    return add


def _next_command(service: str | None, listen: str, *, is_secure: bool) -> str:
    if is_secure:
        return f"lro list {PARENT} --target {listen} --tls"
    if service is None:
        return f"lro demo --target {listen}"
    return f"lro list operations --target {listen}"
