"""Pausing and resuming (S28), at a real server's edge."""

from __future__ import annotations

import asyncio
import contextlib
import queue
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.longrunning import operations_pb2
from google.rpc import code_pb2, error_details_pb2
from server_harness import (
    PARENT,
    SECONDS,
    Gate,
    Instance,
    every_store,
    fleet,
    metadata_of,
    refused,
    response_of,
    together,
)

import lro_grpc
from lro.v1 import (
    operation_control_service_pb2,
    operation_control_service_pb2_grpc,
    state_pb2,
)

if TYPE_CHECKING:
    from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor

Serve = Any

CONTROL = "/lro.v1.OperationControlService"
PAUSED = state_pb2.JOB_STATE_PAUSED
RUNNING = state_pb2.JOB_STATE_RUNNING
PauseOperationRequest = operation_control_service_pb2.PauseOperationRequest
ResumeOperationRequest = operation_control_service_pb2.ResumeOperationRequest
REQUESTS = {
    "PauseOperation": PauseOperationRequest,
    "ResumeOperation": ResumeOperationRequest,
    "RerunOperation": operation_control_service_pb2.RerunOperationRequest,
}


class Stepper:
    """A handler of two steps, with a checkpoint after the first; a gate holds it up before each."""

    def __init__(self, handler_keyword: str) -> None:
        self.first = Gate()
        self.second = Gate()
        self._keyword = handler_keyword

    def servicer(self, **options: Any) -> Any:
        def run(_: Any, request: Any, op: Any) -> Any:
            if op.checkpoint_state is None:
                op.progress(10, "first")
                self.first.pass_by(op)
                op.checkpoint(b"one")
            self.second.pass_by(op)
            return self._made(op)

        async def run_async(_: Any, request: Any, op: Any) -> Any:
            if op.checkpoint_state is None:
                op.progress(10, "first")
                await self.first.pass_by_async()
                await op.checkpoint(b"one")
            await self.second.pass_by_async()
            return self._made(op)

        chosen = run if self._keyword == "def" else run_async
        return fleet("CreateInstance", chosen, **{"pausable": True, **options})

    def open(self) -> None:
        self.first.open()
        self.second.open()

    def _made(self, op: Any) -> Any:
        return Instance(name=op.checkpoint_state.decode(), seed_rows=op.attempt)


@pytest.fixture
def stepper(serve: Serve, handler_keyword: str) -> Any:
    stepper = Stepper(handler_keyword)
    yield stepper
    stepper.open()


class Control:
    """The control service of a server."""

    def __init__(self, server: Any) -> None:
        self._server = server
        self._stub = operation_control_service_pb2_grpc.OperationControlServiceStub(server.channel)

    def pause(self, name: str) -> operations_pb2.Operation:
        request = PauseOperationRequest(name=name)
        return self._stub.PauseOperation(request, timeout=SECONDS).operation

    def resume(self, name: str) -> operations_pb2.Operation:
        request = ResumeOperationRequest(name=name)
        return self._stub.ResumeOperation(request, timeout=SECONDS).operation

    def until(self, name: str, state: int) -> operations_pb2.Operation:
        """Waits for an operation to be in a state."""
        while metadata_of(seen := self._server.wait(name, 0.02)).state != state:
            assert not seen.done, seen
        return seen


@every_store
def test_a_pause_comes_about_at_a_checkpoint_and_a_resume_goes_on_from_it(
    serve: Serve, stepper: Stepper, store: str
) -> None:
    server = serve(stepper.servicer(), store=store)
    control = Control(server)
    name = server.create().name
    control.until(name, RUNNING)
    answer = control.pause(name)
    assert answer == server.get(name)
    requested = metadata_of(answer)
    assert (requested.state, requested.pause_requested) == (RUNNING, True)
    stepper.first.open()
    paused = metadata_of(control.until(name, PAUSED))
    assert (paused.pause_requested, paused.progress_percent, paused.status_detail) == (
        False,
        10,
        "first",
    )
    assert not server.wait(name, 0.05).done
    assert control.pause(name) == server.get(name)  # again does no harm
    assert metadata_of(control.resume(name)).state == state_pb2.JOB_STATE_QUEUED
    stepper.second.open()
    response = response_of(server.done(name))
    assert (response.name, response.seed_rows) == ("one", 2)


def test_a_wait_lasts_through_a_pause(serve: Serve, stepper: Stepper) -> None:
    server = serve(stepper.servicer())
    control = Control(server)
    name = server.create().name
    control.until(name, RUNNING)
    waiting = server.waiting(name)
    control.pause(name)
    stepper.open()
    control.until(name, PAUSED)
    control.resume(name)
    assert response_of(waiting.result()).seed_rows == 2


def test_a_pause_is_taken_back_by_a_resume(serve: Serve, stepper: Stepper) -> None:
    server = serve(stepper.servicer())
    control = Control(server)
    name = server.create().name
    control.until(name, RUNNING)
    control.pause(name)
    control.resume(name)
    assert not metadata_of(server.get(name)).pause_requested
    stepper.open()
    assert response_of(server.done(name)).seed_rows == 1


def test_a_paused_operation_stays_so_through_a_restart(
    serve: Serve, stepper: Stepper, file_url: str
) -> None:
    server = serve(stepper.servicer(), store=file_url)
    control = Control(server)
    name = server.create().name
    control.until(name, RUNNING)
    control.pause(name)
    stepper.first.open()
    before = control.until(name, PAUSED)
    server.stop()
    server = serve(stepper.servicer(), store=file_url)
    control = Control(server)
    assert server.get(name) == before
    stepper.second.open()
    control.resume(name)
    response = response_of(server.done(name))
    assert (response.name, response.seed_rows) == ("one", 2)


def test_a_pause_that_was_asked_for_is_there_after_a_restart(
    serve: Serve, stepper: Stepper, file_url: str
) -> None:
    """Nobody runs it then, so that it is paused."""
    server = serve(stepper.servicer(), store=file_url)
    control = Control(server)
    name = server.create().name
    control.until(name, RUNNING)
    control.pause(name)
    server.stop()
    server = serve(stepper.servicer(), store=file_url)
    assert metadata_of(server.get(name)).state == PAUSED
    stepper.open()
    Control(server).resume(name)
    assert response_of(server.done(name)).seed_rows == 2


def test_an_operation_that_waits_for_its_turn_is_paused_at_once(
    serve: Serve, stepper: Stepper
) -> None:
    server = serve(stepper.servicer(concurrency=1))
    control = Control(server)
    control.until(server.create().name, RUNNING)
    name = server.create().name
    control.pause(name)
    assert metadata_of(server.get(name)).state == PAUSED
    stepper.open()
    third = server.create().name
    assert server.done(third).done
    assert metadata_of(server.get(name)).state == PAUSED
    control.resume(name)
    assert response_of(server.done(name)).seed_rows == 1


def test_a_paused_operation_can_be_cancelled_and_deleted(serve: Serve, stepper: Stepper) -> None:
    server = serve(stepper.servicer(concurrency=1))
    control = Control(server)
    control.until(server.create().name, RUNNING)
    cancelled, deleted = server.create().name, server.create().name
    for name in (cancelled, deleted):
        control.pause(name)
    server.cancel(cancelled)
    assert server.get(cancelled).error.code == code_pb2.CANCELLED
    server.delete(deleted)
    assert refused(lambda: control.resume(deleted)).code == grpc.StatusCode.NOT_FOUND


# What is refused.


def test_what_is_done_is_neither_paused_nor_resumed(serve: Serve, stepper: Stepper) -> None:
    server = serve(stepper.servicer())
    control = Control(server)
    stepper.open()
    name = server.create().name
    done = server.done(name)
    for call in (control.pause, control.resume):
        failure = refused(lambda call=call: call(name))
        assert failure.code == grpc.StatusCode.FAILED_PRECONDITION
        assert (failure.info.reason, failure.info.domain) == ("ILLEGAL_TRANSITION", "lro-grpc")
        assert failure.info.metadata["operation"] == name
    assert server.get(name) == done


def test_what_runs_is_not_resumed(serve: Serve, stepper: Stepper) -> None:
    server = serve(stepper.servicer())
    control = Control(server)
    name = server.create().name
    control.until(name, RUNNING)
    failure = refused(lambda: control.resume(name))
    assert (failure.code, failure.info.reason) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "ILLEGAL_TRANSITION",
    )


def test_what_does_not_say_that_it_can_pause_is_not_paused(serve: Serve, stepper: Stepper) -> None:
    server = serve(stepper.servicer(pausable=False))
    control = Control(server)
    name = server.create().name
    control.until(name, RUNNING)
    failure = refused(lambda: control.pause(name))
    assert failure.code == grpc.StatusCode.FAILED_PRECONDITION
    assert "pausable=True" in failure.message
    stepper.open()
    assert response_of(server.done(name)).seed_rows == 1


# Terminate.


class Stubborn:
    """A handler that goes on whatever it is told, until its gate opens."""

    def __init__(self, keyword: str) -> None:
        self.gate = Gate()
        self.began: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._keyword = keyword

    def servicer(self, **options: Any) -> Any:
        def run(_: Any, request: Any, op: Any) -> Any:
            self.began.put(op)
            self.gate.block()
            op.progress(99, "still here")
            return Instance(name="late")

        async def run_async(_: Any, request: Any, op: Any) -> Any:
            self.began.put(op)
            while not self.gate.is_open:
                with contextlib.suppress(asyncio.CancelledError):
                    await self.gate.pass_by_async()
            op.progress(99, "still here")
            return Instance(name="late")

        return fleet("CreateInstance", run if self._keyword == "def" else run_async, **options)


@pytest.fixture
def stubborn(serve: Serve, handler_keyword: str) -> Any:
    stubborn = Stubborn(handler_keyword)
    yield stubborn
    stubborn.gate.open()


def terminated(operation: operations_pb2.Operation, reason: str) -> bool:
    info = error_details_pb2.ErrorInfo()
    assert operation.error.details[0].Unpack(info)
    return (
        operation.done
        and operation.error.code == code_pb2.ABORTED
        and (info.reason, info.domain) == ("OPERATION_TERMINATED", "lro-grpc")
        and reason in operation.error.message
    )


@every_store
@pytest.mark.parametrize("cancel", [False, True], ids=["running", "cancelling"])
def test_an_operation_is_ended_by_force_and_its_handler_has_no_say_any_more(
    serve: Serve, stubborn: Stubborn, store: str, *, cancel: bool
) -> None:
    server = serve(stubborn.servicer(), store=store)
    name = server.create().name
    op = stubborn.began.get(timeout=SECONDS)
    if cancel:
        server.cancel(name)
    waiting = server.waiting(name)
    ended = server.terminate(name, "it hangs, says ada")
    assert terminated(ended, "it hangs, says ada")
    assert waiting.result(SECONDS) == ended
    assert op.stop_reason is lro_grpc.StopReason.LEASE_LOST  # it is told at once
    stubborn.gate.open()
    another = server.create().name
    stubborn.began.get(timeout=SECONDS)
    assert server.done(another).HasField("response")
    assert server.get(name) == ended


def test_what_was_terminated_is_terminated_again_without_a_change(
    serve: Serve, stubborn: Stubborn
) -> None:
    server = serve(stubborn.servicer())
    name = server.create().name
    ended = server.terminate(name, "first")
    assert server.terminate(name, "second") == ended
    assert server.get(name) == ended


def test_what_is_done_otherwise_is_not_terminated(serve: Serve, stepper: Stepper) -> None:
    server = serve(stepper.servicer())
    stepper.open()
    name = server.create().name
    done = server.done(name)
    failure = refused(lambda: server.terminate(name, "too late"))
    assert failure.code == grpc.StatusCode.FAILED_PRECONDITION
    assert failure.info.reason == "ILLEGAL_TRANSITION"
    assert server.get(name) == done


@pytest.mark.parametrize("reason", ["", " \n", "x" * 1025])
def test_a_reason_is_needed_and_short(serve: Serve, stubborn: Stubborn, reason: str) -> None:
    server = serve(stubborn.servicer())
    name = server.create().name
    assert refused(lambda: server.terminate(name, reason)).code == (
        grpc.StatusCode.INVALID_ARGUMENT
    )
    assert not server.get(name).done
    assert terminated(server.terminate(name, "é" * 1024), "é" * 1024)


@every_store
def test_of_a_finish_and_terminates_at_once_one_wins(
    serve: Serve, stubborn: Stubborn, store: str
) -> None:
    """Those who terminate all have the same answer; or all are refused, for it is done."""
    server = serve(stubborn.servicer(), store=store)
    name = server.create().name
    stubborn.began.get(timeout=SECONDS)

    def finish_or_terminate(index: int) -> Any:
        return server.terminate(name, str(index)) if index else stubborn.gate.open()

    _, *answers = together(6, finish_or_terminate)
    done = server.done(name)
    if done.HasField("response"):
        assert [one.code() for one in answers] == [grpc.StatusCode.FAILED_PRECONDITION] * 5
    else:
        assert answers == [done] * 5
        assert terminated(done, "")


def test_what_waits_is_terminated_without_an_attempt(serve: Serve, stubborn: Stubborn) -> None:
    server = serve(stubborn.servicer(concurrency=1))
    server.create()
    stubborn.began.get(timeout=SECONDS)
    name = server.create().name
    assert terminated(server.terminate(name, "not needed"), "not needed")
    assert metadata_of(server.get(name)).attempt == 0


NAMES = [
    "",
    "operations",
    "operations/",
    f"{PARENT}/instances/i",
    "operations/a b",
    "/",
    "a/b/../c",
]


@pytest.mark.parametrize("method", REQUESTS)
def test_a_name_that_is_none_is_an_invalid_argument(serve: Serve, method: str) -> None:
    server = serve(Stepper("def").servicer())
    for name in NAMES:
        body = REQUESTS[method](name=name).SerializeToString()
        failure = refused(lambda body=body: server.call(f"{CONTROL}/{method}", body))
        assert failure.code == grpc.StatusCode.INVALID_ARGUMENT, name
        assert failure.info.reason == "INVALID_NAME"


@pytest.mark.parametrize("method", REQUESTS)
def test_a_name_that_nothing_has_is_not_found(serve: Serve, method: str) -> None:
    server = serve(Stepper("def").servicer())
    body = REQUESTS[method](name=f"{PARENT}/operations/op-none").SerializeToString()
    failure = refused(lambda: server.call(f"{CONTROL}/{method}", body))
    assert failure.code == grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize("method", REQUESTS)
def test_a_body_that_is_no_request_is_malformed(serve: Serve, method: str) -> None:
    server = serve(Stepper("def").servicer())
    failure = refused(lambda: server.call(f"{CONTROL}/{method}", b"\xff\xff\xff"))
    assert (failure.code, failure.info.reason) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "MALFORMED_REQUEST",
    )


@pytest.mark.parametrize("method", REQUESTS)
def test_who_may_not_is_refused_before_anything_is_known(serve: Serve, method: str) -> None:
    """S19: alike for what is there, for what is not, and for what is no name."""
    permissions = []

    def authorize(access: lro_grpc.Access) -> bool:
        permissions.append(access.permission)
        return access.permission == "operations.start"

    stepper = Stepper("def")
    server = serve(stepper.servicer(), authorize=authorize)
    name = server.create().name
    answers = set()
    for one in (name, f"{PARENT}/operations/op-none", "no name"):
        body = REQUESTS[method](name=one).SerializeToString()
        failure = refused(lambda body=body: server.call(f"{CONTROL}/{method}", body))
        answers.add((failure.code, failure.info.reason, failure.message.replace(one, "X")))
    ((code, _, _),) = answers
    assert code == grpc.StatusCode.PERMISSION_DENIED
    verb = method.removesuffix("Operation").lower()
    assert permissions == ["operations.start", *[f"operations.{verb}"] * 3]
    stepper.open()


# The schema.


@pytest.mark.parametrize(
    ("service", "rpc"),
    [
        (service, rpc)
        for service in (
            operations_pb2.DESCRIPTOR.services_by_name["Operations"],
            operation_control_service_pb2.DESCRIPTOR.services_by_name["OperationControlService"],
        )
        for rpc in service.methods
    ],
    ids=lambda one: one.name,
)
def test_every_rpc_of_the_schema_is_served(
    serve: Serve, stepper: Stepper, service: ServiceDescriptor, rpc: MethodDescriptor
) -> None:
    """An empty request names nothing: whoever serves it refuses it, but for one of a stream."""
    server = serve(stepper.servicer())
    call = server.channel.unary_stream(f"/{service.full_name}/{rpc.name}")
    if rpc.client_streaming:
        assert list(call(b"", timeout=SECONDS)) == []
        return
    with pytest.raises(grpc.RpcError) as caught:
        list(call(b"", timeout=SECONDS))
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT


# Time limits, retries and retention, as options set them.


def test_a_methods_time_limit_ends_an_operation_with_deadline_exceeded(
    serve: Serve, stepper: Stepper
) -> None:
    server = serve(stepper.servicer(timeout=timedelta(milliseconds=50)))
    done = server.done(server.create().name)
    assert done.error.code == code_pb2.DEADLINE_EXCEEDED
    assert metadata_of(done).state == state_pb2.JOB_STATE_EXPIRED


def test_a_methods_retention_shows_as_the_time_of_expiry(serve: Serve, stepper: Stepper) -> None:
    stepper.open()
    server = serve(stepper.servicer(retention=timedelta(hours=1)))
    shown = metadata_of(server.done(server.create().name))
    assert shown.expire_time.seconds - shown.end_time.seconds == 3600


@pytest.mark.parametrize("option", ["retention", "timeout", "progress_timeout"])
def test_the_longest_time_there_is_does_no_harm(
    serve: Serve, stepper: Stepper, store: str, option: str
) -> None:
    stepper.open()
    server = serve(stepper.servicer(**{option: timedelta(days=365_000)}), store=store)
    assert response_of(server.done(server.create().name)).seed_rows == 1


@every_store
@pytest.mark.parametrize("handler_keyword", ["def", "async def"])
def test_a_retryable_error_is_retried(serve: Serve, handler_keyword: str, store: str) -> None:
    def run(self: Any, request: Any, op: Any) -> Any:
        if op.attempt < 3:
            raise lro_grpc.RetryableError("busy", retry_after=timedelta(milliseconds=1))
        return Instance(seed_rows=op.attempt)

    async def run_async(self: Any, request: Any, op: Any) -> Any:
        return run(self, request, op)

    chosen = run if handler_keyword == "def" else run_async
    server = serve(fleet("CreateInstance", chosen), store=store)
    assert response_of(server.done(server.create().name)).seed_rows == 3
