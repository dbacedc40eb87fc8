"""``lro db``: check, backup and vacuum of a store's file, beside its server or without one."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Annotated

import typer

from lro_grpc._cli.command import reporting
from lro_grpc._cli.exit_codes import Exit
from lro_grpc._cli.output import print_message
from lro_grpc._stores.sqlite import upkeep
from lro_grpc._wire.plain_text import one_line

DEFAULT = Path("operations.db")
"""As that of ``lro serve``."""


def _file(text: str | Path) -> Path:
    """Reads STORE or DESTINATION."""
    path = str(text).removeprefix("sqlite:///")
    if not path or path == "memory:" or "://" in path:
        raise typer.BadParameter(f"{text!r} is no file; give its path, or sqlite:///FILE")
    return Path(path)


Store = Annotated[
    Path,
    typer.Argument(metavar="STORE", parser=_file, help="The file of the store, or sqlite:///FILE."),
]


@reporting(sqlite3.Error, OSError)
def check(store: Store = DEFAULT) -> Exit:
    """Prints what is damaged; exits with 1 if anything is."""
    damages = 0
    for damage in upkeep.check(store):
        print(one_line(damage), flush=True)
        damages += 1
    if damages:
        print_message(f"{store} is damaged; restore a backup, or delete the operations named here")
        return Exit.FAILED
    print(f"{store} is in good order")
    return Exit.SUCCEEDED


@reporting(sqlite3.Error, OSError)
def backup(
    store: Store,
    destination: Annotated[
        Path, typer.Argument(metavar="DESTINATION", parser=_file, help="The copy, a new file.")
    ],
) -> Exit:
    """Copies the store as it is now."""
    size = upkeep.back_up(store, destination)
    print(f"{destination}: {size:,} bytes")
    return Exit.SUCCEEDED


@reporting(sqlite3.Error, OSError)
def vacuum(store: Store = DEFAULT) -> Exit:
    """Gives the space of removed operations back."""
    before, after = upkeep.vacuum(store)
    print(f"{store}: {before:,} bytes before, {after:,} bytes now")
    return Exit.SUCCEEDED
