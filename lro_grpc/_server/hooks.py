"""Calls of a service's own functions, which must not harm the RPC that makes them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from lro_grpc._runtime.interrupts import only_errors

T = TypeVar("T")


async def result_of(answer: Awaitable[T], what: str) -> T:
    """Awaits what a service's function has returned, in a task of its own.

    So the RPC can distinguish its own end from a CancelledError that is the function's.

    Args:
        answer: The awaitable that it returned.
        what: The function that returned it, for the log.

    Raises:
        RuntimeError: If it raises what is no error, such as a CancelledError or a ``SystemExit``.
    """
    running = asyncio.create_task(_awaited(answer, what))
    try:
        await asyncio.wait({running})
    except asyncio.CancelledError:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        raise
    with only_errors(what):
        return running.result()


async def _awaited(answer: Awaitable[T], what: str) -> T:
    try:
        return await answer
    except (KeyboardInterrupt, SystemExit):  # a task would pass them on to the event loop
        with only_errors(what):
            raise
