"""Pause, resume and delete; and the whole of a future against a server of this package."""

from __future__ import annotations

import contextlib
import queue
from concurrent import futures
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from fake_operations import (
    DELETE,
    DESCRIBE,
    PAUSE,
    RERUN,
    RESUME,
    SUMMARIZE,
    TERMINATE,
    FakeOperations,
    operation,
)
from sides import Async, Side, Sync

import lro_grpc
from lro.example.v1 import fleet_service_pb2, fleet_service_pb2_grpc
from lro.v1 import operation_control_service_pb2 as control
from lro.v1 import operation_metadata_pb2, state_pb2
from lro_grpc._errors import Code, LroError, OperationCancelledError
from lro_grpc._runtime.backoff import Backoff, Retry
from lro_grpc._wire.field_formats import is_uuid4

if TYPE_CHECKING:
    from collections.abc import Iterator


LONG = timedelta(seconds=20)
QUICK_RETRY = Retry(backoff=Backoff(initial=timedelta(milliseconds=1)), attempts=3)
Instance, Metadata = fleet_service_pb2.Instance, operation_metadata_pb2.OperationMetadata


def test_a_future_and_a_client_pause_resume_and_delete(side: Side, fake: FakeOperations) -> None:
    client = side.client()
    future = client.future(fake.put(operation()))
    for call in (future.pause, future.resume, future.delete):
        assert side.run(call()) is None
    for by_name in (client.pause, client.resume):
        assert side.run(by_name("operations/1")) == operation()
    assert side.run(client.delete("operations/1")) is None
    assert fake.calls == [PAUSE, RESUME, DELETE] * 2
    assert {request.name for request in fake.requests} == {"operations/1"}


def test_a_future_and_a_client_terminate(side: Side, fake: FakeOperations) -> None:
    client = side.client()
    future = client.future(fake.put(operation()))
    assert side.run(future.terminate("it hangs")) is None
    assert side.run(client.terminate("operations/1", "it hangs")).name == "operations/1"
    assert fake.calls == [TERMINATE] * 2
    assert {(one.name, one.reason) for one in fake.requests} == {("operations/1", "it hangs")}


@pytest.mark.parametrize("request_id", ["", "3f9c8d1e-6c0a-4b7e-9d57-0d6f3b2a1c4e"])
def test_a_client_has_an_operation_run_again(
    side: Side, fake: FakeOperations, request_id: str
) -> None:
    """Without a ``request_id`` the client makes one, so that it can repeat the call safely (C7)."""
    client = side.client(retry=QUICK_RETRY)
    new = operation("operations/2")
    fake.script(RERUN, grpc.StatusCode.UNAVAILABLE, control.RerunOperationResponse(operation=new))

    def rerun() -> Any:
        how = {"request_id": request_id, "validate_only": True}
        return side.run(client.rerun("operations/1", **how))

    assert rerun() == new
    assert fake.calls == [RERUN] * 2
    first, second = fake.requests
    assert first == second
    assert (first.name, first.validate_only) == ("operations/1", True)
    assert first.request_id == request_id or (not request_id and is_uuid4(first.request_id))
    fake.script(RERUN, control.RerunOperationResponse(operation=new))
    rerun()
    assert (fake.requests[-1].request_id == first.request_id) is bool(request_id)


def test_a_future_and_a_client_describe(side: Side, fake: FakeOperations) -> None:
    client = side.client()
    future = client.future(fake.put(operation()))
    for with_request in (False, True):
        told = side.run(future.describe(with_request=with_request))
        assert told.operation == operation()
        assert side.run(client.describe("operations/1", with_request=with_request)) == told
    assert fake.calls == [DESCRIBE] * 4
    views = [control.OPERATION_DESCRIPTION_VIEW_BASIC, control.OPERATION_DESCRIPTION_VIEW_FULL]
    assert [one.view for one in fake.requests] == [view for view in views for _ in range(2)]


def test_a_client_summarizes(side: Side, fake: FakeOperations) -> None:
    client = side.client()
    fake.put(operation())
    assert side.run(client.summarize("-")).examined_count == 1
    assert side.run(client.summarize("projects/p", filter="done = true")).examined_count == 1
    assert fake.calls == [SUMMARIZE] * 2
    assert [(one.parent, one.filter) for one in fake.requests] == [
        ("-", ""),
        ("projects/p", "done = true"),
    ]


CONTROLS: dict[str, tuple[Any, tuple[str, ...]]] = {
    PAUSE: (control.PauseOperationResponse, ()),
    RESUME: (control.ResumeOperationResponse, ()),
    TERMINATE: (control.TerminateOperationResponse, ("it hangs",)),
}
"""The methods that answer with the operation as it is then: response, further arguments."""


def called(method: str) -> str:
    return method.removesuffix("Operation").lower()


@pytest.mark.parametrize("method", CONTROLS)
def test_a_future_has_seen_the_state_that_a_control_method_answers_with(
    side: Side, fake: FakeOperations, method: str
) -> None:
    response, more = CONTROLS[method]
    future = side.client().future(fake.put(operation()))
    seen = operation(metadata=Metadata(state=state_pb2.JOB_STATE_PAUSED, attempt=3))
    fake.script(method, response(operation=seen))
    side.run(getattr(future, called(method))(*more))
    assert future.operation == seen
    assert fake.calls == [method]


@pytest.mark.parametrize("method", CONTROLS)
def test_a_control_method_may_answer_with_nothing(
    side: Side, fake: FakeOperations, method: str
) -> None:
    """As a server does whose method returns google.protobuf.Empty."""
    response, more = CONTROLS[method]
    known = operation(metadata=Metadata(attempt=1))
    future = side.client().future(fake.put(known))
    fake.always(method, response())
    side.run(getattr(future, called(method))(*more))
    assert future.operation == known
    by_name = getattr(side.client(), called(method))
    assert side.run(by_name("operations/1", *more)) == operation()


@pytest.mark.parametrize("method", CONTROLS)
def test_a_done_operation_stays_done_whatever_a_control_method_answers(
    side: Side, fake: FakeOperations, method: str
) -> None:
    response, more = CONTROLS[method]
    ended = operation(response=Instance(size_bytes=1))
    future = side.client().future(ended)
    fake.always(method, response(operation=operation()))
    side.run(getattr(future, called(method))(*more))
    assert future.operation == ended


@pytest.mark.parametrize("method", CONTROLS)
def test_a_control_method_that_answers_with_another_operation(
    side: Side, fake: FakeOperations, method: str
) -> None:
    response, more = CONTROLS[method]
    future = side.client().future(fake.put(operation()))
    fake.always(method, response(operation=operation("operations/2")))
    with pytest.raises(LroError) as caught:
        side.run(getattr(future, called(method))(*more))
    assert caught.value.reason == "WRONG_OPERATION"
    assert future.operation == operation()


@pytest.mark.parametrize(("method", "times"), [(PAUSE, 3), (DELETE, 3), (RESUME, 1)])
def test_what_is_the_same_when_it_is_repeated_is_repeated(
    side: Side, fake: FakeOperations, method: str, times: int
) -> None:
    """C2: a resume may undo a pause that came after it."""
    fake.always(method, grpc.StatusCode.UNAVAILABLE)
    client = side.client(retry=QUICK_RETRY)
    future = client.attach("operations/1")
    name = called(method)
    for call in (getattr(future, name), lambda: getattr(client, name)("operations/1")):
        fake.calls.clear()
        with pytest.raises(LroError) as caught:
            side.run(call())
        assert caught.value.code is Code.UNAVAILABLE
        assert fake.calls == [method] * times


class Fleet(fleet_service_pb2_grpc.FleetServiceServicer):
    """Makes a step of progress on each request of the test."""

    def __init__(self) -> None:
        self.steps: queue.Queue[int] = queue.Queue()

    @lro_grpc.method(pausable=True)
    def CreateInstance(self, request: Any, op: Any) -> Any:
        done = op.checkpoint_state or Instance()
        while done.size_bytes < 100:
            op.raise_if_stopped()
            with contextlib.suppress(queue.Empty):
                done.size_bytes = self.steps.get(timeout=0.02)
                op.progress(done.size_bytes, f"step {done.size_bytes}")
            op.checkpoint(done)
        return done


@pytest.fixture
def fleet() -> Fleet:
    return Fleet()


@pytest.fixture(params=[Sync, Async], ids=["sync", "async"])
def ours(request: pytest.FixtureRequest, fleet: Fleet) -> Iterator[Side]:
    operations = lro_grpc.Operations("memory:", grace=timedelta(seconds=1))
    server = grpc.server(futures.ThreadPoolExecutor(16))
    fleet_service_pb2_grpc.add_FleetServiceServicer_to_server(fleet, operations.attach(server))
    port = server.add_insecure_port("127.0.0.1:0")
    operations.start_sync()
    server.start()
    with contextlib.closing(request.param(f"127.0.0.1:{port}")) as side:
        yield side
    operations.stop_sync(lambda: server.stop(1).wait())


def started(side: Side) -> Any:
    stub = fleet_service_pb2_grpc.FleetServiceStub(side.channel)
    request = fleet_service_pb2.CreateInstanceRequest(parent="projects/p/locations/l")

    async def start() -> Any:
        return await stub.CreateInstance(request)

    one = side.run(start()) if side.is_async else stub.CreateInstance(request)
    return side.client().future(one, response=Instance, metadata=Metadata)


def seen(side: Side, updates: Any, **wanted: Any) -> Any:
    """Returns the first update that is as wanted."""
    while True:
        one = side.next(updates)
        values = {"state": one.state.name, "progress": one.progress_percent, "done": one.done}
        if wanted.items() <= values.items():
            return one


def test_the_progress_of_our_own_server_is_pushed(ours: Side, fleet: Fleet) -> None:
    future = started(ours)
    updates = future.updates(LONG)
    seen(ours, updates, state="JOB_STATE_RUNNING")
    for percent in (10, 60):
        fleet.steps.put(percent)
        one = seen(ours, updates, progress=percent)
        assert (one.status_detail, one.attempt, one.done) == (f"step {percent}", 1, False)
        assert one.metadata.progress_percent == percent
        assert future.progress == percent
    fleet.steps.put(100)
    last = ours.items(updates)[-1]
    assert (last.state.name, last.state.terminal, last.done) == ("JOB_STATE_SUCCEEDED", True, True)
    assert ours.run(future.result(LONG)) == Instance(size_bytes=100)


def test_our_own_server_pauses_and_resumes(ours: Side, fleet: Fleet) -> None:
    future = started(ours)
    updates = future.updates(LONG)
    fleet.steps.put(30)
    seen(ours, updates, progress=30)
    ours.run(future.pause())
    seen(ours, updates, state="JOB_STATE_PAUSED")
    assert ours.run(future.resume()) is None
    assert future.metadata.state != state_pb2.JOB_STATE_PAUSED  # without a further call
    assert seen(ours, updates, state="JOB_STATE_RUNNING").attempt == 2
    fleet.steps.put(100)
    assert ours.items(updates)[-1].done
    assert ours.run(future.result(LONG)) == Instance(size_bytes=100)
    with pytest.raises(LroError) as caught:
        ours.run(future.pause())
    assert caught.value.code is Code.FAILED_PRECONDITION


def test_our_own_server_cancels(ours: Side) -> None:
    """C8: a cancel is a request; the state shows whether it is met."""
    future = started(ours)
    updates = future.updates(LONG)
    ours.next(updates)
    assert ours.run(future.cancel())
    assert ours.items(updates)[-1].state.name == "JOB_STATE_CANCELLED"
    with pytest.raises(OperationCancelledError):
        ours.run(future.result(LONG))


def test_our_own_server_deletes(ours: Side, fleet: Fleet) -> None:
    """P7: the operation is gone, and its method goes on."""
    future = started(ours)
    assert not ours.run(future.done())
    ours.run(future.delete())
    with pytest.raises(LroError) as caught:
        ours.run(future.result(LONG))
    assert caught.value.code is Code.NOT_FOUND
    fleet.steps.put(100)
