"""The option for the event loop of a command that serves."""

from __future__ import annotations

import asyncio
import enum
import logging
from collections.abc import Callable, Coroutine
from typing import Annotated, Any

import typer

from lro_grpc._errors import ConfigurationError

_log = logging.getLogger("lro_grpc")


class LoopName(str, enum.Enum):
    """The event loops, as they are typed."""

    AUTO = "auto"
    """uvloop where it is installed, else asyncio's own."""
    ASYNCIO = "asyncio"
    UVLOOP = "uvloop"


Loop = Annotated[
    LoopName,
    typer.Option(
        "--loop",
        case_sensitive=False,
        help="The event loop; auto is uvloop where that is installed, and else asyncio's own.",
    ),
]


def runner(name: LoopName) -> Callable[[Coroutine[Any, Any, None]], None]:
    """Returns what runs a coroutine to its end on an event loop, as ``asyncio.run`` does.

    Raises:
        ConfigurationError: If the loop is not installed.
    """
    if name is LoopName.ASYNCIO:
        return asyncio.run
    try:
        import uvloop
    except ModuleNotFoundError as cause:
        if name is LoopName.AUTO:
            return asyncio.run
        raise ConfigurationError(
            "--loop uvloop needs uvloop: pip install 'lro-grpc[speed]'"
        ) from cause
    _log.info("the event loop is that of uvloop %s", uvloop.__version__)
    run: Callable[[Coroutine[Any, Any, None]], None] = uvloop.run
    return run
