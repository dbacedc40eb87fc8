"""An RPC in progress, and the faces that gRPC calls: the two colours meet the one service here.

The service is a set of coroutines, bytes in and bytes out, that raise ``LroError``. A face turns
one of them into a method handler of its server's colour.
"""

from __future__ import annotations

import concurrent.futures
import inspect
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

import grpc
import grpc.aio
from google.protobuf.message import DecodeError, Message
from google.rpc import status_pb2

from lro_grpc.engine.failure import status_of
from lro_grpc.engine.threads import run_in_thread
from lro_grpc.errors import MalformedRequestError
from lro_grpc.server.author import no_exit, result_of
from lro_grpc.server.prepare_context import (
    Aborted,
    AsyncPrepareContext,
    PrepareContext,
    Trailers,
)
from lro_grpc.telemetry import NO_TELEMETRY, Telemetry

STATUS_DETAILS = "grpc-status-details-bin"
"""The trailing metadata that carries a serialized ``google.rpc.Status``."""

_MAX_STATUS_BYTES = 4096
"""A Status that is larger travels with its ErrorInfo alone: peers limit the size of trailers."""

_MAX_MESSAGE = 1000
"""Characters of such a Status' message."""

_CODES = {code.value[0]: code for code in grpc.StatusCode}


EMPTY = b""
"""A serialized ``google.protobuf.Empty``."""

M = TypeVar("M", bound=Message)


def parse(kind: type[M], body: bytes) -> M:
    """Parses a request's body.

    Raises:
        MalformedRequestError: If the body is not such a message.
    """
    try:
        return kind.FromString(body)
    except DecodeError as cause:
        raise MalformedRequestError(
            f"the body of {len(body)} bytes is not a {kind.DESCRIPTOR.full_name}: {cause}",
            metadata={"type": kind.DESCRIPTOR.full_name},
        ) from cause


class Waiters:
    """Counts the RPCs that stay open to wait.

    Args:
        most: How many may at a time.
        telemetry: Is told how many do.
    """

    def __init__(self, most: int, telemetry: Telemetry = NO_TELEMETRY) -> None:
        self._free = most
        self._telemetry = telemetry

    def enter(self) -> bool:
        """Takes a place if one is free. Called on the event loop only."""
        if self._free <= 0:
            return False
        self._free -= 1
        self._telemetry.waiting(1)
        return True

    def leave(self) -> None:
        """Gives a place back. Called on the event loop only."""
        self._free += 1
        self._telemetry.waiting(-1)


class Call:
    """What the service may know of an RPC.

    Args:
        context: gRPC's own context, of either colour.
        method: The full name of the RPC's method.
        waiters: Who may wait.
    """

    def __init__(self, context: Any, method: str, waiters: Waiters) -> None:
        self.context = context
        self.method = method
        self._waiters = waiters
        self._waits = False

    def metadata(self) -> Iterable[tuple[str, str | bytes]]:
        """Returns the metadata that the caller has sent along."""
        sent: Iterable[tuple[str, str | bytes]] = self.context.invocation_metadata() or ()
        return sent

    def time_remaining(self) -> float | None:
        """Returns the seconds until the caller's deadline; None if there is none."""
        remaining: float | None = self.context.time_remaining()
        return remaining

    def may_wait(self) -> bool:
        """Whether the RPC may stay open for long: as many may as there are places."""
        self._waits = self._waits or self._waiters.enter()
        return self._waits

    def end(self) -> None:
        """Gives back what the RPC has held."""
        if self._waits:
            self._waiters.leave()

    async def prepare(self, function: Callable[[Any, Any], Any], request: Any) -> Any:
        """Calls an author's prepare with the request and a context of its colour.

        A ``def`` runs in a thread.

        Raises:
            Aborted: If it has refused the request through the context.
        """
        is_async = inspect.iscoroutinefunction(function)
        context = (AsyncPrepareContext if is_async else PrepareContext)(self.context)
        if is_async:
            prepared = await result_of(function(request, context), "prepare")
        else:
            with no_exit("prepare"):
                prepared = await run_in_thread("lro-prepare", function, request, context)
        context.raise_if_refused()
        return prepared


Service = Callable[[bytes, Call], Coroutine[Any, Any, bytes]]
"""One method of a service."""


@dataclass(frozen=True, slots=True, eq=False)
class Served:
    """One method that is served."""

    method: str
    """``/pkg.Service/Method``."""
    service: Service
    """What answers it."""
    error_domain: str
    """``ErrorInfo.domain`` of authors' errors that name none."""


def aio_face(served: Served, waiters: Waiters) -> grpc.RpcMethodHandler[bytes, bytes]:
    """Returns a method handler for a ``grpc.aio`` server.

    Args:
        served: What to serve.
        waiters: Who may wait.
    """

    async def face(body: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
        call = Call(context, served.method, waiters)
        try:
            return await served.service(body, call)
        except Exception as error:
            await context.abort(*_abortion(error, served))
            raise
        finally:
            call.end()

    return grpc.unary_unary_rpc_method_handler(face)


def sync_face(
    served: Served,
    waiters: Waiters,
    submit: Callable[[Coroutine[Any, Any, bytes]], concurrent.futures.Future[bytes]],
) -> grpc.RpcMethodHandler[bytes, bytes]:
    """Returns a method handler for a ``grpc.server``.

    Args:
        served: What to serve.
        waiters: Who may hold one of the server's threads to wait.
        submit: Runs a coroutine on the loop of the operations.
    """

    async def serve(body: bytes, context: grpc.ServicerContext) -> bytes:
        call = Call(context, served.method, waiters)
        try:
            return await served.service(body, call)
        finally:
            call.end()

    def face(body: bytes, context: grpc.ServicerContext) -> bytes:
        try:
            answer = submit(serve(body, context))
            if not context.add_callback(lambda: _drop(answer)):
                _drop(answer)
            return answer.result()
        except concurrent.futures.CancelledError:
            context.abort(grpc.StatusCode.CANCELLED, "the caller is gone")
        except Exception as error:  # noqa: BLE001 - it is told to the caller
            code, message, trailers = _abortion(error, served)
            context.set_trailing_metadata(trailers)
            context.abort(code, message)

    return grpc.unary_unary_rpc_method_handler(face)


def _drop(answer: concurrent.futures.Future[bytes]) -> None:
    """Cancels an answer whose caller is gone; does nothing to one that was given."""
    answer.cancel()


def _abortion(error: Exception, served: Served) -> tuple[grpc.StatusCode, str, Trailers]:
    if isinstance(error, Aborted):
        return error.code, error.details, error.trailers
    status = _that_fits(status_of(error, served.method, domain=served.error_domain))
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
