"""The connection of a client: the RPCs that its plans ask for, on a sync or an async channel."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import copy
import dataclasses
import queue
import re
import threading
import weakref
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias, TypeVar

import grpc
import grpc.aio
from google.longrunning import operations_pb2, operations_pb2_grpc

from lro.v1 import operation_control_service_pb2_grpc
from lro.v1.operation_control_service_pb2 import WatchOperationsRequest, WatchOperationsResponse
from lro_grpc._client import experience, grpc_quirks, plan
from lro_grpc._runtime.interrupts import only_errors
from lro_grpc._runtime.threads import start_thread
from lro_grpc._wire import headers, request_params

CallMetadata: TypeAlias = Sequence[tuple[str, str | bytes]]
ConnectionT = TypeVar("ConnectionT", bound="_ChannelConnection")

_PAIR = 2
_KEY = re.compile(r"[a-z0-9_.-]+")
"""The keys of metadata that gRPC takes."""

_unusable: weakref.WeakKeyDictionary[Any, experience.Unusable] = weakref.WeakKeyDictionary()
"""The methods that cannot be used on each channel, whichever client has found it out."""


class Connection(Protocol):
    """The RPCs that a watcher and single calls need of a server. Awaited on one event loop."""

    unusable: experience.Unusable
    """The methods that cannot be used with the server."""

    async def call(self, call: plan.Call) -> plan.Reply:
        """Makes a unary call; its error is in the reply."""
        ...

    def watch(self, watch: plan.Watch) -> AsyncGenerator[operations_pb2.Operation, None]:
        """Yields the states that a WatchOperation sends.

        Raises:
            LroError: The error that the stream ended with, if not with OK.
        """
        ...

    def open_shared(self) -> SharedStream:
        """Returns a WatchOperations, which begins when it is read.

        Raises:
            LroError: If there can be none.
        """
        ...


@dataclasses.dataclass(frozen=True, slots=True)
class SharedStream:
    """One WatchOperations."""

    send: Callable[[WatchOperationsRequest], None]
    """Has a request sent; does not wait for that."""
    responses: AsyncGenerator[WatchOperationsResponse, None]
    """The responses; raises the LroError that the stream ended with. Its close cancels the call."""


def checked_metadata(
    pairs: CallMetadata, option: str = "call_metadata"
) -> tuple[tuple[str, str | bytes], ...]:
    """Returns metadata that gRPC can send, as tuples. Errors show no value: it may be a secret.

    An iterator, which can be read but once, and a list that its owner changes later become the same
    metadata for each call.

    Args:
        pairs: The metadata.
        option: The name of the argument.

    Raises:
        TypeError: If it is no sequence of pairs of texts, or of a text and bytes.
        ValueError: If a key is none of gRPC's.
    """
    if isinstance(pairs, (str, bytes, Mapping)) or not isinstance(pairs, Iterable):
        kind = type(pairs).__name__
        raise TypeError(f'{option} is a {kind}; give pairs, such as [("x-user", "ada")]')
    checked = []
    for pair in pairs:
        if not isinstance(pair, (tuple, list)) or len(pair) != _PAIR:
            raise TypeError(f"{option} has a {type(pair).__name__}; give pairs of two")
        key, value = pair
        if not isinstance(key, str) or not _KEY.fullmatch(key):
            raise ValueError(f"{option} has the key {key!r}; a key has a-z, 0-9, _, . and -")
        if not isinstance(value, bytes if key.endswith("-bin") else (str, bytes)):
            wanted = "bytes" if key.endswith("-bin") else "a text"
            kind = type(value).__name__
            raise TypeError(f"{option} has a {kind} for {key!r}; give {wanted}")
        checked.append((key, value))
    return tuple(checked)


class _ChannelConnection:
    """The part that connections over both kinds of channel share: the stubs, and the metadata."""

    def __init__(
        self, channel: grpc.Channel | grpc.aio.Channel, call_metadata: CallMetadata
    ) -> None:
        self.unusable = _unusable.setdefault(channel, experience.Unusable())
        self._operations = operations_pb2_grpc.OperationsStub(channel)  # type: ignore[no-untyped-call]
        self._control: Any = operation_control_service_pb2_grpc.OperationControlServiceStub(channel)
        self._call_metadata = checked_metadata(call_metadata)

    def sending(self: ConnectionT, call_metadata: CallMetadata) -> ConnectionT:
        """Returns this connection with more metadata, which its calls send as well."""
        other = copy.copy(self)
        other._call_metadata = self._call_metadata + checked_metadata(call_metadata)
        return other

    def _method(self, name: str) -> Any:
        return getattr(self._operations, name, None) or getattr(self._control, name)

    def _metadata(self, request: Any) -> CallMetadata:
        name: str = getattr(request, "name", "")
        routing = request_params.header({"name": name} if name else {})
        return self._call_metadata + routing


class ThreadConnection(_ChannelConnection):
    """A connection over a ``grpc.Channel``. It is awaited all the same, and blocks no loop."""

    def __init__(self, channel: grpc.Channel, call_metadata: CallMetadata) -> None:
        grpc_quirks.check_channel(channel, is_async=False)
        super().__init__(channel, call_metadata)
        self._may_block = grpc_quirks.may_block(channel)

    async def call(self, call: plan.Call) -> plan.Reply:
        """Makes a unary call; its error is in the reply."""
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()

        def end(_: object) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is gone, and the waiter with it
                loop.call_soon_threadsafe(ended.set)

        def begin() -> Any:
            future = self._method(call.method).future(
                call.request,
                timeout=grpc_quirks.deadline(call.timeout),
                metadata=self._metadata(call.request),
            )
            future.add_done_callback(end)
            return future

        try:
            rpc = await _in_thread(begin) if self._may_block else begin()
        except Exception as error:  # noqa: BLE001 - it is in the reply
            return plan.Reply(grpc_quirks.error_of_call(error, call.operation))
        try:
            await ended.wait()
        finally:
            rpc.cancel()
        try:
            message = grpc_quirks.result_of(rpc)
        except Exception as error:  # noqa: BLE001 - it is in the reply
            return plan.Reply(grpc_quirks.error_of_call(error, call.operation))
        return plan.Reply(message=message, poll_after=_poll_after(rpc.initial_metadata()))

    async def watch(self, watch: plan.Watch) -> AsyncGenerator[operations_pb2.Operation, None]:
        """Yields the states that a WatchOperation sends."""

        def begin() -> Any:
            return self._control.WatchOperation(
                watch.request, metadata=self._metadata(watch.request)
            )

        async with contextlib.aclosing(_read_in_thread(begin, watch.request.name)) as responses:
            async for response in responses:
                yield response.operation

    def open_shared(self) -> SharedStream:
        """Returns a WatchOperations, which begins when it is read."""
        requests: queue.SimpleQueue[WatchOperationsRequest | None] = queue.SimpleQueue()

        def begin() -> Any:
            sent = iter(requests.get, None)  # in a thread of gRPC's, until there is None
            return self._control.WatchOperations(sent, metadata=self._call_metadata)

        async def receive() -> AsyncGenerator[WatchOperationsResponse, None]:
            try:
                async with contextlib.aclosing(_read_in_thread(begin)) as responses:
                    async for response in responses:
                        yield response
            finally:
                requests.put(None)

        return SharedStream(requests.put, receive())


async def _read_in_thread(
    begin: Callable[[], Any], operation: str = ""
) -> AsyncGenerator[Any, None]:
    """Yields the responses of a stream, which a thread reads, one ahead at most.

    Args:
        begin: Makes the call, in that thread.
        operation: The operation that it is about, if it is about one.
    """
    loop = asyncio.get_running_loop()
    arrived: asyncio.Queue[Any] = asyncio.Queue()
    room = threading.Semaphore(1)
    streams: list[Any] = []
    is_over = threading.Event()

    def hand_over(one: object) -> None:
        room.acquire()
        with contextlib.suppress(RuntimeError):  # the loop is gone, and the waiter with it
            loop.call_soon_threadsafe(arrived.put_nowait, one)

    def read() -> None:
        stream = begin()
        streams.append(stream)
        if is_over.is_set():
            grpc_quirks.cancel_stream(stream)
        for response in stream:
            if is_over.is_set():
                break
            hand_over(response)
        hand_over(None)

    def read_all() -> None:
        try:
            with only_errors("the call"):
                read()
        except Exception as error:  # noqa: BLE001 - it is raised where the stream is awaited
            hand_over(error)

    start_thread("lro-watch", read_all)
    try:
        while (one := await arrived.get()) is not None:
            room.release()
            if isinstance(one, Exception):
                raise grpc_quirks.error_of_call(one, operation) from one
            yield one
    finally:
        is_over.set()
        for stream in streams:
            grpc_quirks.cancel_stream(stream)
        room.release(2)


class AsyncConnection(_ChannelConnection):
    """A connection over a ``grpc.aio.Channel``."""

    def __init__(self, channel: grpc.aio.Channel, call_metadata: CallMetadata) -> None:
        grpc_quirks.check_channel(channel, is_async=True)
        super().__init__(channel, call_metadata)

    async def call(self, call: plan.Call) -> plan.Reply:
        """Makes a unary call; its error is in the reply."""
        try:
            rpc = self._method(call.method)(
                call.request,
                timeout=grpc_quirks.deadline(call.timeout),
                metadata=self._metadata(call.request),
            )
            message = await grpc_quirks.await_call(rpc)
            return plan.Reply(message=message, poll_after=_poll_after(await rpc.initial_metadata()))
        except Exception as error:  # noqa: BLE001 - it is in the reply
            return plan.Reply(grpc_quirks.error_of_call(error, call.operation))

    async def watch(self, watch: plan.Watch) -> AsyncGenerator[operations_pb2.Operation, None]:
        """Yields the states that a WatchOperation sends."""
        try:
            stream = self._control.WatchOperation(
                watch.request, metadata=self._metadata(watch.request)
            )
            try:
                while (one := await grpc_quirks.await_call(stream.read())) is not grpc.aio.EOF:
                    yield one.operation
            finally:
                stream.cancel()
        except Exception as error:
            raise grpc_quirks.error_of_call(error, watch.request.name) from error

    def open_shared(self) -> SharedStream:
        """Returns a WatchOperations, which begins when it is read."""
        requests: asyncio.Queue[WatchOperationsRequest | None] = asyncio.Queue()

        async def sent() -> AsyncGenerator[WatchOperationsRequest, None]:
            while (request := await requests.get()) is not None:  # in a task of gRPC's
                yield request

        async def receive() -> AsyncGenerator[WatchOperationsResponse, None]:
            try:
                stream = self._control.WatchOperations(sent(), metadata=self._call_metadata)
                try:
                    while (one := await grpc_quirks.await_call(stream.read())) is not grpc.aio.EOF:
                        yield one
                finally:
                    stream.cancel()
            except Exception as error:
                raise grpc_quirks.error_of_call(error) from error
            finally:
                requests.put_nowait(None)  # a call that has ended leaves gRPC's task alone

        return SharedStream(requests.put_nowait, receive())


def _poll_after(metadata: Any) -> float | None:
    """Returns the pause that the server asks for, in seconds; None if it asks for none."""
    for key, value in metadata or ():
        if key == headers.POLL_AFTER and isinstance(value, str) and value.isdecimal():
            return int(value[:12]) / 1000  # more digits are more than anyone waits
    return None


def called_in_thread(function: Callable[[], Any]) -> concurrent.futures.Future[Any]:
    """Calls a function that may block in a thread of its own, in the caller's context.

    Args:
        function: The function.

    Returns:
        The future of its result; the call cannot be cancelled.
    """
    called: concurrent.futures.Future[Any] = concurrent.futures.Future()
    called.set_running_or_notify_cancel()

    def call() -> None:
        try:
            with only_errors("the call"):
                called.set_result(function())
        except Exception as error:  # noqa: BLE001 - it is raised where the result is awaited
            called.set_exception(error)

    start_thread("lro-call", call)
    return called


async def _in_thread(begin: Callable[[], Any]) -> Any:
    """Begins a call in a thread; cancels it if it begins after the caller has given up."""
    begun = called_in_thread(begin)
    try:
        return await asyncio.wrap_future(begun)
    except asyncio.CancelledError:
        begun.add_done_callback(lambda late: late.exception() or late.result().cancel())
        raise
