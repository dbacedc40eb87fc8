"""The summary of an operation, from its result and the conventional fields of its metadata."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import pytest
from google.longrunning import operations_pb2
from google.protobuf import (
    descriptor_pb2,
    descriptor_pool,
    empty_pb2,
    message_factory,
    timestamp_pb2,
)
from google.rpc import code_pb2, status_pb2

from lro.v1 import batch_create_instances_pb2, operation_metadata_pb2, state_pb2
from lro_grpc._inspection.summary import InstanceSummary, Summary, read_summary

OperationMetadata = operation_metadata_pb2.OperationMetadata
Status = batch_create_instances_pb2.BatchCreateInstanceStatus


def operation(*, done: bool = False, error: int | None = None) -> operations_pb2.Operation:
    made = operations_pb2.Operation(name="operations/one", done=done)
    if error is not None:
        made.error.code = error
        made.error.message = "no\troom"
    return made


def summary(one: operations_pb2.Operation, **fields: Any) -> Summary:
    return read_summary(one, OperationMetadata(**fields) if fields else None)


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
    assert read_summary(operation(), empty_pb2.Empty()) == read_summary(operation(), None)


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


def test_partial_failures_are_their_codes_and_messages() -> None:
    failures = [status_pb2.Status(code=code_pb2.ABORTED, message="a/1"), status_pb2.Status()]
    found = summary(operation(done=True), partial_failures=failures)
    assert found.partial_failures == ("ABORTED: a/1", "UNKNOWN")
    assert read_summary(operation(), status_pb2.Status()).partial_failures == ()


def test_partial_failures_of_a_type_of_the_servers_own_are_read() -> None:
    """By reflection, with a google.rpc.Status that is another class."""
    pool = descriptor_pool.DescriptorPool()
    for file in ("google/protobuf/any.proto", "google/rpc/status.proto"):
        found = descriptor_pool.Default().FindFileByName(file)
        copied = descriptor_pb2.FileDescriptorProto()
        found.CopyToProto(copied)
        pool.Add(copied)
    own = descriptor_pb2.FileDescriptorProto(
        name="own.proto", package="own", dependency=["google/rpc/status.proto"], syntax="proto3"
    )
    message = own.message_type.add(name="Metadata")
    message.field.add(
        name="partial_failures",
        number=1,
        type=descriptor_pb2.FieldDescriptorProto.TYPE_MESSAGE,
        label=descriptor_pb2.FieldDescriptorProto.LABEL_REPEATED,
        type_name=".google.rpc.Status",
    )
    pool.Add(own)
    made: Any = message_factory.GetMessageClass(pool.FindMessageTypeByName("own.Metadata"))()
    made.partial_failures.add(code=code_pb2.ABORTED, message="a/1")
    assert read_summary(operation(), made).partial_failures == ("ABORTED: a/1",)
