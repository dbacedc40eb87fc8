"""Calls of a server through a channel, whether that is one of ``grpc.aio`` or not."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import Any

import grpc
import grpc.aio

from lro_grpc._errors import Code, LroError, UnavailableError
from lro_grpc._http.request import Caller
from lro_grpc._server.rpc.local_calls import Answer
from lro_grpc._wire.rpc_errors import from_rpc_error

Rpc = grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]
StreamRpc = grpc.aio.UnaryStreamMultiCallable[bytes, bytes]

_SECONDS = 60.0
"""The longest that a server may take to answer a call that waits for nothing."""


class AioCalls:
    """Calls through a channel of ``grpc.aio``, on the loop on which that was made.

    Args:
        channel: Leads to the server.
    """

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._channel = channel

    async def identify(self, method: str, caller: Caller) -> None:
        """Does nothing: the server identifies the caller, and only with the call."""

    async def call(
        self, method: str, body: bytes, caller: Caller, *, waits: bool = False
    ) -> Answer:
        """Calls a method with one answer; see ``Backend``."""
        rpc: Rpc = self._channel.unary_unary(method)
        call = rpc(body, timeout=None if waits else _SECONDS, metadata=caller.forwarded_metadata())
        try:
            answer: bytes = await call
        except grpc.aio.AioRpcError as error:
            raise _public(error) from error
        return _answer(answer, await call.initial_metadata())

    async def stream(self, method: str, body: bytes, caller: Caller) -> AsyncGenerator[bytes, None]:
        """Calls a method with a stream of answers."""
        rpc: StreamRpc = self._channel.unary_stream(method)
        call = rpc(body, metadata=caller.forwarded_metadata())
        try:
            async for message in call:
                yield message
        except grpc.aio.AioRpcError as error:
            raise _public(error) from error
        finally:
            call.cancel()


class SyncCalls:
    """Calls through a ``grpc.Channel``, on any event loop: no thread waits for an answer.

    Args:
        channel: Leads to the server.
    """

    def __init__(self, channel: grpc.Channel) -> None:
        self._channel = channel

    async def identify(self, method: str, caller: Caller) -> None:
        """Does nothing, as that of ``AioCalls``."""

    async def call(
        self, method: str, body: bytes, caller: Caller, *, waits: bool = False
    ) -> Answer:
        """Calls a method with one answer; see ``Backend``."""
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()

        def end(_: object) -> None:  # in a thread of gRPC's
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
                loop.call_soon_threadsafe(ended.set)

        rpc: Any = self._channel.unary_unary(method)
        timeout = None if waits else _SECONDS
        call = rpc.future(body, timeout=timeout, metadata=caller.forwarded_metadata())
        call.add_done_callback(end)
        try:
            await ended.wait()
        except asyncio.CancelledError:
            call.cancel()
            raise
        try:
            answer: bytes = call.result()
        except grpc.RpcError as error:
            raise _public(error) from error
        return _answer(answer, call.initial_metadata())


def calls_on(channel: grpc.aio.Channel | grpc.Channel) -> AioCalls | SyncCalls:
    """Returns the calls through a channel."""
    return SyncCalls(channel) if isinstance(channel, grpc.Channel) else AioCalls(channel)


def _answer(body: bytes, headers: Any) -> Answer:
    return Answer(body, [(key, value) for key, value in headers if isinstance(value, str)])


def _public(error: grpc.RpcError) -> LroError:
    """Returns an error of the server as a caller of the gateway may see it.

    An error of the connection names hosts and addresses, which are not the caller's to know.
    """
    public = from_rpc_error(error)
    if public.code is Code.UNAVAILABLE and not public.details:
        return UnavailableError("the server behind the gateway is away; try again later")
    return public
