"""Method handlers that gRPC calls: the sync and the async server meet the one service here.

A handler calls one method of the service for its server, and turns what that raises into the RPC's
status.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import queue
from collections.abc import Awaitable, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import grpc
import grpc.aio
from google.protobuf.message import DecodeError
from google.rpc import status_pb2

from lro_grpc._errors import LroError, to_status
from lro_grpc._runtime.public_error import status_of
from lro_grpc._server.rpc.call import Behavior, Call, StreamBehavior, Waiters
from lro_grpc._server.rpc.prepare_context import Aborted, Trailers

STATUS_DETAILS = "grpc-status-details-bin"
"""The trailing metadata that carries a serialized ``google.rpc.Status``."""

_MAX_STATUS_BYTES = 4096
"""A Status that is larger travels with its ErrorInfo alone: peers limit the size of trailers."""

_MAX_MESSAGE = 1000
"""Characters of such a Status' message."""

_CODES = {code.value[0]: code for code in grpc.StatusCode}

T = TypeVar("T")


@dataclass(frozen=True, slots=True, eq=False)
class _Method:
    name: str
    """``/pkg.Service/Method``."""
    error_domain: str
    """``ErrorInfo.domain`` of errors that name none."""


@dataclass(frozen=True, slots=True, eq=False)
class UnaryMethod(_Method):
    """A method that gives one answer."""

    behavior: Behavior


@dataclass(frozen=True, slots=True, eq=False)
class StreamMethod(_Method):
    """A method that gives a stream of answers."""

    behavior: StreamBehavior


RpcMethod = UnaryMethod | StreamMethod


class Submit(Protocol):
    """Runs a coroutine on the loop of the operations, for any thread."""

    def __call__(self, coroutine: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        """Begins to run it."""
        ...


def aio_handler(
    method: RpcMethod, waiters: Waiters, streams: Waiters
) -> grpc.RpcMethodHandler[bytes, bytes]:
    """Returns a method handler for a ``grpc.aio`` server.

    Args:
        method: The method to serve.
        waiters: Counts the calls that stay open to give one answer later.
        streams: Counts those that stay open to give many.
    """
    if isinstance(method, StreamMethod):
        return _aio_stream(method, streams)
    return _aio_call(method, waiters)


def sync_handler(
    method: RpcMethod, waiters: Waiters, submit: Submit
) -> grpc.RpcMethodHandler[bytes, bytes]:
    """Returns a method handler for a ``grpc.server``.

    Args:
        method: The method to serve.
        waiters: Counts the calls that hold one of the server's threads for long.
        submit: Runs a coroutine on the loop of the operations.
    """
    if isinstance(method, StreamMethod):
        return _sync_stream(method, waiters, submit)
    return _sync_call(method, waiters, submit)


def _aio_call(method: UnaryMethod, waiters: Waiters) -> grpc.RpcMethodHandler[bytes, bytes]:
    async def handle(body: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
        call = Call(context, method.name, waiters)
        try:
            answer = await _or_abort(method.behavior(body, call), method, context)
        finally:
            call.end()
        if call.headers:
            await context.send_initial_metadata(tuple(call.headers))
        return answer

    return grpc.unary_unary_rpc_method_handler(handle)


def _aio_stream(method: StreamMethod, streams: Waiters) -> grpc.RpcMethodHandler[bytes, bytes]:
    async def handle(body: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        call = Call(context, method.name, streams)
        try:
            async with contextlib.aclosing(method.behavior(body, call)) as messages:
                while True:
                    message = await _or_abort(anext(messages, None), method, context)
                    if message is None:
                        return
                    await context.write(message)
        finally:
            call.end()

    return grpc.unary_stream_rpc_method_handler(handle)


async def _or_abort(
    answer: Awaitable[T],
    method: RpcMethod,
    context: grpc.aio.ServicerContext[Any, Any],
) -> T:
    """Awaits an answer of the service; an error that it raises instead ends the RPC."""
    try:
        return await answer
    except Exception as error:
        await context.abort(*abortion(error, method.name, method.error_domain))
        raise


def _sync_call(
    method: UnaryMethod, waiters: Waiters, submit: Submit
) -> grpc.RpcMethodHandler[bytes, bytes]:
    async def serve(body: bytes, call: Call) -> bytes:
        try:
            return await method.behavior(body, call)
        finally:
            call.end()

    def handle(body: bytes, context: grpc.ServicerContext) -> bytes:
        call = Call(context, method.name, waiters)
        with _aborting(method, context):
            answer = _begin(serve(body, call), context, submit).result()
        if call.headers:
            context.send_initial_metadata(tuple(call.headers))
        return answer

    return grpc.unary_unary_rpc_method_handler(handle)


def _sync_stream(
    method: StreamMethod, waiters: Waiters, submit: Submit
) -> grpc.RpcMethodHandler[bytes, bytes]:
    async def serve(body: bytes, call: Call, handover: _Handover) -> None:
        try:
            async with contextlib.aclosing(method.behavior(body, call)) as messages:
                async for message in messages:
                    await handover.give(message)
        finally:
            call.end()

    def handle(body: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        call = Call(context, method.name, waiters)
        handover = _Handover()
        with _aborting(method, context):
            serving = _begin(serve(body, call, handover), context, submit)
            serving.add_done_callback(lambda _: handover.end())
            yield from handover
            serving.result()

    return grpc.unary_stream_rpc_method_handler(handle)


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


def _begin(
    answer: Coroutine[Any, Any, T], context: grpc.ServicerContext, submit: Submit
) -> concurrent.futures.Future[T]:
    """Begins to answer; when the RPC is over, the rest of it is dropped."""
    answering = submit(answer)

    def drop() -> None:
        answering.cancel()  # does nothing to an answer that was given

    if not context.add_callback(drop):
        drop()
    return answering


@contextlib.contextmanager
def _aborting(method: RpcMethod, context: grpc.ServicerContext) -> Iterator[None]:
    """Ends the RPC with the error that is raised within."""
    try:
        yield
    except concurrent.futures.CancelledError:
        context.abort(grpc.StatusCode.CANCELLED, "the caller is gone")
    except Exception as error:  # noqa: BLE001 - the caller sees it
        code, message, trailers = abortion(error, method.name, method.error_domain)
        context.set_trailing_metadata(trailers)
        context.abort(code, message)


def status_of_failure(error: Exception, method: str, domain: str) -> status_pb2.Status:
    """Returns the Status by which a caller sees an error.

    Args:
        error: What was raised.
        method: Where, for the log.
        domain: ``ErrorInfo.domain`` of an error that names none.
    """
    if not isinstance(error, Aborted):
        return status_of(error, method, domain=domain)
    code: int = error.code.value[0]
    for key, value in error.trailers:
        with contextlib.suppress(DecodeError):
            status = status_pb2.Status.FromString(value if isinstance(value, bytes) else b"")
            if key == STATUS_DETAILS and status.code == code:
                return status
    return to_status(LroError(error.details, code=code), domain=domain)


def abortion(error: Exception, method: str, domain: str) -> tuple[grpc.StatusCode, str, Trailers]:
    """Returns the code, the message and the trailing metadata of an RPC that ends with an error.

    Args:
        error: What was raised.
        method: Where, for the log.
        domain: ``ErrorInfo.domain`` of an error that names none.
    """
    if isinstance(error, Aborted):
        return error.code, error.details, error.trailers
    status = _that_fits(status_of_failure(error, method, domain))
    return (
        _CODES[status.code],
        status.message,
        ((STATUS_DETAILS, status.SerializeToString()),),
    )


def _that_fits(status: status_pb2.Status) -> status_pb2.Status:
    """Returns a Status that is small enough for trailing metadata."""
    if status.ByteSize() > _MAX_STATUS_BYTES:
        status.message = status.message[:_MAX_MESSAGE]
        del status.details[1:]  # the first one is the ErrorInfo
    if status.ByteSize() > _MAX_STATUS_BYTES:
        del status.details[:]
    return status
