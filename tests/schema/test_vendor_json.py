"""The schema against the forms that vendors publish as JSON alone.

The vendors' packages are imported by the fixtures, so that this file can be collected without
them.
"""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

import pytest
from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from lro.v1 import deployment_operation_pb2, operation_status_pb2

pytestmark = pytest.mark.vendors

STATUS_VALUES = [
    {"status": "notstarted", "createdTime": "2018-12-25T11:41:02.233141Z"},
    {
        "status": "running",
        "createdTime": "2018-12-25T11:41:02.233141Z",
        "lastActionTime": "2018-12-25T11:51:27.870569Z",
    },
    {
        "status": "succeeded",
        "createdTime": "2018-12-25T11:41:02.233141Z",
        "lastActionTime": "2018-12-25T11:51:27.870569Z",
        "resourceLocation": "/snapshots/e58b3f08-1e8b-4165-81df-aa9858f233dc",
    },
    {
        "status": "failed",
        "createdTime": "2018-12-25T11:41:02.233141Z",
        "lastActionTime": "2018-12-25T11:51:27.870569Z",
        "message": "the source object was changed",
    },
]

# The JSON types of discovery documents, as (type, format).
SCALARS = {
    FieldDescriptor.TYPE_STRING: ("string", None),
    FieldDescriptor.TYPE_ENUM: ("string", None),
    FieldDescriptor.TYPE_UINT64: ("string", "uint64"),
    FieldDescriptor.TYPE_INT32: ("integer", "int32"),
    FieldDescriptor.TYPE_DOUBLE: ("number", "double"),
}


@pytest.fixture(scope="module")
def face() -> Any:
    from azure.cognitiveservices.vision.face import models

    return models


@pytest.fixture(scope="module")
def discovery() -> dict[str, Any]:
    documents = resources.files("googleapiclient.discovery_cache") / "documents"
    text = (documents / "deploymentmanager.v2.json").read_text(encoding="utf-8")
    schemas: dict[str, Any] = json.loads(text)["schemas"]
    return schemas


@pytest.mark.parametrize("value", STATUS_VALUES, ids=lambda value: value["status"])
def test_operation_status_is_read_and_written_by_azure(face: Any, value: dict[str, str]) -> None:
    ours = json_format.ParseDict(value, operation_status_pb2.OperationStatus())
    theirs = face.OperationStatus.deserialize(json.loads(json_format.MessageToJson(ours)))
    assert theirs.status is face.OperationStatusType(value["status"])
    assert theirs.created_time.isoformat() == "2018-12-25T11:41:02.233141+00:00"
    assert theirs.resource_location == value.get("resourceLocation")
    assert theirs.message == value.get("message")
    assert not theirs.additional_properties
    assert theirs.serialize() == json_format.MessageToDict(ours) == value


def test_operation_status_has_the_keys_and_words_of_azure(face: Any) -> None:
    attributes = face.OperationStatus._attribute_map
    fields = operation_status_pb2.OperationStatus.DESCRIPTOR.fields
    assert [field.json_name for field in fields] == [a["key"] for a in attributes.values()]
    zero, *words = operation_status_pb2.OperationStatusType.keys()
    assert zero == "OPERATION_STATUS_TYPE_UNSPECIFIED"
    assert words == [word.value for word in face.OperationStatusType]


def test_deployment_operation_has_the_fields_of_the_discovery_document(
    discovery: dict[str, Any],
) -> None:
    operation = {
        **discovery["Operation"],
        "properties": {
            name: schema
            for name, schema in discovery["Operation"]["properties"].items()
            if not name.endswith("OperationMetadata")  # belong to Compute Engine alone
        },
    }
    descriptor = deployment_operation_pb2.DeploymentOperation.DESCRIPTOR
    assert message_differences(descriptor, operation, discovery) == []


def message_differences(
    message: Descriptor, schema: dict[str, Any], schemas: dict[str, Any]
) -> list[str]:
    """Lists what differs between a message and the JSON schema of the same object."""
    fields = {field.json_name: field for field in message.fields}
    properties = schema["properties"]
    found = [f"{message.name}.{name}" for name in fields.keys() ^ properties.keys()]
    for name in fields.keys() & properties.keys():
        found += field_differences(fields[name], properties[name], schemas)
    return sorted(found)


def field_differences(
    field: FieldDescriptor, schema: dict[str, Any], schemas: dict[str, Any]
) -> list[str]:
    if "$ref" in schema:
        schema = schemas[schema["$ref"]]
    message = field.message_type
    if message is not None and message.GetOptions().map_entry:
        value = message.fields_by_name["value"]
        item = schema["additionalProperties"]
        key_is_text = message.fields_by_name["key"].type == FieldDescriptor.TYPE_STRING
        same = key_is_text and schema["type"] == "object"
        return field_differences(value, item, schemas) if same else [field.full_name]
    if (schema["type"] == "array") != field.is_repeated:
        return [field.full_name]
    if field.is_repeated:
        item = schema["items"]
        schema = schemas[item["$ref"]] if "$ref" in item else item
    if message is not None and message.full_name == "google.protobuf.Value":
        return [] if schema["type"] == "any" else [field.full_name]
    if message is not None:
        return message_differences(message, schema, schemas)
    found = []
    if SCALARS[field.type] != (schema["type"], schema.get("format")):
        found.append(field.full_name)
    if field.enum_type is not None:
        zero, *words = [value.name for value in field.enum_type.values]
        if schema["enum"] not in (words, [zero, *words]) or not zero.endswith("_UNSPECIFIED"):
            found.append(field.enum_type.full_name)
    return found
