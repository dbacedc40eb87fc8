"""The thread in which the sync clients of a process do all their waiting.

A future of a sync client blocks its caller, but the calls and pauses of all of them are tasks of
one event loop, which a daemon thread runs while there are any. So the sync and the async client
share the code that waits, and those who wait for one operation share its calls.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

_IDLE_SECONDS = 5.0
_SIGNAL_SECONDS = 0.5
"""The longest time for which the main thread does not look for signals."""


class Scheduler:
    """An event loop in a daemon thread, which begins when it is needed and ends when idle."""

    def __init__(self) -> None:
        # Reentrant: the garbage collector may end an abandoned iteration, which submits its close,
        # in a thread that holds the lock already.
        self._lock = threading.RLock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.current_thread()
        self._begun = 0

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Runs a coroutine, in the caller's context, and returns its result.

        Raises:
            RuntimeError: In the scheduler's own thread, which would wait for itself.
        """
        if threading.current_thread() is self._thread and self._loop is not None:
            coroutine.close()
            raise RuntimeError(
                "a callback of concurrent() cannot wait, for it is called in the one thread "
                "in which all waits go on; give it to an OperationFuture's add_done_callback"
            )
        running = self.submit(coroutine)
        try:
            if threading.current_thread() is threading.main_thread():
                # Python handles a signal here, and a wait without end may not notice one that the
                # system has given to another thread.
                while not concurrent.futures.wait([running], _SIGNAL_SECONDS).done:
                    pass
            return running.result()
        finally:
            running.cancel()  # for a KeyboardInterrupt; it does nothing to one that has ended

    def submit(self, coroutine: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        """Begins to run a coroutine, in the caller's context."""
        with self._lock:
            if self._loop is None or not self._thread.is_alive():  # a fork takes no thread along
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=self._serve, args=[self._loop], name="lro-client", daemon=True
                )
                self._thread.start()
            self._begun += 1
            return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.call_later(_IDLE_SECONDS, self._end_if_idle, loop, self._begun)
        loop.run_forever()
        loop.close()

    def _end_if_idle(self, loop: asyncio.AbstractEventLoop, begun: int) -> None:
        with self._lock:
            if begun == self._begun and not asyncio.all_tasks(loop):
                self._loop = None
                loop.stop()
                return
            loop.call_later(_IDLE_SECONDS, self._end_if_idle, loop, self._begun)


SCHEDULER = Scheduler()
"""The scheduler of this process."""
