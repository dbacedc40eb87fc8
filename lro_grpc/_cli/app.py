"""Registers the commands of ``lro`` with their help."""

from __future__ import annotations

from typing import Annotated

import typer

from lro_grpc._cli.command import connecting, taking_connection
from lro_grpc._cli.commands import (
    console,
    control,
    database,
    demo,
    get,
    list_operations,
    protos,
    serve,
    stats,
    wait,
    watch,
    work,
)

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)


def _print_version(is_given: bool) -> None:
    if is_given:
        import importlib.metadata

        print(f"lro {importlib.metadata.version('lro-grpc')}")
        raise typer.Exit


@app.callback()
def _lro(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Long-running operations over gRPC.

    Exit codes: 0 succeeded, 1 failed, 2 wrong usage, 3 cancelled, 4 timeout, 130 Ctrl-C.
    """


app.command("list", help="List operations, newest first where the server has them so.")(
    connecting(list_operations.list_operations)
)
app.command("get", help="Show an operation.")(connecting(get.get))
app.command("stats", help="Count operations, by method and state; show which have waited longest.")(
    connecting(stats.stats)
)
app.command("wait", help="Wait until an operation is done, show it, and exit with its outcome.")(
    connecting(wait.wait)
)
app.command("watch", help="Show an operation as it goes on, and exit with its outcome.")(
    connecting(watch.watch)
)
app.command("cancel", help="Ask to cancel operations.")(connecting(control.cancel))
app.command("pause", help="Ask to pause operations.")(connecting(control.pause))
app.command("resume", help="Let paused operations go on.")(connecting(control.resume))
app.command(
    "terminate", help="End operations by force, if a cancel does not; this undoes nothing."
)(connecting(control.terminate))
app.command("rerun", help="Run operations again that are done, as new ones.")(
    connecting(control.rerun)
)
app.command("delete", help="Forget operations; this does not cancel them.")(
    connecting(control.delete)
)
app.command("console", help="Show pages about a server's operations, until SIGTERM or Ctrl-C.")(
    taking_connection(console.console)
)
app.command("serve", help="Serve long-running methods, until SIGTERM or Ctrl-C.")(serve.serve)
app.command("work", help="Run long-running methods, and serve nothing, until SIGTERM or Ctrl-C.")(
    work.work
)
app.command(
    "demo", help="Create a batch that fails, an instance that succeeds, and a snapshot of it."
)(demo.demo)

_db = typer.Typer(no_args_is_help=True)
_db.command("check", help="Look for damage; exit with 1 if there is any.")(database.check)
_db.command("backup", help="Copy the store as it is now, into a new file.")(database.backup)
_db.command("vacuum", help="Give the space of removed operations back.")(database.vacuum)
_db.command("copy", help="Copy all of a store into another one; no server may have either open.")(
    database.copy
)
_db.command("import", help="Store operations of another server as they were; none is run.")(
    database.import_
)
_db.command("migrate", help="Make the tables in Postgres, or bring them up to date.")(
    database.migrate
)
app.add_typer(_db, name="db", help="Look after a store.")


app.command("protos", help="Write the protos of lro and of google, for clients in any language.")(
    protos.protos
)


@app.command("protoc", add_help_option=False)
def _protoc() -> None:  # for the list of commands: __main__ runs it, which needs no extra for that
    """Run protoc with Google's and lro/v1's protos at hand: lro protoc ARGS…."""
