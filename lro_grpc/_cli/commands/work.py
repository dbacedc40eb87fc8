"""``lro work``: runs long-running methods, and serves nothing, until a signal comes."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

import lro_grpc
from lro_grpc._cli.command import reporting
from lro_grpc._cli.exit_codes import Exit
from lro_grpc._cli.servicers import load_servicers
from lro_grpc._cli.shared_store import check_shared
from lro_grpc._errors import ConfigurationError
from lro_grpc._stores.open_url import without_password


@reporting()
def work(
    service: Annotated[
        str,
        typer.Argument(
            metavar="MODULE:ATTRIBUTE",
            help="A callable (server) -> None that adds servicers, as of `lro serve`.",
        ),
    ],
    store: Annotated[
        str,
        typer.Option(help="Where the servers keep the operations: postgresql://…", metavar="URL"),
    ],
) -> Exit:
    """Works until a signal stops it.

    Exits with 0 after the drain; with 2 and the reason if it cannot start.
    """
    check_shared(store, "lro work")
    operations = lro_grpc.Operations(store)
    load_servicers(service)(operations.registrar())
    methods = list(operations.requests)
    if not methods:
        raise ConfigurationError(f"{service} adds no long-running method, so there is no work")

    def print_banner() -> None:
        print(f"operations in  {without_password(store)}")
        print(f"works on       {', '.join(methods)}", flush=True)

    asyncio.run(operations.work(ready=print_banner))
    return Exit.SUCCEEDED
