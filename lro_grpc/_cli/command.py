"""Makes a command of a function: one that connects to a server, or one that does without."""

from __future__ import annotations

import contextlib
import functools
import inspect
import typing
from collections.abc import Callable, Iterator
from typing import Any, ParamSpec

import typer

from lro_grpc._cli import exit_codes
from lro_grpc._cli.connected_server import connected
from lro_grpc._cli.connection import ConnectionOptions
from lro_grpc._cli.output import print_lines, print_message
from lro_grpc._cli.workers import WorkerDiedError
from lro_grpc._errors import ConfigurationError, LroError

P = ParamSpec("P")


@contextlib.contextmanager
def reporting_errors(*failures: type[Exception]) -> Iterator[None]:
    """Ends the command with a line on stderr and an exit code in place of an error.

    Args:
        failures: The errors that end it with FAILED; a ConfigurationError is wrong usage.
    """
    try:
        yield
    except ConfigurationError as error:
        print_lines(error.message)  # it may show a proto's missing lines
        raise typer.Exit(exit_codes.Exit.USAGE) from error
    except WorkerDiedError as error:
        print_lines(str(error))
        raise typer.Exit(error.exit_code) from error
    except failures as error:
        print_message(str(error))
        raise typer.Exit(exit_codes.Exit.FAILED) from error


def reporting(
    *failures: type[Exception],
) -> Callable[[Callable[P, exit_codes.Exit]], Callable[P, None]]:
    """Returns a decorator that turns errors into exit codes, as ``reporting_errors`` does."""

    def decorate(function: Callable[P, exit_codes.Exit]) -> Callable[P, None]:
        @functools.wraps(function)
        def command(*arguments: P.args, **options: P.kwargs) -> None:
            with reporting_errors(*failures):
                raise typer.Exit(function(*arguments, **options))

        return command

    return decorate


def connecting(function: Callable[..., exit_codes.Exit]) -> Callable[..., None]:
    """Returns a command that calls a function with its server in place of its first parameter.

    The exit code or the error that the function ends with ends the command.
    """

    @functools.wraps(function)
    def work(connection: ConnectionOptions, **values: Any) -> exit_codes.Exit:
        with connected(connection) as server:
            try:
                return function(server, **values)
            except LroError as error:
                return exit_codes.print_error(error, server)

    return taking_connection(work)


def taking_connection(function: Callable[..., exit_codes.Exit]) -> Callable[..., None]:
    """Returns a command that calls a function with ``ConnectionOptions`` for its first parameter.

    The command has the fields of these as options, beside the function's own parameters. The exit
    code that the function returns ends the command.
    """
    _, *own = inspect.signature(function, eval_str=True).parameters.values()
    shared = _connection_parameters()

    @functools.wraps(function)
    def command(**values: Any) -> None:
        connection = ConnectionOptions(**{field.name: values.pop(field.name) for field in shared})
        raise typer.Exit(exit_codes.run(lambda: function(connection, **values)))

    command.__signature__ = inspect.Signature([*own, *shared])  # type: ignore[attr-defined]
    return command


@functools.cache
def _connection_parameters() -> list[inspect.Parameter]:
    """Returns the fields of ``ConnectionOptions`` as parameters of a command."""
    hints = typing.get_type_hints(ConnectionOptions, include_extras=True)
    return [
        field.replace(annotation=hints[field.name])
        for field in inspect.signature(ConnectionOptions).parameters.values()
    ]
