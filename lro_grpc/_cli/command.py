"""What makes a command of a function."""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable
from typing import Any

import typer

from lro_grpc._cli import exit_codes
from lro_grpc._cli.connection import Connection
from lro_grpc._cli.session import open_session


def connecting(command: Callable[..., exit_codes.Exit]) -> Callable[..., None]:
    """Gives a function the options of a Connection, and a Session as its first argument.

    What the function returns, or the error that it raises, ends the command.
    """
    _, *own = inspect.signature(command, eval_str=True).parameters.values()
    hints = typing.get_type_hints(Connection, include_extras=True)
    shared = [
        field.replace(annotation=hints[field.name])
        for field in inspect.signature(Connection).parameters.values()
    ]

    @functools.wraps(command)
    def run(**given: Any) -> None:
        connection = Connection(**{field.name: given.pop(field.name) for field in shared})

        def work() -> exit_codes.Exit:
            with open_session(connection) as session:
                return command(session, **given)

        raise typer.Exit(exit_codes.end(work, connection))

    run.__signature__ = inspect.Signature([*own, *shared])  # type: ignore[attr-defined]
    return run
