"""The summary of an operation, from its result and the conventional fields of its metadata."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import pytest
from google.longrunning import operations_pb2
from google.protobuf import empty_pb2, timestamp_pb2
from google.rpc import code_pb2

from lro.v1 import batch_create_instances_pb2, operation_metadata_pb2, state_pb2
from lro_grpc._inspection.summary import InstanceSummary, Summary, summarize

OperationMetadata = operation_metadata_pb2.OperationMetadata
Status = batch_create_instances_pb2.BatchCreateInstanceStatus


def operation(*, done: bool = False, error: int | None = None) -> operations_pb2.Operation:
    made = operations_pb2.Operation(name="operations/one", done=done)
    if error is not None:
        made.error.code = error
        made.error.message = "no\troom"
    return made


def summary(one: operations_pb2.Operation, **fields: Any) -> Summary:
    return summarize(one, OperationMetadata(**fields) if fields else None)


def test_without_metadata_it_is_its_name_and_result() -> None:
    found = summary(operation())
    assert (found.name, found.state, found.done, found.error) == (
        *("operations/one", "RUNNING"),
        *(False, ""),
    )
    assert (found.progress, found.attempt, found.create_time, found.batch) == (None, None, None, ())


@pytest.mark.parametrize(
    ("error", "state", "text"),
    [
        (None, "SUCCEEDED", ""),
        (code_pb2.CANCELLED, "CANCELLED", "CANCELLED: no\troom"),
        (code_pb2.NOT_FOUND, "FAILED", "NOT_FOUND: no\troom"),
        (99, "FAILED", "99: no\troom"),
        (code_pb2.OK, "FAILED", "UNKNOWN: no\troom"),
    ],
)
def test_a_done_one_without_a_state_has_that_of_its_result(
    error: int | None, state: str, text: str
) -> None:
    found = summary(operation(done=True, error=error))
    assert (found.state, found.error) == (state, text)


def test_the_state_of_the_metadata_counts_if_it_fits_the_result() -> None:
    running = state_pb2.JOB_STATE_RUNNING
    assert summary(operation(), state=running).state == "RUNNING"
    assert summary(operation(done=True), state=running).state == "SUCCEEDED"
    assert summary(operation(), state=state_pb2.JOB_STATE_FAILED).state == "QUEUED"
    succeeded = state_pb2.JOB_STATE_SUCCEEDED
    assert summary(operation(done=True, error=0), state=succeeded).state == "FAILED"


def test_conventional_fields_are_its_values() -> None:
    found = summary(
        operation(),
        progress_percent=40,
        status_detail="building",
        verb="create",
        target="instances/i",
        api_version="v1",
        attempt=2,
        create_time=timestamp_pb2.Timestamp(seconds=1_700_000_000),
        end_time=timestamp_pb2.Timestamp(seconds=10**12),
    )
    assert (found.progress, found.detail, found.attempt) == (40, "building", 2)
    assert (found.verb, found.target, found.api_version) == ("create", "instances/i", "v1")
    assert found.create_time == datetime(2023, 11, 14, 22, 13, 20, tzinfo=timezone.utc)
    assert found.end_time is None  # beyond the year 9999


def test_a_metadata_type_without_conventional_fields_adds_nothing() -> None:
    assert summarize(operation(), empty_pb2.Empty()) == summarize(operation(), None)


def test_requests_are_those_that_the_state_does_not_show() -> None:
    requests = {"cancel_requested": True, "pause_requested": True}
    running, cancelling = state_pb2.JOB_STATE_RUNNING, state_pb2.JOB_STATE_CANCELLING
    assert summary(operation(), state=running, **requests).requested == ("cancel", "pause")
    assert summary(operation(), state=cancelling, **requests).requested == ("pause",)


def test_a_batch_is_its_instances_in_order() -> None:
    failed = Status(state=Status.FAILED)
    failed.error.code = code_pb2.INTERNAL
    batch = batch_create_instances_pb2.BatchCreateInstancesMetadata(
        instance_targets=["b", "a", "c"],
        instance_statuses={"a": failed, "b": Status(state=Status.READY)},
    )
    assert summary(operation(), batch_create_instances_metadata=batch).batch == (
        InstanceSummary("b", "READY", ""),
        InstanceSummary("a", "FAILED", "INTERNAL"),
        InstanceSummary("c", "-", ""),
    )
