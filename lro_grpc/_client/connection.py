"""One channel to a server of operations: every RPC that a client makes goes through here."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import threading
import urllib.parse
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import Any, Protocol, TypeAlias

import grpc
import grpc.aio
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf.message import DecodeError

from lro.v1 import operation_control_service_pb2_grpc
from lro_grpc._client import plan
from lro_grpc._errors import LIBRARY_DOMAIN, Code, LroError
from lro_grpc._runtime.threads import start_thread
from lro_grpc._wire import headers
from lro_grpc._wire.rpc_errors import from_rpc_error

CallMetadata: TypeAlias = Sequence[tuple[str, str | bytes]]

_ROUTING_HEADER = "x-goog-request-params"

_LONGEST = 1e9
"""The longest deadline, some thirty years; gRPC takes a far longer one for one that is over."""

_unimplemented: weakref.WeakKeyDictionary[Any, plan.Unimplemented] = weakref.WeakKeyDictionary()
"""What is known of each channel's server, whichever of its clients has learned it."""


class Connection(Protocol):
    """What following operations needs of a server. Awaited on one event loop."""

    unimplemented: plan.Unimplemented
    """What is known of the server."""

    async def call(self, call: plan.Call) -> plan.Reply:
        """Makes a unary call; its error is in the reply."""
        ...

    def watch(self, watch: plan.Watch) -> AsyncGenerator[operations_pb2.Operation, None]:
        """Yields what a WatchOperation sends.

        Raises:
            LroError: What the stream ended with, if not with OK.
        """
        ...


class _ChannelConnection:
    """What the connections over either kind of channel share: the stubs, and the headers."""

    def __init__(
        self, channel: grpc.Channel | grpc.aio.Channel, call_metadata: CallMetadata
    ) -> None:
        self.unimplemented = _unimplemented.setdefault(channel, plan.Unimplemented())
        self._operations = operations_pb2_grpc.OperationsStub(channel)  # type: ignore[no-untyped-call]
        self._control: Any = operation_control_service_pb2_grpc.OperationControlServiceStub(channel)
        self._call_metadata = tuple(call_metadata)

    def _method(self, name: str) -> Any:
        return getattr(self._operations, name, None) or getattr(self._control, name)

    def _how(self, request: Any) -> dict[str, Any]:
        name: str = getattr(request, "name", "")
        # As Google's own clients encode it: a slash stays a slash (C4).
        routing = ((_ROUTING_HEADER, f"name={urllib.parse.quote(name)}"),) if name else ()
        return {"metadata": self._call_metadata + routing}


class ThreadConnection(_ChannelConnection):
    """A connection over a ``grpc.Channel``, awaited all the same: nothing here blocks the loop."""

    def __init__(self, channel: grpc.Channel, call_metadata: CallMetadata) -> None:
        super().__init__(channel, call_metadata)
        # An interceptor may wait for what it intercepts, though the call is a future.
        self._is_intercepted = type(channel).__module__ != "grpc._channel"

    async def call(self, call: plan.Call) -> plan.Reply:
        """Makes a unary call; its error is in the reply."""
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()

        def end(_: object) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is gone, and with it who waited
                loop.call_soon_threadsafe(ended.set)

        def begin() -> Any:
            future = self._method(call.method).future(
                call.request, timeout=_seconds(call), **self._how(call.request)
            )
            future.add_done_callback(end)
            return future

        try:
            rpc = await _in_thread(begin) if self._is_intercepted else begin()
        except Exception as error:  # noqa: BLE001 - it is in the reply
            return plan.Reply(error_of_call(error))
        try:
            await ended.wait()
        finally:
            rpc.cancel()
        try:
            message = rpc.result()
        except grpc.FutureCancelledError:
            return plan.Reply(error_of_call(ValueError("it was closed during the call")))
        except Exception as error:  # noqa: BLE001 - it is in the reply
            return plan.Reply(error_of_call(error))
        return plan.Reply(message=message, poll_after=_poll_after(rpc.initial_metadata()))

    async def watch(self, watch: plan.Watch) -> AsyncGenerator[operations_pb2.Operation, None]:
        """Yields what a WatchOperation sends; a thread reads it, one state ahead at most."""
        loop = asyncio.get_running_loop()
        read: asyncio.Queue[Any] = asyncio.Queue()
        room = threading.Semaphore(1)
        streams: list[Any] = []
        is_over = threading.Event()

        def hand_over(one: object) -> None:
            room.acquire()
            with contextlib.suppress(RuntimeError):  # the loop is gone, and with it who watched
                loop.call_soon_threadsafe(read.put_nowait, one)

        def read_all() -> None:
            try:
                stream = self._control.WatchOperation(watch.request, **self._how(watch.request))
                streams.append(stream)
                if is_over.is_set():
                    _cancel(stream)
                for response in stream:
                    if is_over.is_set():
                        break
                    hand_over(response.operation)
                hand_over(None)
            except Exception as error:  # noqa: BLE001 - it is raised where the stream is awaited
                hand_over(error)

        start_thread("lro-watch", read_all)
        try:
            while (one := await read.get()) is not None:
                room.release()
                if isinstance(one, Exception):
                    raise error_of_call(one) from one
                yield one
        finally:
            is_over.set()
            for stream in streams:
                _cancel(stream)
            room.release(2)


class AsyncConnection(_ChannelConnection):
    """A connection over a ``grpc.aio.Channel``."""

    async def call(self, call: plan.Call) -> plan.Reply:
        """Makes a unary call; its error is in the reply."""
        try:
            rpc = self._method(call.method)(
                call.request, timeout=_seconds(call), **self._how(call.request)
            )
            message = await unless_closed(rpc)
            return plan.Reply(message=message, poll_after=_poll_after(await rpc.initial_metadata()))
        except Exception as error:  # noqa: BLE001 - it is in the reply
            return plan.Reply(error_of_call(error))

    async def watch(self, watch: plan.Watch) -> AsyncGenerator[operations_pb2.Operation, None]:
        """Yields what a WatchOperation sends."""
        try:
            stream = self._control.WatchOperation(watch.request, **self._how(watch.request))
            try:
                while (one := await unless_closed(stream.read())) is not grpc.aio.EOF:
                    yield one.operation
            finally:
                stream.cancel()
        except Exception as error:
            raise error_of_call(error) from error


def error_of_call(error: Exception) -> LroError:
    """Returns what an error means with which a call has ended, or could not begin."""
    if isinstance(error, grpc.RpcError) and hasattr(error, "code"):
        return from_rpc_error(error)
    if isinstance(error, (ValueError, grpc.aio.UsageError)) and "closed" in str(error):
        found = LroError(
            f"the channel of this client cannot be used any more: {error}",
            code=Code.FAILED_PRECONDITION,
            reason="CHANNEL_CLOSED",
            domain=LIBRARY_DOMAIN,
        )
    elif isinstance(error, DecodeError):
        found = LroError(str(error), code=Code.INTERNAL)
    else:
        found = LroError(f"the channel, or its interceptor, raised {error!r}", code=Code.UNKNOWN)
    found.__cause__ = error
    return found


async def unless_closed(rpc: Awaitable[Any]) -> Any:
    """Awaits a call; a channel that is closed meanwhile cancels the call, and not its caller."""
    calling = asyncio.ensure_future(rpc)
    try:
        await asyncio.wait([calling])
    except asyncio.CancelledError:
        calling.cancel()
        raise
    if calling.cancelled():
        raise grpc.aio.UsageError("it was closed during the call")
    if (message := calling.result()) is None:  # grpc.aio's way to say it
        raise DecodeError("the server's answer is no message of its type")
    return message


def _seconds(call: plan.Call) -> float | None:
    return None if call.timeout is None else min(call.timeout.total_seconds(), _LONGEST)


def _poll_after(metadata: Any) -> float | None:
    """Returns the pause that the server asks for, in seconds; None if it asks for none."""
    for key, value in metadata or ():
        if key == headers.POLL_AFTER and isinstance(value, str) and value.isdecimal():
            return int(value[:12]) / 1000  # more digits are more than anyone waits
    return None


def _cancel(stream: Any) -> None:
    """Ends a stream; what an interceptor has put in its place may have to end by itself."""
    if hasattr(stream, "cancel"):
        stream.cancel()


def called_in_thread(function: Callable[[], Any]) -> concurrent.futures.Future[Any]:
    """Calls what may block in a thread of its own: there may be any number that block at a time.

    Args:
        function: What to call, in the context of the caller.

    Returns:
        Its result to be; a call cannot be cancelled.
    """
    called: concurrent.futures.Future[Any] = concurrent.futures.Future()
    called.set_running_or_notify_cancel()

    def call() -> None:
        try:
            called.set_result(function())
        except Exception as error:  # noqa: BLE001 - it is raised where the result is awaited
            called.set_exception(error)

    start_thread("lro-call", call)
    return called


async def _in_thread(begin: Callable[[], Any]) -> Any:
    """Begins a call in a thread; one that is begun too late is cancelled."""
    begun = called_in_thread(begin)
    try:
        return await asyncio.wrap_future(begun)
    except asyncio.CancelledError:
        begun.add_done_callback(lambda late: late.exception() or late.result().cancel())
        raise
