"""Registers the commands of ``lro`` with their help."""

from __future__ import annotations

from collections.abc import Callable
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

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None)


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


def _add(group: typer.Typer, name: str, text: str, command: Callable[..., None]) -> None:
    """Adds a command with its help, which the list of commands has in full, too."""
    group.command(name, help=text, short_help=text)(command)


_add(
    app,
    "list",
    "List operations, newest first where the server has them so.",
    connecting(list_operations.list_operations),
)
_add(app, "get", "Show an operation.", connecting(get.get))
_add(
    app,
    "stats",
    "Count operations, by method and state; show which have waited longest.",
    connecting(stats.stats),
)
_add(
    app,
    "wait",
    "Wait until an operation is done, show it, and exit with its outcome.",
    connecting(wait.wait),
)
_add(
    app,
    "watch",
    "Show an operation as it goes on, and exit with its outcome.",
    connecting(watch.watch),
)
_add(app, "cancel", "Ask to cancel operations.", connecting(control.cancel))
_add(app, "pause", "Ask to pause operations.", connecting(control.pause))
_add(app, "resume", "Let paused operations go on.", connecting(control.resume))
_add(
    app,
    "terminate",
    "End operations by force, if a cancel does not; this undoes nothing.",
    connecting(control.terminate),
)
_add(app, "rerun", "Run operations again that are done, as new ones.", connecting(control.rerun))
_add(app, "delete", "Forget operations; this does not cancel them.", connecting(control.delete))
_add(
    app,
    "console",
    "Show pages about a server's operations, until SIGTERM or Ctrl-C.",
    taking_connection(console.console),
)
_add(app, "serve", "Serve long-running methods, until SIGTERM or Ctrl-C.", serve.serve)
_add(
    app, "work", "Run long-running methods, and serve nothing, until SIGTERM or Ctrl-C.", work.work
)
_add(
    app,
    "demo",
    "Create a batch that fails, an instance that succeeds, and a snapshot of it.",
    demo.demo,
)

_db = typer.Typer(no_args_is_help=True)
_add(_db, "check", "Look for damage; exit with 1 if there is any.", database.check)
_add(_db, "backup", "Copy the store as it is now, into a new file.", database.backup)
_add(_db, "vacuum", "Give the space of removed operations back.", database.vacuum)
_add(
    _db,
    "copy",
    "Copy all of a store into another one; no server may have either open.",
    database.copy,
)
_add(
    _db, "import", "Store operations of another server as they were; none is run.", database.import_
)
_add(_db, "migrate", "Make the tables in Postgres, or bring them up to date.", database.migrate)
app.add_typer(_db, name="db", help="Look after a store.")


_add(
    app,
    "protos",
    "Write the protos of lro and of google, for clients in any language.",
    protos.protos,
)


def _protoc() -> None:
    """Stands in the list of commands: __main__ runs it, which needs no extra for that."""


_add(
    app,
    "protoc",
    "Run protoc with Google's and lro/v1's protos at hand: lro protoc ARGS….",
    _protoc,
)
