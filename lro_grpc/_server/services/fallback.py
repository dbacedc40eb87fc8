"""The operations of another servicer beside those of the store, while a service moves over.

That servicer of google.longrunning.Operations was written by hand, and operations of its own still
run. It is asked for whatever is not in the store, so that its clients notice nothing:

* Get, Wait, Cancel and Delete go to the store first, and to the servicer if the store has no
  operation of that name. The name need not have the form of the store's own.
* A List has the store's operations first, and then the servicer's.

The guard comes before either, as always: to ``authorize`` the servicer's operations are unknown
(``Access.operation`` is None). The servicer's own errors are those of the RPC.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import grpc
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf import empty_pb2
from google.protobuf.message import Message

from lro_grpc import paging
from lro_grpc._errors import (
    ConfigurationError,
    InvalidNameError,
    InvalidPageTokenError,
    LroError,
    OperationNotFoundError,
)
from lro_grpc._runtime.threads import BoundedThreads
from lro_grpc._server.guarded_store import Admitted, GuardedStore
from lro_grpc._server.limits import Limits
from lro_grpc._server.rpc.call import Behavior, Call, parse
from lro_grpc._server.rpc.hook_context import Aborted
from lro_grpc._server.services.operations import OperationsService
from lro_grpc._stores.notifier import Notifier

_THREADS = 64
"""Threads at a time for the servicer's methods that are a ``def``; and as many for its Waits."""

_WAITING = 1000
"""Calls that may wait for such a thread; one beyond them is refused."""

_ANSWERS: Mapping[str, type[Message]] = {
    "GetOperation": operations_pb2.Operation,
    "WaitOperation": operations_pb2.Operation,
    "CancelOperation": empty_pb2.Empty,
    "DeleteOperation": empty_pb2.Empty,
    "ListOperations": operations_pb2.ListOperationsResponse,
}
"""The types of the methods' answers."""

_Ask = Callable[[Any, Call], Coroutine[Any, Any, Any]]
"""Asks the servicer, and returns its response."""


class Fallback:
    """The methods of google.longrunning.Operations over a store and a servicer.

    Args:
        servicer: The servicer; each of its methods is a function or a coroutine function.
        service: The methods over the store alone.
        store: The operations of the store, behind the guard.
        notifier: Knows when the server goes down.
        limits: The most that the server takes on.
    """

    def __init__(
        self,
        servicer: operations_pb2_grpc.OperationsServicer,
        service: OperationsService,
        store: GuardedStore,
        notifier: Notifier,
        limits: Limits,
    ) -> None:
        self._servicer = servicer
        self._service = service
        self._store = store
        self._notifier = notifier
        self._limits = limits
        self._threads = BoundedThreads(_THREADS, waiting=_WAITING)
        self._waits = BoundedThreads(_THREADS, waiting=_WAITING)
        self._get = functools.partial(self._ask, "GetOperation")
        self._cancel = functools.partial(self._ask, "CancelOperation")
        self._delete = functools.partial(self._ask, "DeleteOperation")

    def methods(self) -> Mapping[str, Behavior]:
        """Returns the methods by their full names."""
        asked: Mapping[str, tuple[type[Message], _Ask]] = {
            "GetOperation": (operations_pb2.GetOperationRequest, self._get),
            "WaitOperation": (operations_pb2.WaitOperationRequest, self._wait),
            "CancelOperation": (operations_pb2.CancelOperationRequest, self._cancel),
            "DeleteOperation": (operations_pb2.DeleteOperationRequest, self._delete),
        }
        methods: dict[str, Behavior] = {}
        for name, over_store in self._service.methods().items():
            method = name.rpartition("/")[2]
            methods[name] = (
                functools.partial(self._answer, over_store, *asked[method])
                if method in asked
                else self.list
            )
        return methods

    async def list(self, body: bytes, call: Call) -> bytes:
        """Returns a page of a parent's operations: the store's, and after them the servicer's."""
        request = parse(operations_pb2.ListOperationsRequest, body)
        admitted = await self._store.admit(
            "operations.list", request.name, request, call, named=False
        )
        return (await self._page(admitted, request, call)).SerializeToString()

    async def _page(
        self, admitted: Admitted, request: operations_pb2.ListOperationsRequest, call: Call
    ) -> operations_pb2.ListOperationsResponse:
        size = paging.page_size(request.page_size, most=self._limits.page_size)
        tokens = paging.PageTokens(admitted.store.signing_secret)
        arguments = (request.name, request.filter, str(request.return_partial_success), "fallback")
        page = operations_pb2.ListOperationsResponse()
        try:
            position = tokens.read(request.page_token, *arguments)
        except InvalidPageTokenError:  # it is the store's, or there is none yet
            position = b""
            page = await self._page_of_store(admitted, request)
        left = size - len(page.operations)
        if page.next_page_token or not self._lists:
            return page
        if left <= 0:
            page.next_page_token = tokens.make(b"", *arguments)
            return page
        rest = await self._ask(
            "ListOperations",
            operations_pb2.ListOperationsRequest(
                name=request.name,
                filter=request.filter,
                page_size=left,
                page_token=position.decode(),
                return_partial_success=request.return_partial_success,
            ),
            call,
        )
        page.MergeFrom(rest)
        if rest.next_page_token:
            page.next_page_token = tokens.make(rest.next_page_token.encode(), *arguments)
        return page

    async def _page_of_store(
        self, admitted: Admitted, request: operations_pb2.ListOperationsRequest
    ) -> operations_pb2.ListOperationsResponse:
        try:
            return await self._service.listed(admitted, request)
        except InvalidNameError:
            if not request.name or request.page_token:
                raise
            return operations_pb2.ListOperationsResponse()  # the servicer may know the parent

    @property
    def _lists(self) -> bool:
        """Whether the servicer has a List at all."""
        generated = operations_pb2_grpc.OperationsServicer.ListOperations
        return type(self._servicer).ListOperations is not generated

    async def _answer(
        self, over_store: Behavior, kind: type[Message], ask: _Ask, body: bytes, call: Call
    ) -> bytes:
        """Answers an RPC whose request names an operation, which is the servicer's or not."""
        try:
            return await over_store(body, call)
        except (OperationNotFoundError, InvalidNameError):
            request: Any = parse(kind, body)
            if call.check_again is None or not request.name:
                raise
        response: Message = await ask(request, call)
        return response.SerializeToString()

    async def _wait(self, request: operations_pb2.WaitOperationRequest, call: Call) -> Any:
        """Waits at the servicer.

        Without a place to wait, and when the server goes down, the operation is got as it is (P9).
        """
        get = operations_pb2.GetOperationRequest(name=request.name)
        is_async = inspect.iscoroutinefunction(self._servicer.WaitOperation)
        if not ((is_async or self._waits.is_free) and call.may_wait()):
            return await self._get(get, call)
        waiting = asyncio.create_task(self._ask("WaitOperation", request, call, self._waits))
        try:
            with self._notifier.watch(request.name, ends_only=True) as subscription:
                waiting.add_done_callback(lambda _: subscription.notify(urgent=True))
                while not (waiting.done() or self._notifier.draining):
                    await subscription.wait(float("inf"))
            answer = waiting.result() if waiting.done() else await self._get(get, call)
        finally:
            waiting.cancel()
            await asyncio.wait({waiting})
        assert call.check_again is not None, "the guard comes first"
        await call.check_again()
        return answer

    async def _ask(
        self, method: str, request: Any, call: Call, threads: BoundedThreads | None = None
    ) -> Any:
        """Asks the servicer, and returns its response."""
        function = getattr(self._servicer, method)
        try:
            answer = await call.run(method, function, request, threads or self._threads)
        except grpc.RpcError as error:
            called: Any = error
            if isinstance(error, LroError) or not hasattr(called, "trailing_metadata"):
                raise
            # The servicer has called another server, whose error is the RPC's.
            trailers = called.trailing_metadata() or ()
            raise Aborted(called.code(), called.details() or "", tuple(trailers)) from error
        expected = _ANSWERS[method]
        if not isinstance(answer, expected):
            raise ConfigurationError(
                f"{method} of the fallback returned {type(answer).__qualname__}; return"
                f" {expected.DESCRIPTOR.full_name}"
            )
        return answer
