"""Calls of a service's own functions, which must not harm the RPC that makes them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Iterator
from typing import TypeVar

T = TypeVar("T")


@contextlib.contextmanager
def no_exit(what: str) -> Iterator[None]:
    """Makes an error of a ``sys.exit``, which would end the server's event loop.

    Args:
        what: The function, for the log.
    """
    try:
        yield
    except SystemExit as cause:
        raise RuntimeError(f"{what} has called sys.exit") from cause


async def result_of(answer: Awaitable[T], what: str) -> T:
    """Awaits what a service's function has returned, in a task of its own.

    So the RPC can distinguish its own end from a CancelledError that is the function's.

    Args:
        answer: The awaitable that it returned.
        what: The function that returned it, for the log.

    Raises:
        RuntimeError: If it ends in a CancelledError of its own, or calls ``sys.exit``.
    """
    running = asyncio.create_task(_awaited(answer, what))
    try:
        await asyncio.wait({running})
    except asyncio.CancelledError:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        raise
    if running.cancelled():
        raise RuntimeError(f"{what} has awaited what was cancelled")
    return running.result()


async def _awaited(answer: Awaitable[T], what: str) -> T:
    with no_exit(what):
        return await answer
