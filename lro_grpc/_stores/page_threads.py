"""Threads in which a store looks at the rows of pages, while the event loop goes on.

There are two: one for pages that SQL decides alone, and one for those whose filter is asked of each
row in Python. So the next page of a plain list never waits for one that reads ten thousand rows.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from lro_grpc._runtime.threads import close_behind

T = TypeVar("T")


class PageThreads:
    """The threads of one store; each begins when it is needed first.

    Args:
        name: The name that they begin with.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._threads: dict[bool, ThreadPoolExecutor] = {}

    async def run(self, look: Callable[[threading.Event], T], *, slow: bool) -> T:
        """Looks at rows, in the order of the calls.

        Args:
            look: Is called in the thread, with an event that is set once nobody waits for it any
                more: it should end then. See :func:`while_wanted`.
            slow: Whether a filter is asked of each row.
        """
        thread = self._threads.get(slow)
        if thread is None:
            name = f"{self._name}-slow" if slow else self._name
            thread = self._threads[slow] = ThreadPoolExecutor(1, thread_name_prefix=name)
        unwanted = threading.Event()
        try:
            return await asyncio.get_running_loop().run_in_executor(thread, look, unwanted)
        finally:
            unwanted.set()

    async def close(self) -> None:
        """Waits for what is being looked at, and ends the threads."""
        while self._threads:
            _, thread = self._threads.popitem()
            await close_behind(thread)


def while_wanted(rows: Iterable[T], unwanted: threading.Event) -> Iterator[T]:
    """Yields rows until nobody wants them any more."""
    for row in rows:
        if unwanted.is_set():
            return
        yield row
