"""The single calls of a client; those that its plans make are in ``plan``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from google.longrunning import operations_pb2

from lro.v1 import operation_control_service_pb2
from lro_grpc._client.plan import RPC_TIMEOUT, Call, wait_call
from lro_grpc._durations import Duration, as_timeout
from lro_grpc._errors import LIBRARY_DOMAIN, Code, LroError, cut
from lro_grpc._runtime.clock import LONGEST

if TYPE_CHECKING:
    from typing import TypeAlias

    _ControlResponse: TypeAlias = (
        operation_control_service_pb2.PauseOperationResponse
        | operation_control_service_pb2.ResumeOperationResponse
        | operation_control_service_pb2.TerminateOperationResponse
    )


_MOST_EMPTY_PAGES = 1000
"""How many pages in a row may be empty: a filter may find nothing for long, but not for ever."""


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


def operation_of(response: _ControlResponse, name: str) -> operations_pb2.Operation:
    """Returns the operation that a control method answers with.

    Args:
        response: The answer. A server that has nothing to answer leaves the operation out.
        name: The operation's name; all that is known of it then.
    """
    return response.operation if response.operation.name else operations_pb2.Operation(name=name)


def list_call(request: operations_pb2.ListOperationsRequest, timeout: Duration | None) -> Call:
    """Asks for one page of operations (P10)."""
    return Call("ListOperations", request, as_timeout(timeout))


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
