"""The operations behind a gateway: those of this process, or of a server behind a channel."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from typing import NamedTuple, Protocol

import grpc
import grpc.aio
from google.longrunning import operations_pb2

from lro_grpc._dialects.view import OperationView
from lro_grpc._errors import InvalidArgumentError, OperationNotFoundError, UnavailableError
from lro_grpc._http.channel_calls import AioCalls, Rpc
from lro_grpc._http.request import Caller
from lro_grpc._operation import names
from lro_grpc._server.operations import Operations
from lro_grpc._server.rpc.local_calls import Answer
from lro_grpc._stores.store import Order

GET_OPERATION = "/google.longrunning.Operations/GetOperation"
LIST_OPERATIONS = "/google.longrunning.Operations/ListOperations"

_CHECK_HEALTH = "/grpc.health.v1.Health/Check"
_SERVING = b"\x08\x01"
"""A ``HealthCheckResponse`` with the status SERVING."""
_HEALTH_SECONDS = 5.0
"""The longest that a server may take to say that it is well."""
_SAYS_NOTHING = frozenset(
    {grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.NOT_FOUND}
    | {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED}
)
"""The codes of a server that has no such service, or not for everyone."""


class ListRequest(NamedTuple):
    """A request for a page of operations."""

    page: operations_pb2.ListOperationsRequest
    order: Order | None
    """The order of the list; None for the one by names, if there is that."""


def view_of(answer: Answer) -> OperationView:
    """Returns all that is known of the operation that a call has answered with."""
    if answer.record is not None:
        return OperationView.of_record(answer.record)
    return OperationView.of_operation(operations_pb2.Operation.FromString(answer.body))


class Calls(Protocol):
    """Answers calls, bytes in and bytes out.

    A call that fails raises an :class:`lro_grpc.LroError` as its caller may see it.
    """

    async def identify(self, method: str, caller: Caller) -> None:
        """Lets in a caller who is known, before the request of a call is made.

        Args:
            method: ``/pkg.Service/Method``, which is going to be called.
            caller: The caller.
        """
        ...

    async def call(
        self, method: str, body: bytes, caller: Caller, *, waits: bool = False
    ) -> Answer:
        """Calls a method with one answer.

        Args:
            method: ``/pkg.Service/Method``.
            body: The serialized request.
            caller: The caller.
            waits: Whether the answer may take as long as an operation does.
        """
        ...


class Backend(Calls, Protocol):
    """Answers calls, and more of the operations than one call can tell."""

    async def is_serving(self) -> bool:
        """Returns whether the server is to be sent calls, as its health checks have it."""
        ...

    def stream(self, method: str, body: bytes, caller: Caller) -> AsyncGenerator[bytes, None]:
        """Calls a method with a stream of answers."""
        ...

    async def get(self, name: str, caller: Caller, check: Callable[[], object]) -> Answer:
        """Returns an operation, with all that is known of it, to a caller that may get it.

        Args:
            name: Its name.
            caller: The caller.
            check: Refuses what else the caller has sent: after the guard, and before the
                operation is looked for (S19).
        """
        ...

    async def list(
        self,
        parent: str,
        request: Callable[[], ListRequest],
        caller: Caller,
    ) -> tuple[Sequence[Answer], str]:
        """Returns a page of a parent's operations, and the token of the next one; empty if none.

        The caller may list them.

        Args:
            parent: The parent.
            request: Returns the request for the page, or refuses what the caller has sent: after
                the guard (S19).
            caller: The caller.
        """
        ...

    async def find(self, operation_id: str) -> str:
        """Returns the name of the operation with an id; if there is none, one that is not known.

        Nobody is asked whether the caller may know that it exists: get the operation, and answer
        with the outcome of that.
        """
        ...


class LocalBackend:
    """Operations in this process.

    Args:
        operations: The operations, their methods added.
    """

    def __init__(self, operations: Operations) -> None:
        self._operations = operations
        self._calls = operations.local()

    async def is_serving(self) -> bool:
        return self._operations.is_serving

    async def identify(self, method: str, caller: Caller) -> None:
        self._check_running()
        caller.identity = await self._calls.identify(method, caller)

    async def call(
        self, method: str, body: bytes, caller: Caller, *, waits: bool = False
    ) -> Answer:
        del waits
        self._check_running()
        return await self._calls.call(method, body, caller, identity=caller.identity)

    def stream(self, method: str, body: bytes, caller: Caller) -> AsyncGenerator[bytes, None]:
        self._check_running()
        return self._calls.stream(method, body, caller)

    async def get(self, name: str, caller: Caller, check: Callable[[], object]) -> Answer:
        self._check_running()
        return await self._calls.get(name, caller, check)

    async def list(
        self,
        parent: str,
        request: Callable[[], ListRequest],
        caller: Caller,
    ) -> tuple[Sequence[Answer], str]:
        self._check_running()

        def in_order() -> tuple[operations_pb2.ListOperationsRequest, Order]:
            sent = request()
            return sent.page, sent.order or Order.BY_NAME

        return await self._calls.list(parent, in_order, caller)

    async def find(self, operation_id: str) -> str:
        self._check_running()
        found = await self._operations.store.find_id(operation_id)
        return found[0] if len(found) == 1 else names.operation_name("", operation_id)

    def _check_running(self) -> None:
        if self._operations.loop is None:
            raise UnavailableError("the server is not ready, or goes down; try again later")


class ChannelBackend(AioCalls):
    """A server of google.longrunning.Operations in another process.

    Args:
        channel: Leads to it.
    """

    async def is_serving(self) -> bool:
        """Returns what the server's health service says of all of it.

        A server that answers, and says nothing of its health, is taken for a healthy one.
        """
        check: Rpc = self._channel.unary_unary(_CHECK_HEALTH)
        try:
            return await check(b"", timeout=_HEALTH_SECONDS) == _SERVING
        except grpc.aio.AioRpcError as error:
            return error.code() in _SAYS_NOTHING

    async def get(self, name: str, caller: Caller, check: Callable[[], object]) -> Answer:
        request = operations_pb2.GetOperationRequest(name=name)
        try:
            answer = await self.call(GET_OPERATION, request.SerializeToString(), caller)
        except OperationNotFoundError:
            check()
            raise
        check()
        return answer

    async def list(
        self,
        parent: str,
        request: Callable[[], ListRequest],
        caller: Caller,
    ) -> tuple[Sequence[Answer], str]:
        try:
            page = _newest_first(request())
        except InvalidArgumentError:
            # The guard is the server's: a list that it lets through shows that the caller may.
            await self._list(operations_pb2.ListOperationsRequest(name=parent, page_size=1), caller)
            raise
        found = await self._list(page, caller)
        listed = [Answer(operation.SerializeToString()) for operation in found.operations]
        return listed, found.next_page_token

    async def _list(
        self, request: operations_pb2.ListOperationsRequest, caller: Caller
    ) -> operations_pb2.ListOperationsResponse:
        answer = await self.call(LIST_OPERATIONS, request.SerializeToString(), caller)
        return operations_pb2.ListOperationsResponse.FromString(answer.body)

    async def find(self, operation_id: str) -> str:
        """Returns the name without a parent: the server cannot be asked for an id alone."""
        return names.operation_name("", operation_id)


def _newest_first(request: ListRequest) -> operations_pb2.ListOperationsRequest:
    """Returns what is asked of a server that has one order."""
    if request.order is Order.BY_NAME:
        raise InvalidArgumentError(
            "the server behind this gateway lists the newest first, and in no other order; leave"
            " the order unset, or ask for that one"
        )
    return request.page
