"""The options of ``lro serve`` and ``lro work`` by which Temporal hands operations to workers."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

from lro_grpc._errors import ConfigurationError

if TYPE_CHECKING:
    from lro_grpc.engines import Temporal

API_KEY = "TEMPORAL_API_KEY"
"""The variable of the environment that has the key of Temporal Cloud: an option would be seen."""

Address = Annotated[
    str,
    typer.Option(
        "--temporal",
        help="Have Temporal hand operations to the workers; each claims its own without it.",
        metavar="HOST:PORT",
    ),
]
Namespace = Annotated[
    str | None,
    typer.Option(
        "--temporal-namespace", help="Temporal's namespace; default unless given.", metavar="NAME"
    ),
]
Queue = Annotated[
    str | None,
    typer.Option(
        "--temporal-queue",
        help="The task queue of all methods; one for each unless given.",
        metavar="NAME",
    ),
]
Tls = Annotated[
    bool,
    typer.Option(
        "--temporal-tls",
        help=f"Use TLS to Temporal; as of itself if {API_KEY} has a key.",
    ),
]
Rate = Annotated[
    float | None,
    typer.Option(
        "--temporal-rate",
        help="The most attempts that begin on a task queue in a second, in all processes.",
        metavar="NUMBER",
    ),
]
Standalone = Annotated[
    bool | None,
    typer.Option(
        "--temporal-standalone/--temporal-workflow",
        help=(
            "Make each operation a Standalone Activity, or a workflow of one activity; unless given"
            " Temporal is asked whether it has Standalone Activities."
        ),
    ),
]


def engine_of(
    address: str,
    namespace: str | None,
    queue: str | None,
    rate: float | None,
    *,
    tls: bool,
    standalone: bool | None,
    runs_handlers: bool = True,
) -> Temporal | None:
    """Returns the engine that the options name; None for that of the process alone.

    Raises:
        ConfigurationError: If an option is given that needs the address.
    """
    if not address:
        needy = {
            "--temporal-namespace": namespace,
            "--temporal-queue": queue,
            "--temporal-rate": rate,
            "--temporal-tls": tls,
            "--temporal-standalone": standalone,
            "--temporal-workflow": standalone is False,
            "--no-handlers": not runs_handlers,
        }
        for option, value in needy.items():
            if value:
                raise ConfigurationError(f"{option} needs --temporal HOST:PORT")
        return None
    from lro_grpc.engines import Temporal

    return Temporal(
        address,
        namespace=namespace or "default",
        task_queue=queue,
        tls=tls or None,
        api_key=os.environ.get(API_KEY) or None,
        standalone=standalone,
        max_task_queue_activities_per_second=rate,
        runs_handlers=runs_handlers,
    )
