"""The commands of ``lro``, their arguments and their help."""

from __future__ import annotations

import importlib.metadata
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from lro_grpc._cli import shell_completion
from lro_grpc._cli.command import connecting
from lro_grpc._cli.commands import control, list_operations, wait, watch
from lro_grpc._cli.connection import DEFAULT_TARGET
from lro_grpc._cli.exit_codes import Exit
from lro_grpc._cli.output import Output
from lro_grpc._cli.session import Session
from lro_grpc._client.plan import RPC_TIMEOUT
from lro_grpc._dialects.registry import DIALECTS

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)


def _seconds(text: str) -> timedelta:
    """Reads ``--timeout``."""
    try:
        time = timedelta(seconds=float(text))
    except (ValueError, OverflowError) as cause:
        raise typer.BadParameter(f"{text!r} is not a number of seconds") from cause
    if time <= timedelta(0):
        raise typer.BadParameter(f"{text} is not above zero")
    return time


_NAME = "The operation's name: [{parent}/]operations/{id}."
_NAMES = "The operations' names: [{parent}/]operations/{id}."

Name = Annotated[
    str, typer.Argument(metavar="NAME", help=_NAME, autocompletion=shell_completion.operations)
]
UnfinishedName = Annotated[
    str, typer.Argument(metavar="NAME", help=_NAME, autocompletion=shell_completion.unfinished)
]
Names = Annotated[
    list[str],
    typer.Argument(metavar="NAME…", help=_NAMES, autocompletion=shell_completion.operations),
]
UnfinishedNames = Annotated[
    list[str],
    typer.Argument(metavar="NAME…", help=_NAMES, autocompletion=shell_completion.unfinished),
]
CallTimeout = Annotated[
    timedelta | None,
    typer.Option(
        "--timeout",
        parser=_seconds,
        metavar="SECONDS",
        help=f"How long each call may take; {RPC_TIMEOUT.seconds} unless given.",
    ),
]
WaitTimeout = Annotated[
    timedelta | None,
    typer.Option(
        "--timeout",
        parser=_seconds,
        metavar="SECONDS",
        help="How long to wait; as long as it takes unless given. Then the exit code is 4.",
    ),
]
Format = Annotated[
    Output,
    typer.Option(
        "--output",
        "-o",
        help=(
            "A table to read, or google.longrunning.Operation as JSON or YAML. Of several"
            " operations or states: a line of JSON for each, or a YAML document."
        ),
    ),
]


def _version(is_asked: bool) -> None:
    if is_asked:
        print(f"lro {importlib.metadata.version('lro-grpc')}")
        raise typer.Exit


@app.callback()
def _lro(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Long-running operations over gRPC.

    Exit codes: 0 succeeded, 1 failed, 2 wrong usage, 3 cancelled, 4 timeout, 130 Ctrl-C.
    """


@app.command("list")
@connecting
def _list(
    session: Session,
    parent: Annotated[
        str,
        typer.Argument(
            metavar="PARENT",
            help=(
                "The operations' parent, such as projects/p/locations/l, with - for any;"
                " `operations` for those without one."
            ),
            autocompletion=shell_completion.parents,
        ),
    ],
    filter_text: Annotated[
        str,
        typer.Option(
            "--filter",
            metavar="TEXT",
            help="Which ones, as in AIP-160: state = RUNNING AND verb = create.",
        ),
    ] = "",
    limit: Annotated[
        int | None, typer.Option(min=1, help="The most operations to list; all unless given.")
    ] = None,
    page_size: Annotated[
        int | None, typer.Option(min=1, help="The most operations to ask for in one call.")
    ] = None,
    output: Format = Output.TABLE,
    timeout: CallTimeout = None,
) -> Exit:
    """List operations, newest first where the server has them so."""
    return list_operations.run(
        session,
        parent,
        filter_text=filter_text,
        limit=limit,
        page_size=page_size,
        timeout=timeout or RPC_TIMEOUT,
        output=output,
    )


def _known_dialect(dialect: str | None) -> str | None:
    if dialect is not None and dialect not in DIALECTS:
        raise typer.BadParameter(f"{dialect!r} is not one of {', '.join(DIALECTS)}")
    return dialect


@app.command("get")
@connecting
def _get(
    session: Session,
    name: Name,
    output: Format = Output.TABLE,
    dialect: Annotated[
        str | None,
        typer.Option(
            "--as",
            metavar="|".join(DIALECTS),
            callback=_known_dialect,
            autocompletion=lambda: list(DIALECTS),
            help="Show it as the JSON of this dialect.",
        ),
    ] = None,
    timeout: CallTimeout = None,
) -> Exit:
    """Show an operation."""
    return control.get(session, name, timeout or RPC_TIMEOUT, output, dialect)


@app.command("wait")
@connecting
def _wait(
    session: Session,
    name: UnfinishedName,
    output: Format = Output.TABLE,
    timeout: WaitTimeout = None,
) -> Exit:
    """Wait until an operation is done, show it, and exit with its outcome."""
    return wait.wait(session, name, timeout, output)


@app.command("watch")
@connecting
def _watch(
    session: Session,
    name: UnfinishedName,
    output: Format = Output.TABLE,
    timeout: WaitTimeout = None,
) -> Exit:
    """Show an operation as it goes on, and exit with its outcome."""
    return watch.watch(session, name, timeout, output)


@app.command("cancel")
@connecting
def _cancel(
    session: Session,
    names: UnfinishedNames,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait until they are done, and exit with the outcome.")
    ] = False,
    timeout: CallTimeout = None,
) -> Exit:
    """Ask to cancel operations."""
    return control.cancel(session, names, timeout or RPC_TIMEOUT, waits=wait)


@app.command("pause")
@connecting
def _pause(session: Session, names: UnfinishedNames, timeout: CallTimeout = None) -> Exit:
    """Ask to pause operations."""
    return control.pause(session, names, timeout or RPC_TIMEOUT)


@app.command("resume")
@connecting
def _resume(session: Session, names: UnfinishedNames, timeout: CallTimeout = None) -> Exit:
    """Let paused operations go on."""
    return control.resume(session, names, timeout or RPC_TIMEOUT)


@app.command("delete")
@connecting
def _delete(session: Session, names: Names, timeout: CallTimeout = None) -> Exit:
    """Forget operations; this does not cancel them."""
    return control.delete(session, names, timeout or RPC_TIMEOUT)


@app.command("serve")
def _serve(
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
        str, typer.Option(help="What links in HTTP answers begin with.", metavar="URL")
    ] = "",
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
) -> None:
    """Serve long-running methods, until SIGTERM or Ctrl-C."""
    from lro_grpc._cli.commands import serve

    tls = (tls_cert, tls_key, tls_client_ca)
    serve.run(service, listen, store, data, http, public_url, tls)


@app.command("demo")
def _demo(
    target: Annotated[
        str,
        typer.Option(
            envvar="LRO_TARGET",
            help="A server started with `lro serve`; the demo starts its own without it.",
            metavar="HOST:PORT",
        ),
    ] = "",
) -> None:
    """Create a batch that fails, an instance that succeeds, and a snapshot of it."""
    from lro_grpc._cli.commands import demo

    demo.run(target)


@app.command("protoc", add_help_option=False)
def _protoc() -> None:
    """Run protoc with Google's and lro/v1's protos at hand: lro protoc ARGS…."""
