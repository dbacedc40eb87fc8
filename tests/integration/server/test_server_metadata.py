"""A metadata type of the service's own: filled by name and type, the rest is the handler's."""

from __future__ import annotations

import re
from typing import Any

import grpc
import pytest
from declared import FIELD, Declared, Rpc
from google.protobuf import timestamp_pb2
from google.rpc import code_pb2, status_pb2
from server_harness import PARENT, Instance, defined_with, every_store, refused

import lro_grpc
from lro.example.v1 import fleet_service_pb2
from lro.v1 import batch_create_instances_pb2, state_pb2

Serve = Any

TIMESTAMP = "google.protobuf.Timestamp"

CONVENTIONAL = {
    "create_time": TIMESTAMP,
    "start_time": TIMESTAMP,
    "update_time": TIMESTAMP,
    "end_time": TIMESTAMP,
    "target": FIELD.TYPE_STRING,
    "verb": FIELD.TYPE_STRING,
    "status_message": FIELD.TYPE_STRING,
    "requested_cancellation": FIELD.TYPE_BOOL,
    "api_version": FIELD.TYPE_STRING,
    "progress_percent": FIELD.TYPE_INT64,
    "state": "lro.v1.JobState",
    "attempt": FIELD.TYPE_INT32,
    "partial_failures": "google.rpc.Status*",
    "rows": FIELD.TYPE_INT64,
    "note": FIELD.TYPE_STRING,
}


def service(
    handler_keyword: str, run: Any, fields: dict[str, int | str]
) -> tuple[Declared, Any, Any]:
    """Returns a service with this metadata type, its servicer, and the type."""
    declared = Declared({"MakeThing": Rpc(info=("Thing", "Mine"))}, {"Mine": fields})

    def made(self: Any, request: Any, op: Any) -> Any:
        run(op)
        return declared.message("Thing")(name="made")

    def prepare(self: Any, request: Any, context: Any) -> Any:
        return lro_grpc.Prepared(target=f"{PARENT}/things/t")

    decorated = lro_grpc.method(defined_with(handler_keyword, made))
    decorated.prepare(prepare)
    servicer = type("Things", (), {"MakeThing": decorated})()
    return declared, servicer, declared.message("Mine")


def ended(serve: Serve, declared: Declared, servicer: Any) -> tuple[Any, Any]:
    """Runs the operation, and returns it as it was started and as it ended."""
    server = serve(servicer, add=declared.add)
    started = server.start(declared.method("MakeThing"), declared.message("Ask")())
    return started, server.done(started.name)


def test_conventional_fields_are_filled_and_the_others_are_the_handlers(
    serve: Serve, handler_keyword: str
) -> None:
    def run(op: Any) -> None:
        op.metadata.rows = 7
        op.metadata.note = "é"
        op.progress(40, "copying")

    declared, servicer, kind = service(handler_keyword, run, CONVENTIONAL)
    started, done = ended(serve, declared, servicer)
    first = kind.FromString(started.metadata.value)
    assert first.state == state_pb2.JOB_STATE_QUEUED
    assert first.create_time.ToMicroseconds() > 0
    assert not first.HasField("end_time")
    assert first.rows == 0

    assert done.metadata.TypeName() == f"{declared.package}.Mine"
    last = kind.FromString(done.metadata.value)
    assert (last.rows, last.note) == (7, "é")
    assert last.target == f"{PARENT}/things/t"
    assert last.verb == "makeThing"
    assert last.api_version == "v1"
    assert last.status_message == "copying"
    assert last.progress_percent == 100
    assert last.state == state_pb2.JOB_STATE_SUCCEEDED
    assert last.attempt == 1
    assert not last.requested_cancellation
    times = [last.create_time, last.start_time, last.end_time, last.update_time]
    assert all(time.ToMicroseconds() > 0 for time in times)
    assert last.create_time == first.create_time


def test_a_conventional_name_with_another_type_is_the_handlers(
    serve: Serve, handler_keyword: str
) -> None:
    fields = {
        "create_time": FIELD.TYPE_STRING,
        "target": FIELD.TYPE_BYTES,
        "verb": "google.rpc.Status",
        "api_version": FIELD.TYPE_INT32,
        "progress_percent": FIELD.TYPE_DOUBLE,
        "state": FIELD.TYPE_STRING,
        "status_detail": "google.rpc.Status*",
        "cancel_requested": FIELD.TYPE_STRING,
        "attempt": TIMESTAMP,
        "end_time": f"{TIMESTAMP}*",
        "batch_create_instances_metadata": FIELD.TYPE_STRING,
    }

    def run(op: Any) -> None:
        op.metadata.create_time = "a while ago"
        op.metadata.api_version = 42
        op.metadata.progress_percent = 0.5
        op.metadata.state = "nearly there"
        op.progress(90, "copying")

    declared, servicer, kind = service(handler_keyword, run, fields)
    _, done = ended(serve, declared, servicer)
    assert done.WhichOneof("result") == "response"
    assert kind.FromString(done.metadata.value) == kind(
        create_time="a while ago", api_version=42, progress_percent=0.5, state="nearly there"
    )


def test_a_handler_cannot_spoof_what_is_conventional(serve: Serve, handler_keyword: str) -> None:
    def run(op: Any) -> None:
        op.metadata.target = "projects/mine/everything"
        op.metadata.verb = "steal"
        op.metadata.state = state_pb2.JOB_STATE_FAILED
        op.metadata.create_time.CopyFrom(timestamp_pb2.Timestamp(seconds=1))
        op.metadata.rows = 1

    declared, servicer, kind = service(handler_keyword, run, CONVENTIONAL)
    started, done = ended(serve, declared, servicer)
    last = kind.FromString(done.metadata.value)
    assert last.target == f"{PARENT}/things/t"
    assert last.verb == "makeThing"
    assert last.state == state_pb2.JOB_STATE_SUCCEEDED
    assert last.create_time == kind.FromString(started.metadata.value).create_time
    assert last.rows == 1


def test_a_message_without_any_conventional_field(serve: Serve, handler_keyword: str) -> None:
    def run(op: Any) -> None:
        op.metadata.rows += 1

    fields = {"rows": FIELD.TYPE_INT64}
    declared, servicer, kind = service(handler_keyword, run, fields)
    started, done = ended(serve, declared, servicer)
    assert kind.FromString(started.metadata.value) == kind()
    assert kind.FromString(done.metadata.value) == kind(rows=1)


def test_partial_failures_make_it_partially_succeeded(serve: Serve, handler_keyword: str) -> None:
    """S5: failures that do not end the operation stand in the metadata, as Status."""
    failure = status_pb2.Status(code=code_pb2.NOT_FOUND, message="row 3 is gone")

    def run(op: Any) -> None:
        op.metadata.partial_failures.append(failure)

    declared, servicer, kind = service(handler_keyword, run, CONVENTIONAL)
    _, done = ended(serve, declared, servicer)
    assert done.WhichOneof("result") == "response"
    last = kind.FromString(done.metadata.value)
    assert last.state == state_pb2.JOB_STATE_PARTIALLY_SUCCEEDED
    assert list(last.partial_failures) == [failure]


def test_what_a_failed_handler_has_written_is_kept(serve: Serve, handler_keyword: str) -> None:
    def run(op: Any) -> None:
        op.metadata.rows = 3
        raise lro_grpc.LroError("no", code=lro_grpc.Code.ABORTED)

    declared, servicer, kind = service(handler_keyword, run, CONVENTIONAL)
    _, done = ended(serve, declared, servicer)
    last = kind.FromString(done.metadata.value)
    assert done.error.code == code_pb2.ABORTED
    assert last.rows == 3
    assert last.state == state_pb2.JOB_STATE_FAILED


def test_progress_carries_the_handlers_own_fields_while_it_runs(serve: Serve, gate: Any) -> None:
    declared = Declared({"MakeThing": Rpc(info=("Thing", "Mine"))}, {"Mine": CONVENTIONAL})

    async def run(self: Any, request: Any, op: Any) -> Any:
        op.metadata.rows = 5
        op.progress(50, "half")
        await gate.pass_by_async()
        return declared.message("Thing")()

    servicer = type("Things", (), {"MakeThing": lro_grpc.method(run)})()
    server = serve(servicer, add=declared.add)
    name = server.start(declared.method("MakeThing"), declared.message("Ask")()).name
    for _ in range(200):
        seen = declared.message("Mine").FromString(server.wait(name, 0.05).metadata.value)
        if seen.rows:
            break
    assert (seen.rows, seen.progress_percent, seen.status_message) == (5, 50, "half")
    assert seen.state == state_pb2.JOB_STATE_RUNNING
    gate.open()
    server.done(name)


def test_it_survives_a_restart(serve: Serve, handler_keyword: str, file_url: str) -> None:
    def run(op: Any) -> None:
        op.metadata.rows = 7

    declared, servicer, kind = service(handler_keyword, run, CONVENTIONAL)
    first = serve(servicer, add=declared.add, store=file_url)
    name = first.start(declared.method("MakeThing"), declared.message("Ask")()).name
    before = first.done(name)
    first.stop()
    second = serve(servicer, add=declared.add, store=file_url)
    assert second.get(name) == before
    assert kind.FromString(before.metadata.value).rows == 7


def test_a_cancelled_one_says_so_under_either_name(serve: Serve, gate: Any) -> None:
    fields = {
        "cancel_requested": FIELD.TYPE_BOOL,
        "requested_cancellation": FIELD.TYPE_BOOL,
        "state": "lro.v1.JobState",
    }
    declared = Declared({"MakeThing": Rpc(info=("Thing", "Mine"))}, {"Mine": fields})

    async def run(self: Any, request: Any, op: Any) -> Any:
        await gate.pass_by_async()

    servicer = type("Things", (), {"MakeThing": lro_grpc.method(run)})()
    server = serve(servicer, add=declared.add)
    name = server.start(declared.method("MakeThing"), declared.message("Ask")()).name
    server.cancel(name)
    last = declared.message("Mine").FromString(server.done(name).metadata.value)
    assert last.cancel_requested
    assert last.requested_cancellation
    assert last.state == state_pb2.JOB_STATE_CANCELLED


def test_any_message_will_do_for_metadata(serve: Serve, handler_keyword: str) -> None:
    """Of ``Instance`` only ``create_time`` is conventional; its ``state`` is of another kind."""

    def run(request: Any, op: Any) -> Any:
        op.metadata.name = "being built"
        op.metadata.state = Instance.CREATING
        op.progress(10)
        return fleet_service_pb2.Snapshot(name="s")

    def configure(operations: lro_grpc.Operations) -> None:
        operations.add_method(
            "/acme.v1.Things/Make",
            defined_with(handler_keyword, run),
            request=Instance,
            response=fleet_service_pb2.Snapshot,
            metadata=Instance,
        )

    server = serve(configure=configure)
    done = server.done(server.start("/acme.v1.Things/Make", Instance()).name)
    metadata = Instance()
    assert done.metadata.Unpack(metadata)
    assert metadata.name == "being built"
    assert metadata.state == Instance.CREATING
    assert metadata.create_time.ToMicroseconds() > 0


@pytest.mark.parametrize("stack", ["sync"], indirect=True)
def test_batch_states_go_into_a_field_of_the_services_own(serve: Serve) -> None:
    fields = {
        "batch_create_instances_metadata": "lro.v1.BatchCreateInstancesMetadata",
        "rows": FIELD.TYPE_INT64,
    }

    def run(op: Any) -> None:
        op.metadata.rows = 2
        op.batch(["instances/a", "instances/b"], create=lambda _: None, delete=lambda _: None)

    declared, servicer, kind = service("def", run, fields)
    _, done = ended(serve, declared, servicer)
    last = kind.FromString(done.metadata.value)
    batch = last.batch_create_instances_metadata
    ready = batch_create_instances_pb2.BatchCreateInstanceStatus.READY
    assert list(batch.instance_targets) == ["instances/a", "instances/b"]
    assert {batch.instance_statuses[t].state for t in batch.instance_targets} == {ready}
    assert last.rows == 2


@every_store
def test_a_list_is_filtered_by_fields_of_the_handlers_own(
    serve: Serve, handler_keyword: str, store: str
) -> None:
    def run(op: Any) -> None:
        op.metadata.rows = 7
        op.metadata.note = "é"

    declared, servicer, _ = service(handler_keyword, run, CONVENTIONAL)
    server = serve(servicer, add=declared.add, store=store)
    name = server.start(declared.method("MakeThing"), declared.message("Ask")()).name
    server.done(name)

    def found(text: str) -> list[str]:
        return [one.name for one in server.list("-", filter=text).operations]

    for text in (
        "metadata.rows > 6",
        "metadata.note = é AND metadata.state = SUCCEEDED",
        "metadata.verb = makeThing",
        f"method = {declared.service}/MakeThing",
    ):
        assert found(text) == [name], text
    for text in ("metadata.rows = 8", "metadata.note != é", "metadata.verb = x", "method = x"):
        assert found(text) == [], text
    for text, problem in {
        "metadata.colour = red": f"no field 'metadata.colour'; .*{declared.package}.Mine",
        "metadata.rows = seven": "'seven' is not a whole number",
        "metadata.partial_failures.code = 5": "partial_failures holds several values",
    }.items():
        failure = refused(lambda text=text: found(text))
        assert failure.code == grpc.StatusCode.INVALID_ARGUMENT
        assert failure.info.reason == "INVALID_FILTER"
        assert re.search(problem, failure.message), failure.message
