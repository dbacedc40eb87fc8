"""``lro protos``: all the protos that a client in another language is made of."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lro_grpc._cli.command import reporting
from lro_grpc._cli.exit_codes import Exit
from lro_grpc._cli.output import print_message
from lro_grpc._codegen.export import export, has_well_known
from lro_grpc._wire.plain_text import one_line


def _directory(text: str | Path) -> Path:
    """Reads DIR; an empty one, as of a variable that is not set, would be the present folder."""
    if not str(text):
        raise typer.BadParameter("give a folder, such as protos, or . for this one")
    return Path(text)


@reporting(OSError)
def protos(
    directory: Annotated[
        Path,
        typer.Argument(
            metavar="DIR", parser=_directory, help="Where to; it is made if it is missing."
        ),
    ],
    force: Annotated[
        bool, typer.Option("--force", help="Replace files that are there with other contents.")
    ] = False,
) -> Exit:
    """Writes the protos of lro and of google, each under the name it is imported by."""
    count = export(directory, overwrite=force)
    print(one_line(f"{directory}: {count} protos; give protoc -I {directory}"))
    if not has_well_known():
        print_message(
            "google/protobuf is not among them; protoc mostly has it, and so has"
            " pip install 'lro-grpc[codegen]'"
        )
    return Exit.SUCCEEDED
