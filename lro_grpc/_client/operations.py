"""The client of google.longrunning.Operations, for threads."""

from __future__ import annotations

import random as random_module
from typing import TYPE_CHECKING, Any

from google.longrunning import operations_pb2

from lro_grpc._client.calls import (
    cancel_call,
    delete_call,
    describe_call,
    operation_of,
    pause_call,
    rerun_call,
    resume_call,
    single_wait_call,
    summarize_call,
    terminate_call,
)
from lro_grpc._client.connection import CallMetadata, ThreadConnection
from lro_grpc._client.core import ChannelCore, ClientCore, WaitMode
from lro_grpc._client.future import OperationFuture
from lro_grpc._client.listing import Listing
from lro_grpc._client.plan import RPC_TIMEOUT, Call, get_call
from lro_grpc._client.scheduler import SCHEDULER
from lro_grpc._durations import as_timeout
from lro_grpc._runtime.backoff import DEFAULT_BACKOFF, DEFAULT_RETRY, Backoff, Retry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import timedelta

    import grpc

    from lro.v1.operation_description_pb2 import DescribeOperationResponse
    from lro.v1.operation_summary_pb2 import SummarizeOperationsResponse
    from lro_grpc._client.payloads import MetadataT, ResponseT
    from lro_grpc._durations import Duration
    from lro_grpc._runtime.clock import Clock


class OperationsClient:
    """Follows operations of any server that has google.longrunning.Operations.

    Args:
        channel: The channel on which the operations were started; it stays the caller's to close.
        call_metadata: gRPC metadata that is sent with every call.
        backoff: The pauses between polls, and after UNAVAILABLE.
        retry: When a single call that failed is made again, None for never; its codes are outlived
            by a future's wait, too. ``wait``, and a resume, which is not the same when it is
            repeated, are made once in any case.
        wait: How a future waits: ``"auto"`` by WatchOperations, WatchOperation or WaitOperation
            where the server has them, ``"poll"`` by GetOperation alone, for a server whose others
            are not to be trusted.
        clock: The clock; for tests.
        random: Gives numbers uniform in [0, 1); for tests.
    """

    def __init__(
        self,
        channel: grpc.Channel,
        *,
        call_metadata: CallMetadata = (),
        backoff: Backoff = DEFAULT_BACKOFF,
        retry: Retry | None = DEFAULT_RETRY,
        wait: WaitMode = "auto",
        clock: Clock | None = None,
        random: Callable[[], float] = random_module.random,
    ) -> None:
        self._core = ChannelCore(
            ThreadConnection(channel, call_metadata),
            backoff=backoff,
            retry=retry,
            wait=wait,
            clock=clock,
            random=random,
        )

    def future(
        self,
        operation: operations_pb2.Operation,
        *,
        response: type[ResponseT] | None = None,
        metadata: type[MetadataT] | None = None,
        call_metadata: CallMetadata = (),
    ) -> OperationFuture[ResponseT, MetadataT]:
        """Returns the future of an operation that a method has returned. Makes no RPC.

        Args:
            operation: The operation that the method returned.
            response: The type of the message inside ``Operation.response``, as the method's
                ``operation_info`` declares it (P11). Without it, the type that the ``Any`` names,
                if an imported module defines that.
            metadata: The same for ``Operation.metadata``.
            call_metadata: gRPC metadata that is sent with every call of this future, besides that
                of the client: that of the start, if the server needs it to know the caller.

        Raises:
            InvalidNameError: If the operation has no name and is not done.
            TypeError: If it is none, such as a call that was not awaited.
        """
        core = self._core.sending(call_metadata)
        return OperationFuture(core, operation, response, metadata)

    def attach(
        self,
        name: str,
        *,
        response: type[ResponseT] | None = None,
        metadata: type[MetadataT] | None = None,
        call_metadata: CallMetadata = (),
    ) -> OperationFuture[ResponseT, MetadataT]:
        """Returns the future of an operation that was started before, elsewhere. Makes no RPC.

        Args:
            name: The operation's name; whether it exists shows with the first call.
            response: As for ``future``.
            metadata: As for ``future``.
            call_metadata: As for ``future``.

        Raises:
            InvalidNameError: If the name is empty.
        """
        operation = operations_pb2.Operation(name=name)
        return self.future(
            operation, response=response, metadata=metadata, call_metadata=call_metadata
        )

    def get(self, name: str, *, timeout: Duration | None = RPC_TIMEOUT) -> operations_pb2.Operation:
        """Returns the latest state of an operation.

        Args:
            name: The operation's name.
            timeout: The call's deadline; None for none.

        Raises:
            LroError: With the call's code and details, as from every method here that calls:
                NOT_FOUND if there is no such operation, UNIMPLEMENTED if the server does not
                have the method (P6).
        """
        operation: operations_pb2.Operation = self._call(get_call(name, timeout))
        return operation

    def wait(self, name: str, *, timeout: Duration | None = None) -> operations_pb2.Operation:
        """Makes one WaitOperation call; a future's ``result()`` makes as many as it takes.

        Args:
            name: The operation's name.
            timeout: How long the server may hold the call, which ends 10 s later if it does not
                answer; None for as long as the server likes.

        Returns:
            The latest state, done or not; a server may answer before the timeout (P9).
        """
        operation: operations_pb2.Operation = self._call(single_wait_call(name, timeout), once=True)
        return operation

    def list(
        self,
        parent: str,
        *,
        filter: str = "",  # noqa: A002 - the field's name
        page_size: int = 0,
        page_token: str = "",
        return_partial_success: bool = False,
        timeout: Duration | None = RPC_TIMEOUT,
        total_timeout: Duration | None = None,
    ) -> OperationPager:
        """Lists operations, page by page as they are iterated over. Makes no RPC by itself.

        Args:
            parent: The parent resource: ``ListOperationsRequest.name``.
            filter: An expression as in AIP-160.
            page_size: The most operations in one page; zero for the server's default.
            page_token: The page to begin with: the ``next_page_token`` of an earlier one.
            return_partial_success: Whether parts that cannot be reached may be missing: a page's
                ``unreachable`` names them (P10).
            timeout: The deadline of each call; None for none.
            total_timeout: The time of all calls of one iteration together; None for no limit. What
                the caller does between them does not count.

        Returns:
            An iterable of operations, each iteration from the beginning; its ``pages()`` has the
            responses themselves (C5). It ends with an LroError when ``total_timeout`` is over, and
            at a server that sends a thousand pages in a row without an operation and promises more;
            the error's metadata has the ``page_token`` to go on with.
        """
        request = operations_pb2.ListOperationsRequest(
            name=parent,
            filter=filter,
            page_size=page_size,
            page_token=page_token,
            return_partial_success=return_partial_success,
        )
        return OperationPager(
            self._core,
            request,
            as_timeout(timeout),
            as_timeout(total_timeout, "total_timeout"),
        )

    def cancel(self, name: str, *, timeout: Duration | None = RPC_TIMEOUT) -> None:
        """Asks the server to cancel an operation, which may succeed nevertheless (P8).

        Args:
            name: The operation's name.
            timeout: The call's deadline; None for none.
        """
        self._call(cancel_call(name, timeout))

    def delete(self, name: str, *, timeout: Duration | None = RPC_TIMEOUT) -> None:
        """Asks the server to forget an operation; this does not cancel it (P7).

        Args:
            name: The operation's name.
            timeout: The call's deadline; None for none.
        """
        self._call(delete_call(name, timeout))

    def pause(
        self, name: str, *, timeout: Duration | None = RPC_TIMEOUT
    ) -> operations_pb2.Operation:
        """Asks the server to pause an operation; see ``OperationFuture.pause``.

        Args:
            name: The operation's name.
            timeout: The call's deadline; None for none.

        Returns:
            The operation as it is then; its name alone, if the server answers with nothing.
        """
        return operation_of(self._call(pause_call(name, timeout)), name)

    def resume(
        self, name: str, *, timeout: Duration | None = RPC_TIMEOUT
    ) -> operations_pb2.Operation:
        """Asks the server to go on with a paused operation; see ``OperationFuture.resume``.

        Args:
            name: The operation's name.
            timeout: The call's deadline; None for none.

        Returns:
            The operation as it is then; see :meth:`pause`.
        """
        return operation_of(self._call(resume_call(name, timeout), once=True), name)

    def terminate(
        self, name: str, reason: str, *, timeout: Duration | None = RPC_TIMEOUT
    ) -> operations_pb2.Operation:
        """Ends an operation by force; see ``OperationFuture.terminate``.

        Args:
            name: The operation's name.
            reason: The cause, as all who see the operation are told it; at most 1,024 characters.
            timeout: The call's deadline; None for none.

        Returns:
            The operation, done; see :meth:`pause`.
        """
        return operation_of(self._call(terminate_call(name, reason, timeout)), name)

    def rerun(
        self,
        name: str,
        *,
        request_id: str = "",
        validate_only: bool = False,
        timeout: Duration | None = RPC_TIMEOUT,
    ) -> operations_pb2.Operation:
        """Has an operation that is done run again, as a new operation.

        Args:
            name: The name of the operation that is done.
            request_id: A UUID of version 4, under which the same call answers with the same
                operation; a new one unless given.
            validate_only: Whether the server only makes its checks.
            timeout: The call's deadline; None for none.

        Returns:
            The new operation, for ``future``; a done one without a name if it was only validated.

        Raises:
            LroError: As from ``get``: FAILED_PRECONDITION if the operation is not done, or its
                method is not served any more; what the method itself refuses.
        """
        call = rerun_call(name, request_id, validate_only, timeout)
        operation: operations_pb2.Operation = self._call(call).operation
        return operation

    def describe(
        self, name: str, *, with_request: bool = False, timeout: Duration | None = RPC_TIMEOUT
    ) -> DescribeOperationResponse:
        """Returns all that is known of an operation; see ``OperationFuture.describe``.

        Args:
            name: The operation's name.
            with_request: Whether to ask for its request, too, which takes another permission.
            timeout: The call's deadline; None for none.
        """
        response: DescribeOperationResponse = self._call(
            describe_call(name, timeout, with_request=with_request)
        )
        return response

    def summarize(
        self,
        parent: str,
        *,
        filter: str = "",  # noqa: A002 - the field's name
        timeout: Duration | None = RPC_TIMEOUT,
    ) -> SummarizeOperationsResponse:
        """Returns how many operations of a parent there are, by their methods and states.

        Args:
            parent: The parent resource, as of ``list``; ``-`` for all.
            filter: An expression as in AIP-160.
            timeout: The call's deadline; None for none.
        """
        response: SummarizeOperationsResponse = self._call(summarize_call(parent, filter, timeout))
        return response

    def _call(self, call: Call, *, once: bool = False) -> Any:
        return SCHEDULER.run(self._core.call(call, once=once))


class OperationPager:
    """The operations of a list, fetched as they are needed; made by ``OperationsClient.list``."""

    def __init__(
        self,
        core: ClientCore,
        request: operations_pb2.ListOperationsRequest,
        timeout: timedelta | None,
        total_timeout: timedelta | None,
    ) -> None:
        self._core = core
        self._request = request
        self._timeout = timeout
        self._total_timeout = total_timeout

    def __iter__(self) -> Iterator[operations_pb2.Operation]:
        """Yields every operation, page after page."""
        for page in self.pages():
            yield from page.operations

    def pages(self) -> Iterator[operations_pb2.ListOperationsResponse]:
        """Yields every page as the server sent it; one may be empty before the end (S12)."""
        listing = Listing(self._core, self._request, self._timeout, self._total_timeout)
        while (page := SCHEDULER.run(listing.page())) is not None:
            yield page
