"""Watch: the states of an operation as a stream, up to the terminal one."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import subprocess
import sys
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.longrunning import operations_pb2
from google.protobuf import duration_pb2
from google.rpc import code_pb2
from server_harness import (
    PARENT,
    SECONDS,
    Failure,
    Gate,
    Held,
    Instance,
    Server,
    async_handler,
    elapsed,
    errors_logged,
    failure_of,
    fleet,
    metadata_of,
    on_grpc_aio,
    on_grpc_server,
    refused,
    response_of,
)

import lro_grpc
from lro.example.v1 import fleet_service_pb2
from lro.v1 import operation_control_service_pb2, operation_control_service_pb2_grpc, state_pb2
from lro_grpc import Limits
from lro_grpc._operation.events import Event, Heartbeat
from lro_grpc.stores import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lro_grpc._operation.record import Record

Serve = Any


PAUSE = 0.1
"""Seconds from one state to the next, but for the terminal one."""


async def done_at_once(self: Any, request: Any, op: Any) -> Any:
    return Instance(name="done")


def rest_of(watched: Any) -> tuple[list[operations_pb2.Operation], Failure | None]:
    """Returns the states that a stream still has, and how it fails if it does."""
    states = []
    try:
        for answer in watched:
            states.append(answer.operation)
    except grpc.RpcError as error:
        return states, failure_of(error)
    return states, None


def first_of(watched: Any) -> operations_pb2.Operation:
    operation: operations_pb2.Operation = next(watched).operation
    return operation


class Steps:
    """A handler that goes one step on, and stores it, each time that the test lets it."""

    def __init__(self, size: int = 0) -> None:
        self._size = size
        self.began: queue.SimpleQueue[Gate] = queue.SimpleQueue()

    async def run(self, request: Any, op: Any) -> Any:
        """Ends after 100 steps: a step is one percent."""
        for percent in range(1, 101):
            gate = Gate()
            self.began.put(gate)
            await gate.pass_by_async()
            op.progress(percent)
            if self._size:
                op.metadata.details.Pack(Instance(name=str(percent % 10) * self._size))
            await op.checkpoint(b"stored")
        return Instance(name="through")

    def step(self) -> None:
        self.began.get(timeout=SECONDS).open()

    def servicer(self) -> Any:
        async def run(_: Any, request: Any, op: Any) -> Any:
            return await self.run(request, op)

        return fleet("CreateInstance", run)


def percent_of(operation: operations_pb2.Operation) -> int:
    return metadata_of(operation).progress_percent


# What is sent


def test_the_present_state_comes_at_once_and_the_terminal_one_last(
    serve: Serve, held: Held, store: str
) -> None:
    server = serve(held.servicer(), store=store)
    name = server.create(instance_id="i").name
    held.next()
    watched = server.watching(name)
    present = first_of(watched)
    assert present == server.get(name)
    assert not present.done
    held.gate.open()
    states, failure = rest_of(watched)
    assert failure is None
    assert watched.code() is grpc.StatusCode.OK
    assert [state.done for state in states] == [False] * (len(states) - 1) + [True]
    assert states[-1] == server.get(name)
    assert response_of(states[-1]).name == f"{PARENT}/instances/i"


def test_watching_a_done_operation_gives_one_state(serve: Serve, store: str) -> None:
    server = serve(fleet("CreateInstance", done_at_once), store=store)
    name = server.create().name
    ended = server.done(name)
    assert server.watch(name) == [ended]


@async_handler
def test_what_was_cancelled_ends_the_stream(serve: Serve, held: Held) -> None:
    server = serve(held.servicer())
    name = server.create().name
    held.next()
    watched = server.watching(name)
    first_of(watched)
    server.cancel(name)
    states, failure = rest_of(watched)
    assert failure is None
    assert states[-1].error.code == code_pb2.CANCELLED


def test_the_begin_of_its_attempt_is_sent(serve: Serve, held: Held) -> None:
    server = serve(held.servicer())
    watched = server.watching(server.create().name)
    while metadata_of(first_of(watched)).state != state_pb2.JOB_STATE_RUNNING:
        pass
    held.gate.open()
    assert rest_of(watched)[0][-1].done


def test_each_state_that_stands_is_sent(serve: Serve) -> None:
    """Each is sent without another change: the next step is not taken before."""
    steps = Steps()
    server = serve(steps.servicer())
    watched = server.watching(server.create().name)
    for percent in range(1, 5):
        steps.step()
        while percent_of(first_of(watched)) != percent:
            pass
    watched.cancel()


def test_a_state_that_does_not_stand_may_be_skipped_but_not_the_last_one(serve: Serve) -> None:
    """However fast they come, no more than ten a second are sent."""
    steps = Steps()
    server = serve(steps.servicer())
    watched = server.watching(server.create().name)
    begin = time.monotonic()
    first_of(watched)
    for _ in range(100):
        steps.step()
    states, failure = rest_of(watched)
    assert failure is None
    assert len(states) - 1 <= (time.monotonic() - begin) / PAUSE
    assert response_of(states[-1]).name == "through"
    percents = [percent_of(state) for state in states]
    assert percents == sorted(percents)


class Driven(MemoryStore):
    """A store to which a test sends events of its own."""

    def __init__(self) -> None:
        super().__init__(lambda: time.time_ns() // 1000)

    async def open(self) -> None:
        self._loop = asyncio.get_running_loop()
        await super().open()

    def happen(self, name: str, event: Event) -> Record:
        return asyncio.run_coroutine_threadsafe(self.apply(name, event), self._loop).result(SECONDS)


@async_handler
def test_a_change_that_does_not_show_is_not_sent(serve: Serve, held: Held) -> None:
    """Such as a heartbeat."""
    store = Driven()
    server = serve(held.servicer(), store=store)
    name = server.create().name
    held.next()
    watched = server.watching(name)
    present = first_of(watched)
    leases = {store.happen(name, Heartbeat(1, lease * 10**8)).lease_expire_time for lease in (1, 2)}
    assert len(leases) == 2
    held.gate.open()
    states, _ = rest_of(watched)
    assert [*states] == [server.get(name)]
    assert metadata_of(present).state == state_pb2.JOB_STATE_RUNNING


@async_handler
def test_a_state_that_stands_is_sent_again_now_and_then(serve: Serve, held: Held) -> None:
    """So that who is gone is noticed."""
    server = serve(held.servicer(), watch_resend=timedelta(seconds=0.01))
    name = server.create().name
    held.next()
    watched = server.watching(name)
    assert [first_of(watched) for _ in range(4)] == [server.get(name)] * 4
    held.gate.open()
    states, _ = rest_of(watched)
    assert [state.done for state in states] == [False] * (len(states) - 1) + [True]


class Mute(MemoryStore):
    """A store each of whose notices is lost."""

    def __init__(self) -> None:
        super().__init__(lambda: time.time_ns() // 1000)

    def subscribe(self, listener: Any) -> Any:
        """Takes the listener's name, and never calls."""
        return lambda: None


@async_handler
def test_the_end_is_sent_though_every_notice_of_it_is_lost(serve: Serve, held: Held) -> None:
    """R9."""
    server = serve(
        held.servicer(),
        store=Mute(),
        sweep=timedelta(seconds=0.1),
        watch_resend=timedelta(seconds=0.2),
    )
    name = server.create().name
    watched = server.watching(name)
    first_of(watched)
    assert held.next() == name
    held.gate.open()
    states, failure = rest_of(watched)
    assert failure is None
    assert states[-1].done


def test_a_name_without_a_parent_is_watched_alike(serve: Serve) -> None:
    server = serve(fleet("CreateInstance", done_at_once))
    name = server.create(parent="").name
    assert name.startswith("operations/")
    assert server.watch(name)[-1].done


# What is refused


def test_what_does_not_exist_is_not_found(serve: Serve, store: str) -> None:
    server = serve(fleet("CreateInstance", done_at_once), store=store)
    failure = refused(lambda: server.watch(f"{PARENT}/operations/op-missing"))
    assert failure.code is grpc.StatusCode.NOT_FOUND
    assert (failure.info.reason, failure.info.domain) == ("OPERATION_NOT_FOUND", "lro-grpc")


def test_what_is_no_name_is_an_invalid_argument(serve: Serve) -> None:
    server = serve(fleet("CreateInstance", done_at_once))
    failure = refused(lambda: server.watch("no/name"))
    assert failure.code is grpc.StatusCode.INVALID_ARGUMENT
    assert failure.info.reason == "INVALID_NAME"


@async_handler
def test_an_operation_that_is_deleted_ends_the_stream(serve: Serve, held: Held, store: str) -> None:
    server = serve(held.servicer(), store=store)
    name = server.create().name
    held.next()
    watched = server.watching(name)
    first_of(watched)
    server.delete(name)
    states, failure = rest_of(watched)
    assert states == []
    assert failure is not None
    assert failure.code is grpc.StatusCode.NOT_FOUND
    assert failure.info.reason == "OPERATION_NOT_FOUND"


# Who reads slowly, or not at all


def slow_client(server: Server, stack: contextlib.ExitStack) -> Any:
    """Returns a stub on whose connection not much is under way unread."""
    options = [("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 65536)]
    channel = stack.enter_context(grpc.insecure_channel(server.target, options=options))
    return operation_control_service_pb2_grpc.OperationControlServiceStub(channel)


@pytest.fixture
def stack() -> Iterator[contextlib.ExitStack]:
    with contextlib.ExitStack() as stack:
        yield stack


def test_who_does_not_read_misses_states_but_not_the_terminal_one(
    serve: Serve, stack: contextlib.ExitStack
) -> None:
    """Nothing is kept for them: of a hundred megabytes they are sent two states and the last."""
    steps = Steps(size=1_000_000)
    server = serve(steps.servicer())
    name = server.create().name
    request = operation_control_service_pb2.WatchOperationRequest(name=name)
    unread = slow_client(server, stack).WatchOperation(request, timeout=SECONDS)
    unread.initial_metadata()  # the first state is under way
    read = server.watching(name)
    for percent in range(1, 8):  # each step is one that someone else has been sent
        steps.step()
        while percent_of(first_of(read)) != percent:
            pass
    for _ in range(8, 101):
        steps.step()
    assert server.done(name).done
    states, failure = rest_of(unread)
    assert failure is None
    assert len(states) <= 3
    assert states[-1] == server.get(name)


def test_who_does_not_read_does_not_hold_up_the_shutdown(
    serve: Serve, stack: contextlib.ExitStack, caplog: pytest.LogCaptureFixture
) -> None:
    steps = Steps(size=1_000_000)
    server = serve(steps.servicer(), grace=0.2)
    name = server.create().name
    request = operation_control_service_pb2.WatchOperationRequest(name=name)
    unread = slow_client(server, stack).WatchOperation(request, timeout=SECONDS)
    unread.initial_metadata()
    read = server.watching(name)
    for percent in range(1, 4):
        steps.step()
        while percent_of(first_of(read)) != percent:
            pass
    server.stop()
    _, failure = rest_of(unread)
    assert failure is not None
    assert failure.code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
    assert errors_logged(caplog) == []


# Who goes away


@async_handler
def test_clients_that_stop_watching_are_nobodys_failure(
    serve: Serve, held: Held, caplog: pytest.LogCaptureFixture
) -> None:
    server = serve(held.servicer(), max_waiters=12)
    name = server.create().name
    held.next()
    gone = [server.watching(name) for _ in range(4)]
    hurried = [server.watching(name, deadline=0.3) for _ in range(4)]
    unborn = [server.watching(name) for _ in range(4)]
    for watched in unborn:
        watched.cancel()
    for watched in (*gone, *hurried):
        first_of(watched)
    for watched in gone:
        watched.cancel()
    for watched in hurried:
        states, failure = rest_of(watched)
        assert states == []
        assert failure is not None
        assert failure.code is grpc.StatusCode.DEADLINE_EXCEEDED
    held.gate.open()
    assert server.watch(name)[-1].done
    server.stop()
    assert errors_logged(caplog) == []


@async_handler
@on_grpc_server
def test_a_watch_that_is_cancelled_frees_its_thread(serve: Serve, held: Held) -> None:
    server = serve(held.servicer(), max_waiters=1, threads=2)
    name = server.create().name
    held.next()
    for _ in range(3):
        watched = server.watching(name)
        first_of(watched)
        watched.cancel()
        assert not server.get(name).done  # by the one thread there is


def stays(server: Server, name: str) -> Any:
    """Returns a Watch that has a place; until one is free it is refused."""
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        watched = server.watching(name)
        with contextlib.suppress(grpc.RpcError):
            first_of(watched)
            return watched
        assert watched.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    raise AssertionError("no place was freed")


@async_handler
def test_a_place_is_given_back_however_a_watch_ends(
    serve: Serve, held: Held, caplog: pytest.LogCaptureFixture
) -> None:
    """Once, not twice: as many may watch afterwards as before."""
    server = serve(held.servicer(), limits=Limits(streams=1), max_waiters=1)
    name, deleted = server.create().name, server.create().name
    held.next()
    held.next()

    def nobody_else_has() -> None:
        watched = stays(server, name)
        assert refused(lambda: server.watch(name)).info.reason == "LIMIT_REACHED"
        watched.cancel()

    nobody_else_has()
    one = stays(server, deleted)
    server.delete(deleted)
    assert rest_of(one)[1] is not None
    nobody_else_has()
    for wrong in ("x", "operations/missing"):
        refused(lambda: server.watch(wrong))  # noqa: B023
    nobody_else_has()
    one = server.watching(name, deadline=0.3)
    assert rest_of(one)[1] is not None
    nobody_else_has()
    one = stays(server, name)
    held.gate.open()
    assert rest_of(one)[0][-1].done
    for _ in range(3):
        stays(server, name)
    assert errors_logged(caplog) == []


WATCHES = """
import sys, grpc
from lro.v1 import operation_control_service_pb2 as pb2
from lro.v1.operation_control_service_pb2_grpc import OperationControlServiceStub
with grpc.insecure_channel(sys.argv[1]) as channel:
    request = pb2.WatchOperationRequest(name=sys.argv[2])
    for answer in OperationControlServiceStub(channel).WatchOperation(request):
        print(answer.operation.name, flush=True)
"""


@async_handler
def test_a_client_that_is_killed_frees_its_place(serve: Serve, held: Held) -> None:
    server = serve(held.servicer(), limits=Limits(streams=1), max_waiters=1)
    name = server.create().name
    held.next()
    with subprocess.Popen(
        [sys.executable, "-c", WATCHES, server.target, name], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == name
        assert refused(lambda: server.watch(name)).code is grpc.StatusCode.RESOURCE_EXHAUSTED
        process.kill()
    watched = stays(server, name)
    held.gate.open()
    assert rest_of(watched)[0][-1].done


# Many


@async_handler
@on_grpc_aio
def test_a_thousand_watch_one_operation(serve: Serve, held: Held) -> None:
    server = serve(held.servicer())
    name = server.create().name
    held.next()
    watching = [server.watching(name, deadline=60) for _ in range(1000)]
    for watched in watching:
        assert not first_of(watched).done
    held.gate.open()
    ended = server.done(name)
    for watched in watching:
        states, failure = rest_of(watched)
        assert failure is None
        assert states[-1] == ended


# The server goes down


def test_a_shutdown_sends_the_latest_state_and_says_to_watch_again(
    serve: Serve, file_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    steps = Steps()
    first = serve(steps.servicer(), store=file_url)
    name = first.create().name
    watched = first.watching(name)
    states = [first_of(watched)]
    for _ in range(3):  # too fast for each of them to be sent
        steps.step()
    while percent_of(first.get(name)) != 3:
        pass
    first.stop()
    more, failure = rest_of(watched)
    states += more
    assert percent_of(states[-1]) == 3
    assert not states[-1].done
    assert failure is not None
    assert failure.code is grpc.StatusCode.UNAVAILABLE
    assert (failure.info.reason, failure.info.domain) == ("UNAVAILABLE", "lro-grpc")
    assert "watch it again" in failure.message
    assert errors_logged(caplog) == []

    second = serve(fleet("CreateInstance", done_at_once), store=file_url)
    assert response_of(second.watch(name)[-1]).name == "done"


@async_handler
def test_a_shutdown_ends_every_watch(serve: Serve, held: Held) -> None:
    server = serve(held.servicer(), max_waiters=8, grace=SECONDS)
    name = server.create().name
    held.next()
    watching = [server.watching(name) for _ in range(8)]
    for watched in watching:
        first_of(watched)
    _, seconds = elapsed(server.stop)
    assert seconds < SECONDS  # the grace is for those who do not read
    for watched in watching:
        states, failure = rest_of(watched)
        assert states == []
        assert failure is not None
        assert failure.code is grpc.StatusCode.UNAVAILABLE


# When to ask again (P5)


def poll_after(server: Server, name: str) -> list[str | bytes]:
    request = operations_pb2.GetOperationRequest(name=name)
    _, call = server.lro.GetOperation.with_call(request, timeout=SECONDS)
    return [value for key, value in call.initial_metadata() if key == "lro-poll-after-ms"]


@async_handler
@pytest.mark.parametrize(
    ("after", "header"),
    [(None, []), (timedelta(seconds=1.5), ["1500"]), (timedelta(milliseconds=1), ["1"])],
)
def test_a_get_says_when_to_ask_again_while_that_makes_sense(
    serve: Serve, held: Held, after: timedelta | None, header: list[str]
) -> None:
    server = serve(held.servicer(), poll_after=after)
    name = server.create().name
    held.next()
    assert poll_after(server, name) == header
    no_time = operations_pb2.WaitOperationRequest(name=name, timeout=duration_pb2.Duration())
    _, waited = server.lro.WaitOperation.with_call(no_time, timeout=SECONDS)
    request = fleet_service_pb2.CreateInstanceRequest(parent=PARENT, instance_id="other")
    _, started = server.fleet.CreateInstance.with_call(request, timeout=SECONDS)
    for call in (waited, started):
        assert [v for k, v in call.initial_metadata() if k == "lro-poll-after-ms"] == header
    held.gate.open()
    server.done(name)
    assert poll_after(server, name) == []


@pytest.mark.parametrize("option", ["watch_resend", "poll_after"])
def test_a_time_that_is_none_is_refused(option: str) -> None:
    with pytest.raises(lro_grpc.ConfigurationError, match=f"{option} is datetime.timedelta"):
        lro_grpc.Operations("memory:", **{option: timedelta(0)})
