"""The ``OperationStatus`` of Azure Face: one of four words, two times and one text."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

from google.longrunning import operations_pb2
from google.rpc import status_pb2

from lro.v1 import operation_status_pb2
from lro_grpc._dialects import canonical_json, http_status, longrunning, times
from lro_grpc._dialects.links import link_to
from lro_grpc._dialects.view import OperationView, does_not_apply, empty_response, job_state_of
from lro_grpc._errors import Code
from lro_grpc._operation.states import FAILED, JOB, OPERATION_STATUS

NAME: str = "azure_face"


def from_view(view: OperationView, *, public_url: str = "") -> operation_status_pb2.OperationStatus:
    """Returns the operation's status.

    Args:
        view: The operation.
        public_url: The beginning of ``resourceLocation``, such as ``https://example.com``. Unless
            it is given, that is a path, as in Azure Face's own documentation.

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
        beginning = f"{public_url.rstrip('/')}/"
        status.resource_location = link_to(view.target, beginning) if view.target else ""
    return status


def to_operation(
    status: operation_status_pb2.OperationStatus, *, name: str = "", public_url: str = ""
) -> operations_pb2.Operation:
    """Returns the operation of a status.

    Args:
        status: The status.
        name: The operation's name; the status has none, its URL has.
        public_url: The beginning of links that are not to be part of the target, as given to
            ``from_view``; any other URL is its own target.

    Raises:
        InvalidArgumentError: If the status or a time is not a valid one.
    """
    state = job_state_of(OPERATION_STATUS, status.status)
    update_time = times.parsed("last_action_time", status.last_action_time)
    error = status_pb2.Status(code=Code.UNKNOWN, message=status.message)
    view = OperationView(
        name=name,
        state=state,
        target=_target(status.resource_location, public_url.rstrip("/")),
        create_time=times.parsed("created_time", status.created_time),
        update_time=update_time,
        end_time=update_time if JOB.is_terminal(state) else 0,
        error=error if state == FAILED else None,
        response=empty_response() if JOB.is_terminal(state) and state != FAILED else None,
    )
    return longrunning.from_view(view)


def _target(location: str, public_url: str) -> str:
    """Returns the name of the resource at a location; a URL of elsewhere is its own name."""
    path = location.removeprefix(public_url) if location.startswith(f"{public_url}/") else location
    return location if "://" in path else unquote(path.removeprefix("/"))


def to_json(status: operation_status_pb2.OperationStatus) -> dict[str, Any]:
    """Returns the status as JSON."""
    return canonical_json.to_json(status)


def error_body(error: status_pb2.Status) -> dict[str, Any]:
    """Returns the JSON body of an error response."""
    return {
        "error": {"code": http_status.canonical(error.code).name, "message": error.message},
    }
