"""What the AIPs ask of every proto, asked of those in this package."""

from __future__ import annotations

import re

import pytest
from google.api import (
    annotations_pb2,
    client_pb2,
    field_behavior_pb2,
    field_info_pb2,
    resource_pb2,
)
from google.longrunning import operations_pb2
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import (
    Descriptor,
    EnumDescriptor,
    FieldDescriptor,
    FileDescriptor,
    MethodDescriptor,
)
from test_golden import schema_files

from lro.v1 import state_pb2

POOL = descriptor_pool.Default()
EMPTY = "google.protobuf.Empty"
OUTPUT_ONLY = field_behavior_pb2.OUTPUT_ONLY

FILES: list[FileDescriptor] = [POOL.FindFileByName(file.name) for file in schema_files()]
METHODS: list[MethodDescriptor] = [
    method
    for file in FILES
    for service in file.services_by_name.values()
    for method in service.methods
]
LONG_RUNNING = [m for m in METHODS if m.output_type == operations_pb2.Operation.DESCRIPTOR]
MESSAGES: list[Descriptor] = [
    message for file in FILES for message in file.message_types_by_name.values()
]
ENUMS: list[EnumDescriptor] = [
    *(enum for file in FILES for enum in file.enum_types_by_name.values()),
    *(enum for message in MESSAGES for enum in message.enum_types),
]

long_running = pytest.mark.parametrize("method", LONG_RUNNING, ids=lambda m: m.name)
enums = pytest.mark.parametrize("enum", ENUMS, ids=lambda e: e.full_name)


def info_of(method: MethodDescriptor) -> operations_pb2.OperationInfo:
    return method.GetOptions().Extensions[operations_pb2.operation_info]


def resolved(method: MethodDescriptor, name: str) -> Descriptor:
    """Finds a type of ``operation_info``: one without a dot is of the method's own package."""
    package = method.containing_service.file.package
    return POOL.FindMessageTypeByName(name if "." in name else f"{package}.{name}")


def behaviours(field: FieldDescriptor) -> list[int]:
    return list(field.GetOptions().Extensions[field_behavior_pb2.field_behavior])


def test_there_are_long_running_methods_and_enums_to_look_at() -> None:
    assert len(LONG_RUNNING) >= 4
    assert len(ENUMS) >= 5


def test_the_operation_and_its_service_are_not_copied() -> None:
    """S1: they are Google's own, by import."""
    theirs = operations_pb2.DESCRIPTOR
    operation = set(operations_pb2.Operation.DESCRIPTOR.fields_by_name)
    copies = [m.full_name for m in MESSAGES if operation <= set(m.fields_by_name)]
    standard = {m.name for m in theirs.services_by_name["Operations"].methods}
    copies += [m.full_name for m in METHODS if m.name in standard]
    assert copies == []
    assert {m.output_type.file.name for m in LONG_RUNNING} == {theirs.name}


@long_running
def test_a_long_running_method_does_not_stream(method: MethodDescriptor) -> None:
    """S2."""
    assert not method.server_streaming
    assert not method.client_streaming


@long_running
def test_both_types_are_declared(method: MethodDescriptor) -> None:
    """D1, D7, P4."""
    assert info_of(method).response_type
    assert info_of(method).metadata_type


@long_running
def test_both_types_are_in_the_file_or_imported_by_it(method: MethodDescriptor) -> None:
    """D2: resolved here by full names, or by short ones in the method's own package."""
    file = method.containing_service.file
    seen = {file.name, *(imported.name for imported in file.dependencies)}
    for name in (info_of(method).response_type, info_of(method).metadata_type):
        assert resolved(method, name).file.name in seen, name


@long_running
def test_only_a_delete_has_an_empty_response_and_no_metadata_is_empty(
    method: MethodDescriptor,
) -> None:
    """D3."""
    empty = resolved(method, info_of(method).response_type).full_name == EMPTY
    assert empty == method.name.startswith("Delete")
    assert resolved(method, info_of(method).metadata_type).full_name != EMPTY


@long_running
def test_the_response_is_that_of_the_same_method_without_an_operation(
    method: MethodDescriptor,
) -> None:
    """D4, P3: the resource for a create or an update, else a message of the method's own."""
    standard = re.fullmatch(r"(?:Create|Update|Undelete)(\w+)", method.name)
    expected = standard[1] if standard else f"{method.name}Response"
    if method.name.startswith("Delete"):
        expected = "Empty"
    assert resolved(method, info_of(method).response_type).name == expected


@long_running
def test_each_request_can_be_sent_twice(method: MethodDescriptor) -> None:
    """S22: ``request_id`` is optional, on the request, and a UUID."""
    field = method.input_type.fields_by_name["request_id"]
    assert field.type == FieldDescriptor.TYPE_STRING
    assert behaviours(field) == [field_behavior_pb2.OPTIONAL]
    info = field.GetOptions().Extensions[field_info_pb2.field_info]
    assert info.format == field_info_pb2.FieldInfo.UUID4


every_method = pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)


@every_method
def test_a_method_has_its_http_path(method: MethodDescriptor) -> None:
    """AIP-127; of a custom method, AIP-136, the path ends with its verb."""
    rule = method.GetOptions().Extensions[annotations_pb2.http]
    if method.client_streaming:
        assert method.server_streaming
        assert not method.GetOptions().HasExtension(annotations_pb2.http)
        return
    path = rule.get or rule.post or rule.delete
    assert path.startswith("/v1/{")
    if method.name == "SummarizeOperations":
        assert path == "/v1/{parent=**}:summarizeOperations"
    elif method.containing_service.name == "OperationControlService":
        assert path == f"/v1/{{name=**}}:{method.name.removesuffix('Operation').lower()}"
    assert bool(rule.post) == bool(rule.body)


@every_method
def test_a_method_answers_with_a_message_of_its_own_the_resource_or_an_operation(
    method: MethodDescriptor,
) -> None:
    """AIP-131 to 136: an Empty cannot grow."""
    answer = method.output_type
    is_resource = answer.GetOptions().HasExtension(resource_pb2.resource)
    assert answer.name == f"{method.name}Response" or method in LONG_RUNNING or is_resource


def test_a_control_method_of_an_operation_answers_with_it() -> None:
    """AIP-136: in a message, for a bare one would be that of a long-running method."""
    service = POOL.FindServiceByName("lro.v1.OperationControlService")
    of_one = [method for method in service.methods if "name" in method.input_type.fields_by_name]
    assert {m.name for m in service.methods} - {m.name for m in of_one} == {
        "SummarizeOperations",
        "WatchOperations",
    }
    for method in of_one:
        field, *others = method.output_type.fields
        assert bool(others) == (method.name == "DescribeOperation")
        assert (field.name, field.number) == ("operation", 1), method.name
        assert field.message_type == operations_pb2.Operation.DESCRIPTOR, method.name


@every_method
def test_a_method_has_a_signature_of_its_request(method: MethodDescriptor) -> None:
    """AIP-131 to 136: of a standard method, its required fields in the order of the AIP."""
    signatures = method.GetOptions().Extensions[client_pb2.method_signature]
    for signature in signatures:
        assert set(signature.split(",")) <= set(method.input_type.fields_by_name)
    standard = re.fullmatch(r"(Get|List|Create|Delete)[A-Z]\w*", method.name)
    if standard:
        assert list(signatures) == [
            {
                "Get": "name",
                "List": "parent",
                "Create": "parent,instance,instance_id",
                "Delete": "name",
            }[standard[1]]
        ]


def test_a_description_and_a_summary_are_output_alone() -> None:
    """AIP-203: nobody sends one."""
    for name in (
        *("DescribeOperationResponse", "OperationAttempt"),
        *("SummarizeOperationsResponse", "OperationCount"),
    ):
        for field in POOL.FindMessageTypeByName(f"lro.v1.{name}").fields:
            assert behaviours(field) == [OUTPUT_ONLY], field.full_name


def test_a_view_is_basic_unless_set() -> None:
    """AIP-157."""
    view = POOL.FindEnumTypeByName("lro.v1.OperationDescriptionView")
    assert [(one.name, one.number) for one in view.values] == [
        ("OPERATION_DESCRIPTION_VIEW_UNSPECIFIED", 0),
        ("OPERATION_DESCRIPTION_VIEW_BASIC", 1),
        ("OPERATION_DESCRIPTION_VIEW_FULL", 2),
    ]
    request = POOL.FindMessageTypeByName("lro.v1.DescribeOperationRequest")
    field = request.fields_by_name["view"]
    assert field.enum_type == view
    assert behaviours(field) == [field_behavior_pb2.OPTIONAL]


def test_no_resource_has_a_request_id() -> None:
    """S22."""
    resources = [m for m in MESSAGES if m.GetOptions().HasExtension(resource_pb2.resource)]
    assert resources
    assert [m.name for m in resources if "request_id" in m.fields_by_name] == []


@enums
def test_the_zero_value_says_nothing(enum: EnumDescriptor) -> None:
    """S28."""
    assert enum.values_by_number[0].name.endswith("_UNSPECIFIED")


def test_a_job_is_active_in_ing_and_rests_in_ed() -> None:
    """S28."""
    words = [value.name for value in state_pb2.JobState.DESCRIPTOR.values[1:]]
    resting = {word for word in words if word.endswith("ED")}
    assert resting == {
        f"JOB_STATE_{word}"
        for word in (
            *("QUEUED", "PAUSED", "SUCCEEDED", "PARTIALLY_SUCCEEDED"),
            *("FAILED", "CANCELLED", "EXPIRED"),
        )
    }
    assert all(word.endswith("ING") for word in set(words) - resting)


def test_a_state_is_output_only() -> None:
    """S28: wherever a field is of a state enum. ``StateRule`` is an option, which is no output."""
    states = [
        field
        for message in MESSAGES
        for field in message.fields
        if field.enum_type is not None and field.enum_type.name.endswith("State")
    ]
    assert {field.full_name for field in states} == {
        "lro.example.v1.Instance.state",
        "lro.v1.BatchCreateInstanceStatus.state",
        "lro.v1.CompletionDelivery.state",
        "lro.v1.CompletionEvent.state",
        "lro.v1.OperationCount.state",
        "lro.v1.OperationMetadata.state",
        "lro.v1.StateRule.represents",
    }
    for field in states:
        expected = [] if field.containing_type.name == "StateRule" else [OUTPUT_ONLY]
        assert behaviours(field) == expected, field.full_name
