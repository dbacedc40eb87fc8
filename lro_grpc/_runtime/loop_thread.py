"""An event loop in a thread of its own, for callers that have none."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import signal
import socket
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

T = TypeVar("T")

_MOST_SIGNALS = 4096

_LAST_SECONDS = 1.0
"""The time in which what still runs may end when the loop is closed, or else is cancelled."""


class LoopThread:
    """Runs coroutines for threads. Its own thread is a daemon: it keeps no process alive."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="lro-loop", daemon=True)
        self._thread.start()

    def submit(self, coroutine: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        """Begins to run a coroutine on the loop."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Runs a coroutine on the loop, and returns its result."""
        return self.submit(coroutine).result()

    @contextlib.contextmanager
    def hearing_signals(self, hear: Callable[[int], object]) -> Iterator[None]:
        """Calls a function on the loop for each signal that comes, before any Python code sees it.

        Python calls its own handlers in the main thread, when that next runs. The loop must not
        depend on it: what it does after a signal has come, it does knowing of the signal.

        Args:
            hear: Is called with the number of a signal that has a Python handler.
        """
        if sys.platform == "win32" or threading.current_thread() is not threading.main_thread():
            yield
            return
        ear, mouth = socket.socketpair()
        with ear, mouth:
            ear.setblocking(False)
            mouth.setblocking(False)

            async def begin() -> None:
                self._loop.add_reader(ear, read)

            async def end() -> None:
                self._loop.remove_reader(ear)

            def read() -> None:
                for number in ear.recv(_MOST_SIGNALS):
                    hear(number)

            self.run(begin())
            former = signal.set_wakeup_fd(mouth.fileno(), warn_on_full_buffer=False)
            try:
                yield
            finally:
                signal.set_wakeup_fd(former)
                self.run(end())

    def close(self) -> None:
        """Stops the loop and its thread.

        What still runs has a moment to end, such as an answer on its way to another loop, and is
        cancelled then: whoever waits for it would wait for ever.
        """
        self.run(_end_tasks())
        self.run(self._loop.shutdown_default_executor())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _end_tasks() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    if tasks:
        _, late = await asyncio.wait(tasks, timeout=_LAST_SECONDS)
        for task in late:
            task.cancel()
        await asyncio.wait(tasks, timeout=_LAST_SECONDS)
