"""A hand-written server of operations, scripted by its test."""

from __future__ import annotations

import contextlib
import threading
from collections import defaultdict, deque
from concurrent import futures
from typing import TYPE_CHECKING, Any

import grpc
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf import empty_pb2

from lro.v1 import operation_control_service_pb2 as control
from lro.v1 import operation_control_service_pb2_grpc
from lro.v1.operation_description_pb2 import DescribeOperationResponse
from lro.v1.operation_summary_pb2 import SummarizeOperationsResponse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from google.protobuf.message import Message

WATCH, WAIT, GET, LIST = "WatchOperation", "WaitOperation", "GetOperation", "ListOperations"
CANCEL, DELETE = "CancelOperation", "DeleteOperation"
PAUSE, RESUME, TERMINATE = "PauseOperation", "ResumeOperation", "TerminateOperation"
DESCRIBE = "DescribeOperation"
RERUN = "RerunOperation"
SUMMARIZE = "SummarizeOperations"


def operation(
    name: str = "operations/1",
    *,
    response: Message | None = None,
    error: int | None = None,
    metadata: Message | None = None,
    done: bool = False,
) -> operations_pb2.Operation:
    is_done = done or response is not None or error is not None
    one = operations_pb2.Operation(name=name, done=is_done)
    if response is not None:
        one.response.Pack(response)
    if error is not None:
        one.error.code = error
        one.error.message = "the disk is full"
    if metadata is not None:
        one.metadata.Pack(metadata)
    return one


class Signals(dict[str, threading.Semaphore]):
    """A semaphore for each method: the same one for two threads that are the first to ask."""

    def __missing__(self, method: str) -> threading.Semaphore:
        return self.setdefault(method, threading.Semaphore(0))


class FakeOperations(
    operations_pb2_grpc.OperationsServicer,
    operation_control_service_pb2_grpc.OperationControlServiceServicer,
):
    """Keeps operations by name; scripted answers come before what is true."""

    def __init__(self) -> None:
        self.operations: dict[str, operations_pb2.Operation] = {}
        self.pages: dict[str, operations_pb2.ListOperationsResponse] = {}
        self.calls: list[str] = []
        self.requests: list[Any] = []
        self.headers: list[dict[str, Any]] = []
        self.deadlines: list[float] = []
        self.arrived = Signals()
        self.gone = Signals()
        self.shared: Callable[[Iterator[Any], grpc.ServicerContext], Iterator[Any]] | None = None
        """Answers a WatchOperations; without it there is no such RPC."""
        self.shared_calls = 0
        self._scripts: dict[str, deque[Any]] = defaultdict(deque)
        self._always: dict[str, Any] = {}
        self._changed = threading.Condition()
        self._closed = False

    def put(self, one: operations_pb2.Operation) -> operations_pb2.Operation:
        with self._changed:
            self.operations[one.name] = one
            self._changed.notify_all()
        return one

    def script(self, method: str, *answers: Any) -> None:
        """The next answers: a message, a status code, or a function of request and context.

        An answer to a Watch is a list of operations; a status code in it ends the stream.
        """
        self._scripts[method].extend(answers)

    def always(self, method: str, answer: Any) -> None:
        self._always[method] = answer

    def count(self, method: str) -> int:
        return self.calls.count(method)

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def hang(self, request: Any, context: grpc.ServicerContext) -> Any:
        with self._changed:
            self._changed.wait_for(lambda: self._closed)
        context.abort(grpc.StatusCode.CANCELLED, "the test is over")

    def GetOperation(self, request: Any, context: grpc.ServicerContext) -> Any:
        return self._answer(GET, request, context, self._get)

    def WaitOperation(self, request: Any, context: grpc.ServicerContext) -> Any:
        return self._answer(WAIT, request, context, self.truth_of_wait)

    def ListOperations(self, request: Any, context: grpc.ServicerContext) -> Any:
        return self._answer(LIST, request, context, lambda r, c: self.pages[r.page_token])

    def CancelOperation(self, request: Any, context: grpc.ServicerContext) -> Any:
        return self._answer(CANCEL, request, context, lambda r, c: empty_pb2.Empty())

    def DeleteOperation(self, request: Any, context: grpc.ServicerContext) -> Any:
        return self._answer(DELETE, request, context, lambda r, c: empty_pb2.Empty())

    def PauseOperation(self, request: Any, context: grpc.ServicerContext) -> Any:
        return self._answer(PAUSE, request, context, self._control(control.PauseOperationResponse))

    def ResumeOperation(self, request: Any, context: grpc.ServicerContext) -> Any:
        kind = control.ResumeOperationResponse
        return self._answer(RESUME, request, context, self._control(kind))

    def TerminateOperation(self, request: Any, context: grpc.ServicerContext) -> Any:
        kind = control.TerminateOperationResponse
        return self._answer(TERMINATE, request, context, self._control(kind))

    def RerunOperation(self, request: Any, context: grpc.ServicerContext) -> Any:
        kind = control.RerunOperationResponse
        return self._answer(RERUN, request, context, self._control(kind))

    def DescribeOperation(self, request: Any, context: grpc.ServicerContext) -> Any:
        return self._answer(DESCRIBE, request, context, self._control(DescribeOperationResponse))

    def SummarizeOperations(self, request: Any, context: grpc.ServicerContext) -> Any:
        number = len(self.operations)
        truth = SummarizeOperationsResponse(examined_count=number)
        return self._answer(SUMMARIZE, request, context, lambda r, c: truth)

    def WatchOperation(self, request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        for one in self._answer(WATCH, request, context, self.truth_of_watch):
            if isinstance(one, grpc.StatusCode):
                context.abort(one, f"{WATCH} says {one.name}")
            yield control.WatchOperationResponse(operation=one)

    def WatchOperations(self, requests: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        self.shared_calls += 1
        if self.shared is None:
            context.abort(grpc.StatusCode.UNIMPLEMENTED, "there is no such method")
        yield from self.shared(requests, context)

    def _control(self, response: Any) -> Callable[[Any, grpc.ServicerContext], Any]:
        """Answers with the operation as it is."""
        return lambda r, c: response(operation=self.operations[r.name])

    def _answer(
        self,
        method: str,
        request: Any,
        context: grpc.ServicerContext,
        truth: Callable[[Any, grpc.ServicerContext], Any],
    ) -> Any:
        self.calls.append(method)
        self.requests.append(request)
        self.headers.append(dict(context.invocation_metadata()))
        self.deadlines.append(context.time_remaining())
        script = self._scripts[method]
        answer = script.popleft() if script else self._always.get(method, truth)
        context.add_callback(self.gone[method].release)
        self.arrived[method].release()
        if isinstance(answer, grpc.StatusCode):
            context.abort(answer, f"{method} says {answer.name}")
        return answer(request, context) if callable(answer) else answer

    def _get(self, request: Any, context: grpc.ServicerContext) -> operations_pb2.Operation:
        if request.name not in self.operations:
            context.abort(grpc.StatusCode.NOT_FOUND, f"there is no {request.name}")
        return self.operations[request.name]

    def truth_of_wait(
        self, request: Any, context: grpc.ServicerContext
    ) -> operations_pb2.Operation:
        seconds = request.timeout.ToTimedelta().total_seconds()
        with self._changed:
            self._changed.wait_for(
                lambda: self._closed or self._get(request, context).done, min(seconds, 10)
            )
            return self._get(request, context)

    def truth_of_watch(
        self, request: Any, context: grpc.ServicerContext
    ) -> Iterable[operations_pb2.Operation]:
        sent: list[operations_pb2.Operation] = []

        def has_update() -> bool:
            is_over = self._closed or not context.is_active()
            return is_over or sent[-1:] != [self._get(request, context)]

        context.add_callback(self._notify)
        while not sent or not sent[-1].done:
            with self._changed:
                self._changed.wait_for(has_update)
                if self._closed or not context.is_active():
                    return
                sent.append(self._get(request, context))
            yield sent[-1]

    def _notify(self) -> None:
        with self._changed:
            self._changed.notify_all()


class FakeServer:
    """Serves a FakeOperations; may be stopped and started on the same port."""

    def __init__(self) -> None:
        self.fake = FakeOperations()
        self.broken: set[str] = set()
        """The methods that answer bytes which are no message."""
        self.port = 0
        self.start()

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        self._server = grpc.server(
            futures.ThreadPoolExecutor(32),
            options=[("grpc.so_reuseport", 0)],
            interceptors=[Breaking(self.broken)],
        )
        operations_pb2_grpc.add_OperationsServicer_to_server(self.fake, self._server)
        operation_control_service_pb2_grpc.add_OperationControlServiceServicer_to_server(
            self.fake, self._server
        )
        self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        self._server.start()

    def stop(self) -> None:
        self._server.stop(None).wait()

    @contextlib.contextmanager
    def dies_during(self, method: str, *, then: operations_pb2.Operation | None) -> Iterator[None]:
        """Stops once the method is called; starts again with an operation, if one is given."""

        def die() -> None:
            self.fake.arrived[method].acquire(timeout=10)
            self.stop()
            if then is not None:
                self.fake.put(then)
                self.start()

        thread = threading.Thread(target=die)
        thread.start()
        yield
        thread.join()

    @contextlib.contextmanager
    def dies_of(self, method: str) -> Iterator[None]:
        """Stops whenever the method is called, and starts again."""
        is_over = threading.Event()

        def die_again_and_again() -> None:
            while self.fake.arrived[method].acquire() and not is_over.is_set():
                self.stop()
                self.start()

        self.fake.always(method, self.fake.hang)
        thread = threading.Thread(target=die_again_and_again)
        thread.start()
        try:
            yield
        finally:
            is_over.set()
            self.fake.arrived[method].release()
            thread.join()


class Breaking(grpc.ServerInterceptor):
    """Has the methods of a set answer bytes that are no message."""

    def __init__(self, methods: set[str]) -> None:
        self._methods = methods

    def intercept_service(self, continuation: Any, details: grpc.HandlerCallDetails) -> Any:
        method = details.method.rpartition("/")[2]
        if method not in self._methods:
            return continuation(details)
        if method == WATCH:
            return grpc.unary_stream_rpc_method_handler(lambda request, context: iter([b"\xff"]))
        return grpc.unary_unary_rpc_method_handler(lambda request, context: b"\xff")
