"""The commands of ``lro``, their arguments and their help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from lro_grpc.cli import client, demo, serve

app = typer.Typer(
    help="Long-running operations over gRPC.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Target = Annotated[
    str,
    typer.Option(envvar="LRO_TARGET", help="The server's address.", metavar="HOST:PORT"),
]
Name = Annotated[str, typer.Argument(help="The operation: [{parent}/]operations/{id}.")]

DEFAULT_TARGET = "127.0.0.1:50051"


@app.command("serve")
def _serve(
    service: Annotated[
        Optional[str],  # noqa: UP045 - typer evaluates it, on Python 3.10 too
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
        Optional[Path],  # noqa: UP045 - as above
        typer.Option(
            help="The example fleet's databases: STORE.d/ by default, a temporary one for memory:."
        ),
    ] = None,
) -> None:
    """Serve long-running methods, until SIGTERM or Ctrl-C."""
    serve.run(service, listen, store, data)


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
    demo.run(target)


@app.command("protoc", add_help_option=False)
def _protoc() -> None:
    """Run protoc with Google's and lro/v1's protos at hand: lro protoc ARGS…."""


@app.command("list")
def _list(
    parent: Annotated[
        str, typer.Argument(help="The operations' parent; `operations` for those without one.")
    ],
    target: Target = DEFAULT_TARGET,
) -> None:
    """List the operations of a parent, newest first."""
    client.list_operations(target, parent)


@app.command("get")
def _get(name: Name, target: Target = DEFAULT_TARGET) -> None:
    """Show an operation as JSON."""
    client.get(target, name)


@app.command("wait")
def _wait(
    name: Name,
    target: Target = DEFAULT_TARGET,
    timeout: Annotated[
        Optional[float],  # noqa: UP045 - as above
        typer.Option(help="Seconds to wait at most; for ever without it."),
    ] = None,
) -> None:
    """Wait until an operation is done, and show it."""
    client.wait(target, name, timeout)


@app.command("cancel")
def _cancel(name: Name, target: Target = DEFAULT_TARGET) -> None:
    """Ask to cancel an operation."""
    client.cancel(target, name)


@app.command("delete")
def _delete(name: Name, target: Target = DEFAULT_TARGET) -> None:
    """Forget an operation; this does not cancel it."""
    client.delete(target, name)
