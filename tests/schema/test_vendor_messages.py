"""The schema against the vendors' own protobuf messages: same values, same bytes, same JSON.

The vendors' packages are imported by the fixtures, so that this file can be collected without
them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from google.protobuf import json_format

from lro.v1 import batch_create_instances_pb2, operation_metadata_pb2, state_pb2

if TYPE_CHECKING:
    from google.protobuf.descriptor import EnumDescriptor
    from google.protobuf.message import Message

pytestmark = pytest.mark.vendors

ERROR = {
    "code": 8,
    "message": "no room",
    "details": [
        {
            "@type": "type.googleapis.com/google.rpc.ErrorInfo",
            "reason": "NO_ROOM",
            "domain": "example.com",
            "metadata": {"limit": "4"},
        }
    ],
}
STATUSES = [
    {},
    {"state": "READY", "type": "PRIMARY", "errorMsg": "x"},
    {"state": "FAILED", "errorMsg": "no room", "type": "READ_POOL", "error": ERROR},
    {"state": "ROLLED_BACK", "type": "SECONDARY"},
]
BATCH = {
    "instanceTargets": ["projects/p/instances/i1", "projects/p/instances/i2"],
    "instanceStatuses": {
        "projects/p/instances/i1": STATUSES[1],
        "projects/p/instances/i2": STATUSES[2],
    },
}
METADATA = {
    "createTime": "2026-01-02T03:04:05.123456789Z",
    "endTime": "2026-01-02T03:05:00Z",
    "target": "projects/p/locations/l/instances/i",
    "verb": "create",
    "statusDetail": "allocating",
    "cancelRequested": True,
    "apiVersion": "v1",
}
ALLOYDB_NAMES = {"statusDetail": "statusMessage", "cancelRequested": "requestedCancellation"}


@pytest.fixture(scope="module")
def alloydb() -> Any:
    from google.cloud import alloydb_v1

    return alloydb_v1


@pytest.fixture(scope="module")
def common() -> Any:
    from google.cloud import common

    return common


@pytest.mark.parametrize("value", STATUSES)
def test_batch_create_instance_status(alloydb: Any, value: dict[str, Any]) -> None:
    assert_same(
        value,
        batch_create_instances_pb2.BatchCreateInstanceStatus(),
        alloydb.BatchCreateInstanceStatus.pb()(),
    )


def test_batch_create_instances_metadata(alloydb: Any) -> None:
    assert_same(
        BATCH,
        batch_create_instances_pb2.BatchCreateInstancesMetadata(),
        alloydb.BatchCreateInstancesMetadata.pb()(),
    )


def test_operation_metadata_is_that_of_google_cloud_common(common: Any) -> None:
    assert_same(
        METADATA, operation_metadata_pb2.OperationMetadata(), common.OperationMetadata.pb()()
    )


def test_operation_metadata_has_the_bytes_of_alloydb(alloydb: Any) -> None:
    value = {**METADATA, "batchCreateInstancesMetadata": BATCH}
    theirs = json_format.ParseDict(alloydb_names(value), alloydb.OperationMetadata.pb()())
    ours = json_format.ParseDict(value, operation_metadata_pb2.OperationMetadata())
    assert ours.SerializeToString(deterministic=True) == theirs.SerializeToString(
        deterministic=True
    )


def test_alloydb_reads_its_fields_beside_ours(alloydb: Any) -> None:
    value = {**METADATA, "batchCreateInstancesMetadata": BATCH}
    ours = json_format.ParseDict(value, operation_metadata_pb2.OperationMetadata())
    fill_the_rest(ours)
    assert len(ours.ListFields()) == len(ours.DESCRIPTOR.fields)
    theirs = alloydb.OperationMetadata.pb().FromString(ours.SerializeToString())
    assert json_format.MessageToDict(theirs) == alloydb_names(value)


def fill_the_rest(message: Message) -> None:
    """Sets each field that is unset, whatever it is."""
    known = {field.name for field, _ in message.ListFields()}
    for field in message.DESCRIPTOR.fields:
        if field.name in known:
            continue
        if field.message_type is None:
            setattr(message, field.name, type(field.default_value)("1"))
        elif field.is_repeated:
            getattr(message, field.name).add()
        else:
            getattr(message, field.name).SetInParent()


def test_job_state_has_the_names_and_numbers_of_aiplatform() -> None:
    from google.cloud.aiplatform_v1.types.job_state import JobState

    assert numbers(state_pb2.JobState.DESCRIPTOR) == {state.name: state.value for state in JobState}


def test_batch_enums_have_the_names_and_numbers_of_alloydb(alloydb: Any) -> None:
    ours = batch_create_instances_pb2.BatchCreateInstanceStatus
    theirs = alloydb.BatchCreateInstanceStatus.State
    assert numbers(ours.State.DESCRIPTOR) == {state.name: state.value for state in theirs}
    kinds = alloydb.Instance.InstanceType
    assert numbers(ours.InstanceType.DESCRIPTOR) == {kind.name: kind.value for kind in kinds}


def assert_same(value: dict[str, Any], ours: Message, theirs: Message) -> None:
    """Asserts that both messages read the value, and write the same bytes and JSON."""
    json_format.ParseDict(value, ours)
    json_format.ParseDict(value, theirs)
    assert ours.SerializeToString(deterministic=True) == theirs.SerializeToString(
        deterministic=True
    )
    assert json_format.MessageToDict(ours) == json_format.MessageToDict(theirs) == value


def alloydb_names(value: dict[str, Any]) -> dict[str, Any]:
    """Gives the keys the names that AlloyDB has for them: its bytes are ours, its JSON is not."""
    return {ALLOYDB_NAMES.get(key, key): item for key, item in value.items()}


def numbers(enum: EnumDescriptor) -> dict[str, int]:
    return {value.name: value.number for value in enum.values}
