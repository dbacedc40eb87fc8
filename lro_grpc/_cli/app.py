"""Registers the commands of ``lro`` with their help."""

from __future__ import annotations

from typing import Annotated

import typer

from lro_grpc._cli.loaded_later import add_command

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


add_command(
    app,
    "list",
    "list_operations:list_operations",
    "List operations, newest first where the server has them so.",
)
add_command(app, "get", "get:get", "Show an operation.")
add_command(
    app,
    "stats",
    "stats:stats",
    "Count operations, by method and state; show which have waited longest.",
)
add_command(
    app, "wait", "wait:wait", "Wait until an operation is done, show it, and exit with its outcome."
)
add_command(
    app, "watch", "watch:watch", "Show an operation as it goes on, and exit with its outcome."
)
add_command(app, "cancel", "control:cancel", "Ask to cancel operations.")
add_command(app, "pause", "control:pause", "Ask to pause operations.")
add_command(app, "resume", "control:resume", "Let paused operations go on.")
add_command(
    app,
    "terminate",
    "control:terminate",
    "End operations by force, if a cancel does not; this undoes nothing.",
)
add_command(app, "rerun", "control:rerun", "Run operations again that are done, as new ones.")
add_command(app, "delete", "control:delete", "Forget operations; this does not cancel them.")
add_command(
    app,
    "console",
    "console:console",
    "Show pages about a server's operations, until SIGTERM or Ctrl-C.",
)
add_command(app, "serve", "serve:serve", "Serve long-running methods, until SIGTERM or Ctrl-C.")
add_command(
    app,
    "work",
    "work:work",
    "Run long-running methods, and serve nothing, until SIGTERM or Ctrl-C.",
)
add_command(
    app,
    "demo",
    "demo:demo",
    "Create a batch that fails, an instance that succeeds, and a snapshot of it.",
)

_db = typer.Typer(no_args_is_help=True)
add_command(_db, "check", "database:check", "Look for damage; exit with 1 if there is any.")
add_command(_db, "backup", "database:backup", "Copy the store as it is now, into a new file.")
add_command(_db, "vacuum", "database:vacuum", "Give the space of removed operations back.")
add_command(
    _db,
    "copy",
    "database:copy",
    "Copy all of a store into another one; no server may have either open.",
)
add_command(
    _db,
    "import",
    "database:import_",
    "Store operations of another server as they were; none is run.",
)
add_command(
    _db, "migrate", "database:migrate", "Make the tables in Postgres, or bring them up to date."
)
app.add_typer(_db, name="db", help="Look after a store.")

add_command(
    app,
    "protos",
    "protos:protos",
    "Write the protos of lro and of google, for clients in any language.",
)


def _protoc() -> None:
    """Stands in the list of commands: __main__ runs it, which needs no extra for that."""


_PROTOC = "Run protoc with Google's and lro/v1's protos at hand: lro protoc ARGS…."
app.command("protoc", help=_PROTOC, short_help=_PROTOC)(_protoc)
