"""The listing of operations: page by page, within limits on empty pages and on time."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from google.longrunning import operations_pb2

from lro_grpc._client.plan import Call
from lro_grpc._errors import LIBRARY_DOMAIN, Code, LroError, cut

if TYPE_CHECKING:
    from lro_grpc._client.core import ClientCore

_MOST_EMPTY_PAGES = 1000
"""The most empty pages in a row: a filter may find nothing for long, but not for ever."""


class Listing:
    """Fetches the pages of a list, each after the one before (P10, S14).

    The total timeout is for the calls alone: the time that passes between them is the caller's.

    Args:
        core: The client's core.
        first: The request for the first page.
        timeout: The deadline of each call; None for none.
        total_timeout: The time of all calls together; None for no limit.
    """

    def __init__(
        self,
        core: ClientCore,
        first: operations_pb2.ListOperationsRequest,
        timeout: timedelta | None,
        total_timeout: timedelta | None,
    ) -> None:
        self._core = core
        self._next: operations_pb2.ListOperationsRequest | None = first
        self._timeout = timeout
        self._total_timeout = total_timeout
        self._left = total_timeout
        self._empty = 0

    async def page(self) -> operations_pb2.ListOperationsResponse | None:
        """Fetches the next page; returns None after the last one.

        Raises:
            LroError: If a call failed, the time is over, or pages without an operation follow each
                other without an end.
        """
        if self._next is None:
            return None
        if self._left is not None and self._left <= timedelta(0):
            raise self._timed_out(self._next)
        limits = [limit for limit in (self._timeout, self._left) if limit is not None]
        deadline = min(limits, default=None)
        began = self._core.clock.monotonic()
        try:
            page: operations_pb2.ListOperationsResponse = await self._core.call(
                Call("ListOperations", self._next, deadline)
            )
        except LroError as error:
            if error.code is Code.DEADLINE_EXCEEDED and self._left and deadline == self._left:
                raise self._timed_out(self._next) from error
            raise
        if self._left is not None:
            self._left -= timedelta(seconds=self._core.clock.monotonic() - began)
        self._next = self._request_after(self._next, page)
        return page

    def _request_after(
        self,
        request: operations_pb2.ListOperationsRequest,
        page: operations_pb2.ListOperationsResponse,
    ) -> operations_pb2.ListOperationsRequest | None:
        if not page.next_page_token:
            return None
        following = operations_pb2.ListOperationsRequest()
        following.CopyFrom(request)
        following.page_token = page.next_page_token
        self._empty = 0 if page.operations else self._empty + 1
        if self._empty >= _MOST_EMPTY_PAGES:
            raise _ended(
                following,
                f"has {_MOST_EMPTY_PAGES:,} pages without an operation in a row, and the server"
                " promises more; try a narrower parent or filter",
                Code.ABORTED,
                "ENDLESS_LIST",
            )
        return following

    def _timed_out(self, request: operations_pb2.ListOperationsRequest) -> LroError:
        return _ended(
            request,
            f"has not ended in {self._total_timeout}; give it more time",
            Code.DEADLINE_EXCEEDED,
            "LIST_TIMEOUT",
        )


def _ended(
    request: operations_pb2.ListOperationsRequest, why: str, code: Code, reason: str
) -> LroError:
    """Returns the error of a list that ends before the page of a request."""
    return LroError(
        f"the list of {cut(request.name)!r} {why}, or go on with page_token",
        code=code,
        reason=reason,
        domain=LIBRARY_DOMAIN,
        metadata={"parent": cut(request.name), "page_token": request.page_token},
    )
