"""``google.longrunning.Operation`` with the conventional metadata.

It carries everything but what only the server knows. Made from another dialect, its metadata is a
``lro.v1.OperationMetadata``.
"""

from __future__ import annotations

from typing import Any

from google.longrunning import operations_pb2
from google.rpc import status_pb2

from lro.v1 import operation_metadata_pb2
from lro_grpc import _anys
from lro_grpc._dialects import canonical_json, http_status
from lro_grpc._dialects.view import OperationView
from lro_grpc._operation import metadata

NAME: str = "longrunning"


def from_view(view: OperationView) -> operations_pb2.Operation:
    """Returns the operation, its metadata a ``lro.v1.OperationMetadata``."""
    conventional = operation_metadata_pb2.OperationMetadata(partial_failures=view.partial_failures)
    metadata.fill(conventional, view, clear=False)
    operation = operations_pb2.Operation(
        name=view.name, done=view.done, error=view.error, response=view.response
    )
    operation.metadata.CopyFrom(_anys.pack(conventional))
    return operation


def to_operation(operation: operations_pb2.Operation) -> operations_pb2.Operation:
    """Returns the operation as it is: the other dialects lead back to this one."""
    return operation


def to_json(operation: operations_pb2.Operation) -> dict[str, Any]:
    """Returns the operation as JSON."""
    return canonical_json.to_json(operation)


def error_body(error: status_pb2.Status) -> dict[str, Any]:
    """Returns the JSON body of an error response."""
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
