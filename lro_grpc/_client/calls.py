"""Single calls of a client; the calls of its plans are in ``plan``."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from google.longrunning import operations_pb2

from lro.v1 import operation_control_service_pb2
from lro_grpc._client.plan import RPC_TIMEOUT, Call, wait_call
from lro_grpc._durations import Duration, as_timeout
from lro_grpc._runtime.clock import LONGEST

if TYPE_CHECKING:
    from typing import TypeAlias

    _ControlResponse: TypeAlias = (
        operation_control_service_pb2.PauseOperationResponse
        | operation_control_service_pb2.ResumeOperationResponse
        | operation_control_service_pb2.TerminateOperationResponse
    )


def random_uuid() -> str:
    """Makes a ``request_id``."""
    return str(uuid.uuid4())


def single_wait_call(name: str, timeout: Duration | None) -> Call:
    """Asks once for the state of an operation when it is done, or after the timeout (P9).

    The call's own deadline leaves the server time to answer after that.
    """
    server_wait = as_timeout(timeout)
    if server_wait is None:
        return wait_call(name, None, None)
    server_wait = min(server_wait, LONGEST)
    return wait_call(name, server_wait, server_wait + RPC_TIMEOUT)


def cancel_call(name: str, timeout: Duration | None) -> Call:
    """Asks to cancel an operation (P8)."""
    request = operations_pb2.CancelOperationRequest(name=name)
    return Call("CancelOperation", request, as_timeout(timeout), operation=name)


def delete_call(name: str, timeout: Duration | None) -> Call:
    """Asks to forget an operation (P7)."""
    request = operations_pb2.DeleteOperationRequest(name=name)
    return Call("DeleteOperation", request, as_timeout(timeout), operation=name)


def pause_call(name: str, timeout: Duration | None) -> Call:
    """Asks to pause an operation."""
    request = operation_control_service_pb2.PauseOperationRequest(name=name)
    return Call("PauseOperation", request, as_timeout(timeout), operation=name)


def resume_call(name: str, timeout: Duration | None) -> Call:
    """Asks to resume a paused operation."""
    request = operation_control_service_pb2.ResumeOperationRequest(name=name)
    return Call("ResumeOperation", request, as_timeout(timeout), operation=name)


def terminate_call(name: str, reason: str, timeout: Duration | None) -> Call:
    """Asks to end an operation by force."""
    request = operation_control_service_pb2.TerminateOperationRequest(name=name, reason=reason)
    return Call("TerminateOperation", request, as_timeout(timeout), operation=name)


def rerun_call(name: str, request_id: str, validate_only: bool, timeout: Duration | None) -> Call:
    """Asks to run an operation again, under an id of its own unless one is given (C7)."""
    request = operation_control_service_pb2.RerunOperationRequest(
        name=name, request_id=request_id or random_uuid(), validate_only=validate_only
    )
    return Call("RerunOperation", request, as_timeout(timeout), operation=name)


def describe_call(name: str, timeout: Duration | None, *, with_request: bool) -> Call:
    """Asks for all that is known of an operation."""
    view = (
        operation_control_service_pb2.OPERATION_DESCRIPTION_VIEW_FULL
        if with_request
        else operation_control_service_pb2.OPERATION_DESCRIPTION_VIEW_BASIC
    )
    request = operation_control_service_pb2.DescribeOperationRequest(name=name, view=view)
    return Call("DescribeOperation", request, as_timeout(timeout), operation=name)


def summarize_call(parent: str, filter_text: str, timeout: Duration | None) -> Call:
    """Asks how many operations of a parent there are."""
    request = operation_control_service_pb2.SummarizeOperationsRequest(
        parent=parent, filter=filter_text
    )
    return Call("SummarizeOperations", request, as_timeout(timeout))


def operation_of(response: _ControlResponse, name: str) -> operations_pb2.Operation:
    """Returns the operation that a control method answers with.

    Args:
        response: The answer. A server that has nothing to answer leaves the operation out.
        name: The operation's name; all that is known of it then.
    """
    return response.operation if response.operation.name else operations_pb2.Operation(name=name)
