"""Calls of the served methods within their own process, for protocols other than gRPC."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from typing import Any, NamedTuple, Protocol

from google.longrunning import operations_pb2

from lro_grpc._errors import LIBRARY_DOMAIN, Code, LroError, from_status
from lro_grpc._operation.record import Record
from lro_grpc._server.guarded_store import Admitted, GuardedStore
from lro_grpc._server.poll_advice import PollAdvice
from lro_grpc._server.rpc.call import Call, Waiters
from lro_grpc._server.rpc.handlers import Find, RpcMethod, StreamMethod, UnaryMethod
from lro_grpc._server.rpc.status import failure_status
from lro_grpc._stores.store import Order, Page

_GET = "/google.longrunning.Operations/GetOperation"
_LIST = "/google.longrunning.Operations/ListOperations"


class GetPage(Protocol):
    """Returns a page of operations, and the token of the next one, to a caller that was let in."""

    def __call__(
        self,
        admitted: Admitted,
        request: operations_pb2.ListOperationsRequest,
        *,
        order: Order,
        records: bool,
    ) -> Coroutine[Any, Any, tuple[Page, str]]:
        """See ``OperationsService.page``."""
        ...


class Answer(NamedTuple):
    """The answer of a call."""

    body: bytes
    """The serialized message."""
    headers: Sequence[tuple[str, str | bytes]] = ()
    """Its initial metadata."""
    record: Record | None = None
    """The record of the operation that it is, where there is one: it holds more than that."""


class LocalCalls:
    """Calls methods on the loop of the operations; raises the errors that a gRPC caller would see.

    Args:
        find: Returns the method of a full name; None if it is not served.
        store: The operations, behind the guard.
        page: Returns a page to a caller that was let in.
        advice: The pause before the next poll, recommended with what is not done (P5).
        waiters: Counts the calls that stay open to give one answer later.
        streams: Counts those that stay open to give many.
    """

    def __init__(
        self,
        find: Find,
        store: GuardedStore,
        page: GetPage,
        advice: PollAdvice,
        waiters: Waiters,
        streams: Waiters,
    ) -> None:
        self._find = find
        self._store = store
        self._page = page
        self._advice = advice
        self._waiters = waiters
        self._streams = streams

    async def identify(self, method: str, context: Any) -> str:
        """Returns the caller of a method that is going to be called, as ``identify`` names them.

        Args:
            method: ``/pkg.Service/Method``.
            context: Stands in for the RPC's ServicerContext.

        Raises:
            LroError: An error of ``identify``, as the method's caller may see it.
        """
        served = self._served(method, RpcMethod)
        call = Call(context, method, self._waiters)
        with _public_errors(call, served.error_domain):
            return await self._store.identify(call)

    async def call(
        self, method: str, body: bytes, context: Any, *, identity: str | None = None
    ) -> Answer:
        """Calls a method that gives one answer.

        Args:
            method: ``/pkg.Service/Method``.
            body: The serialized request.
            context: Stands in for the RPC's ServicerContext.
            identity: The caller, if they have been identified.

        Raises:
            LroError: An error of the method, as its caller may see it.
        """
        served = self._served(method, UnaryMethod)
        call = Call(context, method, self._waiters, identity)
        with _public_errors(call, served.error_domain):
            answer = await served.behavior(body, call)
            return Answer(answer, call.headers, call.record)

    async def stream(self, method: str, body: bytes, context: Any) -> AsyncGenerator[bytes, None]:
        """Calls a method that gives a stream of answers; see :meth:`call`."""
        served = self._served(method, StreamMethod)
        call = Call(context, method, self._streams)
        with _public_errors(call, served.error_domain):
            async with contextlib.aclosing(served.behavior(body, call)) as messages:
                async for message in messages:
                    yield message

    async def get(self, name: str, context: Any, check: Callable[[], object]) -> Answer:
        """Returns the answer of GetOperation with the record, which is read once.

        Args:
            name: The operation's name, as the caller has sent it.
            context: Stands in for the RPC's ServicerContext.
            check: Refuses what else the caller has sent; called once the caller is let in.

        Raises:
            LroError: An error of GetOperation, as its caller may see it.
        """
        request = operations_pb2.GetOperationRequest(name=name)
        call = Call(context, _GET, self._waiters)
        with _public_errors(call, LIBRARY_DOMAIN):
            admitted = await self._store.admit("operations.get", name, request, call)
            check()
            record = admitted.known or await admitted.read(name)
            self._advice.give(call, done=record.done)
            return Answer(record.operation, call.headers, record)

    async def list(
        self,
        parent: str,
        request: Callable[[], tuple[operations_pb2.ListOperationsRequest, Order]],
        context: Any,
    ) -> tuple[Sequence[Answer], str]:
        """Returns a page of a parent's operations, and the token of the next one.

        The operations have their records, which are read with the page.

        Args:
            parent: The parent, as the caller has sent it.
            request: Returns the request for the page, and the order of the list, once the caller
                is let in; may raise.
            context: Stands in for the RPC's ServicerContext.

        Raises:
            LroError: An error of ListOperations, as its caller may see it.
        """
        call = Call(context, _LIST, self._waiters)
        with _public_errors(call, LIBRARY_DOMAIN):
            named = operations_pb2.ListOperationsRequest(name=parent)
            admitted = await self._store.admit("operations.list", parent, named, call, named=False)
            sent, order = request()
            page, next_page_token = await self._page(admitted, sent, order=order, records=True)
            listed = [Answer(record.operation, record=record) for record in page.records]
            return listed, next_page_token

    def _served(self, method: str, kind: Any) -> Any:
        served = self._find(method)
        if isinstance(served, kind):
            return served
        raise LroError(
            f"{method} is not served here",
            code=Code.UNIMPLEMENTED,
            domain=LIBRARY_DOMAIN,
            metadata={"method": method},
        )


class _public_errors:  # noqa: N801 - it is used as contextlib's are
    """Ends a call, and raises its error as the caller may see it."""

    __slots__ = ("_call", "_domain")

    def __init__(self, call: Call, domain: str) -> None:
        self._call = call
        self._domain = domain

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        try:
            if isinstance(error, Exception):
                raise from_status(failure_status(error, self._call.method, self._domain)) from error
        finally:
            self._call.end()
