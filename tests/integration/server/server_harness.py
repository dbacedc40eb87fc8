"""A server under test, sync or async, called by plain sync code; and handlers that wait."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import queue
import threading
import time
import uuid
from concurrent import futures
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
import pytest
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf import duration_pb2
from google.rpc import error_details_pb2, status_pb2

import lro_grpc
from lro.example.v1 import fleet_service_pb2, fleet_service_pb2_grpc
from lro.v1 import (
    operation_control_service_pb2,
    operation_control_service_pb2_grpc,
    operation_metadata_pb2,
)

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Iterator, Mapping

    from lro.v1.operation_description_pb2 import DescribeOperationResponse
    from lro.v1.operation_summary_pb2 import SummarizeOperationsResponse

SECONDS = 30
"""The time that a test waits for an event that must come, before it fails."""

PARENT = "projects/p/locations/l"
FLEET = "lro.example.v1.FleetService"
OPERATIONS = "google.longrunning.Operations"

every_store = pytest.mark.parametrize("store", ["memory", "sqlite", "postgres"], indirect=True)
"""Runs a test on Postgres, too: a few tests of each service."""
async_handler = pytest.mark.parametrize("handler_keyword", ["async def"], indirect=True)
"""Runs a test with handlers that are coroutines alone, where their kind makes no difference."""
on_grpc_aio = pytest.mark.parametrize("stack", ["aio"], indirect=True)
"""Runs a test on a ``grpc.aio`` server alone."""
on_grpc_server = pytest.mark.parametrize("stack", ["sync"], indirect=True)
"""Runs a test on a ``grpc.server`` alone."""

Instance = fleet_service_pb2.Instance
OperationMetadata = operation_metadata_pb2.OperationMetadata


class Client:
    """A channel to a server, and shorthands for what every test calls."""

    def __init__(self, channel: grpc.Channel):
        self.channel = channel
        self.fleet = fleet_service_pb2_grpc.FleetServiceStub(channel)
        self.lro = operations_pb2_grpc.OperationsStub(channel)
        self.control = operation_control_service_pb2_grpc.OperationControlServiceStub(channel)

    def call(self, method: str, body: bytes, **how: Any) -> bytes:
        """Sends bytes as they are, and returns the answer's bytes."""
        rpc = self.channel.unary_unary(method)
        answer: bytes = rpc(body, **{"timeout": SECONDS, **how})
        return answer

    def create(self, **fields: Any) -> operations_pb2.Operation:
        request = fleet_service_pb2.CreateInstanceRequest(**{"parent": PARENT, **fields})
        return self.fleet.CreateInstance(request, timeout=SECONDS)

    def start(self, method: str, request: Any) -> operations_pb2.Operation:
        body = self.call(method, request.SerializeToString())
        return operations_pb2.Operation.FromString(body)

    def get(self, name: str) -> operations_pb2.Operation:
        request = operations_pb2.GetOperationRequest(name=name)
        return self.lro.GetOperation(request, timeout=SECONDS)

    def cancel(self, name: str) -> None:
        request = operations_pb2.CancelOperationRequest(name=name)
        self.lro.CancelOperation(request, timeout=SECONDS)

    def delete(self, name: str) -> None:
        request = operations_pb2.DeleteOperationRequest(name=name)
        self.lro.DeleteOperation(request, timeout=SECONDS)

    def pause(self, name: str) -> None:
        request = operation_control_service_pb2.PauseOperationRequest(name=name)
        self.control.PauseOperation(request, timeout=SECONDS)

    def resume(self, name: str) -> None:
        request = operation_control_service_pb2.ResumeOperationRequest(name=name)
        self.control.ResumeOperation(request, timeout=SECONDS)

    def terminate(self, name: str, reason: str) -> operations_pb2.Operation:
        request = operation_control_service_pb2.TerminateOperationRequest(name=name, reason=reason)
        return self.control.TerminateOperation(request, timeout=SECONDS).operation

    def rerun(self, name: str, **how: Any) -> operations_pb2.Operation:
        """Runs an operation again; ``metadata`` is the call's, the rest the request's."""
        metadata = how.pop("metadata", None)
        request = operation_control_service_pb2.RerunOperationRequest(name=name, **how)
        return self.control.RerunOperation(request, timeout=SECONDS, metadata=metadata).operation

    def describe(self, name: str, view: int = 0, **how: Any) -> DescribeOperationResponse:
        """Returns the description of an operation."""
        view_of: Any = view
        request = operation_control_service_pb2.DescribeOperationRequest(name=name, view=view_of)
        return self.control.DescribeOperation(request, timeout=SECONDS, **how)

    def summarize(
        self, parent: str, filter_text: str = "", **how: Any
    ) -> SummarizeOperationsResponse:
        """Returns how many operations of a parent there are."""
        request = operation_control_service_pb2.SummarizeOperationsRequest(
            parent=parent, filter=filter_text
        )
        return self.control.SummarizeOperations(request, timeout=SECONDS, **how)

    def wait(
        self, name: str, limit: float | None = None, *, deadline: float | None = SECONDS
    ) -> operations_pb2.Operation:
        """Waits; ``limit`` is the request's timeout, ``deadline`` the RPC's."""
        return self.lro.WaitOperation(wait_request(name, limit), timeout=deadline)

    def waiting(
        self, name: str, limit: float | None = None, *, deadline: float | None = SECONDS
    ) -> Any:
        """Begins to wait, and returns the call's future."""
        return self.lro.WaitOperation.future(wait_request(name, limit), timeout=deadline)

    def watching(self, name: str, *, deadline: float | None = SECONDS) -> Any:
        """Begins to watch, and returns the call, an iterator."""
        request = operation_control_service_pb2.WatchOperationRequest(name=name)
        return self.control.WatchOperation(request, timeout=deadline)

    def watch(self, name: str) -> list[operations_pb2.Operation]:
        """Watches an operation to its end, and returns its states."""
        return [answer.operation for answer in self.watching(name)]

    def done(self, name: str) -> operations_pb2.Operation:
        """Waits for an operation to end."""
        operation = self.wait(name)
        assert operation.done, f"{name} is not done: {operation}"
        return operation

    def list(self, name: str = PARENT, **fields: Any) -> operations_pb2.ListOperationsResponse:
        request = operations_pb2.ListOperationsRequest(name=name, **fields)
        return self.lro.ListOperations(request, timeout=SECONDS)

    def names(self, name: str = PARENT) -> list[str]:
        return [operation.name for operation in self.list(name, page_size=1000).operations]


class Server(Client):
    """A running server, and its first client."""

    def __init__(
        self,
        operations: lro_grpc.Operations,
        stop: Callable[[], None],
        port: int,
        credentials: grpc.ChannelCredentials | None = None,
    ):
        self.operations = operations
        self.target = f"127.0.0.1:{port}"
        self._channels = contextlib.ExitStack()
        self._stop = contextlib.ExitStack()
        self._stop.callback(stop)
        super().__init__(self._connect(credentials))

    def client(
        self, *metadata: tuple[str, str], credentials: grpc.ChannelCredentials | None = None
    ) -> Client:
        """Returns another client, on a connection of its own.

        Args:
            *metadata: What it sends with each call.
            credentials: How it connects; without TLS unless given.
        """
        return Client(grpc.intercept_channel(self._connect(credentials), _Sends(metadata)))

    def stop(self) -> None:
        """Winds the server up; again does nothing."""
        self._stop.close()

    def close(self) -> None:
        """Stops the server, then closes its clients."""
        self.stop()
        self._channels.close()

    def _connect(self, credentials: grpc.ChannelCredentials | None) -> grpc.Channel:
        if credentials is None:
            channel = grpc.insecure_channel(self.target)
        else:
            channel = grpc.secure_channel(self.target, credentials)
        return self._channels.enter_context(channel)


class _Sends(grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor):
    """Adds metadata to each call."""

    def __init__(self, metadata: tuple[tuple[str, str], ...]):
        self._metadata = metadata

    def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        metadata = (*(details.metadata or ()), *self._metadata)
        return continuation(_Details(details.method, details.timeout, metadata), request)

    intercept_unary_stream = intercept_unary_unary


@dataclass(frozen=True)
class _Details(grpc.ClientCallDetails):
    method: str
    timeout: float | None
    metadata: tuple[tuple[str, str], ...]
    credentials: None = None
    wait_for_ready: None = None
    compression: None = None


def wait_request(name: str, limit: float | None) -> operations_pb2.WaitOperationRequest:
    request = operations_pb2.WaitOperationRequest(name=name)
    if limit is not None:
        request.timeout.CopyFrom(duration_pb2.Duration())
        request.timeout.FromMicroseconds(round(limit * 1_000_000))
    return request


@contextlib.contextmanager
def serving(
    stack: str,
    servicer: Any = None,
    *,
    add: Callable[[Any, Any], None] | None = None,
    configure: Callable[[lro_grpc.Operations], None] | None = None,
    store: Any = "memory:",
    max_waiters: int | None = 4,
    threads: int = 16,
    options: Any = lro_grpc.SERVER_OPTIONS,
    interceptors: Any = (),
    attach: Mapping[str, Any] | None = None,
    grace: float = 5,
    tls: tuple[grpc.ServerCredentials, grpc.ChannelCredentials] | None = None,
    port: int = 0,
    **how: Any,
) -> Iterator[Server]:
    """Serves while the context lasts.

    Args:
        stack: "sync" for ``grpc.server``, "aio" for ``grpc.aio.server``.
        servicer: What to add.
        add: With which adder; that of the fleet unless given.
        configure: Is called with the operations before the server starts.
        store: As for ``Operations``.
        max_waiters: As for ``attach``.
        threads: Threads of a ``grpc.server``.
        options: Options of the server; those that every server should have unless given.
        interceptors: Interceptors of the server, of its stack.
        attach: More arguments of ``attach``.
        grace: As for ``Operations``, in seconds.
        port: Where it listens; any that is free unless given.
        tls: The server's credentials, and those of its first client; plain text unless given.
        **how: More arguments of ``Operations``.
    """
    operations = lro_grpc.Operations(store, grace=timedelta(seconds=grace), **how)

    def prepare(server: Any) -> int:
        registrar = operations.attach(server, max_waiters=max_waiters, **(attach or {}))
        if servicer is not None:
            (add or fleet_service_pb2_grpc.add_FleetServiceServicer_to_server)(servicer, registrar)
        if configure is not None:
            configure(operations)
        address = f"127.0.0.1:{port}"
        bound: int = (
            server.add_secure_port(address, tls[0]) if tls else server.add_insecure_port(address)
        )
        return bound

    begin = _begin_sync if stack == "sync" else _begin_aio
    how_to_serve = {"options": options, "interceptors": interceptors}
    listening, stop = begin(operations, prepare, threads, how_to_serve, grace)
    server = Server(operations, stop, listening, tls[1] if tls else None)
    try:
        yield server
    finally:
        server.close()


def _begin_sync(
    operations: lro_grpc.Operations,
    prepare: Callable[[Any], int],
    threads: int,
    how: dict[str, Any],
    grace: float,
) -> tuple[int, Callable[[], None]]:
    server = grpc.server(futures.ThreadPoolExecutor(threads), **how)
    port = prepare(server)
    operations.start_sync()
    server.start()

    def stop() -> None:
        ended = in_thread(lambda: operations.stop_sync(lambda: server.stop(grace).wait()))
        ended.result(grace + SECONDS)

    return port, stop


def _begin_aio(
    operations: lro_grpc.Operations,
    prepare: Callable[[Any], int],
    threads: int,
    how: dict[str, Any],
    grace: float,
) -> tuple[int, Callable[[], None]]:
    """Runs a ``grpc.aio`` server on a loop in a thread of its own."""
    del threads
    started: futures.Future[tuple[int, asyncio.AbstractEventLoop, asyncio.Event]] = futures.Future()

    async def main() -> None:
        wanted = asyncio.Event()
        try:
            server = grpc.aio.server(**how)
            port = prepare(server)
            await operations.start()
            await server.start()
        except BaseException as error:
            started.set_exception(error)
            raise
        started.set_result((port, asyncio.get_running_loop(), wanted))
        await wanted.wait()
        await operations.stop(lambda: server.stop(grace))

    ended = in_thread(lambda: asyncio.run(main()))
    port, loop, wanted = started.result(SECONDS)

    def stop() -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(wanted.set)
        ended.result(grace + SECONDS)

    return port, stop


@contextlib.contextmanager
def serving_bare(stack: str, servicer: Any) -> Iterator[Any]:
    """Serves a fleet without any operations, and gives its stub."""
    add = fleet_service_pb2_grpc.add_FleetServiceServicer_to_server
    with _serving_plainly(stack, lambda server: add(servicer, server)) as channel:
        yield fleet_service_pb2_grpc.FleetServiceStub(channel)


@contextlib.contextmanager
def serving_unstarted(stack: str, servicer: Any) -> Iterator[Callable[[str, bytes], bytes]]:
    """Serves a fleet whose operations nobody has started, and gives what calls it with bytes."""
    operations = lro_grpc.Operations("memory:")
    add = fleet_service_pb2_grpc.add_FleetServiceServicer_to_server

    def prepare(server: Any) -> None:
        add(servicer, operations.attach(server))

    with _serving_plainly(stack, prepare) as channel:
        yield lambda method, body: channel.unary_unary(method)(body, timeout=SECONDS)


@contextlib.contextmanager
def _serving_plainly(stack: str, prepare: Callable[[Any], None]) -> Iterator[grpc.Channel]:
    """Starts and stops a server, and nothing else."""
    if stack == "sync":
        server = grpc.server(futures.ThreadPoolExecutor(2))
        prepare(server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()

        def stop() -> None:
            server.stop(1).wait(SECONDS)

    else:
        started: futures.Future[Any] = futures.Future()

        async def main() -> None:
            wanted = asyncio.Event()
            server = grpc.aio.server()
            prepare(server)
            port = server.add_insecure_port("127.0.0.1:0")
            await server.start()
            started.set_result((port, asyncio.get_running_loop(), wanted))
            await wanted.wait()
            await server.stop(1)

        ended = in_thread(lambda: asyncio.run(main()))
        port, loop, wanted = started.result(SECONDS)

        def stop() -> None:
            loop.call_soon_threadsafe(wanted.set)
            ended.result(SECONDS)

    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield channel
    finally:
        stop()


def in_thread(function: Callable[[], Any]) -> futures.Future[Any]:
    """Calls a function in a thread that keeps no process alive."""
    ended: futures.Future[Any] = futures.Future()

    def run() -> None:
        try:
            result = function()
        except BaseException as error:  # noqa: BLE001 - it is raised where the result is read
            ended.set_exception(error)
        else:
            ended.set_result(result)

    threading.Thread(target=run, daemon=True).start()
    return ended


class Gate:
    """A gate at which a handler, sync or async, waits until the test opens it."""

    def __init__(self) -> None:
        self._open = threading.Event()
        self._lock = threading.Lock()
        self._wakers: set[Callable[[], object]] = set()

    @property
    def is_open(self) -> bool:
        return self._open.is_set()

    def open(self) -> None:
        with self._lock:
            self._open.set()
            wakers = list(self._wakers)
        for wake in wakers:
            wake()

    def block(self) -> None:
        """Waits, whatever happens to the operation."""
        assert self._open.wait(SECONDS), "nobody has opened the gate"

    def pass_by(self, op: lro_grpc.OperationContext[Any]) -> None:
        """Waits as a good ``def`` handler does."""
        while not self._open.wait(0.01):
            op.raise_if_stopped()

    async def pass_by_async(self) -> None:
        """Waits as an ``async def`` handler does."""
        loop = asyncio.get_running_loop()
        opened = asyncio.Event()
        wake = functools.partial(loop.call_soon_threadsafe, opened.set)
        with self._lock:
            if self._open.is_set():
                return
            self._wakers.add(wake)
        try:
            await opened.wait()
        finally:
            with self._lock:
                self._wakers.discard(wake)


class Held:
    """A handler, sync or async, that reports when it begins, and ends when its gate is open.

    Its response is an ``Instance`` with the operation's target for a name and the attempt's
    number for its ``seed_rows``.
    """

    def __init__(self, handler_keyword: str) -> None:
        self.gate = Gate()
        self.began: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.run = self._run_async if handler_keyword == "async def" else self._run_sync

    def next(self) -> str:
        """Returns the name of the next operation that begins to run."""
        return self.began.get(timeout=SECONDS)

    def _run_sync(self, request: Any, op: lro_grpc.OperationContext[Any]) -> Any:
        del request
        self.began.put(op.name)
        self.gate.pass_by(op)
        return Instance(name=op.target, seed_rows=op.attempt)

    async def _run_async(self, request: Any, op: lro_grpc.AsyncOperationContext[Any]) -> Any:
        del request
        self.began.put(op.name)
        await self.gate.pass_by_async()
        return Instance(name=op.target, seed_rows=op.attempt)

    def servicer(self, method: str = "CreateInstance", **options: Any) -> Any:
        """Returns a fleet of which this method is this handler."""

        def run(_: Any, request: Any, op: Any) -> Any:
            return self._run_sync(request, op)

        async def run_async(_: Any, request: Any, op: Any) -> Any:
            return await self._run_async(request, op)

        return fleet(
            method, run if self.run == self._run_sync else run_async, prepare=_target, **options
        )


def _target(_: Any, request: Any, context: Any) -> lro_grpc.Prepared:
    del context
    return lro_grpc.Prepared(target=f"{request.parent}/instances/{request.instance_id}")


def fleet(
    method: str,
    run: Callable[..., Any],
    *,
    prepare: Callable[..., Any] | None = None,
    **options: Any,
) -> Any:
    """Returns a fleet with one long-running method; ``run`` and ``prepare`` take ``self``."""
    decorated = lro_grpc.method(**options)(run)
    if prepare is not None:
        decorated.prepare(prepare)
    return type("Fleet", (fleet_service_pb2_grpc.FleetServiceServicer,), {method: decorated})()


def defined_with(keyword: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a plain function as it is, or as an ``async def``."""
    if keyword == "def":
        return function

    @functools.wraps(function)
    async def run(*arguments: Any) -> Any:
        return function(*arguments)

    return run


def metadata_of(operation: operations_pb2.Operation) -> OperationMetadata:
    metadata = OperationMetadata()
    assert operation.metadata.Unpack(metadata), operation.metadata.type_url
    return metadata


def response_of(operation: operations_pb2.Operation) -> Any:
    response = Instance()
    assert operation.WhichOneof("result") == "response", operation
    assert operation.response.Unpack(response), operation.response.type_url
    return response


@dataclass(frozen=True)
class Failure:
    """An error as a client without this package finds it (S21)."""

    code: grpc.StatusCode
    message: str
    status: status_pb2.Status | None

    @property
    def info(self) -> error_details_pb2.ErrorInfo:
        assert self.status is not None, f"{self.code} came without grpc-status-details-bin"
        return error_info(self.status)


def error_info(status: status_pb2.Status) -> error_details_pb2.ErrorInfo:
    """Returns the one ErrorInfo of a Status."""
    kinds = [detail.TypeName() for detail in status.details]
    assert len(kinds) == len(set(kinds)), f"a type of detail stands twice: {kinds}"
    infos = [d for d in status.details if d.Is(error_details_pb2.ErrorInfo.DESCRIPTOR)]
    assert len(infos) == 1, f"no ErrorInfo among {kinds}"
    return error_details_pb2.ErrorInfo.FromString(infos[0].value)


def refused(call: Callable[[], object]) -> Failure:
    """Makes a call that must fail, and returns its error."""
    with pytest.raises(grpc.RpcError) as raised:
        call()
    return failure_of(raised.value)


def failure_of(error: Any) -> Failure:
    """Returns the parts of a call's error."""
    trailers = dict(tuple(pair) for pair in error.trailing_metadata() or ())
    raw = trailers.get("grpc-status-details-bin")
    status = None if raw is None else status_pb2.Status.FromString(raw)
    if status is not None:
        assert status.code == error.code().value[0]
        assert status.message == error.details()
    return Failure(error.code(), error.details(), status)


def uuid_of(word: str) -> str:
    """Returns the UUID of version 4 that stands for a word, as a ``request_id``."""
    return str(uuid.UUID(bytes=hashlib.sha256(word.encode()).digest()[:16], version=4))


def elapsed(call: Callable[[], Any]) -> tuple[Any, float]:
    """Makes a call, and returns its result and how long it took, in seconds."""
    begin = time.monotonic()
    result = call()
    return result, time.monotonic() - begin


def is_noise_of_aio(record: logging.LogRecord) -> bool:
    """Tells whether it is what grpc.aio logs where two event loops of one process use it.

    They share a completion queue: one loop loses a race for a byte to the other, or passes on an
    event to a loop that has been closed. No call is harmed.
    """
    return "PollerCompletionQueue._handle_events" in record.getMessage()


def errors_logged(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Returns what this package, gRPC or asyncio has logged as an error."""

    def counts(record: logging.LogRecord) -> bool:
        family = record.name.partition(".")[0]
        return record.levelname in ("ERROR", "CRITICAL") and family in (
            "lro_grpc",
            "grpc",
            "asyncio",
            "concurrent",
        )

    records = caplog.get_records("call")
    return [f"{r.name}: {r.getMessage()}" for r in records if counts(r) and not is_noise_of_aio(r)]


def together(count: int, call: Callable[[int], Any]) -> list[Any]:
    """Makes calls from that many threads at the same moment; returns results and errors."""
    barrier = threading.Barrier(count)

    def one(index: int) -> Any:
        barrier.wait(SECONDS)
        return call(index)

    with futures.ThreadPoolExecutor(count) as pool:
        running = [pool.submit(one, index) for index in range(count)]
        return [run.exception(SECONDS) or run.result() for run in running]
