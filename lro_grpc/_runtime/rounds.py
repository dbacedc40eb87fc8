"""Repeats a round of work for ever, whatever happens in one of them."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from lro_grpc._errors import UnavailableError
from lro_grpc._runtime.clock import Clock
from lro_grpc._runtime.repeated_lines import RepeatedLines

_FAILURE_PAUSE = 0.5
"""The seconds of the pause after a round that has failed."""


async def repeat(
    worker: str, one_round: Callable[[], Awaitable[None]], clock: Clock, lines: RepeatedLines
) -> None:
    """Repeats a round until it is cancelled.

    Args:
        worker: The name of what works, for the log.
        one_round: The round; it waits by itself until there is something to do.
        clock: Waits after a round that has failed.
        lines: Say why it has.
    """
    while True:
        try:
            await one_round()
        except UnavailableError as error:
            lines.say(logging.WARNING, f"{error.message}; trying again")
            await clock.sleep(_FAILURE_PAUSE)
        except Exception as error:  # noqa: BLE001 - one bad round must not end the worker
            text = f"the {worker} met an unexpected error; going on: {error!r}"
            lines.say(logging.ERROR, text, error=error)
            await clock.sleep(_FAILURE_PAUSE)
