"""Dialect 2: a job, a resource with a ``JobState``, as ``google.cloud.aiplatform.v1.CustomJob`` is.

A service has messages of its own for its jobs, with the same fields under other numbers: ``fill``
writes them into any. Without such a message, the form is the JSON of one. :data:`LOST` lists what
does not come back from it.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Final

from google.longrunning import operations_pb2
from google.protobuf import json_format
from google.protobuf.message import Message
from google.rpc import status_pb2

from lro.v1 import operation_metadata_pb2
from lro_grpc import _anys
from lro_grpc._dialects import canonical_json
from lro_grpc._dialects.view import OperationView, empty_response
from lro_grpc._errors import InvalidArgumentError
from lro_grpc._operation import metadata
from lro_grpc._operation.lifecycle import CANCELLED, CANCELLING, FAILED, JOB
from lro_grpc._operation.record import Record

LOST: Mapping[str, str] = {
    "method": "not told",
    "caller": "not told",
    "request_id": "not told",
    "target": "not told: the job is a resource itself",
    "verb": "not told",
    "api_version": "not told",
    "expire_time": "not told",
    "attempt": "not told",
    "cancel_requested": "told by the states CANCELLING and CANCELLED alone",
    "pause_requested": "not told",
    "progress_percent": "not told",
    "status_detail": "not told",
    "batch": "not told",
    "error": "not told of a job that has expired; a DEADLINE_EXCEEDED stands in its place",
    "response": "not told; an Empty stands in its place",
}
"""The view that do not come back from this form, and what becomes of them."""

_TOLD: Final = ("state", "createTime", "startTime", "endTime", "updateTime", "partialFailures")
"""The fields of a job that ``lro.v1.OperationMetadata`` has under the same names."""


def from_view(view: OperationView, *, name: str = "") -> dict[str, Any]:
    """Returns the JSON of the job.

    Args:
        view: The operation.
        name: The job's resource name; the operation's name unless given.
    """
    told = operation_metadata_pb2.OperationMetadata(partial_failures=view.partial_failures)
    metadata.fill(told, view, clear=False)
    shown = canonical_json.to_json(told)
    job = {"name": name or view.name, **{key: shown[key] for key in _TOLD if key in shown}}
    error = _error(view)
    return job if error is None else {**job, "error": canonical_json.to_json(error)}


def from_record(record: Record, *, name: str = "") -> dict[str, Any]:
    """Returns the JSON of the job that a record is; see :func:`from_view`."""
    return from_view(OperationView.of_record(record), name=name)


def fill(job: Message, view: OperationView) -> None:
    """Writes what a job tells of its operation into the service's own message.

    Args:
        job: The message. Of its fields, those with a conventional name and type are written, such
            as ``state``, ``create_time``, ``start_time``, ``end_time`` and ``update_time``; so are
            ``error`` and ``partial_failures`` of ``google.rpc.Status``. What is unset is cleared.
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


def to_operation(job: Mapping[str, Any], *, name: str = "") -> operations_pb2.Operation:
    """Returns the operation that the JSON of a job stands for.

    Args:
        job: The JSON of the job, such as ``json_format.MessageToDict(custom_job)``.
        name: The operation's name; the job's name unless given.

    Raises:
        InvalidArgumentError: If it is not the JSON of a job, or tells no state.
    """
    told = operation_metadata_pb2.OperationMetadata()
    operation = operations_pb2.Operation()
    shown = copy.deepcopy(dict(job))  # for ParseDict takes its argument apart
    try:
        json_format.ParseDict({key: shown[key] for key in _TOLD if key in shown}, told)
        own = {key: shown[key] for key in ("name", "error") if key in shown}
        json_format.ParseDict(own, operation)
    except json_format.ParseError as cause:
        raise InvalidArgumentError(f"this is not the JSON of a job: {cause}") from cause
    if told.state not in JOB.states:
        raise InvalidArgumentError(f"the job's state is {shown.get('state')!r}; give a JobState")
    state = JOB.states[told.state]
    told.cancel_requested = state.number in (CANCELLING, CANCELLED)
    operation.name = name or operation.name
    operation.done = state.terminal
    operation.metadata.CopyFrom(_anys.pack(told))
    if not state.terminal:
        operation.ClearField("error")
    elif not state.code:
        operation.response.CopyFrom(empty_response())
    elif state.number == CANCELLED or not operation.error.code:
        operation.error.code = state.code
    return operation


def to_json(job: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the JSON of the job, which is what the form is."""
    return dict(job)


def _error(view: OperationView) -> status_pb2.Status | None:
    """Returns the error if a job in this state has one, as ``CustomJob.error`` documents."""
    return view.error if view.state in (FAILED, CANCELLED) else None
