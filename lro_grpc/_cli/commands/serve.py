"""``lro serve``: serves a user's servicers, or the example fleet, until a signal comes."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import os
import re
import sys
import tempfile
from collections.abc import AsyncIterator, Collection, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

import lro_grpc
from lro_grpc._cli.connection import DEFAULT_TARGET
from lro_grpc._cli.exit_codes import Exit
from lro_grpc._cli.parameters import LameDuck
from lro_grpc._cli.server import (
    DEMO_PARENT,
    AddServicers,
    example_fleet,
    follow_health,
    make_server,
    read_credentials,
    warn_if_open,
)
from lro_grpc._errors import ConfigurationError


def serve(
    service: Annotated[
        str | None,
        typer.Argument(
            metavar="[MODULE:ATTRIBUTE]",
            help="A callable (server) -> None that adds servicers; the example fleet without it.",
        ),
    ] = None,
    listen: Annotated[str, typer.Option(help="Where to listen.", metavar="HOST:PORT")] = (
        DEFAULT_TARGET
    ),
    store: Annotated[
        str, typer.Option(help="Where operations are kept: sqlite:///FILE or memory:.")
    ] = "sqlite:///operations.db",
    data: Annotated[
        Path | None,
        typer.Option(
            help="The example fleet's databases: STORE.d/ by default, a temporary one for memory:."
        ),
    ] = None,
    http: Annotated[
        str, typer.Option(help="Where to listen for HTTP; nowhere without it.", metavar="HOST:PORT")
    ] = "",
    public_url: Annotated[
        str,
        typer.Option(
            help="Where clients reach the HTTP; links there begin with it.", metavar="URL"
        ),
    ] = "",
    allowed_host: Annotated[
        list[str] | None,
        typer.Option(
            help="A name by which clients reach the HTTP; several may be given.", metavar="HOST"
        ),
    ] = None,
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(
            help="An origin whose pages may call over HTTP; several may be given.", metavar="URL"
        ),
    ] = None,
    trusted_proxy: Annotated[
        list[str] | None,
        typer.Option(
            help="A proxy in front of the HTTP, whose X-Forwarded-For is believed; likewise.",
            metavar="ADDRESS",
        ),
    ] = None,
    tls_cert: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            help="The server's certificate (PEM), for TLS; HTTP stays plain.",
        ),
    ] = None,
    tls_key: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="The private key of --tls-cert (PEM)."),
    ] = None,
    tls_client_ca: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            help="The authorities of clients (PEM): who shows no certificate of theirs is refused.",
        ),
    ] = None,
    lame_duck: LameDuck = None,
) -> None:
    """Serves until a signal stops it; exits with 2 and the reason if it cannot start."""

    async def run(add: AddServicers) -> None:
        operations = lro_grpc.Operations(store)
        server, port, checks = await make_server(operations, add, listen, credentials)
        address = f"{_host(listen)}:{port}"
        warn_if_open(listen, "gRPC", is_authenticated=tls_client_ca is not None)
        async with _serving_http(
            operations,
            http,
            trusted_proxy or (),
            public_url=public_url,
            allowed_hosts=[*(allowed_host or ()), *_names(http)],
            allow_origins=allow_origin or (),
        ) as http_port:

            def print_banner() -> None:
                print(f"listening on   {address}")
                if http:
                    print(f"over HTTP on   {_host(http)}:{http_port}")
                print(f"operations in  {store}")
                print(f"recovered      {operations.recovered}")
                print(f"try            {_proposal(service, address, is_secure)}", flush=True)

            tasks: list[asyncio.Task[None]] = []

            def ready() -> None:
                print_banner()
                tasks.append(asyncio.create_task(follow_health(checks, operations)))

            await operations.run(
                server,
                ready=ready,
                draining=checks.enter_graceful_shutdown,
                lame_duck=lame_duck or timedelta(0),
            )

    try:
        credentials = read_credentials(tls_cert, tls_key, tls_client_ca)
        is_secure = credentials is not None
        with _servicers(service, store, data) as add:
            asyncio.run(run(add))
    except ConfigurationError as error:
        print(f"lro: {error.message}", file=sys.stderr)  # it may show a proto's missing lines
        raise typer.Exit(Exit.USAGE) from error


@contextlib.contextmanager
def _servicers(service: str | None, store: str, data: Path | None) -> Iterator[AddServicers]:
    """Gives the callable that adds a user's servicers, or the example's."""
    if service is not None:
        yield _load(service)
        return
    with contextlib.ExitStack() as stack:
        folder = data or _default_data(store) or Path(stack.enter_context(_temporary()))
        yield example_fleet(folder)


def _load(service: str) -> AddServicers:
    """Returns the callable that ``MODULE:ATTRIBUTE`` names, of a module in this folder, too."""
    module_name, separator, attribute = service.partition(":")
    if not (module_name and separator and attribute):
        raise ConfigurationError(f"{service!r} is not of the form MODULE:ATTRIBUTE")
    sys.path.insert(0, os.getcwd())
    try:
        found: Any = importlib.import_module(module_name)
        for part in attribute.split("."):
            found = getattr(found, part)
    except (ModuleNotFoundError, AttributeError) as cause:
        raise ConfigurationError(f"{service}: {cause}") from cause
    if not callable(found):
        raise ConfigurationError(
            f"{service} is {found!r}; give a callable (server) -> None that adds servicers"
        )
    add: AddServicers = found
    return add


def _default_data(store: str) -> Path | None:
    scheme, _, path = store.partition(":///")
    return Path(f"{os.path.realpath(path)}.d") if scheme == "sqlite" and path else None


def _temporary() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="lro-fleet-")


@contextlib.asynccontextmanager
async def _serving_http(
    operations: lro_grpc.Operations, address: str, trusted_proxies: Collection[str], **options: Any
) -> AsyncIterator[int | None]:
    """Serves the operations over HTTP too, and gives the port; None without an address.

    Args:
        operations: The operations.
        address: ``HOST:PORT``; empty for none.
        trusted_proxies: As of ``listening``.
        **options: Of the gateway.
    """
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
    warn_if_open(address, "HTTP", is_authenticated=False)
    app = gateway(operations, **options)
    async with listening(app, address, trusted_proxies=trusted_proxies) as port:
        yield port


def _host(listen: str) -> str:
    return listen.rpartition(":")[0]


def _names(listen: str) -> list[str]:
    """Returns the host that is listened on, if it is a name; an address is allowed anyway."""
    host = _host(listen)
    return [host] if re.fullmatch(r"[\w.-]+", host) else []


def _proposal(service: str | None, address: str, is_secure: bool) -> str:
    """Returns a command to try on the server."""
    if is_secure:
        return f"lro list {DEMO_PARENT} --target {address} --tls"
    if service is None:
        return f"lro demo --target {address}"
    return f"lro list operations --target {address}"
