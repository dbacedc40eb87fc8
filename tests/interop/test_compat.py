"""Operations of google-api-core's clients as our futures, against our server."""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import functools
import inspect
import pickle
import queue
import threading
from concurrent import futures
from datetime import timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
import proto
import pytest
import requests
from fleet import ADD, NO_ROOM, PARENT, FleetService, Instance, create
from google.api_core import (
    exceptions,
    extended_operation,
    operation,
    operation_async,
    operations_v1,
)
from google.api_core.future import async_future, polling
from google.auth.exceptions import RefreshError, TransportError
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf import timestamp_pb2

import lro_grpc
from lro.example.v1 import fleet_service_pb2_grpc
from lro.v1 import operation_metadata_pb2, state_pb2
from lro_grpc import Code, compat
from lro_grpc._client import plan
from lro_grpc._compat.connection import ThreadWrappedConnection
from lro_grpc._compat.wrapped import parts_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

OperationMetadata = operation_metadata_pb2.OperationMetadata
Timestamp = timestamp_pb2.Timestamp

QUICK = lro_grpc.Backoff(initial=timedelta(milliseconds=10), maximum=timedelta(milliseconds=50))
SOON = {"initial": 0.01, "maximum": 0.1}
SHORT = timedelta(seconds=0.3)
LONG = timedelta(seconds=30)

__protobuf__ = proto.module(package="lro.test.compat", manifest={"Box", "BoxMetadata"})


class Box(proto.Message):
    size = proto.Field(proto.INT32, number=1)


class BoxMetadata(proto.Message):
    progress_percent = proto.Field(proto.INT32, number=1)
    status_message = proto.Field(proto.STRING, number=2)


class Calls(grpc.ServerInterceptor):
    """Keeps the names of the methods that are called, and what each is called with."""

    def __init__(self) -> None:
        self.methods: list[str] = []
        self.headers: list[list[tuple[str, Any]]] = []

    def intercept_service(self, continuation: Any, details: Any) -> Any:
        self.methods.append(details.method.rpartition("/")[2])
        self.headers.append([tuple(one) for one in details.invocation_metadata])
        return continuation(details)


class Server:
    """Our server, and how to start an operation there."""

    def __init__(self) -> None:
        self.calls = Calls()
        self._server = grpc.server(futures.ThreadPoolExecutor(16), interceptors=[self.calls])
        self._operations = lro_grpc.Operations("memory:", grace=timedelta(seconds=1))
        ADD(FleetService(), self._operations.attach(self._server))
        self.target = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._operations.start_sync()
        self._server.start()
        self.channel = grpc.insecure_channel(self.target)
        self.operations = operations_pb2_grpc.OperationsStub(self.channel)
        self._fleet = fleet_service_pb2_grpc.FleetServiceStub(self.channel)

    def start(self, instance_id: str) -> operations_pb2.Operation:
        return self._fleet.CreateInstance(create(instance_id), timeout=10)

    def go_away(self) -> None:
        self._server.stop(None).wait()

    def stop(self) -> None:
        self.channel.close()
        self._operations.stop_sync(lambda: self._server.stop(1).wait())


class Sync:
    """A test's steps with the sync client."""

    is_async = False

    wrapper = operation.Operation
    wrap = staticmethod(compat.future)

    def __init__(self, target: str) -> None:
        self.channel = grpc.insecure_channel(target)
        self.client = operations_v1.OperationsClient(self.channel)
        self.from_gapic = functools.partial(
            operation.from_gapic,
            operations_client=self.client,
            polling=polling.DEFAULT_POLLING.with_delay(**SOON),
        )

    def run(self, value: Any) -> Any:
        return value

    def items(self, iterable: Any) -> list[Any]:
        return list(iterable)

    def refresh(self, function: Callable[[], Any]) -> Callable[..., Any]:
        return lambda retry=None: function()

    def stuck(self, arrived: threading.Event, released: threading.Event) -> Callable[..., Any]:
        def refresh(retry: Any = None) -> Any:
            arrived.set()
            assert released.wait(20)
            raise exceptions.ServiceUnavailable("too late")

        return refresh

    def called_back(self, future: Any) -> Any:
        called: queue.Queue[Any] = queue.Queue()
        future.add_done_callback(called.put)
        return called.get(timeout=20)

    def close(self) -> None:
        self.channel.close()


class Async:
    """The same steps with the asyncio client, on an event loop of its own."""

    is_async = True

    wrapper = operation_async.AsyncOperation
    wrap = staticmethod(compat.async_future)

    def __init__(self, target: str) -> None:
        self.loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self.loop)  # where an AsyncOperation looks for it
        self.channel = self.run(self._open(target))
        self.client = operations_v1.OperationsAsyncClient(self.channel)
        self.from_gapic = functools.partial(
            operation_async.from_gapic,
            operations_client=self.client,
            retry=async_future.DEFAULT_RETRY.with_delay(**SOON),
        )

    async def _open(self, target: str) -> grpc.aio.Channel:
        return grpc.aio.insecure_channel(target)

    def run(self, value: Any) -> Any:
        return self.loop.run_until_complete(value) if inspect.isawaitable(value) else value

    def items(self, iterable: Any) -> list[Any]:
        async def collect() -> list[Any]:
            return [item async for item in iterable]

        return self.run(collect())

    def refresh(self, function: Callable[[], Any]) -> Callable[..., Any]:
        async def refresh(retry: Any = None) -> Any:
            return function()

        return refresh

    def stuck(self, arrived: threading.Event, released: threading.Event) -> Callable[..., Any]:
        async def refresh(retry: Any = None) -> Any:
            arrived.set()
            await asyncio.Event().wait()

        return refresh

    def called_back(self, future: Any) -> Any:
        async def call_back() -> Any:
            called: asyncio.Queue[Any] = asyncio.Queue()
            future.add_done_callback(called.put_nowait)
            return await asyncio.wait_for(called.get(), 20)

        return self.run(call_back())

    def close(self) -> None:
        self.run(self.channel.close())
        for task in (left := asyncio.all_tasks(self.loop)):
            task.cancel()
        self.run(asyncio.gather(*left, return_exceptions=True))
        asyncio.set_event_loop(None)
        self.loop.close()


Side = Sync | Async


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.stop()


@pytest.fixture(params=[Sync, Async], ids=["sync", "async"])
def side(request: pytest.FixtureRequest, server: Server) -> Iterator[Side]:
    side = request.param(server.target)
    yield side
    side.close()


def wrapped(side: Side, started: operations_pb2.Operation, **how: Any) -> Any:
    how = {"result_type": Instance, "metadata_type": OperationMetadata, **how}
    return side.from_gapic(started, **how)


def future_of(side: Side, started: operations_pb2.Operation, **how: Any) -> Any:
    return side.wrap(wrapped(side, started, **how), backoff=QUICK)


def made_of(side: Side, refresh: Any, *, response: Any = Instance, metadata: Any = None) -> Any:
    """A future of an operation that is asked for in the test's own way."""
    return side.wrap(side.wrapper(RUNNING, refresh, None, response, metadata), backoff=QUICK)


RUNNING = operations_pb2.Operation(name="operations/1")


def ended(response: Any, metadata: Any = None) -> operations_pb2.Operation:
    one = operations_pb2.Operation(name="operations/1", done=True)
    one.response.Pack(response)
    if metadata is not None:
        one.metadata.Pack(metadata)
    return one


# Results, metadata and updates


def test_a_future_gives_response_and_metadata(side: Side, server: Server) -> None:
    future = future_of(side, server.start("i"))
    assert side.run(future.result()) == Instance(name=f"{PARENT}/instances/i", size_bytes=4096)
    assert side.run(future.exception()) is None
    assert side.run(future.done())
    assert isinstance(future.metadata, OperationMetadata)
    assert future.metadata.state == state_pb2.JOB_STATE_SUCCEEDED
    assert future.progress == future.metadata.progress_percent


def test_updates_show_what_changes(side: Side, server: Server) -> None:
    """Google's futures have none."""
    started = server.start("held")
    future = future_of(side, started)
    server.operations.CancelOperation(operations_pb2.CancelOperationRequest(name=started.name))
    updates = side.items(future.updates(LONG))
    assert updates[-1].done
    assert updates[-1].state.name == "JOB_STATE_CANCELLED"
    assert all(isinstance(update.metadata, OperationMetadata) for update in updates)


def test_a_failed_operation_has_every_detail_in_either_stack(side: Side, server: Server) -> None:
    """Google's two futures raise different classes, and lose the ErrorInfo."""
    future = future_of(side, server.start("no-room"))
    with pytest.raises(lro_grpc.OperationFailedError) as raised:
        side.run(future.result())
    error = raised.value
    assert (error.code, error.reason) == (Code.RESOURCE_EXHAUSTED, "NO_ROOM")
    assert (error.domain, error.metadata) == ("fleet.example.com", {"zone": "a"})
    assert NO_ROOM in error.details
    assert error.operation_metadata.state == state_pb2.JOB_STATE_FAILED


def test_a_cancelled_future_is_cancelled(side: Side, server: Server) -> None:
    future = future_of(side, server.start("held"))
    assert side.run(future.cancel())
    with pytest.raises(lro_grpc.OperationCancelledError):
        side.run(future.result())
    assert side.run(future.cancelled())
    calls = len(server.calls.methods)
    assert not side.run(future.cancel())
    assert len(server.calls.methods) == calls


def test_another_type_is_an_error_each_time(side: Side, server: Server) -> None:
    """Google's future raises once, and returns None from then on."""
    future = future_of(side, server.start("i"), result_type=Timestamp)
    for _ in range(2):
        with pytest.raises(lro_grpc.WrongTypeError, match=r"lro\.example\.v1\.Instance"):
            side.run(future.result())


def test_the_callers_types_come_before_the_clients(side: Side, server: Server) -> None:
    google = wrapped(side, server.start("i"), result_type=Timestamp, metadata_type=Timestamp)
    future = side.wrap(google, response=Instance, metadata=OperationMetadata, backoff=QUICK)
    assert side.run(future.result()).size_bytes == 4096
    assert future.metadata.verb == "create"


def test_metadata_of_no_declared_type_is_what_its_url_says(side: Side, server: Server) -> None:
    future = future_of(side, server.start("i"), metadata_type=None)
    side.run(future.result())
    assert isinstance(future.metadata, OperationMetadata)


def test_proto_plus_types_stay_what_the_client_declares(side: Side) -> None:
    metadata = BoxMetadata(progress_percent=100, status_message="full")
    states = iter([RUNNING, ended(Box.pb(Box(size=3)), BoxMetadata.pb(metadata))])
    future = made_of(side, side.refresh(lambda: next(states)), response=Box, metadata=BoxMetadata)
    assert future.metadata is None
    first, last = side.items(future.updates())
    assert (first.metadata, first.progress_percent) == (BoxMetadata(), 0)
    assert (last.metadata, last.progress_percent) == (metadata, 100)
    assert last.status_detail == "full"
    assert type(side.run(future.result())) is Box
    assert side.run(future.result()) == Box(size=3)
    assert future.metadata == metadata


def test_proto_plus_types_may_be_read_as_protobuf(side: Side) -> None:
    google = side.wrapper(ended(Box.pb(Box(size=3))), None, None, Box)
    message = side.run(side.wrap(google, response=Box.pb()).result())
    assert message == Box.pb()(size=3)
    assert type(message) is Box.pb()


def test_an_empty_proto_plus_response_is_a_response(side: Side) -> None:
    google = side.wrapper(ended(Box.pb()()), None, None, Box)
    assert type(side.run(side.wrap(google).result())) is Box


# How long it takes


def test_a_timeout_names_the_operation_and_its_last_state(side: Side, server: Server) -> None:
    started = server.start("held")
    with pytest.raises(lro_grpc.OperationTimeoutError, match=started.name) as raised:
        side.run(future_of(side, started).result(SHORT))
    assert raised.value.operation_metadata.verb == "create"


def test_a_slow_poll_does_not_hold_up_a_timeout(side: Side) -> None:
    """The poll ends after the timeout only, or never."""
    arrived, released = threading.Event(), threading.Event()
    future = made_of(side, side.stuck(arrived, released))
    with pytest.raises(lro_grpc.OperationTimeoutError):
        side.run(future.result(SHORT))
    assert arrived.is_set()
    assert not released.is_set()
    released.set()


def test_a_server_slower_than_every_wait_is_still_heard() -> None:
    """A blocking poll cannot be cancelled, so that the next wait is for the same one."""
    arrived, released = threading.Semaphore(0), threading.Event()

    def refresh(retry: Any = None) -> operations_pb2.Operation:
        arrived.release()
        assert released.wait(20)
        return ended(Instance(name="i"))

    google = operation.Operation(RUNNING, refresh, None, Instance)
    future = compat.future(google, backoff=QUICK)
    for _ in range(3):
        with pytest.raises(lro_grpc.OperationTimeoutError):
            future.result(SHORT)
    assert arrived.acquire(blocking=False)
    assert not arrived.acquire(blocking=False)
    released.set()
    assert future.result(LONG) == Instance(name="i")


def test_a_last_poll_takes_no_answer_of_before_the_end() -> None:
    """The poll that is on its way may have missed the end of the operation; a new one follows."""
    arrived, released = threading.Event(), threading.Event()
    answers = iter([RUNNING, ended(Instance(name="i"))])

    def refresh(retry: Any = None) -> operations_pb2.Operation:
        answer = next(answers)
        arrived.set()
        assert released.wait(20)
        return answer

    google = operation.Operation(RUNNING, refresh, None, Instance)
    connection = ThreadWrappedConnection(parts_of(google))
    poll = plan.get_call(RUNNING.name, LONG)

    async def poll_twice() -> list[plan.Reply]:
        first = asyncio.ensure_future(connection.call(poll))
        await asyncio.to_thread(arrived.wait, 20)
        last = asyncio.ensure_future(connection.call(dataclasses.replace(poll, since=0.0)))
        for _ in range(3):  # it finds the first poll on its way
            await asyncio.sleep(0)
        released.set()
        return await asyncio.gather(first, last)

    replies = asyncio.run(poll_twice())
    assert [reply.message.done for reply in replies] == [False, True]


def test_a_server_that_stays_away_is_a_timeout(side: Side, server: Server) -> None:
    google = wrapped(side, server.start("held"))
    server.go_away()
    with pytest.raises(lro_grpc.OperationTimeoutError, match=google.operation.name):
        side.run(side.wrap(google, backoff=QUICK).result(timedelta(seconds=1)))


def test_google_clients_neither_repeat_calls_nor_wait_ten_minutes() -> None:
    given = []

    def call(retry: Any = "for ten minutes", timeout: Any = None) -> operations_pb2.Operation:
        given.append((retry, timeout))
        return RUNNING

    future = compat.future(operation.Operation(RUNNING, call, call, Instance))
    assert not future.done()
    assert future.cancel()
    assert given == [(None, 10.0), (None, 10.0)]


def test_many_waiters_make_one_poll_at_a_time() -> None:
    """Ten waiters for one of Google's futures make ten."""
    arrived, released = threading.Semaphore(0), threading.Event()

    def refresh(retry: Any = None) -> operations_pb2.Operation:
        arrived.release()
        assert released.wait(20)
        return ended(Instance(name="i"))

    google = operation.Operation(RUNNING, refresh, None, Instance)
    future = compat.future(google, backoff=QUICK)
    ends = [future.concurrent() for _ in range(10)]
    with pytest.raises(lro_grpc.OperationTimeoutError):
        future.result(SHORT)
    assert arrived.acquire(timeout=20)
    assert not arrived.acquire(blocking=False)
    released.set()
    assert {end.result(20).name for end in ends} == {"i"}


def test_many_tasks_make_one_poll_at_a_time() -> None:
    async def main() -> None:
        polls = 0
        released = asyncio.Event()

        async def refresh(retry: Any) -> operations_pb2.Operation:
            nonlocal polls
            polls += 1
            await released.wait()
            return ended(Instance(name="i"))

        google = operation_async.AsyncOperation(RUNNING, refresh, None, Instance)
        future = compat.async_future(google, backoff=QUICK)
        tasks = [asyncio.ensure_future(future) for _ in range(10)]
        with pytest.raises(lro_grpc.OperationTimeoutError):
            await future.result(SHORT)
        assert polls == 2  # that of all ten, and the last poll of the one whose time was over
        released.set()
        assert {one.name for one in await asyncio.gather(*tasks)} == {"i"}

    asyncio.run(main())


def test_an_operation_that_is_done_makes_no_call(side: Side) -> None:
    future = side.wrap(side.wrapper(ended(Instance(name="i")), None, None, Instance))
    assert side.run(future.result()) == Instance(name="i")
    assert not side.run(future.cancel())


# What goes wrong with a call


@pytest.mark.parametrize(
    "passing",
    [
        exceptions.ServiceUnavailable("away"),
        exceptions.BadGateway("away"),
        exceptions.DeadlineExceeded("late"),
        exceptions.RetryError("given up", exceptions.ServiceUnavailable("away")),
        requests.ConnectionError("refused"),
        requests.Timeout("late"),
        TransportError("refused"),
        RefreshError("away", retryable=True),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_passes_is_waited_out(side: Side, passing: Exception) -> None:
    answers: Iterator[Any] = iter([passing, passing, ended(Instance(name="i"))])

    def answer() -> Any:
        one = next(answers)
        if isinstance(one, Exception):
            raise one
        return one

    future = made_of(side, side.refresh(answer))
    assert side.run(future.result(LONG)) == Instance(name="i")


def raising(error: Exception) -> Callable[[], Any]:
    def answer() -> Any:
        raise error

    return answer


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (exceptions.PermissionDenied("no"), Code.PERMISSION_DENIED),
        (exceptions.Forbidden("no"), Code.PERMISSION_DENIED),
        (exceptions.Unauthorized("no"), Code.UNAUTHENTICATED),
        (exceptions.BadRequest("no"), Code.INVALID_ARGUMENT),
        (exceptions.Conflict("no"), Code.ABORTED),
        (exceptions.AlreadyExists("no"), Code.ALREADY_EXISTS),
        (exceptions.TooManyRequests("no"), Code.RESOURCE_EXHAUSTED),
        (exceptions.LengthRequired("no"), Code.FAILED_PRECONDITION),
        (exceptions.from_http_status(507, "no"), Code.INTERNAL),
        (exceptions.MovedPermanently("no"), Code.UNKNOWN),
        (exceptions.GoogleAPICallError("no"), Code.UNKNOWN),
        (RefreshError("no"), Code.UNAUTHENTICATED),
        (ZeroDivisionError("no"), Code.UNKNOWN),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_does_not_pass_has_a_code_and_its_cause(
    side: Side, error: Exception, code: Code
) -> None:
    future = made_of(side, side.refresh(raising(error)))
    with pytest.raises(lro_grpc.LroError, match="no") as raised:
        side.run(future.result(LONG))
    assert raised.value.code is code
    assert raised.value.__cause__ is error
    # What catches the exceptions of the client that is wrapped catches those of its future.
    if isinstance(error, exceptions.GoogleAPICallError):
        assert isinstance(raised.value, type(error))


def test_the_error_of_a_call_is_at_once_google_api_cores_and_grpcs(
    side: Side, server: Server
) -> None:
    started = server.start("held")
    future = future_of(side, started)
    server.operations.DeleteOperation(operations_pb2.DeleteOperationRequest(name=started.name))
    with pytest.raises(exceptions.NotFound) as raised:
        side.run(future.result())
    error: Any = raised.value
    assert isinstance(error, lro_grpc.OperationNotFoundError)
    assert isinstance(error, grpc.aio.AioRpcError if side.is_async else grpc.RpcError)
    assert (error.code(), error.grpc_status_code) == (grpc.StatusCode.NOT_FOUND,) * 2
    assert error.response is error.__cause__.response
    assert error.errors == error.__cause__.errors
    for same in (error, copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert type(same) is type(error)
        assert same.reason == "OPERATION_NOT_FOUND"
        assert (same.domain, same.metadata) == (error.domain, error.metadata)
        assert same.details == error.details
        assert same.details() == same.message == error.__cause__.message
        assert str(same).startswith("NOT_FOUND (OPERATION_NOT_FOUND): ")
        assert started.name in str(same)
    assert exceptions.from_http_status(404, "x").__class__ is exceptions.NotFound


def test_an_error_of_a_call_has_the_servers_reason(side: Side, server: Server) -> None:
    started = server.start("held")
    future = future_of(side, started)
    server.operations.DeleteOperation(operations_pb2.DeleteOperationRequest(name=started.name))
    for step in (future.result, future.done, future.cancel):
        with pytest.raises(lro_grpc.LroError) as raised:
            side.run(step())
        error = raised.value
        assert (error.code, error.reason) == (Code.NOT_FOUND, "OPERATION_NOT_FOUND")
        assert error.domain == "lro-grpc"
        assert isinstance(error.__cause__, exceptions.NotFound)


def test_callbacks_are_called_when_a_poll_fails_for_good(side: Side) -> None:
    """Those of Google's future are not."""
    future = made_of(side, side.refresh(raising(exceptions.PermissionDenied("no"))))
    found = side.called_back(future)
    assert found is future
    with pytest.raises(lro_grpc.LroError, match="no"):
        side.run(found.result())


def test_a_channel_that_is_closed_ends_the_wait(side: Side, server: Server) -> None:
    future = future_of(side, server.start("held"))
    side.run(side.channel.close())
    with pytest.raises(lro_grpc.LroError):
        side.run(future.result(LONG))


def test_a_channel_that_is_closed_during_a_call_ends_the_wait() -> None:
    """What asyncio's gRPC does to such a call is to cancel it, and with it who awaits it."""

    async def main() -> None:
        async def refresh(retry: Any) -> Any:
            raise asyncio.CancelledError

        google = operation_async.AsyncOperation(RUNNING, refresh, None, Instance)
        with pytest.raises(lro_grpc.LroError, match="closed"):
            await compat.async_future(google)

    asyncio.run(main())


# The wrapped object


def test_the_wrapped_operation_works_beside_the_future(side: Side, server: Server) -> None:
    google = wrapped(side, server.start("i"))
    assert side.run(side.wrap(google, backoff=QUICK).result()) == side.run(google.result())
    assert side.run(google.done())


def test_the_callers_metadata_is_sent_and_does_not_grow(side: Side, server: Server) -> None:
    """google-api-core appends a header to it with every poll."""
    headers = [("x-user", "ada")]
    future = future_of(side, server.start("held"), grpc_metadata=headers)
    assert side.run(future.cancel())
    side.run(future.exception())
    assert headers == [("x-user", "ada")]
    sent = [[key for key, _ in one] for one in server.calls.headers[1:]]
    assert sent
    assert all(one.count("x-user") == one.count("x-goog-request-params") == 1 for one in sent)


def test_the_callers_metadata_is_sent_over_the_clients_channel_too(
    side: Side, server: Server
) -> None:
    google = wrapped(side, server.start("i"), grpc_metadata=[("x-user", "ada")])
    future = side.wrap(google, channel=side.channel)
    side.run(future.exception())
    assert server.calls.methods[1:] == ["WaitOperation"]
    (sent,) = [[key for key, _ in one] for one in server.calls.headers[1:]]
    assert sent.count("x-user") == sent.count("x-goog-request-params") == 1


def test_an_operation_of_a_bare_stub_can_be_polled(server: Server) -> None:
    """google-api-core itself raises a TypeError: it gives its function metadata to send."""
    google = operation.from_grpc(server.start("held"), server.operations, Instance)
    future = compat.future(google, backoff=QUICK)
    assert future.running()
    assert future.cancel()
    assert future.exception().code is Code.CANCELLED


@pytest.mark.parametrize("method", ["pause", "resume", "delete"])
def test_what_google_clients_lack_is_unimplemented(side: Side, server: Server, method: str) -> None:
    future = future_of(side, server.start("held"))
    with pytest.raises(lro_grpc.LroError, match="channel") as raised:
        side.run(getattr(future, method)())
    assert raised.value.code is Code.UNIMPLEMENTED


def test_with_the_clients_channel_the_server_is_waited_at(side: Side, server: Server) -> None:
    google = wrapped(side, server.start("i"))
    future = side.wrap(google, channel=side.channel)
    assert side.run(future.result()).size_bytes == 4096
    assert server.calls.methods == ["CreateInstance", "WaitOperation"]
    side.run(future.delete())
    with pytest.raises(lro_grpc.LroError) as raised:
        side.run(future.pause())
    assert raised.value.code is Code.NOT_FOUND


def test_the_server_is_polled_over_the_clients_channel_where_the_caller_says_so(
    side: Side, server: Server
) -> None:
    google = wrapped(side, server.start("i"))
    future = side.wrap(google, channel=side.channel, wait="poll")
    assert side.run(future.result()).size_bytes == 4096
    assert set(server.calls.methods) == {"CreateInstance", "GetOperation"}


def test_an_operation_of_the_other_stack_is_refused(side: Side, server: Server) -> None:
    google = wrapped(side, server.start("i"))
    other = compat.future if side.is_async else compat.async_future
    with pytest.raises(TypeError, match="async_future" if side.is_async else "for future"):
        other(google)
    with pytest.raises(TypeError, match='name: "operations/1"'):
        side.wrap(RUNNING)


@pytest.mark.parametrize("wrap", [compat.future, compat.async_future])
def test_an_extended_operation_is_refused_with_the_right_way(wrap: Any) -> None:
    class Extended(extended_operation.ExtendedOperation):
        """As those of Compute Engine."""

    running = SimpleNamespace(name="operation-1", done=False)
    one = Extended.make(lambda: running, lambda: None, running)
    with pytest.raises(TypeError, match=r"Extended is an ExtendedOperation, .*its own result\(\)"):
        wrap(one)


def test_an_unknown_google_api_core_is_refused(side: Side, server: Server) -> None:
    google = wrapped(side, server.start("i"))
    del google._refresh
    with pytest.raises(lro_grpc.ConfigurationError, match=r"has no _refresh; .*2\.25"):
        side.wrap(google)
