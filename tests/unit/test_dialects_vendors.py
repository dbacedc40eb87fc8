"""The dialects as the vendors' own message types read them.

The vendors' packages are imported by the fixtures, so that this file can be collected without
them.
"""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf import json_format
from google.rpc import status_pb2
from operation_histories import LEASE, NOW, PARTIAL, RESPONSES, SECOND, create

from lro_grpc._dialects import alloydb as alloydb_dialect
from lro_grpc._dialects import azure_face, vertex_ai
from lro_grpc._dialects.view import OperationView
from lro_grpc._operation.batch_states import BatchStates, Status
from lro_grpc._operation.events import Claim, Event, Expire, Fail, Report, SaveBatch, Succeed
from lro_grpc._operation.record import Record

pytestmark = pytest.mark.vendors

ERROR = status_pb2.Status(code=5, message="no such image")


def after(*events: Event) -> Record:
    one = create(target="projects/p/locations/global/deployments/d", timeout=SECOND)
    for event in events:
        one = event.apply(one, NOW + 1_500)
    return one


def held(*events: Event) -> Record:
    return after(Claim(LEASE), Report(1, 50, "half"), *events)


def failed_batch() -> Record:
    instances = BatchStates.begin(["i/1", "i/2"])
    instances.move("i/1", Status.CREATING, Status.READY, Status.DELETING, Status.ROLLED_BACK)
    instances.move("i/2", Status.CREATING, Status.FAILED, error=ERROR)
    saved = SaveBatch(Report(1), instances.serialized(), b"")
    return held(saved, Fail(Report(1), ERROR.SerializeToString()))


def view(record: Record) -> OperationView:
    return OperationView.of_record(record)


RECORDS = {
    "queued": after(),
    "running": held(),
    "succeeded": held(Succeed(Report(1), RESPONSES[0])),
    "partial": held(Succeed(Report(1, handler_metadata=PARTIAL), RESPONSES[0], partial=True)),
    "failed": held(Fail(Report(1), ERROR.SerializeToString())),
    "expired": held(Expire(Report(1))),
}
each_record = pytest.mark.parametrize("record", RECORDS.values(), ids=list(RECORDS))


@pytest.fixture(scope="module")
def alloydb() -> Any:
    from google.cloud import alloydb_v1

    return alloydb_v1


@pytest.fixture(scope="module")
def aiplatform() -> Any:
    from google.cloud import aiplatform_v1

    return aiplatform_v1


@pytest.fixture(scope="module")
def face() -> Any:
    from azure.cognitiveservices.vision.face import models

    return models


def test_alloydb_reads_the_batch(alloydb: Any) -> None:
    operation = alloydb_dialect.from_view(view(failed_batch()))
    theirs = alloydb.OperationMetadata.pb(alloydb.OperationMetadata())
    assert operation.metadata.Unpack(theirs)
    statuses = theirs.batch_create_instances_metadata.instance_statuses
    states = alloydb.BatchCreateInstanceStatus.State
    assert statuses["i/1"].state == states.ROLLED_BACK
    assert statuses["i/2"].state == states.FAILED
    assert statuses["i/2"].error == ERROR
    assert theirs.status_message == "half"


def test_alloydb_reads_the_json_of_the_batch(alloydb: Any) -> None:
    operation = alloydb_dialect.from_view(view(failed_batch()))
    theirs = alloydb.OperationMetadata.pb(alloydb.OperationMetadata())
    shown = alloydb_dialect.to_json(operation)["metadata"]
    assert shown.pop("@type") == f"type.googleapis.com/{theirs.DESCRIPTOR.full_name}"
    json_format.ParseDict(shown, theirs)
    same = type(theirs)()
    assert operation.metadata.Unpack(same)
    assert theirs == same


@each_record
def test_aiplatform_reads_the_job(aiplatform: Any, record: Record) -> None:
    """Both ways to it, by its message and by JSON, lead to the same job."""
    name = "projects/p/locations/l/customJobs/1"
    kind = type(aiplatform.CustomJob.pb(aiplatform.CustomJob()))
    filled = kind(name=name, display_name="mine")
    vertex_ai.fill(filled, view(record))
    shown = vertex_ai.from_view(view(record), name=name)
    shown.pop("partialFailures", None)  # the other kinds of job have it
    read = json_format.ParseDict({**shown, "displayName": "mine"}, kind())
    assert read == filled
    assert filled.state == record.state
    back = OperationView.of_operation(vertex_ai.to_operation(json_format.MessageToDict(filled)))
    assert (back.name, back.state, back.end_time) == (name, record.state, record.end_time)


@each_record
def test_azure_reads_the_status(face: Any, record: Record) -> None:
    shown = azure_face.to_json(azure_face.from_view(view(record)))
    theirs = face.OperationStatus.deserialize(shown)
    assert theirs.status is face.OperationStatusType(shown["status"])
    assert theirs.created_time.timestamp() == record.create_time / 1_000_000
    assert theirs.last_action_time.microsecond == record.update_time % 1_000_000
    assert not theirs.additional_properties
