"""JSON to messages, messages to JSON, and the dialects in between."""

from __future__ import annotations

import json
from typing import Any

from google.api import http_pb2
from google.longrunning import operations_pb2
from google.protobuf import any_pb2, empty_pb2, json_format, struct_pb2
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2
from target import target

from lro.example.v1 import fleet_service_pb2
from lro.v1 import deployment_operation_pb2, operation_metadata_pb2, operation_status_pb2, state_pb2
from lro_grpc._dialects import azure_face, canonical_json, deployment_manager, vertex_ai
from lro_grpc._dialects.registry import DIALECTS
from lro_grpc._dialects.registry import to_json as in_dialect
from lro_grpc._errors import InvalidArgumentError, LroError, MalformedRequestError, to_status
from lro_grpc._http import transcoding
from lro_grpc._http.responses import dumped

KINDS: tuple[type[Message], ...] = (
    struct_pb2.Struct,
    any_pb2.Any,
    fleet_service_pb2.CreateInstanceRequest,
    operation_metadata_pb2.OperationMetadata,
    operations_pb2.Operation,
    operations_pb2.WaitOperationRequest,
)
JSON_WORDS = (
    *("{", "}", "[", "]", '"', ":", ",", "null", "true", "1e999", "-0", "NaN", '"NaN"', "\\ud800"),
    *(
        '"@type":',
        '"type.googleapis.com/',
        "google.protobuf.",
        "Any",
        "Struct",
        "Duration",
        "value",
    ),
    *('"2026-01-01T00:00:00Z"', '"1.5s"', '"name":', '"metadata":', '"response":', '"error":'),
    *("google.protobuf.Value", "FieldMask", "ListValue", "DoubleValue", "Timestamp", "Empty"),
)


def packed(message: Message) -> any_pb2.Any:
    found = any_pb2.Any()
    found.Pack(message)
    return found


def operation() -> operations_pb2.Operation:
    """An operation that has a little of everything."""
    metadata = operation_metadata_pb2.OperationMetadata(
        target="projects/p/locations/l/instances/i",
        verb="create",
        status_detail="copying",
        state=state_pb2.JOB_STATE_FAILED,
        progress_percent=70,
        partial_failures=[status_pb2.Status(code=5, message="gone")],
    )
    metadata.create_time.FromJsonString("2026-01-01T00:00:00Z")
    metadata.end_time.FromJsonString("2026-01-01T00:00:01.5Z")
    batch = metadata.batch_create_instances_metadata
    batch.instance_targets.append("projects/p/locations/l/instances/i")
    batch.instance_statuses["projects/p/locations/l/instances/i"].state = 4
    info = error_details_pb2.ErrorInfo(reason="NO_DISK", domain="fleet", metadata={"a": "b"})
    return operations_pb2.Operation(
        name="projects/p/locations/l/operations/op-1",
        done=True,
        metadata=packed(metadata),
        error=status_pb2.Status(code=5, message="no such disk", details=[packed(info)]),
    )


def response(message: Message) -> bytes:
    done = operations_pb2.Operation(name="operations/a", done=True, response=packed(message))
    return done.SerializeToString()


STRUCT = struct_pb2.Struct()
STRUCT.update({"a": [1, None, {"b": "c"}]})
OPERATIONS = (
    operation().SerializeToString(),
    response(empty_pb2.Empty()),
    response(STRUCT),
    response(packed(STRUCT)),
    response(struct_pb2.Value(number_value=0.5)),
)
TYPE_WORDS = (
    *("type.googleapis.com/google.protobuf.Struct", "type.googleapis.com/google.protobuf.Any"),
    *("type.googleapis.com/lro.v1.OperationMetadata", "type.googleapis.com/google.rpc.Status"),
    *("type.googleapis.com/google.protobuf.Duration", "type.googleapis.com/no.such.Type"),
    *("type.googleapis.com/google.protobuf.FieldMask", "google.protobuf.Timestamp", "/"),
)


@target(
    *('{"a": [1, null, {"b": "c"}]}', '{"parent": "p", "instance": {"name": "x"}}'),
    '{"@type": "type.googleapis.com/google.protobuf.Duration", "value": "1.5s"}',
    '{"name": "operations/a", "done": true, "error": {"code": 5, "details": []}}',
    '{"createTime": "2026-01-01T00:00:00Z", "progressPercent": 5, "state": "JOB_STATE_QUEUED"}',
    words=JSON_WORDS,
)
def request_body(data: bytes) -> None:
    for kind in KINDS:
        (binding,) = transcoding.bindings(http_pb2.HttpRule(post="/v1/x", body="*"), kind)
        try:
            message = binding.message({}, (), data)
        except MalformedRequestError as error:
            assert len(to_status(error).message) < 1000, error
            continue
        if not data:
            continue
        shown = as_json(message)
        again = json_format.ParseDict(json.loads(shown), kind())
        assert again.SerializeToString(deterministic=True) == (
            message.SerializeToString(deterministic=True)
        )


def as_json(message: Message) -> bytes:
    """The JSON of a message, which there always is."""
    shown = dumped(canonical_json.to_json(message))
    json.loads(shown.decode())
    return shown


@target(*OPERATIONS, words=TYPE_WORDS)
def served_json(data: bytes) -> None:
    for kind in (operations_pb2.Operation, status_pb2.Status, struct_pb2.Struct, any_pb2.Any):
        try:
            message = kind.FromString(data)
        except DecodeError:
            continue
        as_json(message)


@target(*OPERATIONS, words=TYPE_WORDS)
def operation_in_dialects(data: bytes) -> None:
    try:
        message = operations_pb2.Operation.FromString(data)
    except DecodeError:
        return
    for dialect in DIALECTS:
        try:
            dumped(in_dialect(message, dialect))
        except LroError as error:
            to_status(error)


@target(
    '{"name": "projects/p/locations/l/jobs/a", "state": "JOB_STATE_FAILED", "error": {"code": 3}}',
    '{"status": "SUCCEEDED", "createdTime": "2018-12-25T11:41:02.2331410Z", "message": "m"}',
    '{"name": "op", "status": "DONE", "insertTime": "2019-04-29T18:08:32.190000+00:00", "warnings":'
    ' [{"code": "PARTIAL_SUCCESS", "data": [{"key": "code", "value": "5"}]}],'
    ' "error": {"errors": [{"code": "NOT_FOUND"}]}}',
    words=(*JSON_WORDS, '"status":', '"DONE"', "JOB_STATE_", '"endTime":', '"data":'),
)
def dialect_json(data: bytes) -> None:
    """An operation of a vendor's server, as a client of it reads it."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return
    if not isinstance(value, dict):
        return
    try:
        shows_again(vertex_ai.to_operation(value))
    except InvalidArgumentError as error:
        to_status(error)
    kinds: Any = (
        (azure_face, operation_status_pb2.OperationStatus),
        (deployment_manager, deployment_operation_pb2.DeploymentOperation),
    )
    for dialect, kind in kinds:
        message = kind()
        try:
            canonical_json.parse(value, message, lenient=True)
        except ValueError:
            continue
        try:
            shows_again(dialect.to_operation(message))
        except InvalidArgumentError as error:
            to_status(error)


def shows_again(message: operations_pb2.Operation) -> None:
    for dialect in DIALECTS:
        try:
            dumped(in_dialect(message, dialect))
        except LroError as error:
            to_status(error)
