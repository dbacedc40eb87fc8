"""Commands that are loaded when they are used.

To list commands, and to complete their names, takes their names and their help alone; the module of
each, with gRPC and all else, takes several times as long to load as the rest.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import typer
from typer.core import TyperCommand


class MissingModuleError(Exception):
    """A module is not installed that a command needs."""

    def __init__(self, missing: ModuleNotFoundError) -> None:
        super().__init__(str(missing))
        self.missing = missing


class _Later(TyperCommand):
    """Stands for a command in the list of them."""

    home: str

    def make_context(self, *arguments: Any, **options: Any) -> Any:
        return loaded(self).make_context(*arguments, **options)


def add_command(app: typer.Typer, name: str, home: str, help: str) -> None:  # noqa: A002 - as Typer's
    """Adds a command to an app.

    Args:
        app: The app.
        name: The command's name.
        home: Its module in ``commands``, and its function there: ``control:cancel``.
        help: Its help, which the list of commands has in full, too.
    """
    kind = type("_Later", (_Later,), {"home": home})
    app.command(name, help=help, short_help=help, cls=kind)(_nothing)


def loaded(command: Any) -> Any:
    """Returns a command with its parameters: one that is loaded later is loaded."""
    if not isinstance(command, _Later):
        return command
    alone = typer.Typer(add_completion=False, rich_markup_mode=command.rich_markup_mode)
    alone.command(command.name, help=command.help)(_function(command.home))
    return typer.main.get_command(alone)


def _function(home: str) -> Callable[..., None]:
    module, _, name = home.partition(":")
    try:
        loaded = importlib.import_module(f"lro_grpc._cli.commands.{module}")
    except ModuleNotFoundError as missing:
        raise MissingModuleError(missing) from missing
    function: Callable[..., None] = getattr(loaded, name)
    return function


def _nothing() -> None:
    """Stands for a command that is not loaded."""
