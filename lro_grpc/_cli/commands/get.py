"""``lro get``: one operation, in a dialect if one is asked for."""

from __future__ import annotations

from typing import Annotated

import typer

from lro_grpc._cli.command import connecting
from lro_grpc._cli.connected_server import ConnectedServer
from lro_grpc._cli.descriptions import Descriptions
from lro_grpc._cli.exit_codes import Exit
from lro_grpc._cli.names import STDIN, for_each
from lro_grpc._cli.output import Output, print_message, print_unserved, print_value
from lro_grpc._cli.parameters import CallTimeout, Format, Name
from lro_grpc._cli.report import show, show_description
from lro_grpc._client.plan import RPC_TIMEOUT
from lro_grpc._dialects import longrunning
from lro_grpc._dialects.registry import DIALECTS, to_json


def _known_dialect(dialect: str | None) -> str | None:
    """Reads ``--as``."""
    if dialect is not None and dialect not in DIALECTS:
        raise typer.BadParameter(f"{dialect!r} is not one of {', '.join(DIALECTS)}")
    return dialect


@connecting
def get(
    server: ConnectedServer,
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
    attempts: Annotated[
        bool, typer.Option("--attempts", help="Show its attempts, with their errors, too.")
    ] = False,
    request: Annotated[
        bool,
        typer.Option(
            "--request",
            help="Show its request, too, without fields that are marked as sensitive.",
        ),
    ] = False,
    timeout: CallTimeout = None,
) -> Exit:
    """Prints an operation, in a dialect if one is given.

    A table has what DescribeOperation knows of it, if the server has that. JSON and YAML are the
    operation itself, unless its attempts or its request are asked for.
    """
    if dialect is not None and (attempts or request):
        raise typer.BadParameter("--as has no attempts and no request; leave one of them out")
    descriptions = Descriptions(server, timeout, with_request=request)

    def get_one(one: str) -> Exit:
        operation = server.client.get(one, timeout=timeout or RPC_TIMEOUT)
        unserved = server.unserved
        is_one_of_many = name == STDIN
        code = Exit.SUCCEEDED
        if dialect == longrunning.NAME:
            value = server.types.to_dict(operation)
            print_value(value, output, is_one_of_many=is_one_of_many)
        elif dialect is not None:
            value = to_json(operation, dialect)
            print_value(value, output, is_one_of_many=is_one_of_many)
        elif output is Output.TABLE or attempts or request:
            description = descriptions.of(one)
            if description is None:
                show(operation, server.types, output, is_one_of_many=is_one_of_many)
                if descriptions.why_not:
                    print_message(f"no description: {descriptions.why_not}")
                code = Exit.FAILED if attempts or request else Exit.SUCCEEDED
            else:
                show_description(
                    description,
                    server.types,
                    output,
                    attempts=attempts,
                    request=request,
                    is_one_of_many=is_one_of_many,
                )
        else:
            show(operation, server.types, output, is_one_of_many=is_one_of_many)
        print_unserved(one, unserved)
        return code

    return for_each(server, [name], get_one)
