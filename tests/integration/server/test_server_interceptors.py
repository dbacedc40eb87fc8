"""A server's own interceptors: messages if they ask for them, on both kinds of server."""

from __future__ import annotations

import inspect
import threading
import time
from collections.abc import Callable
from concurrent import futures
from typing import Any

import grpc
import grpc.aio
import pytest
from google.longrunning import operations_pb2
from google.protobuf import empty_pb2
from google.protobuf.message import Message
from server_harness import (
    OPERATIONS,
    PARENT,
    SECONDS,
    Held,
    Instance,
    Server,
    refused,
    response_of,
    serving,
)

import lro_grpc
from lro.example.v1 import fleet_service_pb2
from lro.v1 import operation_control_service_pb2 as control_pb2

Serve = Any

MESSAGES = {"messages": True}

OnMessage = Callable[[str, Any], Any]
"""Is given the method's name, and a request or a response, and returns what is to go on."""


def as_it_is(method: str, message: Any) -> Any:
    del method
    return message


class _Interceptor:
    """Wraps handlers as interceptors do, such as those that validate, log or redact."""

    def __init__(self, on_request: OnMessage, on_response: OnMessage) -> None:
        self._on_request = on_request
        self._on_response = on_response

    def wrapped(self, name: str, handler: Any) -> Any:
        kind = "unary_stream" if handler.response_streaming else "unary_unary"
        behavior = getattr(handler, kind)
        method = name.rpartition("/")[2]

        def answer(request: Any, context: Any) -> Any:
            return self._on_response(method, behavior(self._on_request(method, request), context))

        async def answer_async(request: Any, context: Any) -> Any:
            response = await behavior(self._on_request(method, request), context)
            return self._on_response(method, response)

        def iterate(request: Any, context: Any) -> Any:
            for response in behavior(self._on_request(method, request), context):
                yield self._on_response(method, response)

        async def iterate_async(request: Any, context: Any) -> Any:
            async for response in behavior(self._on_request(method, request), context):
                yield self._on_response(method, response)

        if kind == "unary_unary":
            wrapper = answer_async if inspect.iscoroutinefunction(behavior) else answer
        else:
            wrapper = iterate_async if inspect.isasyncgenfunction(behavior) else iterate
        return getattr(grpc, f"{kind}_rpc_method_handler")(
            wrapper, handler.request_deserializer, handler.response_serializer
        )


class _Sync(_Interceptor, grpc.ServerInterceptor):
    def intercept_service(self, continuation: Any, details: Any) -> Any:
        return self.wrapped(details.method, continuation(details))


class _Aio(_Interceptor, grpc.aio.ServerInterceptor):
    async def intercept_service(self, continuation: Any, details: Any) -> Any:
        return self.wrapped(details.method, await continuation(details))


def interceptor(
    stack: str, on_request: OnMessage = as_it_is, on_response: OnMessage = as_it_is
) -> _Interceptor:
    return (_Sync if stack == "sync" else _Aio)(on_request, on_response)


class Seen:
    """Notes the types of requests and responses, by the methods."""

    def __init__(self) -> None:
        self.requests: dict[str, type[Any]] = {}
        self.responses: dict[str, type[Any]] = {}

    def request(self, method: str, message: Any) -> Any:
        self.requests[method] = type(message)
        return message

    def response(self, method: str, message: Any) -> Any:
        self.responses[method] = type(message)
        return message


CALLED: dict[str, tuple[type[Message], type[Message]]] = {
    "CreateInstance": (fleet_service_pb2.CreateInstanceRequest, operations_pb2.Operation),
    "GetOperation": (operations_pb2.GetOperationRequest, operations_pb2.Operation),
    "ListOperations": (
        operations_pb2.ListOperationsRequest,
        operations_pb2.ListOperationsResponse,
    ),
    "WaitOperation": (operations_pb2.WaitOperationRequest, operations_pb2.Operation),
    "CancelOperation": (operations_pb2.CancelOperationRequest, empty_pb2.Empty),
    "DeleteOperation": (operations_pb2.DeleteOperationRequest, empty_pb2.Empty),
    "PauseOperation": (control_pb2.PauseOperationRequest, control_pb2.PauseOperationResponse),
    "ResumeOperation": (control_pb2.ResumeOperationRequest, control_pb2.ResumeOperationResponse),
    "WatchOperation": (control_pb2.WatchOperationRequest, control_pb2.WatchOperationResponse),
    "TerminateOperation": (
        control_pb2.TerminateOperationRequest,
        control_pb2.TerminateOperationResponse,
    ),
    "RerunOperation": (control_pb2.RerunOperationRequest, control_pb2.RerunOperationResponse),
}


@pytest.fixture
def held(handler_keyword: str) -> Held:
    return Held(handler_keyword)


def call_everything(server: Any, held: Held) -> None:
    name = server.create(instance_id="i").name
    held.next()
    assert server.get(name).name == name
    assert server.names() == [name]
    assert not server.wait(name, 0.01).done
    server.pause(name)
    server.resume(name)
    watching = server.watching(name)
    assert next(watching).operation.name == name
    watching.cancel()
    held.gate.open()
    assert response_of(server.done(name)).name.endswith("/i")
    server.delete(name)
    other = server.create(instance_id="other").name
    server.done(other)
    refused(lambda: server.pause(other))
    server.cancel(other)
    refused(lambda: server.terminate(other, "to see it"))
    server.done(server.rerun(other).name)


def test_with_messages_an_interceptor_sees_those_of_every_method(
    stack: str, serve: Serve, held: Held
) -> None:
    seen = Seen()
    spy = interceptor(stack, seen.request, seen.response)
    server = serve(held.servicer(pausable=True), interceptors=[spy], attach=MESSAGES)
    call_everything(server, held)
    assert seen.requests == {method: request for method, (request, _) in CALLED.items()}
    assert seen.responses == {
        method: response
        for method, (_, response) in CALLED.items()
        if method != "TerminateOperation"  # which is refused here
    }


def test_without_it_sees_bytes(stack: str, serve: Serve, held: Held) -> None:
    """So a Get goes from the store to the wire as it is."""
    seen = Seen()
    spy = interceptor(stack, seen.request)
    server = serve(held.servicer(), interceptors=[spy])
    name = server.create(instance_id="i").name
    server.get(name)
    held.gate.open()
    assert set(seen.requests.values()) == {bytes}


def test_an_interceptor_replaces_a_request_and_a_response(
    stack: str, serve: Serve, held: Held
) -> None:
    def on_request(method: str, request: Any) -> Any:
        if method == "GetOperation":
            return operations_pb2.GetOperationRequest(name=request.name.removeprefix("alias:"))
        return request

    def on_response(method: str, response: Any) -> Any:
        if method == "GetOperation":
            return operations_pb2.Operation(name=f"alias:{response.name}", done=response.done)
        if method == "WatchOperation":
            response.operation.ClearField("metadata")
        return response

    spy = interceptor(stack, on_request, on_response)
    server = serve(held.servicer(), interceptors=[spy], attach=MESSAGES)
    held.gate.open()
    name = server.create(instance_id="i").name
    server.done(name)
    replaced = server.get(f"alias:{name}")
    assert replaced == operations_pb2.Operation(name=f"alias:{name}", done=True)
    assert not server.watch(name)[-1].HasField("metadata")


class _Validator:
    """Refuses what breaks a rule, as an interceptor of protovalidate does."""

    def check(self, request: Any) -> str:
        if isinstance(request, fleet_service_pb2.CreateInstanceRequest):
            return "" if request.instance_id else "instance_id: value is required"
        return ""

    def handler(self, behavior: Any, handler: Any) -> Any:
        return grpc.unary_unary_rpc_method_handler(
            behavior, handler.request_deserializer, handler.response_serializer
        )


class _SyncValidator(_Validator, grpc.ServerInterceptor):
    def intercept_service(self, continuation: Any, details: Any) -> Any:
        handler = continuation(details)

        def validated(request: Any, context: Any) -> Any:
            violation = self.check(request)
            if violation:
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, violation)
            return handler.unary_unary(request, context)

        return self.handler(validated, handler) if handler and handler.unary_unary else handler


class _AioValidator(_Validator, grpc.aio.ServerInterceptor):
    async def intercept_service(self, continuation: Any, details: Any) -> Any:
        handler = await continuation(details)

        async def validated(request: Any, context: Any) -> Any:
            violation = self.check(request)
            if violation:
                await context.abort(grpc.StatusCode.INVALID_ARGUMENT, violation)
            return await handler.unary_unary(request, context)

        return self.handler(validated, handler) if handler and handler.unary_unary else handler


def test_an_interceptor_validates_the_request_of_a_start(
    stack: str, serve: Serve, held: Held
) -> None:
    validator = _SyncValidator() if stack == "sync" else _AioValidator()
    server = serve(held.servicer(), interceptors=[validator], attach=MESSAGES)
    failure = refused(lambda: server.create(instance_id=""))
    assert failure.code is grpc.StatusCode.INVALID_ARGUMENT
    assert failure.message == "instance_id: value is required"
    assert server.names() == []
    held.gate.open()
    assert server.done(server.create(instance_id="i").name).HasField("response")


class _KeepsBack(grpc.ServerInterceptor):
    """Keeps the first call of a method back until its caller is gone."""

    def __init__(self, method: str) -> None:
        self._method = method
        self.has_come = threading.Event()
        self.is_over = threading.Event()

    def intercept_service(self, continuation: Any, details: Any) -> Any:
        handler = continuation(details)
        if self.has_come.is_set() or not details.method.endswith(self._method):
            return handler

        def answer(request: Any, context: Any) -> Any:
            self._wait(context)
            try:
                return handler.unary_unary(request, context)
            finally:
                self.is_over.set()

        def iterate(request: Any, context: Any) -> Any:
            self._wait(context)
            try:
                yield from handler.unary_stream(request, context)
            finally:
                self.is_over.set()

        if handler.response_streaming:
            return grpc.unary_stream_rpc_method_handler(iterate)
        return grpc.unary_unary_rpc_method_handler(answer)

    def _wait(self, context: Any) -> None:
        is_gone = threading.Event()
        assert context.add_callback(is_gone.set)
        self.has_come.set()
        assert is_gone.wait(SECONDS)


@pytest.mark.parametrize("method", ["WaitOperation", "WatchOperation"])
def test_a_call_that_is_over_before_its_answer_begins_holds_nothing(method: str) -> None:
    """Neither a thread of a ``grpc.server``, until the operation ends, nor a place to wait."""
    held, interceptor = Held("async def"), _KeepsBack(method)
    how: Any = {"interceptors": [interceptor], "max_waiters": 1}
    with serving("sync", held.servicer(), **how) as server:
        name = server.create().name
        begin = server.waiting if method == "WaitOperation" else server.watching
        call = begin(name, deadline=None)
        assert interceptor.has_come.wait(SECONDS)
        call.cancel()
        try:
            assert interceptor.is_over.wait(SECONDS)
            assert_a_place_becomes_free(server, name)
        finally:
            held.gate.open()


def assert_a_place_becomes_free(server: Server, name: str) -> None:
    """Tries again and again, for the loop of the operations ends a call in its own time."""
    end = time.monotonic() + SECONDS
    while True:
        try:
            assert next(server.watching(name)).operation.name == name
        except grpc.RpcError:
            assert time.monotonic() < end
        else:
            return


def test_a_method_without_a_servicer_has_messages_too(stack: str, serve: Serve) -> None:
    async def make(request: Any, op: Any) -> Any:
        return Instance(name="made")

    def configure(operations: lro_grpc.Operations) -> None:
        request = fleet_service_pb2.CreateInstanceRequest
        operations.add_method("/other.v1.Other/Make", make, request=request, response=Instance)

    seen = Seen()
    spy = interceptor(stack, seen.request, seen.response)
    server = serve(configure=configure, interceptors=[spy], attach=MESSAGES)
    request = fleet_service_pb2.CreateInstanceRequest(parent=PARENT)
    operation = server.start("/other.v1.Other/Make", request)
    assert response_of(server.done(operation.name)).name == "made"
    assert seen.requests["Make"] is fleet_service_pb2.CreateInstanceRequest
    assert seen.responses["Make"] is operations_pb2.Operation


@pytest.mark.parametrize("name", ["operations/no-such", "no name", ""])
def test_errors_are_the_same_with_messages(serve: Serve, held: Held, name: str) -> None:
    plain, with_messages = serve(held.servicer()), serve(held.servicer(), attach=MESSAGES)
    assert refused(lambda: with_messages.get(name)) == refused(lambda: plain.get(name))
    assert refused(lambda: with_messages.watch(name)) == refused(lambda: plain.watch(name))


def test_a_body_that_is_no_message_is_grpcs_own_to_refuse(serve: Serve, held: Held) -> None:
    server = serve(held.servicer(), attach=MESSAGES)
    failure = refused(lambda: server.call(f"/{OPERATIONS}/GetOperation", b"\xff\xff"))
    assert failure.code in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN)


@pytest.mark.parametrize("wrong", [None, 1, "yes"])
def test_messages_that_are_no_flag_are_refused(wrong: Any) -> None:
    server = grpc.server(futures.ThreadPoolExecutor(2))
    with pytest.raises(lro_grpc.ConfigurationError, match="messages is"):
        lro_grpc.Operations("memory:").attach(server, messages=wrong)
