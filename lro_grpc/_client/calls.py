"""The single calls of a client; those that its plans make are in ``plan``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from google.longrunning import operations_pb2

from lro.v1 import operation_control_service_pb2
from lro_grpc._client.plan import RPC_TIMEOUT, Call, wait_call

if TYPE_CHECKING:
    from datetime import timedelta
    from typing import TypeAlias

    _ControlResponse: TypeAlias = (
        operation_control_service_pb2.PauseOperationResponse
        | operation_control_service_pb2.ResumeOperationResponse
        | operation_control_service_pb2.TerminateOperationResponse
    )


def single_wait_call(name: str, timeout: timedelta | None) -> Call:
    """Asks once for the state of an operation when it is done, or after the timeout (P9).

    The call's own deadline leaves the server time to answer after that.
    """
    return wait_call(name, timeout, None if timeout is None else timeout + RPC_TIMEOUT)


def cancel_call(name: str, timeout: timedelta | None) -> Call:
    """Asks to cancel an operation (P8)."""
    return Call(
        "CancelOperation", operations_pb2.CancelOperationRequest(name=name), timeout, operation=name
    )


def delete_call(name: str, timeout: timedelta | None) -> Call:
    """Asks to forget an operation (P7)."""
    return Call(
        "DeleteOperation", operations_pb2.DeleteOperationRequest(name=name), timeout, operation=name
    )


def pause_call(name: str, timeout: timedelta | None) -> Call:
    """Asks to pause an operation."""
    request = operation_control_service_pb2.PauseOperationRequest(name=name)
    return Call("PauseOperation", request, timeout, operation=name)


def resume_call(name: str, timeout: timedelta | None) -> Call:
    """Asks to resume a paused operation."""
    request = operation_control_service_pb2.ResumeOperationRequest(name=name)
    return Call("ResumeOperation", request, timeout, operation=name)


def terminate_call(name: str, reason: str, timeout: timedelta | None) -> Call:
    """Asks to end an operation by force."""
    request = operation_control_service_pb2.TerminateOperationRequest(name=name, reason=reason)
    return Call("TerminateOperation", request, timeout, operation=name)


def operation_of(response: _ControlResponse, name: str) -> operations_pb2.Operation:
    """Returns the operation that a control method answers with.

    Args:
        response: The answer. A server that has nothing to answer leaves the operation out.
        name: The operation's name; all that is known of it then.
    """
    return response.operation if response.operation.name else operations_pb2.Operation(name=name)


def list_call(request: operations_pb2.ListOperationsRequest, timeout: timedelta | None) -> Call:
    """Asks for one page of operations (P10)."""
    return Call("ListOperations", request, timeout)


def next_request(
    request: operations_pb2.ListOperationsRequest, page: operations_pb2.ListOperationsResponse
) -> operations_pb2.ListOperationsRequest | None:
    """Returns the request for the page after this one; None at the end (S14)."""
    if not page.next_page_token:
        return None
    next_one = operations_pb2.ListOperationsRequest()
    next_one.CopyFrom(request)
    next_one.page_token = page.next_page_token
    return next_one
