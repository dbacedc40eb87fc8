"""Calls that block, each in a daemon thread of its own with the context of its caller.

There is no pool: a call may block for as long as it likes without keeping another one waiting,
unless their number has a bound (:class:`BoundedThreads`). The threads are daemons, so that a
process ends although one of them is stuck.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import contextvars
import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from lro_grpc._runtime.repeated_lines import PROCESS
from lro_grpc._runtime.turns import Turns

if TYPE_CHECKING:
    from lro_grpc._runtime.log import AnyLog

_log = logging.getLogger("lro_grpc")

_Ended = asyncio.Future[tuple[Any, BaseException | None]]
"""The end of a call: its result, or its error."""


def start_thread(name: str, function: Callable[..., object], *arguments: Any) -> None:
    """Begins to call a function in a new thread, in a copy of the caller's context.

    Args:
        name: The thread's name.
        function: The function; it handles its own errors.
        *arguments: Its arguments.
    """
    context = contextvars.copy_context()
    threading.Thread(
        target=context.run, args=[function, *arguments], name=name, daemon=True
    ).start()


async def run_in_thread(
    name: str, function: Callable[..., Any], *arguments: Any, log: AnyLog = _log
) -> Any:
    """Calls a function in a new thread, and waits for it on the event loop.

    Args:
        name: The thread's name.
        function: The function.
        *arguments: Its arguments.
        log: The log for a call that ends only after the loop has.

    Returns:
        The function's result; its error is raised, but for a ``StopIteration``, which no coroutine
        can raise and which becomes a ``RuntimeError``.
    """
    return await _ended(_begin(name, function, *arguments, log=log))


def _begin(name: str, function: Callable[..., Any], *arguments: Any, log: AnyLog = _log) -> _Ended:
    """Begins to call a function in a new thread; raises if there can be none."""
    loop = asyncio.get_running_loop()
    ended: _Ended = loop.create_future()

    def call() -> None:
        result, error = None, None
        try:
            result = function(*arguments)
        except BaseException as raised:  # noqa: BLE001 - it is raised where the call is awaited
            error = raised
        try:
            loop.call_soon_threadsafe(settle, result, error)
        except RuntimeError:
            text = f"{name} ended after its server had stopped; the outcome is dropped"
            PROCESS.say(logging.WARNING, text, kind="too late", log=log)

    def settle(result: Any, error: BaseException | None) -> None:
        if not ended.done():
            ended.set_result((result, error))

    start_thread(name, call)
    return ended


async def _ended(call: _Ended) -> Any:
    result, error = await call
    if error is not None:
        raise error
    return result


async def close_behind(thread: concurrent.futures.ThreadPoolExecutor) -> None:
    """Ends an executor of one thread once that has done what it was given; the loop goes on."""
    await asyncio.get_running_loop().run_in_executor(thread, lambda: None)  # behind the rest
    thread.shutdown()


class BoundedThreads:
    """Threads of which so many at most run at a time; a call beyond them waits for its turn.

    A call that is cancelled leaves the queue. Its thread, once begun, cannot be ended, and counts
    until it ends by itself.

    Args:
        most: The most threads at a time.
        waiting: The most calls that may wait for their turn.
    """

    def __init__(self, most: int, *, waiting: int) -> None:
        self.most = most
        """The most threads at a time."""
        self._most_waiting = waiting
        self._turns = Turns(most)

    @property
    def is_free(self) -> bool:
        """Whether a call would have a thread at once."""
        return self._turns.is_free

    @property
    def is_full(self) -> bool:
        """Whether as many calls wait as may."""
        return self._turns.waiting >= self._most_waiting

    async def run(self, name: str, function: Callable[..., Any], *arguments: Any) -> Any:
        """Calls a function in a thread, in its turn; see :func:`run_in_thread`."""
        loop = asyncio.get_running_loop()
        await self._turns.take()

        def call() -> Any:
            try:
                return function(*arguments)
            finally:
                with contextlib.suppress(RuntimeError):  # the loop has ended
                    loop.call_soon_threadsafe(self._turns.give_back)

        try:
            begun = _begin(name, call)
        except BaseException:
            self._turns.give_back()
            raise
        return await _ended(begun)
