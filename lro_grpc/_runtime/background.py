"""Rounds of work that go on in the background, whatever happens in one of them."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from lro_grpc._errors import UnavailableError
from lro_grpc._runtime.clock import Clock

_log = logging.getLogger("lro_grpc")

_RETRY_SECONDS = 0.5
"""The pause after a round that has failed."""


async def repeat(one_round: Callable[[], Awaitable[None]], clock: Clock) -> None:
    """Repeats a round of work until it is cancelled.

    Args:
        one_round: The round; it waits by itself until there is something to do.
        clock: Waits after a round that has failed.
    """
    while True:
        try:
            await one_round()
        except UnavailableError as error:
            _log.warning("%s; trying again", error)
            await clock.sleep(_RETRY_SECONDS)
        except Exception:  # noqa: BLE001 - one bad round must not end the engine
            _log.exception("the engine met an unexpected error; going on")
            await clock.sleep(_RETRY_SECONDS)
