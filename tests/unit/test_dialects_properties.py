"""Each dialect shows an operation as its documents say, through every history of it."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any

from google.longrunning import operations_pb2
from google.protobuf import json_format
from hypothesis import given, settings
from operation_histories import histories

from lro.v1 import batch_create_instances_pb2
from lro_grpc._dialects import alloydb, azure_face, deployment_manager, longrunning, vertex_ai
from lro_grpc._dialects.dialect import Dialect
from lro_grpc._dialects.losses import lost_in
from lro_grpc._dialects.registry import DIALECTS
from lro_grpc._dialects.view import OperationView
from lro_grpc._errors import Code
from lro_grpc._operation.record import Record
from lro_grpc._operation.states import (
    BATCH_INSTANCE,
    CANCELLED,
    DEPLOYMENT_OPERATION,
    FAILED,
    JOB,
    OPERATION_STATUS,
)

if TYPE_CHECKING:
    from lro_grpc._operation.states import Lifecycle

Operation = operations_pb2.Operation
InstanceStatus = batch_create_instances_pb2.BatchCreateInstanceStatus

whatever_happens = settings(max_examples=50)


def steps(history: list[Record]) -> itertools.pairwise[tuple[Record, Record]]:
    return itertools.pairwise(history)


def check_never_back(words: Lifecycle, before: int, after: int) -> None:
    if before != after:
        words.check(before, after)


def in_order(times: list[str]) -> bool:
    """Whether the times that are there, all in one zone and of one width, do not go back."""
    there = [time for time in times if time]
    return there == sorted(there)


# google.longrunning.


@whatever_happens
@given(histories())
def test_longrunning_is_done_when_it_has_a_result(history: list[Record]) -> None:
    for record in history:
        stored, made = Operation.FromString(record.operation), longrunning.from_view(view(record))
        assert stored == made  # for records whose metadata is of the library's own type
        result = made.WhichOneof("result")
        assert made.done == (result is not None)
        known = OperationView.of_operation(made)
        assert made.done == bool(known.end_time)
        assert known.create_time <= (known.end_time or known.create_time)
        if result == "error":
            assert made.error.code != 0
            assert (made.error.code == Code.CANCELLED) == (record.state == CANCELLED)
            assert known.cancel_requested or made.error.code != Code.CANCELLED


@whatever_happens
@given(histories())
def test_longrunning_stays_what_it_was_made_for_and_as_it_ended(history: list[Record]) -> None:
    for before, after in steps(history):
        was, now = (longrunning.from_view(view(one)) for one in (before, after))
        assert was.name == now.name
        old, new = OperationView.of_operation(was), OperationView.of_operation(now)
        for name in ("target", "verb", "api_version", "create_time"):
            assert getattr(old, name) == getattr(new, name)
        assert old.cancel_requested <= new.cancel_requested
        assert not was.done


# AlloyDB.


@whatever_happens
@given(histories(batch=True))
def test_batch_shows_each_instance(history: list[Record]) -> None:
    for record in history:
        if not record.batch:
            continue
        batch = batch_of(record)
        assert list(batch.instance_targets) == ["i/b", "i/a"]
        assert batch.instance_statuses.keys() <= set(batch.instance_targets)
        for status in batch.instance_statuses.values():
            assert status.HasField("error") == (status.state == InstanceStatus.FAILED)
            assert status.error_msg == status.error.message
            state = BATCH_INSTANCE.states[status.state]
            assert state.terminal or state.final_when_done or not record.done
        if record.done:
            ready = [one.state == InstanceStatus.READY for one in batch.instance_statuses.values()]
            made = alloydb.from_view(view(record))
            assert all(ready) if made.HasField("response") else not any(ready)


@whatever_happens
@given(histories(batch=True))
def test_batch_json_has_the_names_of_alloydb(history: list[Record]) -> None:
    for record in history:
        if not record.batch:
            continue
        shown = alloydb.to_json(alloydb.from_view(view(record)))
        metadata = shown["metadata"]
        assert metadata["@type"].endswith("/google.cloud.alloydb.v1.OperationMetadata")
        assert metadata.keys() <= {
            *("@type", "createTime", "endTime", "target", "verb", "statusMessage"),
            *("requestedCancellation", "apiVersion", "batchCreateInstancesMetadata"),
        }
        assert metadata.get("statusMessage", "") == record.status_detail
        assert metadata.get("requestedCancellation", False) == record.cancel_requested


def batch_of(record: Record) -> Any:
    made = alloydb.from_view(view(record))
    known = OperationView.of_operation(alloydb.to_operation(made)).batch
    return batch_create_instances_pb2.BatchCreateInstancesMetadata.FromString(known)


# Vertex AI.


@whatever_happens
@given(histories())
def test_job_has_an_error_and_times_as_its_state_says(history: list[Record]) -> None:
    for record in history:
        job = vertex_ai.from_view(view(record))
        assert job["state"] == JOB.states[record.state].name
        assert ("error" in job) == (record.state in (FAILED, CANCELLED))
        if record.state == CANCELLED:
            assert job["error"]["code"] == Code.CANCELLED
        assert ("endTime" in job) == record.done
        assert ("startTime" in job) == bool(record.attempt)
        known = OperationView.of_operation(vertex_ai.to_operation(job))
        times = [known.create_time, known.start_time, known.end_time, known.update_time]
        assert times == [
            *(record.create_time, record.start_time, record.end_time, record.update_time)
        ]


@whatever_happens
@given(histories())
def test_job_goes_on_and_starts_once(history: list[Record]) -> None:
    for before, after in steps(history):
        was, now = vertex_ai.from_view(view(before)), vertex_ai.from_view(view(after))
        assert was["name"] == now["name"]
        assert was["createTime"] == now["createTime"]
        assert was.get("startTime", now.get("startTime")) == now.get("startTime")
        assert not JOB.is_terminal(before.state)


# Azure Face.


@whatever_happens
@given(histories())
def test_operation_status_says_one_thing_by_each_word(history: list[Record]) -> None:
    for record in history:
        shown = azure_face.to_json(azure_face.from_view(view(record)))
        assert shown["createdTime"] <= shown["lastActionTime"]
        assert ("message" in shown) == (shown["status"] == "failed")
        assert (shown.get("resourceLocation", "") != "") == (
            shown["status"] == "succeeded" and record.target != ""
        )
        assert (shown["status"] in ("succeeded", "failed")) == record.done


@whatever_happens
@given(histories())
def test_operation_status_never_goes_back(history: list[Record]) -> None:
    for before, after in steps(history):
        was, now = azure_face.from_view(view(before)), azure_face.from_view(view(after))
        check_never_back(OPERATION_STATUS, was.status, now.status)
        assert was.created_time == now.created_time
        assert was.last_action_time <= now.last_action_time


# Deployment Manager.


@whatever_happens
@given(histories())
def test_deployment_operation_is_as_its_status_says(history: list[Record]) -> None:
    for record in history:
        made = deployment_manager.from_view(view(record))
        shown = deployment_manager.to_json(made)
        done = shown["status"] == "DONE"
        assert 0 <= shown["progress"] <= 100
        assert ("endTime" in shown) == done == record.done
        assert not done or shown["progress"] == 100
        assert "startTime" in shown or shown["status"] != "RUNNING"
        # Of what is DONE, this is missing only if nobody has ever worked on it.
        assert ("startTime" in shown) == bool(record.attempt)
        assert in_order([made.insert_time, made.start_time, made.end_time])
        failed = bool(shown.get("error", {}).get("errors"))
        assert ("httpErrorStatusCode" in shown) == ("httpErrorMessage" in shown) == failed
        # The documented rule by which a client knows success.
        assert (done and shown["progress"] == 100 and not failed) == (
            record.done and not record.error_code
        )


@whatever_happens
@given(histories())
def test_deployment_operation_never_goes_back(history: list[Record]) -> None:
    for before, after in steps(history):
        was, now = (deployment_manager.from_view(view(one)) for one in (before, after))
        check_never_back(DEPLOYMENT_OPERATION, was.status, now.status)
        assert was.progress <= now.progress
        constant = ("kind", "id", "name", "self_link", "target_link", "target_id", "user")
        for name in (*constant, "operation_type", "insert_time"):
            assert getattr(was, name) == getattr(now, name)


# There and back.


@whatever_happens
@given(histories())
def test_nothing_is_lost_but_what_is_listed(history: list[Record]) -> None:
    for record, name in itertools.product(history, DIALECTS):
        if name != "alloydb":
            assert lost(name, record) <= set(lost_in(name))


@whatever_happens
@given(histories(batch=True))
def test_of_a_batch_nothing_is_lost_but_what_is_listed(history: list[Record]) -> None:
    for record, name in itertools.product(history, DIALECTS):
        if record.batch:
            assert lost(name, record) <= set(lost_in(name))


@whatever_happens
@given(histories(batch=True))
def test_what_came_back_is_an_operation_that_loses_no_more(history: list[Record]) -> None:
    for record, dialect in itertools.product(history, DIALECTS.values()):
        if record.batch or dialect is not alloydb:
            made = dialect.from_view(view(record))
            back = dialect.to_operation(made)
            assert back.done == record.done == (back.WhichOneof("result") is not None)
            assert (
                back.error.code != Code.CANCELLED
                or OperationView.of_operation(back).cancel_requested
            )
            again = dialect.from_view(OperationView.of_operation(back))
            twice = dialect.from_view(OperationView.of_operation(dialect.to_operation(again)))
            assert dialect.to_json(again) == dialect.to_json(twice)


@whatever_happens
@given(histories())
def test_json_is_read_as_what_it_was_written_of(history: list[Record]) -> None:
    dialects: tuple[Dialect[Any], ...] = (longrunning, azure_face, deployment_manager)
    for record, dialect in itertools.product(history, dialects):
        made = dialect.from_view(view(record))
        shown = dialect.to_json(made)
        read = json_format.Parse(json.dumps(shown), type(made)())
        assert (
            dialect.to_json(read) == shown
        )  # the bytes in an Any may have their maps in another order


def view(record: Record) -> OperationView:
    return OperationView.of_record(record)


def lost(name: str, record: Record) -> set[str]:
    """Returns the fields of the view that differ after the way there and back."""
    known, dialect = view(record), DIALECTS[name]
    back = OperationView.of_operation(dialect.to_operation(dialect.from_view(known)))
    fields = OperationView.__dataclass_fields__
    return {field for field in fields if getattr(known, field) != getattr(back, field)}
