"""``lro console``: serves pages about the operations of a server, until a signal comes."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from datetime import timedelta
from typing import Annotated

import typer

from lro_grpc._cli.command import reporting_errors, taking_connection
from lro_grpc._cli.connection import ConnectionOptions
from lro_grpc._cli.event_loop import Loop, LoopName, runner
from lro_grpc._cli.exit_codes import Exit
from lro_grpc._cli.server import check_address, is_local, names_of
from lro_grpc._errors import ConfigurationError

_GRACE = timedelta(seconds=1)
"""The time that requests have to end at the shutdown; a page asks again for what it has lost."""


@taking_connection
def console(
    connection: ConnectionOptions,
    listen: Annotated[
        str, typer.Option(help="Where to listen for browsers.", metavar="HOST:PORT")
    ] = "127.0.0.1:8090",
    parent: Annotated[
        list[str] | None,
        typer.Option(
            help=(
                "A parent to choose from, such as projects/p/locations/l; several may be given. The"
                " first one's operations are shown at first; those of all parents unless given."
            )
        ),
    ] = None,
    host: Annotated[
        list[str] | None,
        typer.Option(
            help="A name by which browsers reach it; several may be given.", metavar="NAME"
        ),
    ] = None,
    sign_in: Annotated[
        str,
        typer.Option(
            help=(
                "The metadata by which the server knows its callers, such as authorization: a page"
                " asks for its value."
            ),
            metavar="HEADER",
        ),
    ] = "",
    forward: Annotated[
        list[str] | None,
        typer.Option(
            help=(
                "A header that a proxy in front sets, and lets nobody else set; it is sent on as"
                " metadata. Several may be given."
            ),
            metavar="HEADER",
        ),
    ] = None,
    read_only: Annotated[
        bool, typer.Option("--read-only", help="Show operations only, and change none.")
    ] = False,
    prefix: Annotated[
        str,
        typer.Option(help="The path at which browsers reach it, such as /ops.", metavar="PATH"),
    ] = "",
    trusted_proxy: Annotated[
        list[str] | None,
        typer.Option(
            help=(
                "A proxy in front, whose X-Forwarded-For and X-Forwarded-Proto are believed;"
                " several may be given."
            ),
            metavar="ADDRESS",
        ),
    ] = None,
    loop: Loop = LoopName.AUTO,
) -> Exit:
    """Serves until a signal stops it, and exits with 0; with 2 and the reason if it cannot."""
    with reporting_errors():
        check_address("--listen", listen, "127.0.0.1:8090")
        if not (is_local(listen) or sign_in or forward or read_only):
            raise ConfigurationError(
                f"--listen {listen} is reached from other machines, and whoever reaches it could"
                " act on all operations: give --sign-in, --forward or --read-only, or listen on"
                " 127.0.0.1 behind a proxy"
            )
        try:
            from lro_grpc._console.console import console as app_of
            from lro_grpc._console.servers import CHANNEL_OPTIONS
            from lro_grpc._http.listening import listening
        except ModuleNotFoundError as cause:
            raise ConfigurationError(
                f"lro console needs {cause.name}: pip install 'lro-grpc[cli,console]'"
            ) from cause
        run_on_loop = runner(loop)
        address = listen.rpartition(":")[0]
        app = app_of(
            channel=lambda: connection.aio_channel(CHANNEL_OPTIONS),
            target=connection.target,
            parents=parent or (),
            metadata=connection.call_metadata,
            sign_in=sign_in,
            forward=forward or (),
            read_only=read_only,
            hosts=[*(host or ()), *names_of(listen)],
            prefix=prefix,
        )

        async def serve() -> None:
            stopped = asyncio.Event()
            for one in (signal.SIGINT, signal.SIGTERM):
                with contextlib.suppress(NotImplementedError):  # on Windows
                    asyncio.get_running_loop().add_signal_handler(one, stopped.set)
            serving = listening(app, listen, grace=_GRACE, trusted_proxies=trusted_proxy or ())
            async with serving as port:
                print(f"console on     http://{address}:{port}{prefix}/")
                print(f"operations of  {connection.target}", flush=True)
                await stopped.wait()

        run_on_loop(serve())
    return Exit.SUCCEEDED
