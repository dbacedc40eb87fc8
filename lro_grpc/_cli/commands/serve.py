"""``lro serve``: serves a user's servicers, or the example fleet, until a signal comes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Collection, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import grpc.aio
import typer

import lro_grpc
from lro_grpc._cli import log_lines, temporal
from lro_grpc._cli.command import reporting_errors
from lro_grpc._cli.connection import DEFAULT_TARGET
from lro_grpc._cli.event_loop import Loop, LoopName, runner
from lro_grpc._cli.lifeline import Lifeline
from lro_grpc._cli.metrics import (
    Measured,
    Metrics,
    metrics_of_worker,
    reserved_for_workers,
    telling_metrics,
)
from lro_grpc._cli.parameters import DEFAULT_LEASE, LameDuck, Lease, WorkerOf
from lro_grpc._cli.server import (
    check_address,
    follow_health,
    is_local,
    make_server,
    names_of,
    read_credentials,
    warn_if_open,
)
from lro_grpc._cli.servicers import AddServicers, example_fleet, load_servicers
from lro_grpc._cli.shared_port import reserved
from lro_grpc._cli.shared_store import check_shared
from lro_grpc._cli.workers import MOST_WORKERS, run_workers
from lro_grpc._errors import ConfigurationError, LroError
from lro_grpc._runtime import garbage
from lro_grpc._stores.open_url import without_password

_GRACE = timedelta(seconds=10)

_STOP_MARGIN = timedelta(seconds=10)
"""The time that a worker may take for its drain beyond what its calls and its handlers are given.

In an outage the last outcomes take 1 s of it, the last heartbeat 1 s, and the store's close 5 s.
"""


def serve(
    service: Annotated[
        str | None,
        typer.Argument(
            metavar="MODULE:ATTRIBUTE",
            help="A callable (server) -> None that adds servicers; the example fleet without it.",
        ),
    ] = None,
    listen: Annotated[str, typer.Option(help="Where to listen.", metavar="HOST:PORT")] = (
        DEFAULT_TARGET
    ),
    store: Annotated[
        str,
        typer.Option(help="Where operations are kept: sqlite:///FILE, postgresql://… or memory:."),
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
    prefix: Annotated[
        list[str] | None,
        typer.Option(
            help="The beginning of the paths of operations over HTTP; /v1 unless given; likewise.",
            metavar="PATH",
        ),
    ] = None,
    docs: Annotated[
        bool,
        typer.Option("--docs", help="Show a page about the API over HTTP at /docs of it."),
    ] = False,
    console: Annotated[
        bool,
        typer.Option("--console", help="Show pages about the operations at /console of the HTTP."),
    ] = False,
    console_read_only: Annotated[
        bool,
        typer.Option("--console-read-only", help="As --console, but the pages change nothing."),
    ] = False,
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
    lease: Lease = None,
    lame_duck: LameDuck = None,
    loop: Loop = LoopName.AUTO,
    metrics: Metrics = "",
    log_format: log_lines.Format = None,
    log_level: log_lines.Level = None,
    temporal_address: temporal.Address = "",
    temporal_namespace: temporal.Namespace = None,
    temporal_queue: temporal.Queue = None,
    temporal_tls: temporal.Tls = False,
    temporal_rate: temporal.Rate = None,
    temporal_standalone: temporal.Standalone = None,
    no_handlers: Annotated[
        bool,
        typer.Option("--no-handlers", help="Leave the handlers to `lro work`; needs --temporal."),
    ] = False,
    workers: Annotated[
        int,
        typer.Option(
            min=1,
            max=MOST_WORKERS,
            help="How many processes serve; more than one need a store that they share.",
        ),
    ] = 1,
    worker_of: WorkerOf = None,
) -> None:
    """Serves until a signal stops it.

    Exits with 0 after the drain; with 2 and the reason if it cannot start; with 1 if the store
    fails it as it starts, if workers die again and again until none serves, or if one has to be
    killed at the end.
    """
    stop_seconds = (2 * _GRACE + (lame_duck or timedelta(0)) + _STOP_MARGIN).total_seconds()

    async def run(add: AddServicers, measured: Measured) -> None:
        operations = lro_grpc.Operations(
            store,
            lease=lease or DEFAULT_LEASE,
            grace=_GRACE,
            engine=engine,
            telemetry=measured.telemetry,
        )
        server, port, checks = await make_server(
            operations, add, listen, credentials, shares_port=is_worker
        )
        address = f"{_host(listen)}:{port}"
        async with _serving_http(
            operations,
            server,
            http,
            trusted_proxy or (),
            shares_port=is_worker,
            public_url=public_url,
            allowed_hosts=[*(allowed_host or ()), *names_of(http)],
            allow_origins=allow_origin or (),
            prefix=prefix or "/v1",
            docs=docs,
            console={"target": address, "read_only": console_read_only} if has_console else None,
        ) as http_port:
            tasks: list[asyncio.Task[None]] = []

            def ready() -> None:
                garbage.search_less()
                if lifeline is None:
                    over_http = http and f"{_host(http)}:{http_port}"
                    print_banner(
                        address, over_http, measured.address, "recovered", operations.recovered
                    )
                else:
                    lifeline.ready()
                tasks.append(asyncio.create_task(follow_health(checks, operations)))

            with reporting_errors(LroError, OSError):
                await operations.run(
                    server,
                    ready=ready,
                    draining=checks.enter_graceful_shutdown,
                    lame_duck=lame_duck or timedelta(0),
                )

    def print_banner(address: str, over_http: str, metrics_at: str, label: str, count: int) -> None:
        print(f"listening on   {address}")
        if over_http:
            print(f"over HTTP on   {over_http}")
        if docs:
            print(f"API shown on   http://{over_http}/docs")
        if has_console:
            print(f"console on     http://{over_http}/console/")
        if metrics_at:
            print(f"metrics on     {metrics_at}")
        print(f"operations in  {without_password(store)}")
        if temporal_address:
            print(f"delivered by   Temporal at {temporal_address}")
        print(f"{label:13}  {count}")
        print(f"try            {_proposal(service, address, is_secure)}", flush=True)

    def supervise() -> None:
        check_shared(store, "--workers above 1")
        with contextlib.ExitStack() as stack:
            address, over_http = (
                where and stack.enter_context(reserved(where)) for where in (listen, http)
            )
            changes = {"--listen": address, "--http": over_http}
            if service is None:  # of the example, all have the same
                changes["--data"] = str(data or stack.enter_context(_temporary()))
            metrics_at = stack.enter_context(reserved_for_workers(metrics, workers))
            with reporting_errors(OSError):
                run_workers(
                    workers,
                    lambda number: {**changes, **metrics_of_worker(metrics, number)},
                    ready=lambda: print_banner(address, over_http, metrics_at, "workers", workers),
                    stop_seconds=stop_seconds,
                )

    is_secure = tls_cert is not None
    is_worker = worker_of is not None
    has_console = console or console_read_only
    with reporting_errors():
        check_address("--listen", listen, "127.0.0.1:50051", takes_sockets=True)
        if http:
            check_address("--http", http, "127.0.0.1:8080")
        if docs and not http:
            raise ConfigurationError("--docs is shown over HTTP; give --http HOST:PORT, too")
        if has_console and not http:
            raise ConfigurationError("--console is shown over HTTP; give --http HOST:PORT, too")
        if console and not console_read_only and not is_local(http):
            raise ConfigurationError(
                f"--http {http} is reached from other machines, and by --console whoever reaches it"
                " could act on all operations: give --console-read-only, or listen on 127.0.0.1"
                " behind a proxy that authenticates"
            )
        log_lines.configure(log_format, log_level)
        run_on_loop = runner(loop)
        engine = temporal.engine_of(
            temporal_address,
            temporal_namespace,
            temporal_queue,
            temporal_rate,
            tls=temporal_tls,
            standalone=temporal_standalone,
            runs_handlers=not no_handlers,
        )
        if not is_worker:
            warn_if_open(listen, "gRPC", is_authenticated=tls_client_ca is not None)
            warn_if_open(http, "HTTP", is_authenticated=False)
        if workers > 1:
            supervise()
            return
        lifeline = None if worker_of is None else Lifeline(worker_of, stop_seconds)
        credentials = read_credentials(tls_cert, tls_key, tls_client_ca)
        with (
            telling_metrics(metrics, shares_port=is_worker) as measured,
            _servicers(service, store, data) as add,
        ):
            run_on_loop(run(add, measured))


@contextlib.contextmanager
def _servicers(service: str | None, store: str, data: Path | None) -> Iterator[AddServicers]:
    """Gives the callable that adds a user's servicers, or the example's."""
    if service is not None:
        yield load_servicers(service)
        return
    with contextlib.ExitStack() as stack:
        folder = data or _default_data(store) or Path(stack.enter_context(_temporary()))
        yield example_fleet(folder)


def _default_data(store: str) -> Path | None:
    scheme, _, path = store.partition(":///")
    return Path(f"{os.path.realpath(path)}.d") if scheme == "sqlite" and path else None


def _temporary() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="lro-fleet-")


@contextlib.asynccontextmanager
async def _serving_http(
    operations: lro_grpc.Operations,
    server: grpc.aio.Server,
    address: str,
    trusted_proxies: Collection[str],
    *,
    shares_port: bool,
    console: Mapping[str, Any] | None,
    **options: Any,
) -> AsyncIterator[int | None]:
    """Serves the operations over HTTP too, and gives the port; None without an address.

    Args:
        operations: The operations.
        server: Their server, which has not started.
        address: ``HOST:PORT``; empty for none.
        trusted_proxies: As of ``listening``.
        shares_port: Likewise.
        console: Options of the console; None for no console.
        **options: Of the gateway.
    """
    if not address:
        yield None
        return
    try:
        from lro_grpc._http.gateway import console_beside, gateway
        from lro_grpc._http.listening import listening

        if console is not None:
            url, hosts = options["public_url"], options["allowed_hosts"]
            options["console"] = console_beside(operations, None, url, hosts, **console)
    except ModuleNotFoundError as cause:
        option, extra = ("--http", "http") if console is None else ("--console", "console")
        raise ConfigurationError(
            f"{option} needs {cause.name}: pip install 'lro-grpc[{extra}]'"
        ) from cause
    async with _channel_within(server) as channel:
        app = gateway(operations, channel=channel, **options)
        async with listening(
            app, address, trusted_proxies=trusted_proxies, shares_port=shares_port
        ) as port:
            yield port


@contextlib.asynccontextmanager
async def _channel_within(server: grpc.aio.Server) -> AsyncIterator[grpc.aio.Channel | None]:
    """Gives a channel to a server of this process, on a socket that its user alone can reach.

    So there is one whatever the server's TLS asks for. None where there are no such sockets.

    Args:
        server: The server, which has not started.
    """
    if sys.platform == "win32":
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="lro-", dir=_short_folder()) as folder:
        target = f"unix:{folder}/grpc"
        server.add_insecure_port(target)
        async with grpc.aio.insecure_channel(target) as channel:
            yield channel


def _short_folder() -> str | None:
    """Returns a folder for sockets, whose paths have some 100 bytes; None for the usual one."""
    is_long = len(os.fsencode(tempfile.gettempdir())) > _MOST_FOLDER
    return "/tmp" if is_long else None  # noqa: S108 - the folder in it is made by tempfile


_MOST_FOLDER = 70
"""The most bytes of the path of a folder in which a folder with a socket is made."""


def _host(listen: str) -> str:
    return listen.rpartition(":")[0]


def _proposal(service: str | None, address: str, is_secure: bool) -> str:
    """Returns a command to try on the server."""
    if service is None and not is_secure:
        return f"lro demo --target {address}"
    return f"lro list --target {address}{' --tls' if is_secure else ''}"
