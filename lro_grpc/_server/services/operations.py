"""google.longrunning.Operations over a store: bytes in, bytes out, errors raised."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import timedelta

from google.longrunning import operations_pb2
from google.protobuf import duration_pb2

from lro_grpc import paging
from lro_grpc._errors import InvalidArgumentError, cut
from lro_grpc._filtering import parser
from lro_grpc._operation import names
from lro_grpc._operation.events import Cancel, Delete
from lro_grpc._server.guarded_store import GuardedStore
from lro_grpc._server.limits import Limits
from lro_grpc._server.rpc.call import Behavior, Call, parse
from lro_grpc._stores.notifier import Notifier
from lro_grpc._stores.store import Query
from lro_grpc._wire.headers import POLL_AFTER


class OperationsService:
    """The five methods of google.longrunning.Operations.

    Args:
        store: The operations, behind the guard.
        notifier: Wakes calls that wait for a change.
        limits: The most that the server takes on.
        max_wait: How long a Wait may last; a longer timeout is clamped to it (P9).
        poll_after: How long a caller that finds an operation not done should wait before the next
            Get (P5).
    """

    def __init__(
        self,
        store: GuardedStore,
        notifier: Notifier,
        limits: Limits,
        *,
        max_wait: timedelta,
        poll_after: timedelta | None = None,
    ) -> None:
        self._store = store
        self._notifier = notifier
        self._limits = limits
        self._max_wait = max_wait.total_seconds()
        self._poll_after = poll_after

    def methods(self) -> Mapping[str, Behavior]:
        """Returns the methods by their full names."""
        service = "/google.longrunning.Operations/"
        return {
            f"{service}GetOperation": self.get,
            f"{service}ListOperations": self.list,
            f"{service}CancelOperation": self.cancel,
            f"{service}DeleteOperation": self.delete,
            f"{service}WaitOperation": self.wait,
        }

    async def get(self, body: bytes, call: Call) -> bytes:
        """Returns the latest state of an operation."""
        request = parse(operations_pb2.GetOperationRequest, body)
        admitted = await self._store.admit("operations.get", request.name, request, call)
        operation = await admitted.operation(request.name)
        if self._poll_after is not None and not _is_done(operation):
            call.headers.append((POLL_AFTER, str(self._poll_after // timedelta(milliseconds=1))))
        return operation

    async def list(self, body: bytes, call: Call) -> bytes:
        """Returns a page of a parent's operations, newest first (S12 to S18)."""
        request = parse(operations_pb2.ListOperationsRequest, body)
        admitted = await self._store.admit(
            "operations.list", request.name, request, call, named=False
        )
        if request.name != names.COLLECTION:
            names.check_parent(request.name)
        size = paging.page_size(request.page_size, most=self._limits.page_size)
        tokens = paging.PageTokens(admitted.store.signing_secret)
        arguments = (request.name, request.filter, str(request.return_partial_success))
        position = b""
        if request.page_token:
            position = tokens.read(request.page_token, *arguments)
        query = _query(request)
        page = await admitted.store.page(query, position=position, size=size)
        answer = operations_pb2.ListOperationsResponse()
        answer.operations.extend(map(operations_pb2.Operation.FromString, page.operations))
        if page.position:
            answer.next_page_token = tokens.make(page.position, *arguments)
        return answer.SerializeToString()

    async def cancel(self, body: bytes, call: Call) -> bytes:
        """Asks to cancel an operation; the operation's state tells what comes of it (P8)."""
        kind = operations_pb2.CancelOperationRequest
        return await self._store.command("operations.cancel", kind, Cancel(), body, call)

    async def delete(self, body: bytes, call: Call) -> bytes:
        """Forgets an operation; one that is not done runs on, unseen (P7)."""
        kind = operations_pb2.DeleteOperationRequest
        return await self._store.command("operations.delete", kind, Delete(), body, call)

    async def wait(self, body: bytes, call: Call) -> bytes:
        """Returns the latest state of an operation, when it is done or the time is over (P9)."""
        request = parse(operations_pb2.WaitOperationRequest, body)
        admitted = await self._store.admit("operations.wait", request.name, request, call)
        limit = min(self._max_wait, _patience(call.time_remaining()))
        if request.HasField("timeout"):
            limit = min(limit, _seconds(request.timeout))
        loop = asyncio.get_running_loop()
        end = loop.time() + limit
        with self._notifier.watch(request.name) as watcher:
            while True:
                operation = await admitted.operation(request.name)
                left = end - loop.time()
                is_over = left <= 0 or self._notifier.draining or _is_done(operation)
                if is_over or not call.may_wait():
                    return operation
                await watcher.wait(left)


def _query(request: operations_pb2.ListOperationsRequest) -> Query:
    """Returns what a request asks for; with one store, no parent is ever unreachable (S18)."""
    parent = "" if request.name == names.COLLECTION else request.name
    query = Query(parent, parser.parse(request.filter) if request.filter else None)
    if request.return_partial_success and not query.has_wildcard:
        raise InvalidArgumentError(
            "return_partial_success is for a list over several parents, and"
            f" {cut(request.name)!r} is one; leave it unset, or give - for a segment of the parent",
            reason="PARTIAL_SUCCESS_NEEDS_WILDCARD",
            metadata={"name": cut(request.name)},
        )
    return query


def _is_done(operation: bytes) -> bool:
    return operations_pb2.Operation.FromString(operation).done


def _patience(remaining: float | None) -> float:
    """Returns how long to wait under a deadline, with a margin in which the answer gets there."""
    if remaining is None:
        return float("inf")
    return remaining - min(0.5, max(0.02, remaining / 10))


def _seconds(timeout: duration_pb2.Duration) -> float:
    if timeout.seconds < 0 or timeout.nanos < 0:
        raise InvalidArgumentError(
            f"timeout is {timeout.seconds}s {timeout.nanos}ns; give one that is not negative",
            reason="INVALID_TIMEOUT",
            metadata={"timeout": f"{timeout.seconds}s {timeout.nanos}ns"},
        )
    return timeout.seconds + timeout.nanos / 1e9
