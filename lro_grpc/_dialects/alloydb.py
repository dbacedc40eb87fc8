"""The operation of AlloyDB's BatchCreateInstances, with a state for each instance.

It is a ``google.longrunning.Operation`` with a ``google.cloud.alloydb.v1.OperationMetadata``, whose
bytes are those of fields 1 to 8 of ``lro.v1.OperationMetadata``: nothing here needs AlloyDB's
package.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from google.longrunning import operations_pb2
from google.protobuf.message import DecodeError, Message

from lro.v1 import operation_metadata_pb2
from lro_grpc import _anys
from lro_grpc._dialects import canonical_json, longrunning
from lro_grpc._dialects.view import OperationView, does_not_apply
from lro_grpc._errors import InvalidArgumentError
from lro_grpc._operation.batch_states import UNBEGUN, BatchStates
from lro_grpc._operation.states import QUEUED, RUNNING

NAME: str = "alloydb"

METADATA_TYPE = "google.cloud.alloydb.v1.OperationMetadata"
"""The full name of the metadata message."""

_LAST_FIELD = 8
"""The last field that the two metadata messages have in common."""

_ANY_VERSION = re.compile(r"google\.cloud\.alloydb\.v\w+\.OperationMetadata")

_NAMES = {"statusDetail": "statusMessage", "cancelRequested": "requestedCancellation"}
"""The names in AlloyDB's JSON that differ from ours."""


def from_view(view: OperationView) -> operations_pb2.Operation:
    """Returns the operation with AlloyDB's metadata.

    Raises:
        LroError: FAILED_PRECONDITION if the operation is no batch.
    """
    if not view.batch:
        raise does_not_apply(view, NAME, "it is no batch, or has not begun one")
    return _with_type(longrunning.from_view(view), METADATA_TYPE)


def to_operation(operation: operations_pb2.Operation) -> operations_pb2.Operation:
    """Returns the operation with a ``lro.v1.OperationMetadata`` in place of AlloyDB's.

    Raises:
        InvalidArgumentError: If its metadata is not that of AlloyDB, of any version of its API.
    """
    view = OperationView.of_operation(_conventional(operation))
    batch = BatchStates(view.batch)
    if view.state == QUEUED and batch.among(UNBEGUN) != batch.targets:
        view = replace(view, state=RUNNING)
    return longrunning.from_view(view)


def to_json(operation: operations_pb2.Operation) -> dict[str, Any]:
    """Returns the operation as JSON, its metadata under AlloyDB's names."""
    shown = canonical_json.to_json(_conventional(operation))
    metadata = {_NAMES.get(key, key): value for key, value in shown["metadata"].items()}
    batch = metadata.get("batchCreateInstancesMetadata", {})
    if statuses := batch.get("instanceStatuses"):  # a map has no order, and the targets have one
        order = (one for one in [*batch.get("instanceTargets", []), *statuses] if one in statuses)
        batch["instanceStatuses"] = {target: statuses[target] for target in order}
    return {**shown, "metadata": {**metadata, "@type": operation.metadata.type_url}}


def _conventional(operation: operations_pb2.Operation) -> operations_pb2.Operation:
    """Returns the operation with the metadata that has the same bytes as AlloyDB's."""
    kind = operation.metadata.TypeName()
    try:
        if _ANY_VERSION.fullmatch(kind):
            return _with_type(
                operation, operation_metadata_pb2.OperationMetadata.DESCRIPTOR.full_name
            )
    except DecodeError as cause:
        raise InvalidArgumentError(f"the metadata of {operation.name} is broken") from cause
    raise InvalidArgumentError(
        f"the metadata of {operation.name} is a {kind}; expected a {METADATA_TYPE}",
        metadata={"operation": operation.name, "type": kind},
    )


def _with_type(operation: operations_pb2.Operation, full_name: str) -> operations_pb2.Operation:
    """Returns the operation with its metadata as the other type, cut to what the two share."""
    metadata: Message = operation_metadata_pb2.OperationMetadata.FromString(
        operation.metadata.value
    )
    for field in metadata.DESCRIPTOR.fields:
        if field.number > _LAST_FIELD:
            metadata.ClearField(field.name)
    changed = operations_pb2.Operation()
    changed.CopyFrom(operation)
    changed.metadata.type_url = _anys.TYPE_URL_PREFIX + full_name
    changed.metadata.value = metadata.SerializeToString(deterministic=True)
    return changed
