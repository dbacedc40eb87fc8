"""Calls that block, from the event loop, each in a daemon thread of its own."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
from collections.abc import Callable
from typing import Any

from lro_grpc._runtime.log import AnyLog

_log = logging.getLogger("lro_grpc")


async def run_in_thread(
    name: str, function: Callable[..., Any], *arguments: Any, log: AnyLog = _log
) -> Any:
    """Calls a function in a new thread, which nothing waits for when the process ends.

    Its context variables are those of the caller.

    Args:
        name: The thread's name.
        function: What to call.
        *arguments: What to call it with.
        log: Where to log that it has ended too late.

    Returns:
        What the function returns; raises what it raises, but for a ``StopIteration``, which no
        coroutine can raise and which becomes a ``RuntimeError``.
    """
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[tuple[Any, BaseException | None]] = loop.create_future()

    def call() -> None:
        result, error = None, None
        try:
            result = function(*arguments)
        except BaseException as raised:  # noqa: BLE001 - it is raised where the call is awaited
            error = raised
        try:
            loop.call_soon_threadsafe(settle, result, error)
        except RuntimeError:
            log.warning("%s ended after its server had stopped; the outcome is dropped", name)

    def settle(result: Any, error: BaseException | None) -> None:
        if not ended.done():
            ended.set_result((result, error))

    context = contextvars.copy_context()
    threading.Thread(target=context.run, args=[call], name=name, daemon=True).start()
    result, error = await ended
    if error is not None:
        raise error
    return result
