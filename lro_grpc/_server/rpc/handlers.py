"""Method handlers that gRPC calls: a sync and an async server meet the one service here.

The services know no server. Each of their methods is a coroutine function (or an async generator)
from the request's bytes to the answer's, and raises an ``LroError``. It runs on the one event loop
of the operations. The differences between the two kinds of gRPC server end here:

* ``grpc.aio`` calls a handler **on that loop**: it awaits the method, and aborts by an await. When
  the caller has gone, gRPC cancels the handler, and with it the method.
* ``grpc.server`` calls a handler **in a thread of its pool**: it submits the method to the loop,
  and blocks until the answer is there. gRPC cannot cancel a thread, so a callback of the RPC
  cancels the method on the loop. A stream is handed over one message at a time: the method goes on
  when the thread comes back for more, so a slow reader holds up nothing but its own stream. What a
  caller streams is read by one more thread, which begins when the method comes for a request.

On either, an error becomes the status of the RPC once, in :mod:`lro_grpc._server.rpc.status`.

Handlers are found by name for each RPC (``GenericRpcHandler``), for methods may be added after
``attach``; each is made once.

**Large bodies are begun one at a time**, whatever they are sent to: to read 4 MB of fields that
nobody knows takes a tenth of a second, and of a hundred such calls at once each would hold up all
others for that long, one directly after the other. That is before any guard, and so no call is
refused there, and none takes room: it waits, and the next one begins a round of the loop later.

gRPC hands over bytes, and is given bytes: an operation is stored as it is sent. A server's
interceptors may need messages, though; then each method is wrapped once more (``_with_messages``).
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import queue
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeAlias, TypeVar

import grpc
import grpc.aio
from google.protobuf.message import Message

from lro_grpc._errors import LIBRARY_DOMAIN, UnavailableError
from lro_grpc._operation.size import READ_AT_ONCE
from lro_grpc._runtime.threads import start_thread
from lro_grpc._runtime.turns import Pace
from lro_grpc._server.rpc.call import Behavior, BidiBehavior, Call, StreamBehavior, Waiters
from lro_grpc._server.rpc.status import abort_arguments

T = TypeVar("T")


@dataclass(frozen=True, slots=True, eq=False)
class _Method:
    name: str
    """``/pkg.Service/Method``."""
    error_domain: str
    """``ErrorInfo.domain`` of errors that name none."""
    request: type[Message]
    response: type[Message]


@dataclass(frozen=True, slots=True, eq=False)
class UnaryMethod(_Method):
    """A method that gives one answer."""

    behavior: Behavior


@dataclass(frozen=True, slots=True, eq=False)
class StreamMethod(_Method):
    """A method that gives a stream of answers."""

    behavior: StreamBehavior


@dataclass(frozen=True, slots=True, eq=False)
class BidiMethod(_Method):
    """A method that is sent a stream of requests, and gives a stream of answers."""

    behavior: BidiBehavior


RpcMethod = UnaryMethod | StreamMethod | BidiMethod


class Submit(Protocol):
    """Runs a coroutine on the loop of the operations, for any thread."""

    def __call__(self, coroutine: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        """Begins to run it."""
        ...


def _not_started() -> UnavailableError:
    return UnavailableError(
        "the operations of this server were not started: run it with operations.run(server),"
        " or call operations.start() first",
        reason="NOT_STARTED",
    )


async def _refuse(body: bytes, call: Call) -> bytes:
    del body, call
    raise _not_started()


def not_started(method: RpcMethod) -> UnaryMethod:
    """Returns what stands in for a method until the operations have started."""
    return UnaryMethod("", LIBRARY_DOMAIN, method.request, method.response, _refuse)


def _with_messages(method: RpcMethod) -> RpcMethod:
    """Returns a method whose behavior takes and gives messages, in place of bytes."""
    parse: Callable[[bytes], Any] = method.response.FromString

    async def parsed(stream: AsyncGenerator[bytes, None]) -> AsyncGenerator[Any, None]:
        async with contextlib.aclosing(stream) as bodies:
            async for body in bodies:
                yield parse(body)

    async def serialized(requests: AsyncIterator[Any]) -> AsyncGenerator[bytes, None]:
        async for request in requests:
            yield request.SerializeToString()

    if isinstance(method, StreamMethod):
        stream = method.behavior

        def answers(request: Any, call: Call) -> AsyncGenerator[Any, None]:
            return parsed(stream(request.SerializeToString(), call))

        return replace(method, behavior=answers)
    if isinstance(method, BidiMethod):
        bidi = method.behavior

        def answers_to_all(requests: AsyncIterator[Any], call: Call) -> AsyncGenerator[Any, None]:
            return parsed(bidi(serialized(requests), call))

        return replace(method, behavior=answers_to_all)
    behavior = method.behavior

    async def answer(request: Any, call: Call) -> Any:
        return parse(await behavior(request.SerializeToString(), call))

    return replace(method, behavior=answer)


Find = Callable[[str], RpcMethod | None]
"""Returns the method of a full name; None if it is not served."""

Handler: TypeAlias = "grpc.RpcMethodHandler[bytes, bytes]"


class MethodHandlers(grpc.GenericRpcHandler):
    """Finds the handlers of the methods that are served, for one server."""

    def __init__(self, find: Find, messages: bool) -> None:
        self._find = find
        self._messages = messages
        self._made: dict[str, Handler] = {}
        self._pace = Pace()

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Handler | None:
        """Returns the handler of a method; None if it is not served here."""
        name: Any = handler_call_details.method
        return self._made.get(name) or self._make(name)

    def _make(self, name: str) -> Handler | None:
        method = self._find(name)
        if method is None:
            return None
        has_started = method.behavior is not _refuse
        if self._messages and has_started:
            method = _with_messages(method)
        made = self._unary(method) if isinstance(method, UnaryMethod) else self._stream(method)
        if has_started:
            self._made[name] = made
        return made

    async def _begin_in_turn(self, body: Any) -> None:
        """Waits until a call may begin to read its body."""
        if self._is_large(body):
            await self._pace.keep()

    def _is_large(self, body: Any) -> bool:
        """Whether a body takes so long to read that others have their turn first."""
        size: int = body.ByteSize() if self._messages else len(body)
        return size > READ_AT_ONCE

    async def _answers(
        self, method: StreamMethod | BidiMethod, sent: Any, call: Call
    ) -> AsyncGenerator[Any, None]:
        """Begins to answer a call with a stream.

        Args:
            method: The method.
            sent: The request's body; of a caller that streams an async iterator of bodies.
            call: The call.
        """
        if isinstance(method, BidiMethod):
            return method.behavior(self._in_turn(sent), call)
        await self._begin_in_turn(sent)
        return method.behavior(sent, call)

    async def _in_turn(self, bodies: AsyncIterator[Any]) -> AsyncGenerator[Any, None]:
        async for body in bodies:
            await self._begin_in_turn(body)
            yield body

    def _serializers(self, method: RpcMethod) -> dict[str, Any]:
        """Returns what turns the bytes of a method into messages and back, for gRPC to call."""
        if not self._messages:
            return {}
        return {
            "request_deserializer": method.request.FromString,
            "response_serializer": method.response.SerializeToString,
        }

    def _unary(self, method: UnaryMethod) -> Handler:
        """Returns the handler of a method that gives one answer."""
        raise NotImplementedError

    def _stream(self, method: StreamMethod | BidiMethod) -> Handler:
        """Returns the handler of a method that gives a stream of answers."""
        raise NotImplementedError


class AioHandlers(MethodHandlers):
    """The handlers of a ``grpc.aio`` server.

    Args:
        find: Returns the method of a full name; None if it is not served.
        waiters: Counts the calls that stay open to give one answer later.
        streams: Counts those that stay open to give many.
        messages: Whether the server's interceptors are given messages, not bytes.
    """

    def __init__(self, find: Find, waiters: Waiters, streams: Waiters, messages: bool) -> None:
        super().__init__(find, messages)
        self._waiters = waiters
        self._streams = streams

    def _unary(self, method: UnaryMethod) -> Handler:
        async def handle(body: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
            # A Get pays for each function here: docs/design/server.md.
            call = Call(context, method.name, self._waiters)
            try:
                if self._is_large(body):
                    await self._pace.keep()
                answer = await method.behavior(body, call)
            except Exception as error:
                await _abort(error, method, context, call)
                raise
            finally:
                call.end()
            if call.headers:
                await _send_headers_async(call, context)
            if call.trailers:
                context.set_trailing_metadata(call.trailers)
            return answer

        return grpc.unary_unary_rpc_method_handler(handle, **self._serializers(method))

    def _stream(self, method: StreamMethod | BidiMethod) -> Handler:
        # This is not made of the generator below: of two, one within the other, Python can close
        # neither when a loop has ended with its tasks.
        async def write(sent: Any, context: grpc.aio.ServicerContext[Any, Any]) -> None:
            call = Call(context, method.name, self._streams)
            try:
                async with contextlib.aclosing(await self._answers(method, sent, call)) as messages:
                    while True:
                        message = await _or_abort(anext(messages, None), method, context, call)
                        await _send_headers_async(call, context)
                        if message is None:
                            return
                        await context.write(message)
            finally:
                call.end()

        async def iterate(
            sent: Any, context: grpc.aio.ServicerContext[Any, Any]
        ) -> AsyncGenerator[Any, None]:
            call = Call(context, method.name, self._streams)
            try:
                async with contextlib.aclosing(await self._answers(method, sent, call)) as messages:
                    while True:
                        message = await _or_abort(anext(messages, None), method, context, call)
                        await _send_headers_async(call, context)
                        if message is None:
                            return
                        yield message
            finally:
                call.end()

        # An interceptor sees what a generator yields, not what is written. But gRPC closes no
        # generator when the caller is gone: it is left to Python to find.
        handle: Any = iterate if self._messages else write
        return _stream_handler(method)(handle, **self._serializers(method))


def _stream_handler(method: StreamMethod | BidiMethod) -> Callable[..., Handler]:
    """Returns what makes gRPC's handler of a method that gives a stream of answers."""
    if isinstance(method, BidiMethod):
        return grpc.stream_stream_rpc_method_handler
    return grpc.unary_stream_rpc_method_handler


async def _send_headers_async(call: Call, context: grpc.aio.ServicerContext[Any, Any]) -> None:
    """Sends the initial metadata of a call, if there is any."""
    if call.headers:
        await context.send_initial_metadata(tuple(call.take_headers()))


async def _or_abort(
    answer: Awaitable[T],
    method: RpcMethod,
    context: grpc.aio.ServicerContext[Any, Any],
    call: Call,
) -> T:
    """Awaits an answer of the service; an error that it raises instead ends the RPC."""
    try:
        return await answer
    except Exception as error:
        await _abort(error, method, context, call)
        raise


async def _abort(
    error: Exception,
    method: RpcMethod,
    context: grpc.aio.ServicerContext[Any, Any],
    call: Call,
) -> None:
    """Ends the RPC with an error."""
    await _send_headers_async(call, context)
    await context.abort(*abort_arguments(error, method.name, method.error_domain))


class SyncHandlers(MethodHandlers):
    """The handlers of a ``grpc.server``.

    Args:
        find: Returns the method of a full name; None if it is not served.
        waiters: Counts the calls that hold one of the server's threads for long.
        submit: Runs a coroutine on the loop of the operations.
        messages: Whether the server's interceptors are given messages, not bytes.
    """

    def __init__(self, find: Find, waiters: Waiters, submit: Submit, messages: bool) -> None:
        super().__init__(find, messages)
        self._waiters = waiters
        self._submit = submit

    def _unary(self, method: UnaryMethod) -> Handler:
        if method.behavior is _refuse:

            def refuse(body: bytes, context: grpc.ServicerContext) -> bytes:
                del body
                with _aborting(method, context, Call(context, method.name, self._waiters)):
                    raise _not_started()

            # There is no loop yet, and a thread of one would have no end.
            return grpc.unary_unary_rpc_method_handler(refuse, **self._serializers(method))

        async def serve(body: bytes, call: Call) -> bytes:
            try:
                await self._begin_in_turn(body)
                return await method.behavior(body, call)
            finally:
                call.end()

        def handle(body: bytes, context: grpc.ServicerContext) -> bytes:
            call = Call(context, method.name, self._waiters)
            with _aborting(method, context, call):
                answer = self._begin(serve(body, call), context).result()
            _send_headers(call, context)
            if call.trailers:
                context.set_trailing_metadata(call.trailers)
            return answer

        return grpc.unary_unary_rpc_method_handler(handle, **self._serializers(method))

    def _stream(self, method: StreamMethod | BidiMethod) -> Handler:
        async def serve(sent: Any, call: Call, handover: _Handover) -> None:
            try:
                async with contextlib.aclosing(await self._answers(method, sent, call)) as messages:
                    async for message in messages:
                        await handover.give(message)
            finally:
                call.end()

        def handle(sent: Any, context: grpc.ServicerContext) -> Iterator[bytes]:
            call = Call(context, method.name, self._waiters)
            handover = _Handover()
            if isinstance(method, BidiMethod):
                sent = _read_in_threads(sent)
            with _aborting(method, context, call):
                serving = self._begin(serve(sent, call, handover), context)
                serving.add_done_callback(lambda _: handover.end())
                for message in handover:
                    _send_headers(call, context)
                    yield message
                serving.result()

        return _stream_handler(method)(handle, **self._serializers(method))

    def _begin(
        self, answer: Coroutine[Any, Any, T], context: grpc.ServicerContext
    ) -> concurrent.futures.Future[T]:
        """Begins to answer; when the RPC is over, the rest of it is dropped."""
        answering = self._submit(answer)

        def drop() -> None:
            answering.cancel()  # does nothing to an answer that was given

        if not context.add_callback(drop):
            drop()
        return answering


async def _read_in_threads(requests: Iterator[Any]) -> AsyncGenerator[Any, None]:
    """Gives the requests of a stream to the event loop, each when it comes for it.

    Each is read by a thread of its own: one at a time, which ends with the RPC if no more comes.
    """
    loop = asyncio.get_running_loop()

    def read(arrived: asyncio.Future[Any]) -> None:
        try:
            request = next(requests, None)
        except Exception:  # noqa: BLE001 - so gRPC says that the RPC is over
            request = None
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(_settle, arrived, request)

    while True:
        arrived: asyncio.Future[Any] = loop.create_future()
        start_thread("lro-requests", read, arrived)
        if (request := await arrived) is None:
            return
        yield request


def _settle(arrived: asyncio.Future[Any], request: Any) -> None:
    if not arrived.done():
        arrived.set_result(request)


_Taken = concurrent.futures.Future[None]


class _Handover:
    """Gives messages of the event loop to a thread, each when the thread comes for it."""

    def __init__(self) -> None:
        self._given: queue.SimpleQueue[tuple[bytes, _Taken] | None] = queue.SimpleQueue()

    async def give(self, message: bytes) -> None:
        """Gives a message, and returns when the thread has sent it and comes for the next one."""
        taken: _Taken = concurrent.futures.Future()
        self._given.put((message, taken))
        await asyncio.wrap_future(taken)

    def end(self) -> None:
        """Lets the thread come for nothing more."""
        self._given.put(None)

    def __iter__(self) -> Iterator[bytes]:
        """Gives the messages, in the thread."""
        while (given := self._given.get()) is not None:
            message, taken = given
            yield message
            if taken.set_running_or_notify_cancel():  # it is not, if the RPC is over
                taken.set_result(None)


def _send_headers(call: Call, context: grpc.ServicerContext) -> None:
    """Sends the initial metadata of a call, if there is any."""
    if call.headers:
        context.send_initial_metadata(tuple(call.take_headers()))


@contextlib.contextmanager
def _aborting(method: RpcMethod, context: grpc.ServicerContext, call: Call) -> Iterator[None]:
    """Ends the RPC with the error that is raised within."""
    try:
        yield
    except concurrent.futures.CancelledError:
        context.abort(grpc.StatusCode.CANCELLED, "the caller is gone")
    except Exception as error:  # noqa: BLE001 - the caller sees it
        code, message, trailers = abort_arguments(error, method.name, method.error_domain)
        _send_headers(call, context)
        context.set_trailing_metadata(trailers)
        context.abort(code, message)
