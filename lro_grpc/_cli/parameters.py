"""The arguments and options that commands share, beside those of the connection."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Annotated

import typer

from lro_grpc._cli import shell_completion
from lro_grpc._cli.output import Output
from lro_grpc._cli.selection import MOST_FOUND
from lro_grpc._client.plan import RPC_TIMEOUT
from lro_grpc._errors import InvalidFilterError
from lro_grpc._filtering import relative_times

_NAME = "The operation's name: [{parent}/]operations/{id}; - for those on stdin, one a line."
_NAMES = "The operations' names: [{parent}/]operations/{id}; - for those on stdin, one a line."


DEFAULT_LEASE = timedelta(seconds=15)
"""As of ``lro_grpc.Operations``."""

_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400}
"""The seconds in each unit of a duration."""


def _duration(text: str) -> timedelta:
    """Reads ``--timeout`` or another duration, such as 1.5, 30s, 5m, 1h or 30d."""
    unit = next((unit for unit in _UNITS if text.endswith(unit)), "")
    try:
        time = timedelta(seconds=float(text.removesuffix(unit)) * _UNITS.get(unit, 1))
    except (ValueError, OverflowError) as cause:
        wanted = "seconds, or a number with ms, s, m, h or d, such as 30s"
        raise typer.BadParameter(f"{text!r} is no duration; give {wanted}") from cause
    if time <= timedelta(0):
        raise typer.BadParameter(f"{text} is not above zero")
    return time


def with_times(text: str) -> str:
    """Reads ``--filter``: its times become those that they are now."""
    try:
        return relative_times.expanded(text, datetime.now(timezone.utc))
    except InvalidFilterError as cause:
        raise typer.BadParameter(cause.message) from cause


Name = Annotated[
    str, typer.Argument(metavar="NAME", help=_NAME, autocompletion=shell_completion.operations)
]
UnfinishedName = Annotated[
    str, typer.Argument(metavar="NAME", help=_NAME, autocompletion=shell_completion.unfinished)
]
Names = Annotated[
    list[str],
    typer.Argument(metavar="NAME", help=_NAMES, autocompletion=shell_completion.operations),
]
UnfinishedNames = Annotated[
    list[str],
    typer.Argument(metavar="NAME", help=_NAMES, autocompletion=shell_completion.unfinished),
]
NamesOrFilter = Annotated[
    list[str] | None,
    typer.Argument(metavar="NAME", help=_NAMES, autocompletion=shell_completion.operations),
]
UnfinishedNamesOrFilter = Annotated[
    list[str] | None,
    typer.Argument(metavar="NAME", help=_NAMES, autocompletion=shell_completion.unfinished),
]
Parent = Annotated[
    str,
    typer.Argument(
        metavar="PARENT",
        help=(
            "The operations' parent, such as projects/p/locations/l, with - for any segment;"
            " `operations` for those without one. All operations unless given."
        ),
        autocompletion=shell_completion.parents,
    ),
]
Filter = Annotated[
    str | None,
    typer.Option(
        "--filter",
        parser=with_times,
        metavar="TEXT",
        help="In place of names: all that match, as in AIP-160. They are shown, and it asks first.",
    ),
]
FilterParent = Annotated[
    str,
    typer.Option(
        "--parent",
        metavar="PARENT",
        help="The parent of those that match, with - for any segment; any parent unless given.",
        autocompletion=shell_completion.parents,
    ),
]
FilterLimit = Annotated[
    int, typer.Option("--limit", min=1, max=MOST_FOUND, help="The most that match.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be done, and do nothing.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing.")]
CallTimeout = Annotated[
    timedelta | None,
    typer.Option(
        "--timeout",
        parser=_duration,
        metavar="DURATION",
        help=f"How long each call may take; {RPC_TIMEOUT.seconds}s unless given.",
    ),
]
WaitTimeout = Annotated[
    timedelta | None,
    typer.Option(
        "--timeout",
        parser=_duration,
        metavar="DURATION",
        help="How long to wait; as long as it takes unless given. Then the exit code is 4.",
    ),
]
Poll = Annotated[
    bool,
    typer.Option(
        "--poll",
        help="Ask by GetOperation alone, for a server whose other calls are not to be trusted.",
    ),
]
Lease = Annotated[
    timedelta | None,
    typer.Option(
        "--lease",
        parser=_duration,
        metavar="DURATION",
        help=(
            "How long the operations of a process that is gone wait until others take them over;"
            f" {DEFAULT_LEASE.seconds}s unless given."
        ),
    ),
]
Retention = Annotated[
    timedelta,
    typer.Option(
        "--retention",
        parser=_duration,
        metavar="DURATION",
        help="How long they are kept from now on.",
    ),
]
WorkerOf = Annotated[int | None, typer.Option(hidden=True)]
LameDuck = Annotated[
    timedelta | None,
    typer.Option(
        "--lame-duck",
        parser=_duration,
        metavar="DURATION",
        help=(
            "How long to go on serving after a signal, with health checks at NOT_SERVING;"
            " one more Ctrl-C ends it. Not at all unless given."
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
