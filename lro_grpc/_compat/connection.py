"""Connections to a server through an operation of google-api-core, in place of a channel."""

from __future__ import annotations

import asyncio
import concurrent.futures
import math
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable
from typing import Any

from google.longrunning import operations_pb2

from lro_grpc._client import experience, plan
from lro_grpc._client.connection import SharedStream, called_in_thread
from lro_grpc._compat.api_errors import from_api_error
from lro_grpc._compat.wrapped import Wrapped, once
from lro_grpc._errors import LIBRARY_DOMAIN, Code, LroError


class WrappedConnection(ABC):
    """A connection that can get one operation, cancel it, and nothing else.

    Args:
        wrapped: The parts of the operation.
    """

    def __init__(self, wrapped: Wrapped) -> None:
        self.unusable = experience.Unusable()
        self._functions = {experience.GET: wrapped.refresh, "CancelOperation": wrapped.cancel}

    async def call(self, call: plan.Call) -> plan.Reply:
        """Makes a unary call; its error is in the reply."""
        function = self._functions.get(call.method)
        if function is None:
            return plan.Reply(_unimplemented(call.method))
        seconds = None if call.timeout is None else call.timeout.total_seconds()
        running = asyncio.ensure_future(self._run(call, lambda: once(function, call.timeout)()))
        try:
            await asyncio.wait([running], timeout=seconds)
            return _reply(running, call)
        finally:
            running.cancel()

    async def watch(self, watch: plan.Watch) -> AsyncGenerator[operations_pb2.Operation, None]:
        """Raises an LroError: Google's clients have no such call."""
        raise _unimplemented(experience.WATCH)
        yield

    def open_shared(self) -> SharedStream:
        """Raises an LroError: Google's clients have no such call."""
        raise _unimplemented(experience.SHARED_WATCH)

    @abstractmethod
    async def _run(self, call: plan.Call, function: Callable[[], Any]) -> Any:
        """Makes the call by a function, and returns its response."""


class ThreadWrappedConnection(WrappedConnection):
    """A connection through an ``Operation``, whose calls block: each has a thread of its own.

    Such a call cannot be cancelled. A Get whose waiters have gone goes on, and the next one waits
    for its answer; so even the answer of a server that is slower than every wait arrives. If that
    is not the end of the operation, it tells a last poll nothing, and another Get follows.
    """

    def __init__(self, wrapped: Wrapped) -> None:
        super().__init__(wrapped)
        self._get: concurrent.futures.Future[Any] | None = None

    async def _run(self, call: plan.Call, function: Callable[[], Any]) -> Any:
        if call.method != experience.GET:
            return await asyncio.wrap_future(called_in_thread(function))
        if self._get is not None and not self._get.done():
            operation = await asyncio.wrap_future(self._get)
            if operation.done or call.since == -math.inf:
                return operation
        self._get = called_in_thread(function)
        return await asyncio.wrap_future(self._get)


class AsyncWrappedConnection(WrappedConnection):
    """A connection through an ``AsyncOperation``."""

    async def _run(self, call: plan.Call, function: Callable[[], Any]) -> Any:
        return await function()


def _reply(running: asyncio.Future[Any], call: plan.Call) -> plan.Reply:
    method = call.method
    if not running.done():
        error = LroError(f"{method} was not answered in time", code=Code.DEADLINE_EXCEEDED)
    elif running.cancelled():  # not from here: grpc.aio does so when a channel is closed
        error = LroError(f"the Google client gave up {method}; is it closed?", code=Code.UNKNOWN)
    elif (raised := running.exception()) is not None:
        error = from_api_error(raised, call.operation)
    else:
        return plan.Reply(message=running.result())
    return plan.Reply(error)


def _unimplemented(method: str) -> LroError:
    return LroError(
        f"a wrapped operation has no {method}; give its future the client's channel,"
        " if the server has it",
        code=Code.UNIMPLEMENTED,
        reason="UNIMPLEMENTED",
        domain=LIBRARY_DOMAIN,
        metadata={"method": method},
    )
