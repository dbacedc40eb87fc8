"""The calls that a client makes for its user; those that a wait is made of are in ``polling``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from google.longrunning import operations_pb2

from lro.v1 import operation_control_service_pb2
from lro_grpc._client.plan import Call

if TYPE_CHECKING:
    from datetime import timedelta


def cancel_call(name: str, timeout: timedelta | None) -> Call:
    """Asks to cancel an operation (P8)."""
    return Call("CancelOperation", operations_pb2.CancelOperationRequest(name=name), timeout)


def delete_call(name: str, timeout: timedelta | None) -> Call:
    """Asks to forget an operation (P7)."""
    return Call("DeleteOperation", operations_pb2.DeleteOperationRequest(name=name), timeout)


def pause_call(name: str, timeout: timedelta | None) -> Call:
    """Asks to pause an operation."""
    request = operation_control_service_pb2.PauseOperationRequest(name=name)
    return Call("PauseOperation", request, timeout)


def resume_call(name: str, timeout: timedelta | None) -> Call:
    """Asks to resume a paused operation."""
    request = operation_control_service_pb2.ResumeOperationRequest(name=name)
    return Call("ResumeOperation", request, timeout)


def list_call(request: operations_pb2.ListOperationsRequest, timeout: timedelta | None) -> Call:
    """Asks for one page of operations (P10)."""
    return Call("ListOperations", request, timeout)


def next_request(
    request: operations_pb2.ListOperationsRequest, page: operations_pb2.ListOperationsResponse
) -> operations_pb2.ListOperationsRequest | None:
    """Returns the request for the page after this one; None at the end (S14)."""
    if not page.next_page_token:
        return None
    following = operations_pb2.ListOperationsRequest()
    following.CopyFrom(request)
    following.page_token = page.next_page_token
    return following
