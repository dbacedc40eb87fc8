"""A job of Vertex AI: a resource with a ``JobState``, as ``CustomJob`` is.

A service has messages of its own for its jobs, with the same fields under other numbers: ``fill``
writes them into any. Without such a message, the dialect is the JSON of a job.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from google.longrunning import operations_pb2
from google.protobuf.message import Message
from google.rpc import status_pb2

from lro.v1 import operation_metadata_pb2
from lro_grpc import _anys
from lro_grpc._dialects import canonical_json
from lro_grpc._dialects.view import OperationView, empty_response
from lro_grpc._errors import InvalidArgumentError, cut
from lro_grpc._operation import metadata
from lro_grpc._operation.states import CANCELLED, CANCELLING, FAILED, JOB

NAME: str = "vertex_ai"

_SHARED: Final = ("state", "createTime", "startTime", "endTime", "updateTime", "partialFailures")
"""The fields of a job that ``lro.v1.OperationMetadata`` has under the same names."""


def from_view(view: OperationView, *, name: str = "") -> dict[str, Any]:
    """Returns the JSON of the job.

    Args:
        view: The operation.
        name: The job's resource name; the operation's name unless given.
    """
    conventional = operation_metadata_pb2.OperationMetadata(partial_failures=view.partial_failures)
    metadata.fill(conventional, view, clear=False)
    shown = canonical_json.to_json(conventional)
    job = {"name": name or view.name, **{key: shown[key] for key in _SHARED if key in shown}}
    error = _error(view)
    return job if error is None else {**job, "error": canonical_json.to_json(error)}


def fill(job: Message, view: OperationView) -> None:
    """Writes the state, times and failures of an operation into the service's own job message.

    Args:
        job: The message. Its fields with a conventional name and type are written, such as
            ``state``, ``create_time``, ``start_time``, ``end_time`` and ``update_time``; so are
            ``error`` and ``partial_failures`` of ``google.rpc.Status``. Those that are unset in
            the operation are cleared.
        view: The operation.
    """
    metadata.fill(job, view)
    error = _error(view)
    fields = {"error": [error] if error else [], "partial_failures": view.partial_failures}
    for name, values in fields.items():
        field = job.DESCRIPTOR.fields_by_name.get(name)
        if field is None or field.message_type != status_pb2.Status.DESCRIPTOR:
            continue
        job.ClearField(name)
        for value in values:
            own = getattr(job, name)
            (own.add() if field.is_repeated else own).CopyFrom(value)


def fill_metadata(message: Message, view: OperationView) -> None:
    """Writes what is known of an operation into metadata of the service's own type.

    Args:
        message: The metadata. Its conventional fields are written; and those of its
            ``generic_metadata``, in which Vertex AI has them.
        view: The operation.
    """
    metadata.fill(message, view)
    field = message.DESCRIPTOR.fields_by_name.get("generic_metadata")
    if field is not None and field.message_type is not None and not field.is_repeated:
        metadata.fill(getattr(message, field.name), view)


def to_operation(job: Mapping[str, Any], *, name: str = "") -> operations_pb2.Operation:
    """Returns the operation of a job.

    Args:
        job: The JSON of the job, such as ``json_format.MessageToDict(custom_job)``.
        name: The operation's name; the job's name unless given.

    Raises:
        InvalidArgumentError: If it is not the JSON of a job, or has no state.
    """
    conventional = operation_metadata_pb2.OperationMetadata()
    operation = operations_pb2.Operation()
    try:
        canonical_json.parse({key: job[key] for key in _SHARED if key in job}, conventional)
        own = {key: job[key] for key in ("name", "error") if key in job}
        canonical_json.parse(own, operation)
    except ValueError as cause:
        raise InvalidArgumentError(f"this is not the JSON of a job: {cut(str(cause))}") from cause
    if conventional.state not in JOB.states:
        given = cut(repr(job.get("state")))
        raise InvalidArgumentError(f"the job's state is {given}; give a JobState")
    state = JOB.states[conventional.state]
    conventional.cancel_requested = state.number in (CANCELLING, CANCELLED)
    operation.name = name or operation.name
    operation.done = state.terminal
    operation.metadata.CopyFrom(_anys.pack(conventional))
    if not state.terminal:
        operation.ClearField("error")
    elif not state.code:
        operation.response.CopyFrom(empty_response())
    elif state.number == CANCELLED or not operation.error.code:
        operation.error.code = state.code
    return operation


def to_json(job: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the JSON of the job: the dialect itself is JSON."""
    return dict(job)


def _error(view: OperationView) -> status_pb2.Status | None:
    """Returns the error if a job in this state shows one, as ``CustomJob.error`` documents."""
    return view.error if view.state in (FAILED, CANCELLED) else None
