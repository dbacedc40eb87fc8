"""Dialect 5: ``google.longrunning.Operation`` with the conventional metadata.

Everything but what only the server knows is in it. The ``metadata`` of a record's operation is of
its method's own type; that of an operation made of another form is a
``lro.v1.OperationMetadata``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.longrunning import operations_pb2
from google.rpc import status_pb2

from lro.v1 import operation_metadata_pb2
from lro_grpc import _anys
from lro_grpc._dialects import canonical_json, http_status
from lro_grpc._dialects.view import OperationView
from lro_grpc._operation import metadata
from lro_grpc._operation.record import Record

LOST: Mapping[str, str] = {
    "method": "not told",
    "caller": "not told",
    "request_id": "not told",
}
"""The view that do not come back from this form, and what becomes of them."""


def from_view(view: OperationView) -> operations_pb2.Operation:
    """Returns the operation, its metadata a ``lro.v1.OperationMetadata``."""
    told = operation_metadata_pb2.OperationMetadata(partial_failures=view.partial_failures)
    metadata.fill(told, view, clear=False)
    operation = operations_pb2.Operation(
        name=view.name, done=view.done, error=view.error, response=view.response
    )
    operation.metadata.CopyFrom(_anys.pack(told))
    return operation


def from_record(record: Record) -> operations_pb2.Operation:
    """Returns the operation as Get answers with it, its metadata of the method's own type."""
    return operations_pb2.Operation.FromString(record.operation)


def to_operation(operation: operations_pb2.Operation) -> operations_pb2.Operation:
    """Returns the operation as it is: this is the form that the others lead back to."""
    return operation


def to_json(operation: operations_pb2.Operation) -> dict[str, Any]:
    """Returns the operation as JSON."""
    return canonical_json.to_json(operation)


def error_body(error: status_pb2.Status) -> dict[str, Any]:
    """Returns the JSON of an HTTP response that refuses a call."""
    code = http_status.canonical(error.code)
    details = canonical_json.to_json(error).get("details")
    return {
        "error": {
            "code": http_status.OF_CODE[code],
            "message": error.message,
            "status": code.name,
            **({"details": details} if details else {}),
        }
    }
