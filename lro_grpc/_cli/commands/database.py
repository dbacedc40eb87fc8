"""``lro db``: looks after a store: its file, its tables in Postgres, a copy in another store."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from lro_grpc._cli.command import reporting
from lro_grpc._cli.exit_codes import Exit
from lro_grpc._cli.output import print_message
from lro_grpc._cli.parameters import DryRun, Retention
from lro_grpc._cli.servicers import import_here
from lro_grpc._errors import ConfigurationError, LroError
from lro_grpc._stores.open_url import is_postgres, postgres_module, without_password
from lro_grpc._stores.sqlite import upkeep
from lro_grpc._wire.plain_text import one_line

if TYPE_CHECKING:
    from lro_grpc._stores.copy_store import CopyProgress

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

StoreOrUrl = Annotated[
    str, typer.Argument(metavar="STORE", help="The file of the store, or its URL.")
]


def _url(text: str) -> str:
    """Reads FROM or TO."""
    return text if "://" in text or text == "memory:" else f"sqlite:///{text}"


@reporting(LroError, sqlite3.Error, OSError)
def check(store: StoreOrUrl = str(DEFAULT)) -> Exit:
    """Prints what is damaged; exits with 1 if anything is."""
    if is_postgres(store):
        place: str | Path = postgres_module("options", store).parse(store).place
        damages = asyncio.run(_print_all(postgres_module("upkeep", store).check(store)))
    else:
        place = _file(store)
        damages = 0
        for damage in upkeep.check(place):
            print(one_line(damage), flush=True)
            damages += 1
    if damages:
        print_message(f"{place} is damaged; restore a backup, or delete the operations named here")
        return Exit.FAILED
    print(f"{place} is in good order")
    return Exit.SUCCEEDED


async def _print_all(damages: AsyncGenerator[str, None]) -> int:
    """Prints sentences as they come, and returns their number."""
    number = 0
    async with contextlib.aclosing(damages):
        async for damage in damages:
            print(one_line(damage), flush=True)
            number += 1
    return number


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


@reporting(LroError)
def migrate(
    store: Annotated[
        str, typer.Argument(metavar="URL", help="The URL of a store in Postgres, for its owner.")
    ],
) -> Exit:
    """Makes the tables of a store, or brings them up to date."""
    if not is_postgres(store):
        raise ConfigurationError(
            f"{without_password(store)!r} is no store in Postgres; give postgresql://user@host/"
            "database. The server of a file makes the tables itself"
        )
    options = postgres_module("options", store).parse(store)
    schema = asyncio.run(postgres_module("schema", store).prepare(options)).schema
    print(f"{options.place}: the tables in the schema {schema} are up to date")
    return Exit.SUCCEEDED


@reporting(LroError, sqlite3.Error, OSError)
def copy(
    source: Annotated[
        str, typer.Argument(metavar="FROM", parser=_url, help="A file, or the URL of a store.")
    ],
    destination: Annotated[
        str,
        typer.Argument(
            metavar="TO", parser=_url, help="A new file, or the URL of a store with no operations."
        ),
    ],
) -> Exit:
    """Copies all of a store into another one; exits with 1 if anything damaged is left out."""
    copied = asyncio.run(_copy(source, destination))
    left_out = f", {copied.left_out:,} damaged ones left out" if copied.left_out else ""
    if number := copied.attempts_left_out:
        left_out += f", {number:,} damaged attempt{'s' * (number > 1)} left out"
    print(f"{copied.destination}: {copied.operations:,} operations of {copied.source}{left_out}")
    return Exit.FAILED if left_out else Exit.SUCCEEDED


@reporting(LroError, sqlite3.Error, OSError)
def import_(
    file: Annotated[
        str,
        typer.Argument(metavar="FILE", help="The operations, one a line, as JSON; - for stdin."),
    ],
    store: Annotated[
        str, typer.Argument(metavar="STORE", parser=_url, help="The file of the store, or its URL.")
    ] = str(DEFAULT),
    unfinished: Annotated[
        Literal["abort", "leave"],
        typer.Option(help="Whether those that are not done fail with ABORTED, or are left out."),
    ] = "abort",
    retention: Retention = "30d",  # type: ignore[assignment]  # Typer parses it
    types: Annotated[
        list[str] | None,
        typer.Option(metavar="MODULE", help="Imports a module with message types; repeatable."),
    ] = None,
    dry_run: DryRun = False,
) -> Exit:
    """Stores operations of another server as they were; exits with 1 if any is refused."""
    # Not at the top: no other command has to wait for these.
    from lro_grpc._cli.import_file import import_file

    if store == "memory:" and not dry_run:
        raise ConfigurationError(
            "memory: would be gone when this command ends; give a file, postgresql://… or --dry-run"
        )
    for module in types or ():
        try:
            import_here(module)
        except ImportError as cause:
            raise ConfigurationError(f"--types {module}: {cause}") from cause
    with open(0 if file == "-" else file, "rb") as lines:
        importing = import_file(lines, store, unfinished, retention, print_message, is_dry=dry_run)
        imported, refused = asyncio.run(importing)
    print(
        f"{without_password(store).removeprefix('sqlite:///')}: {imported.stored:,} operations"
        f" {'would be imported' if dry_run else 'imported'}, {imported.skipped:,} there already"
        + (f", {imported.left_out:,} that are not done left out" if imported.left_out else "")
        + (f", {refused:,} lines refused" if refused else "")
    )
    return Exit.FAILED if refused else Exit.SUCCEEDED


async def _copy(source: str, destination: str) -> CopyProgress:
    """Copies a store, shows the progress on a terminal, and returns what it has come to."""
    # Not at the top: no other command has to wait for these.
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    from lro_grpc._stores.copy_store import copy as copy_store

    console = Console(stderr=True)
    bar = Progress(
        *("reading", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    with bar:
        task = bar.add_task("")
        async with contextlib.aclosing(copy_store(source, destination)) as copying:
            progress = await anext(copying)
            async for progress in copying:
                read = progress.operations + progress.left_out
                bar.update(task, completed=read, total=progress.rows)
                for damage in (*progress.damages, *progress.lost):
                    print_message(f"left out: {damage}")
    return progress
