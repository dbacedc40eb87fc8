from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from google.protobuf import (
    any_pb2,
    descriptor_pb2,
    descriptor_pool,
    empty_pb2,
    message_factory,
    text_format,
    timestamp_pb2,
)
from google.protobuf.message import EncodeError

from lro.v1 import batch_create_instances_pb2, operation_metadata_pb2, state_pb2
from lro_grpc import _anys
from lro_grpc._errors import ConfigurationError
from lro_grpc._operation import metadata, publication
from lro_grpc._operation.record import FIELDS, Kind

if TYPE_CHECKING:
    from google.protobuf.message import Message

F = descriptor_pb2.FieldDescriptorProto
RUNNING = state_pb2.JOB_STATE_RUNNING
BATCH = batch_create_instances_pb2.BatchCreateInstancesMetadata(
    instance_targets=["a", "b"],
    instance_statuses={
        "a": batch_create_instances_pb2.BatchCreateInstanceStatus(state="READY"),
        "b": batch_create_instances_pb2.BatchCreateInstanceStatus(state="CREATING"),
    },
)


SAMPLES = {
    Kind.TEXT: "text",
    Kind.FLAG: True,
    Kind.NUMBER: 42,
    Kind.STATE: RUNNING,
    Kind.BATCH: BATCH.SerializeToString(),
}
CONVENTIONAL = {field.name: field for field in FIELDS.values() if field.kind is not None}
UNSET = publication.create(
    parent="",
    operation_id="op-1",
    method="/test.v1.Tests/Run",
    request=b"",
    metadata_type=metadata.DEFAULT_TYPE.DESCRIPTOR.full_name,
    now=1,
)._replace(**{name: field.type() for name, field in CONVENTIONAL.items()})
"""No conventional value."""

FILLED = UNSET._replace(
    **{
        name: 1_800_000_000_000_000 + number if field.kind is Kind.TIME else SAMPLES[field.kind]
        for number, (name, field) in enumerate(CONVENTIONAL.items())
    }
)._replace(target="projects/p/things/t", verb="create", api_version="v1", attempt=3)
"""Every conventional value, each time another one."""


def time(micros: int) -> timestamp_pb2.Timestamp:
    stamp = timestamp_pb2.Timestamp()
    stamp.FromMicroseconds(micros)
    return stamp


_made = 0


def made(**of_fields: F | dict[str, Any]) -> Message:
    """A message of a type of its own with these fields; the numbers are of no account."""
    global _made
    _made += 1
    file = descriptor_pb2.FileDescriptorProto(
        name=f"test_metadata_{_made}.proto",
        package=f"test_metadata_{_made}",
        syntax="proto3",
        dependency=[
            "google/protobuf/timestamp.proto",
            "lro/v1/state.proto",
            "lro/v1/batch_create_instances.proto",
        ],
    )
    message = file.message_type.add(name="Progress")
    for number, (name, field) in enumerate(of_fields.items(), start=3):
        message.field.add(name=name, number=number, **{"label": F.LABEL_OPTIONAL, **field})
    pool = descriptor_pool.Default()
    pool.Add(file)
    full_name = f"test_metadata_{_made}.Progress"
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(full_name))()


STRING, BOOL = {"type": F.TYPE_STRING}, {"type": F.TYPE_BOOL}
INT32, INT64, UINT32 = ({"type": one} for one in (F.TYPE_INT32, F.TYPE_INT64, F.TYPE_UINT32))
BYTES, DOUBLE = {"type": F.TYPE_BYTES}, {"type": F.TYPE_DOUBLE}
TIME = {"type": F.TYPE_MESSAGE, "type_name": ".google.protobuf.Timestamp"}
STATE = {"type": F.TYPE_ENUM, "type_name": ".lro.v1.JobState"}
OTHER_ENUM = {"type": F.TYPE_ENUM, "type_name": ".lro.v1.BatchCreateInstanceStatus.State"}
BATCH_FIELD = {"type": F.TYPE_MESSAGE, "type_name": ".lro.v1.BatchCreateInstancesMetadata"}


def many(field: dict[str, Any]) -> dict[str, Any]:
    return {**field, "label": F.LABEL_REPEATED}


# This package's own type.


def test_every_value_is_written_to_the_default_type():
    message = metadata.DEFAULT_TYPE()
    metadata.fill(message, FILLED)
    for name, field in CONVENTIONAL.items():
        value = getattr(FILLED, name)
        written = getattr(message, field.shown_as[0])
        if field.kind is Kind.TIME:
            written = written.ToMicroseconds()
        if field.kind is Kind.BATCH:
            value = BATCH
        assert written == value, name


@pytest.mark.parametrize("name", CONVENTIONAL)
def test_each_value_has_a_field_of_its_own(name):
    message = metadata.DEFAULT_TYPE()
    metadata.fill(message, UNSET._replace(**{name: getattr(FILLED, name)}))
    written = [descriptor.name for descriptor, _ in message.ListFields()]
    assert written == [CONVENTIONAL[name].shown_as[0]]


def test_values_that_are_unset_write_nothing():
    message = metadata.DEFAULT_TYPE()
    metadata.fill(message, UNSET)
    assert message == metadata.DEFAULT_TYPE()


def test_the_handlers_own_fields_are_left_alone():
    message = metadata.DEFAULT_TYPE()
    message.details.Pack(empty_pb2.Empty())
    message.partial_failures.add(code=5)
    before = metadata.DEFAULT_TYPE.FromString(message.SerializeToString())
    metadata.fill(message, FILLED)
    assert (message.details, message.partial_failures) == (before.details, before.partial_failures)


def test_what_stands_in_a_conventional_field_is_overwritten():
    message = metadata.DEFAULT_TYPE(target="mine", progress_percent=99, create_time=time(1))
    message.batch_create_instances_metadata.instance_targets.append("mine")
    metadata.fill(message, FILLED)
    expected = metadata.DEFAULT_TYPE()
    metadata.fill(expected, FILLED)
    assert message == expected


def test_what_stands_in_a_conventional_field_is_taken_away_if_the_value_is_unset():
    """An end time before the end, or a cancel that nobody asked for, would be a lie."""
    message = metadata.DEFAULT_TYPE(
        end_time=time(1), cancel_requested=True, progress_percent=99, start_time=time(1)
    )
    message.batch_create_instances_metadata.instance_targets.append("mine")
    metadata.fill(message, UNSET)
    assert message == metadata.DEFAULT_TYPE()


# Types of other services.


def test_a_type_with_a_few_of_the_fields_gets_those():
    message = made(verb=STRING, progress_percent=INT64, end_time=TIME, own=STRING)
    metadata.fill(message, FILLED)
    assert {field.name: value for field, value in message.ListFields()} == {
        "verb": "create",
        "progress_percent": 42,
        "end_time": time(FILLED.end_time),
    }


def test_both_house_styles_are_known():
    message = made(status_message=STRING, requested_cancellation=BOOL)
    metadata.fill(message, FILLED)
    assert (message.status_message, message.requested_cancellation) == ("text", True)


@pytest.mark.parametrize("number", [INT32, INT64, UINT32], ids=["int32", "int64", "uint32"])
def test_numbers_may_be_of_any_width(number):
    message = made(progress_percent=number, attempt=number)
    metadata.fill(message, FILLED)
    assert (message.progress_percent, message.attempt) == (42, 3)


def test_a_state_and_a_batch_of_this_schema_are_filled():
    message = made(state=STATE, batch_create_instances_metadata=BATCH_FIELD)
    metadata.fill(message, FILLED)
    assert message.state == RUNNING
    assert message.batch_create_instances_metadata == BATCH


WRONG = {
    "create_time": [STRING, INT64, many(TIME), BATCH_FIELD],
    "start_time": [STRING, many(TIME)],
    "update_time": [INT64],
    "end_time": [DOUBLE, BYTES],
    "target": [BYTES, many(STRING), BOOL, TIME],
    "verb": [INT32, OTHER_ENUM],
    "status_detail": [many(STRING), BYTES],
    "status_message": [BOOL],
    "cancel_requested": [STRING, INT32, TIME, many(BOOL)],
    "requested_cancellation": [STRING],
    "api_version": [INT32],
    "progress_percent": [STRING, BOOL, DOUBLE, many(INT32)],
    "state": [STRING, INT32, OTHER_ENUM, many(STATE)],
    "attempt": [STRING, many(INT32)],
    "batch_create_instances_metadata": [STRING, TIME, many(BATCH_FIELD)],
}


@pytest.mark.parametrize(
    ("name", "field"), [(name, field) for name, wrong in WRONG.items() for field in wrong], ids=str
)
def test_a_field_of_another_type_is_the_handlers(name, field):
    message = made(**{name: field, "verb" if name != "verb" else "target": STRING})
    metadata.fill(message, FILLED)
    assert [descriptor.name for descriptor, _ in message.ListFields()] == [
        "verb" if name != "verb" else "target"
    ]


VENDOR_BATCH = """
message_type {
  name: "Batch"
  field { name: "instance_targets" number: 1 type: TYPE_STRING label: LABEL_REPEATED }
  field {
    name: "instance_statuses" number: 2 type: TYPE_MESSAGE label: LABEL_REPEATED
    type_name: "Batch.InstanceStatusesEntry"
  }
  field { name: "later" number: 3 type: TYPE_STRING label: LABEL_OPTIONAL }
  nested_type {
    name: "InstanceStatusesEntry"
    field { name: "key" number: 1 type: TYPE_STRING label: LABEL_OPTIONAL }
    field { name: "value" number: 2 type: TYPE_MESSAGE label: LABEL_OPTIONAL type_name: "Status" }
    options { map_entry: true }
  }
}
message_type {
  name: "Status"
  field { name: "error" number: 4 type: TYPE_MESSAGE label: LABEL_OPTIONAL
          type_name: "google.rpc.Status" }
  field { name: "state" number: 1 type: TYPE_ENUM label: LABEL_OPTIONAL type_name: "State" }
  field { name: "error_msg" number: 2 type: TYPE_STRING label: LABEL_OPTIONAL }
  field { name: "type_" number: 3 type: TYPE_ENUM label: LABEL_OPTIONAL type_name: "Type" }
}
enum_type {
  name: "State"
  value { name: "STATE_UNSPECIFIED" number: 0 } value { name: "PENDING_CREATE" number: 1 }
  value { name: "READY" number: 2 } value { name: "CREATING" number: 3 }
  value { name: "DELETING" number: 4 } value { name: "FAILED" number: 5 }
  value { name: "ROLLED_BACK" number: 6 } value { name: "LATER" number: 7 }
}
enum_type {
  name: "Type"
  value { name: "INSTANCE_TYPE_UNSPECIFIED" number: 0 } value { name: "PRIMARY" number: 1 }
  value { name: "READ_POOL" number: 2 } value { name: "SECONDARY" number: 3 }
}
message_type {
  name: "Progress"
  field { name: "batch_create_instances_metadata" number: 1 type: TYPE_MESSAGE
          label: LABEL_OPTIONAL type_name: "Batch" }
}
"""
"""What a vendor has in place of our batch: in another order, with more of it, and as proto-plus
declares it, which puts an underscore behind the name ``type``."""


def of_a_vendor(text: str, syntax: str = "proto3") -> Message:
    global _made
    _made += 1
    package = f"test_metadata_{_made}"
    file = text_format.Parse(text, descriptor_pb2.FileDescriptorProto())
    file.name, file.package, file.syntax = f"{package}.proto", package, syntax
    file.dependency.extend(["google/rpc/status.proto", "lro/v1/batch_create_instances.proto"])
    descriptor_pool.Default().Add(file)
    return metadata.message_class(f"{package}.Progress")()


def test_a_batch_that_reads_as_ours_is_filled():
    message: Any = of_a_vendor(VENDOR_BATCH)
    metadata.fill(message, FILLED)
    batch = message.batch_create_instances_metadata
    assert batch.SerializeToString(deterministic=True) == BATCH.SerializeToString(
        deterministic=True
    )
    assert {name: one.state for name, one in batch.instance_statuses.items()} == {"a": 2, "b": 3}


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("1 type: TYPE_STRING label: LABEL_REPEATED", "1 type: TYPE_BYTES label: LABEL_REPEATED"),
        ("1 type: TYPE_STRING label: LABEL_REPEATED", "4 type: TYPE_STRING label: LABEL_REPEATED"),
        ('"instance_targets"', '"targets"'),
        ('2 type: TYPE_MESSAGE label: LABEL_OPTIONAL type_name: "Status"', "2 type: TYPE_STRING"),
        ('"error_msg" number: 2', '"error_msg" number: 5'),
        ('value { name: "READY" number: 2 }', 'value { name: "ACTIVE" number: 2 }'),
        ('value { name: "PRIMARY" number: 1 }', 'value { name: "PRIMARY" number: 4 }'),
    ],
    ids=[
        "another type",
        "another number",
        "another name",
        "no message for each target",
        "another number further in",
        "another state",
        "another number of a state",
    ],
)
def test_a_batch_that_does_not_read_as_ours_is_the_handlers(ours: str, theirs: str):
    assert VENDOR_BATCH.count(ours) == 1
    message = of_a_vendor(VENDOR_BATCH.replace(ours, theirs))
    metadata.fill(message, FILLED)
    assert message.ListFields() == []


def test_a_message_without_any_of_the_fields_stays_as_it_is():
    message = empty_pb2.Empty()
    metadata.fill(message, FILLED)
    assert message == empty_pb2.Empty()


# The vendors' own types.


@pytest.mark.vendors
def test_the_common_metadata_of_google_cloud_is_filled():
    common = pytest.importorskip("google.cloud.common.types")
    message = common.OperationMetadata.pb()()
    metadata.fill(message, FILLED)
    assert {field.name: value for field, value in message.ListFields()} == {
        "create_time": time(FILLED.create_time),
        "end_time": time(FILLED.end_time),
        "target": "projects/p/things/t",
        "verb": "create",
        "status_detail": "text",
        "cancel_requested": True,
        "api_version": "v1",
    }
    ours = metadata.DEFAULT_TYPE()
    metadata.fill(ours, FILLED)
    assert ours.SerializeToString().startswith(message.SerializeToString())


@pytest.mark.vendors
def test_the_metadata_of_alloydb_is_filled_batch_included():
    alloydb = pytest.importorskip("google.cloud.alloydb_v1.types")
    message = alloydb.OperationMetadata.pb()()
    metadata.fill(message, FILLED)
    assert message.status_message == "text"
    assert message.requested_cancellation is True
    assert message.WhichOneof("request_specific") == "batch_create_instances_metadata"
    batch = message.batch_create_instances_metadata
    assert list(batch.instance_targets) == ["a", "b"]
    assert {name: one.state for name, one in batch.instance_statuses.items()} == {"a": 2, "b": 3}


@pytest.mark.vendors
def test_a_job_state_of_aiplatform_is_known_by_its_values():
    """``CustomJob`` has the states of ``JobState``, under a name of its own."""
    aiplatform = pytest.importorskip("google.cloud.aiplatform_v1.types")
    message = aiplatform.CustomJob.pb()()
    metadata.fill(message, FILLED)
    assert message.state == RUNNING
    assert message.create_time == time(FILLED.create_time)


# New messages, which are put together of serialized fields.

KINDS = {
    "the default": metadata.DEFAULT_TYPE,
    "none of the fields": empty_pb2.Empty,
    "one of them": type(made(verb=STRING)),
    "numbers of any width": type(made(progress_percent=INT64, attempt=UINT32, own=STRING)),
    "two names of one value": type(made(status_message=STRING, status_detail=STRING)),
    "our own states and batch": type(
        made(batch_create_instances_metadata=BATCH_FIELD, state=STATE, end_time=TIME)
    ),
    "high numbers": type(made(**{f"own_{one}": STRING for one in range(20)}, target=STRING)),
}
SOME = [
    UNSET,
    FILLED,
    *(UNSET._replace(**{name: getattr(FILLED, name)}) for name in CONVENTIONAL),
    FILLED._replace(target="\N{SNOWMAN}" * 100, status_detail="x" * 70_000),
    FILLED._replace(create_time=1, update_time=999_999, end_time=253402300799_999_999),
]


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_a_new_message_has_the_fields_and_bytes_that_protobuf_writes(kind):
    for record in SOME:
        message = kind()
        metadata.fill(message, record)
        written = metadata.filled(kind, record)
        assert kind.FromString(written) == message
        assert sorted(written) == sorted(message.SerializeToString())  # in any order, as of a map


DELIMITED = """
message_type {
  name: "Progress"
  field { name: "verb" number: 1 type: TYPE_STRING label: LABEL_OPTIONAL }
  field {
    name: "batch_create_instances_metadata" number: 2 type: TYPE_GROUP label: LABEL_OPTIONAL
    type_name: ".lro.v1.BatchCreateInstancesMetadata"
  }
}
"""


def test_a_new_message_with_a_field_that_stands_between_tags_is_written_by_protobuf():
    message = of_a_vendor(DELIMITED, syntax="proto2")
    metadata.fill(message, FILLED)
    assert type(message).FromString(metadata.filled(type(message), FILLED)) == message


REQUIRED = """
message_type {
  name: "Progress"
  field { name: "verb" number: 1 type: TYPE_STRING label: LABEL_OPTIONAL }
  field { name: "own" number: 2 type: TYPE_STRING label: LABEL_REQUIRED }
}
"""


def test_a_new_message_without_a_field_that_it_must_have_is_refused():
    with pytest.raises(EncodeError):
        metadata.filled(type(of_a_vendor(REQUIRED, syntax="proto2")), FILLED)


# Classes and Anys.


def test_a_class_is_found_by_its_full_name():
    assert metadata.message_class("lro.v1.OperationMetadata") is metadata.DEFAULT_TYPE


@pytest.mark.parametrize("name", ["no.such.Type", "", "lro.v1.JobState", "lro.v1"])
def test_a_name_of_no_known_message_says_what_to_import(name):
    with pytest.raises(ConfigurationError, match="_pb2") as caught:
        metadata.message_class(name)
    assert caught.value.metadata == {"type": name}


def test_a_packed_message_is_the_any_that_protobuf_itself_makes():
    message = operation_metadata_pb2.OperationMetadata(verb="create")
    expected = any_pb2.Any()
    expected.Pack(message)
    assert _anys.pack(message) == expected
    empty = _anys.pack(empty_pb2.Empty())
    assert empty.Is(empty_pb2.Empty.DESCRIPTOR)


def test_times_keep_their_microseconds():
    message = metadata.DEFAULT_TYPE()
    metadata.fill(message, FILLED._replace(create_time=1, end_time=253402300799_999_999))
    assert message.create_time == time(1)
    assert message.end_time.ToMicroseconds() == 253402300799_999_999
