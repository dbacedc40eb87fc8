"""The arguments and options that commands share, beside those of the connection."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

import typer

from lro_grpc._cli import shell_completion
from lro_grpc._cli.output import Output
from lro_grpc._client.plan import RPC_TIMEOUT

_NAME = "The operation's name: [{parent}/]operations/{id}."
_NAMES = "The operations' names: [{parent}/]operations/{id}."


def _seconds(text: str) -> timedelta:
    """Reads ``--timeout`` and ``--lame-duck``, such as 30 or 30s."""
    try:
        time = timedelta(seconds=float(text.removesuffix("s")))
    except (ValueError, OverflowError) as cause:
        raise typer.BadParameter(f"{text!r} is not a number of seconds") from cause
    if time <= timedelta(0):
        raise typer.BadParameter(f"{text} is not above zero")
    return time


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
LameDuck = Annotated[
    timedelta | None,
    typer.Option(
        "--lame-duck",
        parser=_seconds,
        metavar="SECONDS",
        help=(
            "How long to go on serving after a signal, with health checks at NOT_SERVING;"
            " another signal ends it. Not at all unless given."
        ),
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
