"""Adds servicers that derive from a generated one to a server."""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import Any

import grpc
import grpc.aio
from google.longrunning import operations_pb2

from lro_grpc._errors import ConfigurationError, LroError
from lro_grpc._server.decorator import BoundMethod, MethodOptions, options_of
from lro_grpc._server.rpc.hook_context import Trailers
from lro_grpc._server.rpc.status import abort_arguments
from lro_grpc._wire.method_kinds import (
    LongRunning,
    Rpc,
    StreamStream,
    StreamUnary,
    UnaryStream,
    UnaryUnary,
)

_MAKERS: dict[type[Rpc[Any, Any]], Callable[..., grpc.RpcMethodHandler[Any, Any]]] = {
    LongRunning: grpc.unary_unary_rpc_method_handler,
    UnaryUnary: grpc.unary_unary_rpc_method_handler,
    UnaryStream: grpc.unary_stream_rpc_method_handler,
    StreamUnary: grpc.stream_unary_rpc_method_handler,
    StreamStream: grpc.stream_stream_rpc_method_handler,
}


class Servicer:
    """The base of a service, through the servicer that is generated for it.

    A method that is not overridden is UNIMPLEMENTED. A long-running one is given the operation and
    returns the response; ``lro_grpc.MethodOptions(…)`` decorates it. Its ``prepare_…`` is called
    before anything is stored: an error of it is the RPC's own (S3). All others are as in
    gRPC's own servicers, and may raise an ``LroError``, too.
    """


class AsyncServicer(Servicer):
    """A :class:`Servicer` whose methods are coroutines and asynchronous generators."""


def add_servicer(
    servicer: Servicer, server: grpc.Server | grpc.aio.Server, rpcs: type, *bases: type
) -> None:
    """Adds a servicer to a server.

    Args:
        servicer: The servicer.
        server: The registrar that ``Operations.attach`` has returned.
        rpcs: Has the service's methods as its attributes, by the names of the servicer's.
        *bases: The generated classes, from one of which the servicer derives.

    Raises:
        ConfigurationError: If a method cannot be served as it is.
    """
    methods = {name: rpc for name, rpc in vars(rpcs).items() if isinstance(rpc, Rpc)}
    handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}
    service = ""
    for name, rpc in methods.items():
        service, _, method = rpc.path[1:].partition("/")
        behavior = _overriding(servicer, name, bases)
        if behavior is None:
            continue
        if not isinstance(rpc, LongRunning):
            behavior = _plain(servicer, behavior, rpc, server)
        elif not isinstance(behavior, BoundMethod):  # as the decorator would have made it
            prepare = _overriding(servicer, f"prepare_{name}", bases)
            behavior = BoundMethod(behavior, prepare, options_of(behavior) or MethodOptions())
        handlers[method] = _handler(rpc, behavior)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    server.add_registered_method_handlers(service, handlers)


def _overriding(servicer: Servicer, name: str, bases: Iterable[type]) -> Any:
    """Returns a method of the servicer's own; None if it is the generated one."""
    found = getattr(type(servicer), name, None)
    inherited = any(found is getattr(base, name) for base in bases)
    return None if inherited else getattr(servicer, name, None)


def _handler(rpc: Rpc[Any, Any], behavior: Any) -> grpc.RpcMethodHandler[Any, Any]:
    answer = operations_pb2.Operation if isinstance(rpc, LongRunning) else rpc.response
    return _MAKERS[type(rpc)](
        behavior,
        request_deserializer=rpc.request.FromString,
        response_serializer=answer.SerializeToString,
    )


def _plain(
    servicer: Servicer, behavior: Any, rpc: Rpc[Any, Any], server: grpc.Server | grpc.aio.Server
) -> Any:
    """Returns the behavior that gRPC is to call for a method that is not long-running.

    It is the method, and aborts the RPC with the ``LroError`` that the method may raise.
    """
    streams = isinstance(rpc, (UnaryStream, StreamStream))
    is_coroutine = inspect.iscoroutinefunction(behavior)
    is_async = is_coroutine or (streams and isinstance(servicer, AsyncServicer))
    if options_of(behavior):
        raise _unfit(rpc, "it is not long-running, and takes no MethodOptions")
    if is_async and not isinstance(server, grpc.aio.Server):
        raise _unfit(
            rpc,
            "a grpc.server cannot await it; derive from the servicer without Async, or use a"
            " grpc.aio.server",
        )
    service = rpc.path[1:].partition("/")[0]

    def refusal(error: LroError) -> tuple[grpc.StatusCode, str, Trailers]:
        return abort_arguments(error, rpc.path, service)

    @functools.wraps(behavior)
    def answer(request: Any, context: grpc.ServicerContext) -> Any:
        try:
            return behavior(request, context)
        except LroError as error:
            code, message, trailers = refusal(error)
            context.set_trailing_metadata(trailers)
            context.abort(code, message)

    @functools.wraps(behavior)
    def answers(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        try:
            yield from behavior(request, context)
        except LroError as error:  # an abort could overtake what grpc.aio has not sent yet
            code, message, trailers = refusal(error)
            context.set_trailing_metadata(trailers)
            context.set_code(code)
            context.set_details(message)

    @functools.wraps(behavior)
    async def answer_async(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        try:
            return await behavior(request, context)
        except LroError as error:
            await context.abort(*refusal(error))

    @functools.wraps(behavior)
    async def answers_async(
        request: Any, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[Any]:
        try:
            async for response in behavior(request, context):
                yield response
        except LroError as error:
            await context.abort(*refusal(error))

    if is_async:
        return answers_async if streams and not is_coroutine else answer_async
    return answers if streams else answer


def _unfit(rpc: Rpc[Any, Any], why: str) -> ConfigurationError:
    return ConfigurationError(f"{rpc.path} cannot be served: {why}", metadata={"method": rpc.path})
