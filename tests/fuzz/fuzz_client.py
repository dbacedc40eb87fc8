"""A client, whatever its server answers."""

from __future__ import annotations

import json
import pickle
from typing import Any

import grpc
from fuzz_messages import JSON_WORDS, OPERATIONS, TYPE_WORDS
from google.longrunning import operations_pb2
from google.protobuf import descriptor_pb2, duration_pb2, struct_pb2
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2
from target import target, text_of

from lro.v1 import operation_metadata_pb2
from lro_grpc import _anys
from lro_grpc._client import payloads
from lro_grpc._client.connection import _poll_after
from lro_grpc._client.update import update_of
from lro_grpc._dialects.view import OperationView
from lro_grpc._errors import Code, LroError, from_status, to_status
from lro_grpc._http.responses import poll_headers
from lro_grpc._inspection.message_types import MessageTypes
from lro_grpc._inspection.summary import read_summary
from lro_grpc._wire import headers
from lro_grpc._wire.rpc_errors import from_rpc_error

DECLARED: tuple[type[Message] | None, ...] = (
    None,
    struct_pb2.Struct,
    operation_metadata_pb2.OperationMetadata,
)


@target(*OPERATIONS, words=TYPE_WORDS)
def operation_of_a_server(data: bytes) -> None:
    try:
        operation = operations_pb2.Operation.FromString(data)
    except DecodeError:
        return
    for declared in DECLARED:
        for read in (
            lambda declared=declared: update_of(operation, declared),
            lambda declared=declared: payloads.outcome(operation, declared),
            lambda: OperationView.of_operation(operation),
        ):
            try:
                repr(read())
            except LroError as error:
                shown_everywhere(error)
    repr(read_summary(operation, _anys.unpack(operation.metadata)))


def shown_everywhere(error: LroError) -> None:
    """An error has a text, goes over the wire, and to another process."""
    assert isinstance(f"{error} {error!r}", str)
    status = to_status(error)
    assert status.code
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), again.code, again.message) == (type(error), error.code, error.message)


class FailedCall(grpc.RpcError):
    """An RPC that has ended with a code, a text and trailers."""

    def __init__(self, code: grpc.StatusCode, trailers: Any) -> None:
        self._code = code
        self._trailers = trailers

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return "it did not work"

    def trailing_metadata(self) -> Any:
        return self._trailers


def status(*details: Message, code: int = 5) -> bytes:
    found = status_pb2.Status(code=code, message="m")
    for one in details:
        found.details.add().Pack(one)
    return found.SerializeToString()


@target(
    status(error_details_pb2.ErrorInfo(reason="INVALID_FILTER", domain="lro-grpc"), code=3),
    status(error_details_pb2.ErrorInfo(reason="LIMIT_REACHED", domain="lro-grpc"), code=8),
    status(
        error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(seconds=2)),
        error_details_pb2.QuotaFailure(),
        code=14,
    ),
    words=(*TYPE_WORDS, "google.rpc.ErrorInfo", "google.rpc.RetryInfo", "lro-grpc"),
)
def error_of_a_server(data: bytes) -> None:
    for code in grpc.StatusCode:
        if code is grpc.StatusCode.OK:
            continue
        for trailers in (None, ((headers.STATUS_DETAILS, data), ("retry-after", text_of(data)))):
            found = from_rpc_error(FailedCall(code, trailers))
            assert found.code.name == code.name
            assert to_status(found).code == found.code
    try:
        parsed = status_pb2.Status.FromString(data)
    except DecodeError:
        return
    shown_everywhere(from_status(parsed))


@target("500", "0", "99999999999999999999", words=["0", "-", "."])
def poll_after(data: bytes) -> None:
    for value in (data, text_of(data), data.decode("latin-1")):
        found = _poll_after([(headers.POLL_AFTER, value)])
        assert found is None or 0 <= found < 1e9 + 1
        if found is not None:
            (seconds,) = poll_headers([(headers.POLL_AFTER, str(value))]).values()
            assert int(seconds) >= max(found, 1)


def file_set(*files: descriptor_pb2.FileDescriptorProto) -> bytes:
    return descriptor_pb2.FileDescriptorSet(file=files).SerializeToString()


FILE = descriptor_pb2.FileDescriptorProto(
    name="fuzz.proto", package="fuzz", syntax="proto3", dependency=["other.proto"]
)
FILE.message_type.add(name="M").field.add(
    name="o", number=1, type=11, label=1, type_name=".fuzz.Other"
)
OTHER = descriptor_pb2.FileDescriptorProto(name="other.proto", package="fuzz", syntax="proto3")
OTHER.message_type.add(name="Other").field.add(name="text", number=1, type=9, label=1)


class HostileReflection:
    """Answers each request with the files of an input."""

    def __init__(self, files: descriptor_pb2.FileDescriptorSet) -> None:
        self._files = files
        self.calls = 0

    def perform(self, call: Any) -> Any:
        from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionResponse

        self.calls += 1
        wanted = call.request.file_by_filename
        found = [one for one in self._files.file if not wanted or one.name == wanted]
        answer = ServerReflectionResponse()
        answer.file_descriptor_response.file_descriptor_proto.extend(
            one.SerializeToString() for one in found
        )
        return answer


@target(
    file_set(FILE, OTHER),
    file_set(OTHER, OTHER, FILE),
    words=["fuzz.proto", "other.proto", ".fuzz.M", "proto2", "editions", "\x1b[2J"],
)
def types_of_a_server(data: bytes) -> None:
    try:
        files = descriptor_pb2.FileDescriptorSet.FromString(data)
    except DecodeError:
        return
    notes: list[str] = []
    reflection: Any = HostileReflection(files)
    types = MessageTypes(reflection, notes.append)
    operation = operations_pb2.Operation(name="operations/a")
    operation.metadata.type_url = "type.googleapis.com/fuzz.M"
    operation.metadata.value = b"\n\x03\n\x01x"
    try:
        json.dumps(types.to_dict(operation))
    except LroError as error:
        shown_everywhere(error)
    read_summary(operation, types.unpack(operation.metadata))


@target(
    '{"error": {"code": 404, "message": "m", "status": "NOT_FOUND", "details": []}}',
    '{"error": {"message": 5, "details": [{"@type": "type.googleapis.com/google.rpc.ErrorInfo",'
    ' "reason": "R", "domain": "d", "metadata": {"a": "b"}}, {"@type": "x"}, {}, 5, "a", null]}}',
    '{"error": {"details": "text"}}',
    words=(*JSON_WORDS, '"details":', '"reason":', "google.rpc.ErrorInfo", '"code":'),
)
def error_of_a_rest_server(data: bytes) -> None:
    import requests
    from google.api_core import exceptions

    from lro_grpc._compat.api_errors import from_api_error

    for http_status in (400, 404, 503):
        response = requests.Response()
        response.status_code = http_status
        response._content = data
        response.encoding = "utf-8"
        response.request = requests.Request("GET", "http://127.0.0.1/x").prepare()
        try:
            raised = exceptions.from_http_response(response)
        except Exception as stumbled:  # noqa: BLE001 - of google-api-core itself
            raised = stumbled
        found = from_api_error(raised)
        assert found.code is not Code.UNKNOWN
        shown_everywhere(found)
