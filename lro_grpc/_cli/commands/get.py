"""``lro get``: one operation, in a dialect if one is asked for."""

from __future__ import annotations

from typing import Annotated

import typer

from lro_grpc._cli.exit_codes import Exit
from lro_grpc._cli.output import Output, print_message, print_value
from lro_grpc._cli.parameters import CallTimeout, Format, Name
from lro_grpc._cli.report import show
from lro_grpc._cli.session import CommandSession
from lro_grpc._client.plan import RPC_TIMEOUT
from lro_grpc._dialects.registry import DIALECTS, to_json
from lro_grpc._wire.headers import UNSERVED


def get(
    session: CommandSession,
    name: Name,
    output: Format = Output.TABLE,
    dialect: Annotated[
        str | None,
        typer.Option(
            "--as",
            metavar="|".join(DIALECTS),
            callback=_known_dialect,
            autocompletion=lambda: list(DIALECTS),
            help="Show it as the JSON of this dialect.",
        ),
    ] = None,
    timeout: CallTimeout = None,
) -> Exit:
    """Prints an operation, in a dialect if one is given."""
    operation = session.client.get(name, timeout=timeout or RPC_TIMEOUT)
    waits = session.headers.get(UNSERVED, "")
    if dialect is not None:
        print_value(to_json(operation, dialect), output)
    else:
        show(operation, session.types, output)
    if waits:
        print_message(f"{name} waits, and nobody will go on with it: {waits}")
    return Exit.SUCCEEDED


def _known_dialect(dialect: str | None) -> str | None:
    """Reads ``--as``."""
    if dialect is not None and dialect not in DIALECTS:
        raise typer.BadParameter(f"{dialect!r} is not one of {', '.join(DIALECTS)}")
    return dialect
