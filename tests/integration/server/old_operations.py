"""Operations as another server may have them: in every state, of types that nobody here knows."""

from __future__ import annotations

import base64
import itertools
import json
from collections.abc import Iterator

from google.longrunning import operations_pb2
from google.protobuf import any_pb2, wrappers_pb2
from google.rpc import code_pb2, error_details_pb2

from lro.v1 import operation_metadata_pb2, state_pb2

PARENT = "projects/p/locations/l"
FOREIGN = any_pb2.Any(type_url="type.googleapis.com/nowhere.v1.Gone", value=b"\x0a\x03abc\xff")
"""A message of a type that this process does not have; its bytes need not even parse."""


def old_operations(number: int) -> Iterator[operations_pb2.Operation]:
    """Yields operations: succeeded, failed, cancelled and running, of all kinds of types."""
    for n, kind in zip(range(number), itertools.cycle(range(7)), strict=False):
        one = operations_pb2.Operation(name=f"{PARENT}/operations/old-{n}", done=kind < 5)
        if kind in (0, 5):
            metadata = operation_metadata_pb2.OperationMetadata(
                target=f"instances/i{n}", verb="create", progress_percent=100 if kind == 0 else 40
            )
            metadata.create_time.FromJsonString("2024-05-01T10:00:00Z")
            if kind == 0:
                metadata.state = state_pb2.JOB_STATE_SUCCEEDED
                metadata.end_time.FromJsonString("2024-05-01T11:00:00Z")
            else:
                metadata.state = state_pb2.JOB_STATE_RUNNING
            one.metadata.Pack(metadata)
        if kind in (1, 6):
            one.metadata.CopyFrom(FOREIGN)
        if kind == 0:
            one.response.Pack(wrappers_pb2.StringValue(value=f"made {n}"))
        if kind == 1:
            one.response.CopyFrom(FOREIGN)
        if kind == 2:
            one.error.code, one.error.message = code_pb2.NOT_FOUND, f"nothing {n}"
            one.error.details.add().Pack(error_details_pb2.ErrorInfo(reason="GONE"))
            one.error.details.append(FOREIGN)
        if kind == 3:
            one.error.code, one.error.message = code_pb2.CANCELLED, "cancelled"
        if kind == 4:
            one.response.SetInParent()
        yield one


def line_of(operation: operations_pb2.Operation, **known: str) -> str:
    """Returns a line that has an operation byte for byte."""
    encoded = base64.b64encode(operation.SerializeToString()).decode()
    return json.dumps({"operation": encoded, **known})
