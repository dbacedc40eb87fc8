"""Updates: the state of an operation at one moment, as its metadata has it."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Generic, cast

from google.protobuf import empty_pb2

from lro_grpc import _anys
from lro_grpc._client.payloads import MetadataT, unpack
from lro_grpc._operation import metadata, states

if TYPE_CHECKING:
    from google.longrunning import operations_pb2


@dataclasses.dataclass(frozen=True, slots=True)
class OperationUpdate(Generic[MetadataT]):
    """The state of an operation at one moment.

    All fields but the first two come from the conventional fields of its metadata, as far as its
    type has them; ``lro.v1.OperationMetadata`` has them all.

    Attributes:
        name: The operation's name.
        done: Whether it is over; this is then the last update.
        state: Its ``lro.v1.JobState``: ``state.name`` is such as ``JOB_STATE_RUNNING``. If the
            metadata has none, or one that contradicts the result: SUCCEEDED, FAILED or CANCELLED
            of an operation that is done; of any other CANCELLING if the metadata says that a
            cancel was requested, QUEUED if they have a start time that is unset, else RUNNING.
        progress_percent: The part of it that is done, 0 to 100; None if the metadata does not
            have it.
        status_detail: Its present activity, for people; empty if the metadata does not have it.
        attempt: The number of its attempts so far; None if the metadata does not have it.
        metadata: The metadata: an empty message of the declared type if the operation has none
            yet, and a ``google.protobuf.Empty`` if no type was declared either. If none was,
            and no imported module defines the one that it has, it is the ``Any`` itself.
    """

    name: str
    done: bool
    state: states.State
    progress_percent: int | None
    status_detail: str
    attempt: int | None
    metadata: MetadataT


def update_of(
    operation: operations_pb2.Operation, declared: type[MetadataT] | None
) -> OperationUpdate[MetadataT]:
    """Returns the update that an operation amounts to.

    Args:
        operation: The operation.
        declared: The type of its metadata; None for the one that its type URL names.

    Raises:
        WrongTypeError: If its metadata is not a message of the declared type.
    """
    message = metadata_of(operation, declared)
    found = metadata.read(message)
    number = states.state_of(operation, found if operation.HasField("metadata") else {})
    return OperationUpdate(
        name=operation.name,
        done=operation.done,
        state=states.JOB.states[number],
        progress_percent=found.get("progress_percent"),
        status_detail=found.get("status_detail", ""),
        attempt=found.get("attempt"),
        metadata=message,
    )


def metadata_of(operation: operations_pb2.Operation, declared: type[MetadataT] | None) -> MetadataT:
    """Returns an operation's metadata, or its substitute as in ``OperationUpdate.metadata``."""
    if not operation.HasField("metadata"):
        return cast("MetadataT", (declared or empty_pb2.Empty)())
    if declared is None and _anys.find_class(operation.metadata.TypeName()) is None:
        return cast("MetadataT", operation.metadata)
    return unpack(operation, "metadata", declared)
