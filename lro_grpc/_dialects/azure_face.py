"""The ``OperationStatus`` of Azure Face: one of four words, two times and one text."""

from __future__ import annotations

from typing import Any

from google.longrunning import operations_pb2
from google.rpc import status_pb2

from lro.v1 import operation_status_pb2
from lro_grpc._dialects import canonical_json, http_status, longrunning, times
from lro_grpc._dialects.view import OperationView, does_not_apply, empty_response, job_state_of
from lro_grpc._errors import Code
from lro_grpc._operation.states import FAILED, JOB, OPERATION_STATUS

NAME: str = "azure_face"


def from_view(view: OperationView) -> operation_status_pb2.OperationStatus:
    """Returns the operation's status.

    Raises:
        LroError: FAILED_PRECONDITION if the time of the creation is not known.
    """
    if not view.create_time:
        raise does_not_apply(view, NAME, "its metadata has no create_time")
    word = OPERATION_STATUS.state_for(view.state, started=view.started)
    status = operation_status_pb2.OperationStatus(
        status=operation_status_pb2.OperationStatusType.Value(word.name),
        created_time=times.with_seven_digits(view.create_time),
        last_action_time=times.with_seven_digits(view.end_time or view.update_time),
    )
    if view.error is not None:
        code = http_status.canonical(view.error.code)
        status.message = view.error.message or code.name
    elif view.done:
        status.resource_location = f"/{view.target}" if view.target else ""
    return status


def to_operation(
    status: operation_status_pb2.OperationStatus, *, name: str = ""
) -> operations_pb2.Operation:
    """Returns the operation of a status.

    Args:
        status: The status.
        name: The operation's name; the status has none, its URL has.

    Raises:
        InvalidArgumentError: If the status or a time is not a valid one.
    """
    state = job_state_of(OPERATION_STATUS, status.status)
    update_time = times.parsed("last_action_time", status.last_action_time)
    error = status_pb2.Status(code=Code.UNKNOWN, message=status.message)
    view = OperationView(
        name=name,
        state=state,
        target=status.resource_location.removeprefix("/"),
        create_time=times.parsed("created_time", status.created_time),
        update_time=update_time,
        end_time=update_time if JOB.is_terminal(state) else 0,
        error=error if state == FAILED else None,
        response=empty_response() if JOB.is_terminal(state) and state != FAILED else None,
    )
    return longrunning.from_view(view)


def to_json(status: operation_status_pb2.OperationStatus) -> dict[str, Any]:
    """Returns the status as JSON."""
    return canonical_json.to_json(status)


def error_body(error: status_pb2.Status) -> dict[str, Any]:
    """Returns the JSON body of an error response."""
    return {
        "error": {"code": http_status.canonical(error.code).name, "message": error.message},
    }
