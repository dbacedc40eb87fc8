"""DescribeOperation, at a real server's edge."""

from __future__ import annotations

import logging
import threading
import uuid
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from google.longrunning import operations_pb2
from google.protobuf import descriptor_pb2
from google.rpc import error_details_pb2
from pages import Page
from releases import message, method, release
from server_harness import (
    FLEET,
    PARENT,
    Held,
    Instance,
    every_store,
    fleet,
    metadata_of,
    refused,
)

import lro_grpc
from lro.example.v1 import fleet_service_pb2
from lro.v1.operation_control_service_pb2 import (
    OPERATION_DESCRIPTION_VIEW_FULL as FULL,
)
from lro.v1.operation_control_service_pb2 import TerminateOperationRequest
from lro.v1.operation_description_pb2 import DescribeOperationResponse, OperationAttempt

Serve = Any

Action, WaitReason = DescribeOperationResponse, DescribeOperationResponse
SECRET = "hunter2"

Bare = message("Bare", name=descriptor_pb2.FieldDescriptorProto.TYPE_STRING)
"""A request type in whose proto no field has an option."""

Fewer = message("Fewer")
"""A request type that knows none of the fields of another one."""

REQUEST_ID = str(uuid.UUID(int=7, version=4))


def made(self: Any, request: Any, op: Any) -> Any:
    return Instance(name=request.instance_id)


@every_store
def test_an_operation_that_runs_is_described(serve: Serve, held: Held, store: Any) -> None:
    server = serve(
        held.servicer(pausable=True, timeout=timedelta(hours=1)),
        store=store,
        identify=lambda context: "ann",
        worker="pod-7",
    )
    name = server.create(instance_id="i").name
    held.next()
    before = server.get(name)
    told = server.describe(name)
    assert told.operation == before
    assert told.metadata == metadata_of(before)
    assert (told.method, told.caller) == (f"{FLEET}/CreateInstance", "ann")
    request = fleet_service_pb2.CreateInstanceRequest(parent=PARENT, instance_id="i")
    assert told.request_size_bytes == request.ByteSize()
    assert not told.HasField("request")
    (attempt,) = told.attempts
    assert (attempt.number, attempt.worker, attempt.outcome) == (1, "pod-7", 0)
    assert attempt.HasField("start_time")
    assert not attempt.HasField("end_time")
    assert (told.failed_attempt_count, told.max_attempts) == (0, 10)
    if store.startswith("postgresql:"):
        assert told.lease_expire_time.seconds > attempt.start_time.seconds
    else:  # it lasts as long as the process
        assert not told.HasField("lease_expire_time")
    created = told.metadata.create_time
    assert told.deadline_time.ToMicroseconds() == created.ToMicroseconds() + 3_600_000_000
    assert not told.HasField("schedule_time")
    assert [*told.wait_reasons] == []
    assert [*told.actions] == [Action.CANCEL, Action.PAUSE, Action.TERMINATE, Action.DELETE]
    assert server.get(name) == before
    held.gate.open()
    again = server.rerun(server.done(name).name).name
    told = server.describe(name)
    assert [*told.actions] == [Action.RERUN, Action.DELETE]
    assert told.rerun_operation == again
    told = server.describe(again)
    assert (told.source_operation, told.operator_caller) == (name, "ann")


def test_attempts_are_told_with_their_errors(serve: Serve) -> None:
    def run(self: Any, request: Any, op: Any) -> Any:
        if op.attempt < 3:
            raise lro_grpc.RetryableError(f"not at attempt {op.attempt}")
        return Instance()

    backoff = lro_grpc.Backoff(timedelta(milliseconds=1), 1, timedelta(milliseconds=1))
    server = serve(fleet("CreateInstance", run, backoff=backoff))
    name = server.create().name
    server.done(name)
    told = server.describe(name)
    assert [(one.number, one.outcome) for one in told.attempts] == [
        (1, OperationAttempt.RETRIED),
        (2, OperationAttempt.RETRIED),
        (3, OperationAttempt.SUCCEEDED),
    ]
    first, _, last = told.attempts
    assert first.error.message == "not at attempt 1"
    assert not last.HasField("error")
    assert told.failed_attempt_count == 2
    assert first.worker.rpartition(":")[2].isdecimal()
    details = [one.TypeName() for one in first.error.details]
    assert set(details) <= {error_details_pb2.ErrorInfo.DESCRIPTOR.full_name}


def test_it_is_told_why_an_operation_waits(serve: Serve, held: Held) -> None:
    server = serve(held.servicer(concurrency=1, pausable=True))
    running = server.create().name
    held.next()
    queued = server.create().name
    assert [*server.describe(queued).wait_reasons] == [WaitReason.QUEUED]
    server.pause(queued)
    paused = server.describe(queued)
    assert [*paused.wait_reasons] == [WaitReason.PAUSED]
    assert Action.RESUME in paused.actions
    assert Action.PAUSE not in paused.actions
    server.cancel(running)
    server.done(running)


def test_a_pause_between_two_attempts_has_an_end(serve: Serve) -> None:
    def run(self: Any, request: Any, op: Any) -> Any:
        raise lro_grpc.RetryableError("later", retry_after=timedelta(hours=1))

    server = serve(fleet("CreateInstance", run))
    name = server.create().name
    told = server.describe(name)
    while not told.failed_attempt_count:
        server.wait(name, 0.05)
        told = server.describe(name)
    assert [*told.wait_reasons] == [WaitReason.SCHEDULED]
    ended = told.attempts[0].end_time
    assert told.schedule_time.seconds - ended.seconds > 3000


def test_nobody_goes_on_with_what_is_not_served(serve: Serve, file_url: str) -> None:
    """Its request is of a type that is not known, and only its size is told."""
    held = Held("async def")
    first = serve(held.servicer(), store=file_url)
    name = first.create(instance_id=SECRET).name
    held.next()
    first.close()
    other = serve(fleet("DeleteInstance", made), store=file_url)
    told = other.describe(name, FULL)
    assert [*told.wait_reasons] == [WaitReason.NO_HANDLER]
    assert not told.HasField("request")
    assert told.request_size_bytes > len(SECRET)
    held.gate.open()


def test_each_reason_to_wait_is_told(serve: Serve, file_url: str) -> None:
    """Of a pause between two attempts, after which nobody goes on."""

    def run(self: Any, request: Any, op: Any) -> Any:
        raise lro_grpc.RetryableError("later", retry_after=timedelta(hours=1))

    first = serve(fleet("CreateInstance", run), store=file_url)
    name = first.create().name
    while not first.describe(name).failed_attempt_count:
        first.wait(name, 0.05)
    first.close()
    other = serve(fleet("DeleteInstance", made), store=file_url)
    told = other.describe(name)
    assert [*told.wait_reasons] == [WaitReason.SCHEDULED, WaitReason.NO_HANDLER]


def test_actions_are_what_authorize_allows(serve: Serve, held: Held) -> None:
    asked = []

    def authorize(access: lro_grpc.Access) -> bool:
        asked.append(access)
        if access.permission == "operations.delete":
            raise lro_grpc.PermissionDeniedError("never")
        return access.permission != "operations.terminate"

    server = serve(held.servicer(pausable=True), authorize=authorize)
    name = server.create().name
    held.next()
    del asked[:]
    assert [*server.describe(name).actions] == [Action.CANCEL, Action.PAUSE]
    assert [one.permission for one in asked] == [
        f"operations.{verb}" for verb in ("describe", "cancel", "pause", "terminate", "delete")
    ]
    assert {(one.resource, one.operation.name) for one in asked} == {(name, name)}
    terminate = asked[3]
    assert terminate.method == "/lro.v1.OperationControlService/TerminateOperation"
    assert terminate.request == TerminateOperationRequest(name=name)


def test_a_rerun_is_listed_if_authorize_allows_all_that_it_asks(serve: Serve) -> None:
    asked: list[lro_grpc.Access] = []
    shut: set[str] = set()

    def authorize(access: lro_grpc.Access) -> bool:
        asked.append(access)
        return access.permission not in shut

    server = serve(
        fleet("CreateInstance", made), authorize=authorize, identify=lambda context: "ann"
    )
    name = server.done(server.create(instance_id="i", request_id=REQUEST_ID).name).name
    shut.add("operations.delete")
    del asked[:]
    assert [*server.describe(name).actions] == [Action.RERUN]
    by_describe = asked[1:3]
    del asked[:]
    server.rerun(name)
    assert [one.permission for one in asked] == ["operations.rerun", "operations.start"]
    assert by_describe == asked
    for permission in ("operations.start", "operations.rerun"):
        shut.add(permission)
        assert [*server.describe(name).actions] == []
        shut.remove(permission)


def test_a_rerun_that_the_server_cannot_make_is_not_listed(serve: Serve, file_url: str) -> None:
    """Its types have changed, so that the stored request does not fit any more."""
    first = serve(configure=bare(), store=file_url)
    name = first.start(method("Run"), Bare(name=SECRET)).name
    first.done(name)
    first.close()
    configure = release({"Run": lambda request, op: request}, request=Fewer, response=Fewer)
    other = serve(configure=configure, store=file_url)
    assert [*other.describe(name).actions] == [Action.DELETE]
    failure = refused(lambda: other.rerun(name))
    assert failure.info.reason == "METHOD_NOT_SERVED"


# The request


def test_the_request_takes_another_permission(serve: Serve) -> None:
    shut: set[str] = set()
    server = serve(
        fleet("CreateInstance", made), authorize=lambda access: access.permission not in shut
    )
    name = server.create(instance_id="i").name
    told = server.describe(name, FULL)
    request = fleet_service_pb2.CreateInstanceRequest()
    assert told.request.Unpack(request)
    assert request.instance_id == "i"
    shut.add("operations.describeFull")
    assert not server.describe(name).HasField("request")
    for unknown in (name, f"{PARENT}/operations/unknown"):
        failure = refused(lambda: server.describe(unknown, FULL))  # noqa: B023 - called at once
        assert failure.info.metadata["permission"] == "operations.describeFull"
    shut.add("operations.describe")
    failure = refused(lambda: server.describe(name, 7))
    assert failure.code is grpc.StatusCode.PERMISSION_DENIED


def test_a_view_that_there_is_not_is_refused(serve: Serve) -> None:
    server = serve(fleet("CreateInstance", made))
    failure = refused(lambda: server.describe(server.create().name, 7))
    assert failure.code is grpc.StatusCode.INVALID_ARGUMENT
    assert "view is 7" in failure.message


def bare(redact: Any = None) -> Any:
    options = {} if redact is None else {"redact": redact}
    return release({"Run": lambda request, op: request}, request=Bare, response=Bare, **options)


def described(server: Any) -> DescribeOperationResponse:
    name = server.start(method("Run"), Bare(name=SECRET)).name
    server.done(name)
    told: DescribeOperationResponse = server.describe(name, FULL)
    return told


def test_a_request_without_marks_is_not_shown(serve: Serve) -> None:
    told = described(serve(configure=bare()))
    assert not told.HasField("request")
    assert told.request_size_bytes == Bare(name=SECRET).ByteSize()


def test_a_method_says_what_may_be_shown(serve: Serve) -> None:
    def redact(request: Any) -> Any:
        request.name = f"{len(request.name)} characters"
        return request

    told = described(serve(configure=bare(redact)))
    shown = Bare()
    assert told.request.Unpack(shown)
    assert shown.name == "7 characters"


def nothing(request: Any) -> None:
    return None


def test_a_method_may_show_nothing(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    assert not described(serve(configure=bare(nothing))).HasField("request")
    assert not [one for one in caplog.records if one.levelno >= logging.ERROR]


def fails(request: Any) -> Any:
    raise ValueError(f"what is {request.name}?")


def leaves(request: Any) -> Any:
    raise SystemExit(request.name)


@pytest.mark.parametrize("redact", [fails, leaves, lambda request: operations_pb2.Operation()])
def test_a_redact_that_fails_shows_nothing(
    serve: Serve, caplog: pytest.LogCaptureFixture, redact: Any
) -> None:
    """One line of the log tells of it, and not what the request is."""
    told = described(serve(configure=bare(redact)))
    assert not told.HasField("request")
    (line,) = [one for one in caplog.records if one.levelno >= logging.ERROR]
    assert method("Run") in line.getMessage()
    assert SECRET not in caplog.text
    caplog.clear()


def test_a_large_request_is_looked_at_in_a_thread(serve: Serve) -> None:
    threads = []

    def redact(request: Any) -> Any:
        threads.append(threading.current_thread().name)
        return request

    server = serve(configure=bare(redact))
    name = server.start(method("Run"), Bare(name="x" * 100_000)).name
    server.done(name)
    assert server.describe(name, FULL).request.value
    assert [one.partition("_")[0] for one in threads] == ["lro-describe"]


def test_what_clients_could_not_read_is_left_out(serve: Serve) -> None:
    """The request first, of which there is the size."""
    server = serve(configure=bare(lambda request: request))
    name = server.start(method("Run"), Bare(name="x" * 2_500_000)).name
    server.done(name)
    told = server.describe(name, FULL)
    assert not told.HasField("request")
    assert told.request_size_bytes > 2_500_000
    assert told.operation.done
    assert told.attempts


def test_the_blocks_of_the_page_run(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    blocks = Page("deploy/on-call.md").texts("python")
    (attempts,) = [one for one in blocks if "describe" in one]
    (redact,) = [one for one in blocks if "redact" in one]
    server = serve(fleet("CreateInstance", made), worker="pod-7")
    name = server.done(server.create().name).name
    client = lro_grpc.OperationsClient(server.channel)
    exec(attempts, {"client": client, "name": name})
    assert capsys.readouterr().out.split() == ["1", "pod-7"]
    names: dict[str, Any] = {"lro_grpc": lro_grpc}
    exec(redact, names)
    request = SimpleNamespace(url=f"https://d.example/import?password={SECRET}")
    assert names["without_password"](request).url == "https://d.example/import"


@pytest.mark.parametrize("redact", ["a text", 1])
def test_a_redact_is_a_function(redact: Any) -> None:
    with pytest.raises(lro_grpc.ConfigurationError, match="redact is"):
        lro_grpc.MethodOptions(redact=redact)


async def coroutine(request: Any) -> Any:
    return request


def test_a_redact_is_no_coroutine_function() -> None:
    with pytest.raises(lro_grpc.ConfigurationError, match="redact is a coroutine function"):
        lro_grpc.MethodOptions(redact=coroutine)


@pytest.mark.parametrize("worker", ["", "x" * 256, "a\nb", "a\x1b[2J", 7])
def test_a_worker_has_a_name_that_can_be_printed(worker: Any) -> None:
    with pytest.raises(lro_grpc.ConfigurationError, match="worker is"):
        lro_grpc.Operations("memory:", worker=worker)
