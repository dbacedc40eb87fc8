"""The same steps of a test with the sync and with the async client."""

from __future__ import annotations

import asyncio
import inspect
import time
from concurrent import futures
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeAlias

import grpc
import grpc.aio

from lro_grpc._client.async_operations import AsyncOperationsClient
from lro_grpc._client.operations import OperationsClient
from lro_grpc._runtime.backoff import Backoff
from lro_grpc._runtime.clock import SystemClock

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from fake_operations import FakeOperations

# A channel's own pause before it connects again, which is not what is tested here. The least pause
# stays: it is the time that an attempt to connect may take, and on a busy machine that is long.
OPTIONS = [
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 100),
]
QUICK = Backoff(initial=timedelta(milliseconds=10), maximum=timedelta(milliseconds=50))


class FastClock(SystemClock):
    """For which a hundred seconds pass in one."""

    def monotonic(self) -> float:
        return time.monotonic() * 100

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / 100)


class Sync:
    """Runs a test's steps with the sync client."""

    is_async = False

    def __init__(self, target: str) -> None:
        self.channel = grpc.insecure_channel(target, options=OPTIONS)

    def client(self, **how: Any) -> OperationsClient:
        return OperationsClient(self.channel, **{"backoff": QUICK, **how})

    def run(self, value: Any) -> Any:
        return value

    def items(self, iterable: Any) -> list[Any]:
        return list(iterable)

    def next(self, iterator: Any) -> Any:
        return next(iterator)

    def end(self, iterator: Any) -> None:
        iterator.close()

    def together(self, steps: list[Callable[[], Any]]) -> list[Any]:
        with futures.ThreadPoolExecutor(len(steps)) as pool:
            running = [pool.submit(step) for step in steps]
            return [one.exception() or one.result() for one in running]

    def until(self, event: threading.Event) -> None:
        assert event.wait(10)

    def until_gone(self, fake: FakeOperations, method: str) -> None:
        assert fake.gone[method].acquire(timeout=10)

    def close(self) -> None:
        self.channel.close()


class Async:
    """Runs the same steps with the async client, on an event loop of its own."""

    is_async = True

    def __init__(self, target: str) -> None:
        self.loop = asyncio.new_event_loop()
        self.target = target
        self.channel = self.run(self._open())

    async def _open(self) -> grpc.aio.Channel:
        return grpc.aio.insecure_channel(self.target, options=OPTIONS)

    def client(self, **how: Any) -> AsyncOperationsClient:
        return AsyncOperationsClient(self.channel, **{"backoff": QUICK, **how})

    def run(self, value: Any) -> Any:
        return self.loop.run_until_complete(value) if inspect.isawaitable(value) else value

    def items(self, iterable: Any) -> list[Any]:
        async def collect() -> list[Any]:
            return [item async for item in iterable]

        return self.run(collect())

    def next(self, iterator: Any) -> Any:
        return self.run(anext(iterator))

    def end(self, iterator: Any) -> None:
        self.run(iterator.aclose())

    def together(self, steps: list[Callable[[], Any]]) -> list[Any]:
        async def gather() -> list[Any]:
            return await asyncio.gather(*(step() for step in steps), return_exceptions=True)

        return self.run(gather())

    def until(self, event: threading.Event) -> None:
        assert self.run(self.loop.run_in_executor(None, event.wait, 10))

    def until_gone(self, fake: FakeOperations, method: str) -> None:
        assert self.run(self.loop.run_in_executor(None, fake.gone[method].acquire, True, 10))

    def close(self) -> None:
        self.run(self.channel.close())
        self.run(self._settled())
        self.run(self.loop.shutdown_asyncgens())
        self.run(self.loop.shutdown_default_executor())
        self.loop.close()

    async def _settled(self) -> None:
        """Returns when every task has ended that a test has begun."""
        if left := asyncio.all_tasks() - {asyncio.current_task()}:
            _, left = await asyncio.wait(left, timeout=5)
        assert not left


Side: TypeAlias = Sync | Async
