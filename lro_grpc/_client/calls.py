"""The single calls of a client; those that its plans make are in ``plan``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from google.longrunning import operations_pb2

from lro.v1 import operation_control_service_pb2
from lro_grpc._client.plan import RPC_TIMEOUT, Call, wait_call
from lro_grpc._errors import LIBRARY_DOMAIN, Code, LroError, cut

if TYPE_CHECKING:
    from datetime import timedelta
    from typing import TypeAlias

    _ControlResponse: TypeAlias = (
        operation_control_service_pb2.PauseOperationResponse
        | operation_control_service_pb2.ResumeOperationResponse
        | operation_control_service_pb2.TerminateOperationResponse
    )


_MOST_EMPTY_PAGES = 1000
"""How many pages in a row may be empty: a filter may find nothing for long, but not for ever."""


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


class PageRequests:
    """The requests of a list, each for the page after the one before (S14).

    Attributes:
        next: The request for the next page; None at the end.

    Args:
        first: The request for the first page.
    """

    def __init__(self, first: operations_pb2.ListOperationsRequest) -> None:
        self.next: operations_pb2.ListOperationsRequest | None = first
        self._empty = 0

    def take_in(self, page: operations_pb2.ListOperationsResponse) -> None:
        """Goes on to the page after this one.

        Raises:
            LroError: If pages without an operation follow each other without an end.
        """
        assert self.next is not None
        if not page.next_page_token:
            self.next = None
            return
        self._empty = 0 if page.operations else self._empty + 1
        if self._empty >= _MOST_EMPTY_PAGES:
            raise LroError(
                f"the list of {cut(self.next.name)!r} has {_MOST_EMPTY_PAGES:,} pages without an"
                " operation in a row, and the server promises more; try a narrower parent or"
                " filter, or go on with page_token",
                code=Code.ABORTED,
                reason="ENDLESS_LIST",
                domain=LIBRARY_DOMAIN,
                metadata={"parent": cut(self.next.name), "page_token": page.next_page_token},
            )
        following = operations_pb2.ListOperationsRequest()
        following.CopyFrom(self.next)
        following.page_token = page.next_page_token
        self.next = following
