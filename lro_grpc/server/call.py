"""An RPC in progress, and the faces that gRPC calls: the two colours meet the one service here.

The service is a set of coroutines, bytes in and bytes out, that raise ``LroError``. A face turns
one of them into a method handler of its server's colour.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import inspect
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn, Protocol

import grpc
import grpc.aio

from lro_grpc.engine.failure import status_of
from lro_grpc.errors import LroError

STATUS_DETAILS = "grpc-status-details-bin"
"""The trailing metadata that carries a serialized ``google.rpc.Status``."""

_CODES = {code.value[0]: code for code in grpc.StatusCode}


class Aborted(Exception):  # noqa: N818 - it carries an abort that has happened already
    """The author's own code has aborted the RPC through its context.

    Attributes:
        abort: What gRPC raised for it, and expects to be raised on.
    """

    def __init__(self, abort: Exception) -> None:
        super().__init__("the RPC was aborted")
        self.abort = abort


class Call(Protocol):
    """What the service may know of an RPC."""

    def time_remaining(self) -> float | None:
        """Returns the seconds until the caller's deadline; None if there is none."""
        ...

    async def prepare(self, function: Callable[[Any, Any], Any], request: Any) -> Any:
        """Calls an author's prepare with the request and a context of its colour.

        Raises:
            Aborted: If it has aborted the RPC.
        """
        ...

    def may_wait(self) -> bool:
        """Whether the RPC may stay open for long; asked once, and again when it is over."""
        ...


Service = Callable[[bytes, Call], Coroutine[Any, Any, bytes]]
"""One method of the service."""


class AioCall:
    """An RPC on a ``grpc.aio`` server."""

    def __init__(self, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        self._context = context

    def time_remaining(self) -> float | None:
        """Returns the seconds until the caller's deadline; None if there is none."""
        return self._context.time_remaining()

    def may_wait(self) -> bool:
        """A waiting coroutine costs little, so all may wait."""
        return True

    async def prepare(self, function: Callable[[Any, Any], Any], request: Any) -> Any:
        """Calls an author's prepare; a ``def`` runs in a thread, with a context made for it."""
        try:
            if inspect.iscoroutinefunction(function):
                return await function(request, self._context)
            context = _ThreadContext(self._context, asyncio.get_running_loop())
            return await asyncio.to_thread(function, request, context)
        except grpc.aio.AbortError as cause:
            raise Aborted(cause) from cause


class _ThreadContext:
    """A ``grpc.aio`` context as a ``def`` expects one: what aborts does so at once."""

    def __init__(self, context: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._context = context
        self._loop = loop

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    def abort(self, *arguments: Any, **named: Any) -> NoReturn:
        self._raise_from(self._context.abort(*arguments, **named))

    def abort_with_status(self, status: Any) -> NoReturn:
        self._raise_from(self._context.abort_with_status(status))

    def _raise_from(self, abort: Coroutine[Any, Any, None]) -> NoReturn:
        asyncio.run_coroutine_threadsafe(abort, self._loop).result()
        raise AssertionError("an abort returned")


class SyncCall:
    """An RPC on a ``grpc.server``: it holds one of the server's threads as long as it lasts."""

    def __init__(self, context: grpc.ServicerContext, waiters: Waiters) -> None:
        self._context = context
        self._waiters = waiters
        self.waits = False

    def time_remaining(self) -> float | None:
        """Returns the seconds until the caller's deadline; None if there is none."""
        return self._context.time_remaining()

    def may_wait(self) -> bool:
        """As many may wait as the server has threads to spare."""
        self.waits = self.waits or self._waiters.enter()
        return self.waits

    async def prepare(self, function: Callable[[Any, Any], Any], request: Any) -> Any:
        """Calls an author's prepare; a ``def`` runs in a thread."""
        try:
            if inspect.iscoroutinefunction(function):
                return await function(request, self._context)
            return await asyncio.to_thread(function, request, self._context)
        except LroError:
            raise
        except Exception as cause:
            context: Any = self._context  # the stubs lack code()
            if context.code() is not None:
                raise Aborted(cause) from cause
            raise


class Waiters:
    """Counts the RPCs that hold a thread to wait.

    Args:
        most: How many may at a time.
    """

    def __init__(self, most: int) -> None:
        self._free = most

    def enter(self) -> bool:
        """Takes a place if one is free. Called on the event loop only."""
        if self._free <= 0:
            return False
        self._free -= 1
        return True

    def leave(self) -> None:
        """Gives a place back. Called on the event loop only."""
        self._free += 1


def aio_face(service: Service, error_domain: str) -> grpc.RpcMethodHandler[bytes, bytes]:
    """Returns a method handler for a ``grpc.aio`` server."""

    async def face(body: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
        try:
            return await service(body, AioCall(context))
        except Aborted as aborted:
            raise aborted.abort from None
        except Exception as error:
            await context.abort(*_abortion(error, error_domain))
            raise

    return grpc.unary_unary_rpc_method_handler(face)


def sync_face(
    service: Service,
    error_domain: str,
    submit: Callable[[Coroutine[Any, Any, bytes]], concurrent.futures.Future[bytes]],
    waiters: Waiters,
) -> grpc.RpcMethodHandler[bytes, bytes]:
    """Returns a method handler for a ``grpc.server``.

    Args:
        service: The coroutine to run.
        error_domain: ``ErrorInfo.domain`` of authors' errors that name none.
        submit: Runs a coroutine on the loop of the operations.
        waiters: Who may hold a thread to wait.
    """

    async def serve(body: bytes, call: SyncCall) -> bytes:
        try:
            return await service(body, call)
        finally:
            if call.waits:
                waiters.leave()

    def face(body: bytes, context: grpc.ServicerContext) -> bytes:
        try:
            answer = submit(serve(body, SyncCall(context, waiters)))
            context.add_callback(lambda: _drop(answer))
            return answer.result()
        except Aborted as aborted:
            raise aborted.abort from None
        except Exception as error:  # noqa: BLE001 - it is told to the caller
            code, message, trailers = _abortion(error, error_domain)
            context.set_trailing_metadata(trailers)
            context.abort(code, message)

    return grpc.unary_unary_rpc_method_handler(face)


def _drop(answer: concurrent.futures.Future[bytes]) -> None:
    """Cancels an answer that nobody waits for any more; does nothing to one that was given."""
    answer.cancel()


def _abortion(
    error: Exception, domain: str
) -> tuple[grpc.StatusCode, str, tuple[tuple[str, bytes], ...]]:
    status = status_of(error, "an RPC", domain=domain)
    return (
        _CODES[status.code],
        status.message,
        ((STATUS_DETAILS, status.SerializeToString()),),
    )
