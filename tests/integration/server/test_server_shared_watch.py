"""WatchOperations: the states of many operations on one stream."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import queue
import threading
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.longrunning import operations_pb2
from google.rpc import code_pb2, status_pb2
from server_harness import (
    PARENT,
    SECONDS,
    Client,
    Failure,
    Gate,
    Held,
    Instance,
    Server,
    async_handler,
    error_info,
    errors_logged,
    every_store,
    failure_of,
    fleet,
    metadata_of,
    on_grpc_aio,
    refused,
    response_of,
    serving,
)

import lro_grpc
from lro.v1.operation_control_service_pb2 import (
    WatchOperationRequest,
    WatchOperationsRequest,
    WatchOperationsResponse,
)
from lro_grpc import Limits
from lro_grpc._operation import publication
from lro_grpc._operation.events import Cancel
from lro_grpc._operation.record import Record
from lro_grpc._server.guarded_store import GuardedStore
from lro_grpc._server.rpc.call import Call, Waiters
from lro_grpc._server.services.shared_watch import SharedWatchService
from lro_grpc.stores import ForwardingStore, MemoryStore, Notifier
from lro_grpc.testing import ManualClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from google.longrunning.operations_pb2 import Operation

Serve = Any


METHOD = "/lro.v1.OperationControlService/WatchOperations"
AT_ONCE = timedelta(microseconds=1)


class Stream:
    """A client's end of one WatchOperations."""

    def __init__(self, client: Client, deadline: float | None = SECONDS) -> None:
        self._requests: queue.SimpleQueue[WatchOperationsRequest | None] = queue.SimpleQueue()
        self.call: Any = client.control.WatchOperations(
            iter(self._requests.get, None), timeout=deadline
        )
        self._arrived: list[Operation | status_pb2.Status] = []

    def add(self, *names: str, ends_only: bool = False) -> None:
        self._requests.put(WatchOperationsRequest(names=names, ends_only=ends_only))

    def drop(self, *names: str) -> None:
        self._requests.put(WatchOperationsRequest(dropped_names=names))

    def close(self) -> None:
        """Sends no more."""
        self._requests.put(None)

    def states(self) -> Iterator[Operation | status_pb2.Status]:
        """Yields what comes, one after the other; of an operation that is not watched its error."""
        while True:
            while self._arrived:
                yield self._arrived.pop(0)
            response = next(self.call, None)
            if response is None:
                return
            self._arrived += [
                *response.operations,
                *(one.error for one in response.unwatched_operations),
            ]

    def next(self) -> Operation:
        """Returns the next state."""
        state = next(self.states())
        assert isinstance(state, operations_pb2.Operation), state
        return state

    def error(self) -> status_pb2.Status:
        """Returns the error of the next operation that is not watched; states go by."""
        return next(one for one in self.states() if isinstance(one, status_pb2.Status))

    def rest(self) -> tuple[list[Operation | status_pb2.Status], Failure | None]:
        """Returns what still comes, and how the stream fails if it does."""
        states = []
        try:
            states.extend(self.states())
        except grpc.RpcError as error:
            return states, failure_of(error)
        return states, None


@pytest.fixture
def streaming() -> Iterator[Callable[..., Stream]]:
    """Opens streams, and ends them with the test."""
    with contextlib.ExitStack() as streams:

        def begin(client: Client, *names: str, **how: Any) -> Stream:
            stream = Stream(client)
            streams.callback(stream.close)
            streams.callback(stream.call.cancel)
            if names:
                stream.add(*names, **how)
            return stream

        yield begin


Streaming = Any


async def done_at_once(self: Any, request: Any, op: Any) -> Any:
    return Instance(name="done")


def started(server: Server, held: Held, count: int) -> list[str]:
    """Starts operations, and returns their names once they run."""
    names = [server.create(instance_id=f"i-{index}").name for index in range(count)]
    for _ in names:
        held.next()
    return names


# What is sent


@every_store
@async_handler
def test_the_present_states_come_at_once_and_the_terminal_ones_last(
    serve: Serve, held: Held, store: str, streaming: Streaming
) -> None:
    server = serve(held.servicer(), store=store)
    names = started(server, held, 3)
    stream = streaming(server, *names)
    assert [stream.next() for _ in names] == [server.get(name) for name in names]
    stream.close()
    held.gate.open()
    states, failure = stream.rest()
    assert failure is None
    assert stream.call.code() is grpc.StatusCode.OK
    ended = {state.name: state for state in states}
    assert ended == {name: server.get(name) for name in names}
    assert all(state.done for state in ended.values())


def test_an_operation_that_is_done_is_sent_and_not_watched(
    serve: Serve, streaming: Streaming
) -> None:
    server = serve(fleet("CreateInstance", done_at_once))
    ended = server.done(server.create().name)
    stream = streaming(server, ended.name)
    stream.close()
    assert stream.rest() == ([ended], None)


@async_handler
def test_operations_come_and_go_on_one_stream(
    serve: Serve, held: Held, streaming: Streaming
) -> None:
    server = serve(held.servicer())
    first, second, third = started(server, held, 3)
    stream = streaming(server, first)
    assert stream.next().name == first
    stream.add(second)
    assert stream.next().name == second
    stream.drop(first)
    stream.add(third)
    assert stream.next().name == third
    server.cancel(first)
    server.cancel(second)
    assert stream.next().name == second
    stream.add(first)
    assert stream.next().error.code == code_pb2.CANCELLED


class Steps:
    """A handler that goes one step on, and stores it, each time that the test lets it."""

    def __init__(self) -> None:
        self.began: queue.SimpleQueue[Gate] = queue.SimpleQueue()

    async def run(self, request: Any, op: Any) -> Any:
        for percent in range(1, 101):
            gate = Gate()
            self.began.put(gate)
            await gate.pass_by_async()
            op.progress(percent)
            await op.checkpoint(b"stored")
        return Instance(name="through")

    def step(self) -> None:
        self.began.get(timeout=SECONDS).open()

    def servicer(self) -> Any:
        async def run(_: Any, request: Any, op: Any) -> Any:
            return await self.run(request, op)

        return fleet("CreateInstance", run)


def percent_of(operation: Operation) -> int:
    return metadata_of(operation).progress_percent


def test_each_state_that_stands_is_sent(serve: Serve, streaming: Streaming) -> None:
    """Each is sent without another change: the next step is not taken before."""
    steps = Steps()
    server = serve(steps.servicer())
    stream = streaming(server, server.create().name)
    for percent in range(1, 5):
        steps.step()
        while percent_of(stream.next()) != percent:
            pass


def test_a_change_is_not_held_back_for_long_by_a_name_that_is_added_meanwhile(
    serve: Serve, streaming: Streaming
) -> None:
    """It is sent by the next round, not when the operation is read anyway: that is too late."""
    steps = Steps()
    server = serve(steps.servicer())
    name = server.create().name
    stream = streaming(server, name)
    stream.next()
    for percent in range(1, 9):
        steps.step()
        while percent_of(server.get(name)) != percent:
            pass
        stream.add("operations/missing")
        states = (one for one in stream.states() if isinstance(one, operations_pb2.Operation))
        while percent_of(next(states)) != percent:
            pass


def test_states_that_do_not_stand_may_be_skipped_but_not_the_last_one(
    serve: Serve, streaming: Streaming
) -> None:
    """However fast they come, no more than ten a second are sent."""
    steps = Steps()
    server = serve(steps.servicer())
    stream = streaming(server, server.create().name)
    begin = time.monotonic()
    stream.next()
    for _ in range(100):
        steps.step()
    stream.close()
    states, failure = stream.rest()
    assert failure is None
    assert len(states) - 1 <= (time.monotonic() - begin) / 0.1 + 1
    percents = [percent_of(state) for state in states]
    assert percents == sorted(percents)
    assert response_of(states[-1]).name == "through"


def test_only_the_end_is_sent_of_what_is_added_for_that(serve: Serve, streaming: Streaming) -> None:
    """What is added anew, for every change, is sent at once, and then at each of them."""
    steps = Steps()
    server = serve(steps.servicer(), watch_resend=timedelta(seconds=0.1))
    name = server.create().name
    stream = streaming(server, name, ends_only=True)
    assert not stream.next().done
    for _ in range(50):
        steps.step()
    while percent_of(server.get(name)) != 50:
        pass
    stream.add(name)
    assert percent_of(stream.next()) == 50
    steps.step()
    assert percent_of(stream.next()) == 51
    stream.add(name, ends_only=True)
    assert percent_of(stream.next()) == 51
    for _ in range(49):
        steps.step()
    stream.close()
    ((last,), failure) = stream.rest()
    assert failure is None
    assert last == server.done(name)


@async_handler
def test_a_stream_on_which_nothing_happens_is_sent_empty_messages(
    serve: Serve, held: Held, streaming: Streaming
) -> None:
    """So that who is gone is noticed; no state is sent twice."""
    server = serve(held.servicer(), watch_resend=timedelta(seconds=0.1))
    (name,) = started(server, held, 1)
    stream = streaming(server, name)
    stream.next()
    assert [next(stream.call) for _ in range(3)] == [WatchOperationsResponse()] * 3


class Mute(MemoryStore):
    """A store each of whose notices is lost."""

    def __init__(self) -> None:
        super().__init__(lambda: time.time_ns() // 1000)

    def subscribe(self, listener: Any) -> Any:
        """Takes the listener's name, and never calls."""
        return lambda: None


@async_handler
def test_the_end_is_sent_though_every_notice_of_it_is_lost(
    serve: Serve, held: Held, streaming: Streaming
) -> None:
    """R9."""
    often = timedelta(seconds=0.2)
    server = serve(held.servicer(), store=Mute(), sweep=often, watch_resend=often)
    (name,) = started(server, held, 1)
    for ends_only in (False, True):
        stream = streaming(server, name, ends_only=ends_only)
        stream.next()
        stream.close()
    held.gate.open()
    states, failure = stream.rest()
    assert failure is None
    assert states == [server.done(name)]


class _Ends(ForwardingStore):
    """A store in which an operation ends while it is read for the first time."""

    def __init__(self, store: MemoryStore) -> None:
        super().__init__(store)
        self._is_read = False

    async def operation(self, name: str) -> bytes:
        found = await super().operation(name)
        if not self._is_read:
            self._is_read = True
            await self.apply(name, Cancel())
        return found


class _Caller:
    """The context of a call that nobody makes over a wire."""

    def invocation_metadata(self) -> Any:
        return ()


async def test_an_end_that_comes_while_it_is_read_is_not_missed() -> None:
    clock = ManualClock()
    memory = MemoryStore(clock.now)
    made = await memory.create(
        publication.create(
            parent="",
            operation_id="op-1",
            method="/test.v1.Tests/Run",
            request=b"",
            metadata_type="lro.v1.OperationMetadata",
            now=clock.now(),
        )
    )
    store = _Ends(memory)
    hour = timedelta(hours=1)
    waiters = Waiters(1)
    service = SharedWatchService(GuardedStore(store), Notifier(store), waiters, watch_resend=hour)

    async def requests() -> AsyncIterator[bytes]:
        yield WatchOperationsRequest(names=[made.name]).SerializeToString()

    call = Call(_Caller(), METHOD, Waiters(1))

    async def codes() -> list[int]:
        messages = [one async for one in service.watch(requests(), call)]
        states = [WatchOperationsResponse.FromString(one).operations for one in messages]
        return [state.error.code for of_one in states for state in of_one]

    assert await asyncio.wait_for(codes(), SECONDS) == [0, code_pb2.CANCELLED]
    assert waiters.enter(""), "the place is given back"


@async_handler
def test_large_operations_come_in_messages_that_a_client_can_read(
    serve: Serve, held: Held, streaming: Streaming
) -> None:
    """Its channel reads 4 MiB."""
    large = "x" * 3_500_000

    async def run(self: Any, request: Any, op: Any) -> Any:
        return Instance(name=large)

    server = serve(fleet("CreateInstance", run))
    names = [server.create(instance_id=f"i-{index}").name for index in range(3)]
    stream = streaming(server, *names)
    stream.close()
    states, failure = stream.rest()
    assert failure is None
    ended = {state.name: state for state in states if state.done}
    assert {*ended} == {*names}
    assert {response_of(state).name for state in ended.values()} == {large}


class _Reads(ForwardingStore):
    """A store that counts how often an operation is read."""

    count = 0

    async def operation(self, name: str) -> bytes:
        self.count += 1
        return await super().operation(name)


def test_large_operations_are_read_about_once_each(serve: Serve, streaming: Streaming) -> None:
    """Not all that are due, for the few that can be sent next."""

    async def run(self: Any, request: Any, op: Any) -> Any:
        return Instance(name="x" * 300_000)

    store = _Reads(MemoryStore(lambda: time.time_ns() // 1000))
    server = serve(fleet("CreateInstance", run), store=store)
    names = [server.create(instance_id=f"i-{index}").name for index in range(40)]
    for name in names:
        server.done(name)
    store.count = 0
    stream = streaming(server, *names)
    stream.close()
    states, failure = stream.rest()
    assert (len(states), failure) == (len(names), None)
    assert store.count < 2 * len(names)


# What is refused


@every_store
@async_handler
def test_what_cannot_be_watched_ends_with_its_error_and_the_stream_goes_on(
    serve: Serve, held: Held, store: str, streaming: Streaming
) -> None:
    server = serve(held.servicer(), store=store)
    names = started(server, held, 2)
    missing = f"{PARENT}/operations/op-missing"
    stream = streaming(server, missing, "no/name", *names)
    first = next(stream.call)
    assert [state.name for state in first.operations] == names
    errors = {one.name: one.error for one in first.unwatched_operations}
    assert {*errors} == {missing, "no/name"}
    assert errors[missing].code == code_pb2.NOT_FOUND
    assert error_info(errors[missing]).reason == "OPERATION_NOT_FOUND"
    assert errors["no/name"].code == code_pb2.INVALID_ARGUMENT
    assert error_info(errors["no/name"]).reason == "INVALID_NAME"
    server.delete(names[0])
    assert stream.error().code == code_pb2.NOT_FOUND
    server.cancel(names[1])
    assert stream.next().name == names[1]


@async_handler
def test_a_request_with_too_many_names_ends_the_stream(
    serve: Serve, held: Held, streaming: Streaming
) -> None:
    server = serve(held.servicer())
    stream = streaming(server, *["operations/a"] * 1001)
    states, failure = stream.rest()
    assert states == []
    assert failure is not None
    assert failure.code is grpc.StatusCode.INVALID_ARGUMENT
    assert "names has 1001 names" in failure.message


def test_bytes_that_are_no_request_end_the_stream(serve: Serve) -> None:
    server = serve(fleet("CreateInstance", done_at_once))
    failure = refused(
        lambda: list(server.channel.stream_stream(METHOD)(iter([b"\xff"]), timeout=SECONDS))
    )
    assert failure.code is grpc.StatusCode.INVALID_ARGUMENT
    assert failure.info.reason == "MALFORMED_REQUEST"


def test_a_stream_that_is_sent_nothing_ends_as_it_is_closed(
    serve: Serve, streaming: Streaming
) -> None:
    server = serve(fleet("CreateInstance", done_at_once))
    stream = streaming(server)
    stream.close()
    assert stream.rest() == ([], None)


# Who may


def calling(context: Any) -> str:
    return dict(context.invocation_metadata()).get("caller", "")


class Door:
    """Lets callers watch what they have started, unless it is shut."""

    def __init__(self) -> None:
        self.is_shut = False
        self.asked: list[lro_grpc.Access] = []

    async def __call__(self, access: lro_grpc.Access) -> bool:
        if access.permission != "operations.watch":
            return True
        self.asked.append(access)
        operation = access.operation
        return not self.is_shut and operation is not None and operation.caller == access.caller


@async_handler
def test_access_is_asked_for_each_name_and_what_is_denied_looks_like_what_is_missing(
    serve: Serve, held: Held, streaming: Streaming
) -> None:
    door = Door()
    server = serve(held.servicer(), identify=calling, authorize=door)
    ann, bob = server.client(("caller", "ann")), server.client(("caller", "bob"))
    own, other = ann.create().name, bob.create().name
    missing = f"{PARENT}/operations/op-missing"
    stream = Stream(with_caller(server, "ann"))
    stream.add(own, other, missing)
    first = next(stream.call)
    assert [state.name for state in first.operations] == [own]
    errors = {one.name: one.error for one in first.unwatched_operations}
    assert {error.code for error in errors.values()} == {code_pb2.PERMISSION_DENIED}
    texts = {error.message.replace(name, "…") for name, error in errors.items()}
    assert texts == {
        "Permission 'operations.watch' denied on resource '…' (or it might not exist)."
    }
    (asked,) = (one for one in door.asked if one.resource == own)
    assert (asked.caller, asked.method) == ("ann", METHOD)
    assert asked.request == WatchOperationsRequest(names=[own])
    stream.call.cancel()


def with_caller(server: Server, caller: str) -> Client:
    """Returns a client that says who it is on streams, too."""

    class _Says(grpc.StreamStreamClientInterceptor):  # type: ignore[type-arg]
        def intercept_stream_stream(self, continuation: Any, details: Any, requests: Any) -> Any:
            return continuation(details._replace(metadata=[("caller", caller)]), requests)

    return Client(grpc.intercept_channel(server.channel, _Says()))


@async_handler
@pytest.mark.parametrize("resend", [timedelta(seconds=0.1), AT_ONCE], ids=["soon", "at once"])
def test_an_operation_whose_access_is_taken_back_is_not_watched_any_longer(
    serve: Serve, held: Held, streaming: Streaming, resend: timedelta
) -> None:
    door = Door()
    server = serve(held.servicer(), identify=calling, authorize=door, watch_resend=resend)
    (name,) = started(server, held, 1)
    stream = streaming(server, name)
    stream.next()
    door.is_shut = True
    if resend == AT_ONCE:
        held.gate.open()  # the end is not shown either
    assert stream.error().code == code_pb2.PERMISSION_DENIED


@async_handler
def test_an_error_of_authorize_is_that_of_one_name(
    serve: Serve, held: Held, streaming: Streaming, caplog: pytest.LogCaptureFixture
) -> None:
    def authorize(access: lro_grpc.Access) -> bool:
        if access.permission == "operations.watch" and access.resource.endswith("broken"):
            raise RuntimeError("a secret of the service")
        return True

    server = serve(held.servicer(), authorize=authorize)
    (name,) = started(server, held, 1)
    stream = streaming(server, f"{PARENT}/operations/broken", name)
    first = next(stream.call)
    assert [state.name for state in first.operations] == [name]
    (unwatched,) = first.unwatched_operations
    assert unwatched.error.code == code_pb2.INTERNAL
    assert "secret" not in str(unwatched)
    assert "a secret of the service" in caplog.text


# What it takes


class Copying(ForwardingStore):
    """A store whose reads give records that can be told from others."""

    MARK = "read by a test"

    async def read(self, name: str) -> Record:
        return (await super().read(name))._replace(status_detail=self.MARK)

    @classmethod
    def kept(cls) -> int:
        """Returns how many of these records somebody still has."""
        gc.collect()
        known = [one for one in gc.get_objects() if type(one) is Record]
        return sum(1 for one in known if one.status_detail == cls.MARK)


@async_handler
def test_a_record_that_authorize_was_asked_about_is_not_kept_while_it_is_watched(
    serve: Serve, held: Held, streaming: Streaming
) -> None:
    """It has the request, which may be large."""
    store = Copying(MemoryStore(lambda: time.time_ns() // 1000))
    server = serve(held.servicer(), store=store, authorize=lambda access: True)
    names = started(server, held, 3)
    stream = streaming(server, *names)
    assert {stream.next().name for _ in names} == {*names}
    alone = server.control.WatchOperation(WatchOperationRequest(name=names[0]), timeout=SECONDS)
    assert next(alone).operation.name == names[0]
    assert Copying.kept() == 0
    alone.cancel()


@async_handler
def test_each_operation_takes_a_place_of_a_waiter(
    serve: Serve, held: Held, streaming: Streaming
) -> None:
    """One without a place is refused, and the others go on; each gives its place back."""
    server = serve(held.servicer(), limits=Limits(waiters=2))
    names = started(server, held, 3)
    stream = streaming(server, *names)
    first = next(stream.call)
    assert [state.name for state in first.operations] == names[:2]
    (unwatched,) = first.unwatched_operations
    assert unwatched.name == names[2]
    assert unwatched.error.code == code_pb2.RESOURCE_EXHAUSTED
    assert error_info(unwatched.error).reason == "LIMIT_REACHED"
    stream.drop(names[0])
    stream.add(names[2])
    assert stream.next().name == names[2]
    server.cancel(names[1])
    while not (ended := stream.next()).done:
        assert ended.name == names[1]
    stream.add(names[0])
    assert stream.next().name == names[0]
    stream.call.cancel()
    held.gate.open()
    for name in names:
        server.done(name)


@async_handler
def test_one_caller_cannot_take_all_places(serve: Serve, held: Held, streaming: Streaming) -> None:
    server = serve(held.servicer(), limits=Limits(waiters=4, streams=4), identify=calling)
    names = started(server, held, 3)
    ann = streaming(with_caller(server, "ann"), *names)
    assert len(next(ann.call).unwatched_operations) == 1
    bob = streaming(with_caller(server, "bob"), *names[:2])
    assert [bob.next().name for _ in range(2)] == names[:2]


@async_handler
def test_a_stream_takes_a_place_of_a_call_that_stays_open(
    serve: Serve, held: Held, streaming: Streaming
) -> None:
    """Also while it watches nothing: on a ``grpc.server`` it holds a thread, and has another."""
    server = serve(held.servicer(), limits=Limits(streams=1), max_waiters=1)
    (name,) = started(server, held, 1)
    first = streaming(server, name)
    first.next()
    for _ in range(3):
        _, failure = streaming(server).rest()
        assert failure is not None
        assert failure.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert not [one for one in threading.enumerate() if one.name == "lro-requests"][1:]
    first.call.cancel()
    end = time.monotonic() + SECONDS
    while True:  # the server hears of it in its own time
        stream = streaming(server, name)
        with contextlib.suppress(grpc.RpcError):
            stream.next()
            break
        assert time.monotonic() < end
    held.gate.open()


@async_handler
def test_who_adds_and_drops_for_ever_holds_up_nobody(
    serve: Serve, held: Held, streaming: Streaming, caplog: pytest.LogCaptureFixture
) -> None:
    """They are read as slowly as they read."""
    server = serve(held.servicer(), limits=Limits(waiters=2))
    names = started(server, held, 2)
    hostile = streaming(server)
    for _ in range(500):
        hostile.add(*names, *["operations/missing"] * 500)
        hostile.drop(*names)
    stream = streaming(server, names[1])
    stream.close()
    held.gate.open()
    states, failure = stream.rest()
    assert failure is None
    hostile.call.cancel()
    assert states
    server.done(names[0])
    assert errors_logged(caplog) == []


@on_grpc_aio
@async_handler
def test_a_thousand_operations_are_watched_on_one_stream(
    serve: Serve, held: Held, streaming: Streaming
) -> None:
    server = serve(held.servicer())
    names = started(server, held, 1000)
    stream = streaming(server, *names[:500], ends_only=True)
    stream.add(*names[500:])
    assert {stream.next().name for _ in range(1)} <= {*names}
    stream.close()
    held.gate.open()
    states, failure = stream.rest()
    assert failure is None
    ended = [state.name for state in states if state.done]
    assert sorted(ended) == sorted(names), "each ends once"


# The server goes down


@async_handler
def test_a_shutdown_sends_the_latest_states_and_says_to_watch_again(
    serve: Serve, held: Held, streaming: Streaming, caplog: pytest.LogCaptureFixture
) -> None:
    server = serve(held.servicer(), grace=SECONDS)
    names = started(server, held, 3)
    stream, empty = streaming(server, *names), streaming(server)
    for _ in names:
        stream.next()
    server.stop()
    states, failure = stream.rest()
    assert not any(state.done for state in states)
    assert failure is not None
    assert failure.code is grpc.StatusCode.UNAVAILABLE
    assert "watch them again" in failure.message
    assert empty.rest()[0] == []
    assert errors_logged(caplog) == []


async def test_a_stream_that_watches_nothing_is_over_as_soon_as_the_server_goes_down() -> None:
    """It is told of that, and would notice it by itself only when it looks, after ten seconds."""
    store = MemoryStore(ManualClock().now)
    notifier = Notifier(store)
    minute = timedelta(minutes=1)
    service = SharedWatchService(GuardedStore(store), notifier, Waiters(1), watch_resend=minute)
    is_read = asyncio.Event()

    async def requests() -> AsyncIterator[bytes]:
        is_read.set()
        await asyncio.Event().wait()
        yield b""

    async def messages() -> list[bytes]:
        return [one async for one in service.watch(requests(), Call(_Caller(), METHOD, Waiters(1)))]

    watching = asyncio.create_task(messages())
    await is_read.wait()
    notifier.drain()
    assert await asyncio.wait_for(watching, 5) == []


def test_an_interceptor_sees_messages_if_it_asks_for_them(stack: str) -> None:
    seen: list[tuple[type, type]] = []
    held = Held("async def")
    with serving(
        stack, held.servicer(), interceptors=[_spy(stack, seen)], attach={"messages": True}
    ) as server:
        (name,) = started(server, held, 1)
        stream = Stream(server)
        stream.add(name)
        assert stream.next().name == name
        stream.close()
        held.gate.open()
        states, failure = stream.rest()
        assert failure is None
        assert states == [server.done(name)]
    assert {*seen} == {(WatchOperationsRequest, WatchOperationsResponse)}


def _spy(stack: str, seen: list[tuple[type, type]]) -> Any:
    """Returns an interceptor that notes the types of what is sent and answered."""

    def wrapped(handler: Any) -> Any:
        asked: list[type] = []

        def iterate(requests: Any, context: Any) -> Any:
            def noted() -> Iterator[Any]:
                for one in requests:
                    asked.append(type(one))
                    yield one

            for answer in handler.stream_stream(noted(), context):
                seen.append((asked[0], type(answer)))
                yield answer

        async def iterate_async(requests: Any, context: Any) -> AsyncIterator[Any]:
            async def noted() -> AsyncIterator[Any]:
                async for one in requests:
                    asked.append(type(one))
                    yield one

            async for answer in handler.stream_stream(noted(), context):
                seen.append((asked[0], type(answer)))
                yield answer

        return grpc.stream_stream_rpc_method_handler(
            iterate if stack == "sync" else iterate_async,
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )

    class Sync(grpc.ServerInterceptor):
        def intercept_service(self, continuation: Any, details: Any) -> Any:
            handler = continuation(details)
            return wrapped(handler) if handler.stream_stream else handler

    class Aio(grpc.aio.ServerInterceptor):
        async def intercept_service(self, continuation: Any, details: Any) -> Any:
            handler = await continuation(details)
            return wrapped(handler) if handler.stream_stream else handler

    return Sync() if stack == "sync" else Aio()
