"""google.longrunning.Operations over a store: bytes in, bytes out, errors raised."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from typing import TypeVar

from google.longrunning import operations_pb2
from google.protobuf import duration_pb2
from google.protobuf.message import DecodeError, Message

from lro_grpc import names, paging
from lro_grpc.errors import (
    Code,
    InvalidArgumentError,
    LroError,
    MalformedRequestError,
    OperationNotFoundError,
    cut,
)
from lro_grpc.record import Cancel, Delete
from lro_grpc.server.call import Call, Service
from lro_grpc.stores import Changes, Store

M = TypeVar("M", bound=Message)

_EMPTY = b""
"""A serialized ``google.protobuf.Empty``."""

_POLL_SECONDS = 10.0
"""A waiter looks by itself this often, so that no lost notice can keep it for ever (R9)."""


def parse(kind: type[M], body: bytes) -> M:
    """Parses a request's body.

    Raises:
        MalformedRequestError: If the body is not such a message.
    """
    try:
        return kind.FromString(body)
    except DecodeError as cause:
        raise MalformedRequestError(
            f"the body of {len(body)} bytes is not a {kind.DESCRIPTOR.full_name}: {cause}",
            metadata={"type": kind.DESCRIPTOR.full_name},
        ) from cause


class OperationsService:
    """The five methods of google.longrunning.Operations.

    Args:
        store: Where the operations are kept.
        changes: Tells when one has changed.
        max_wait: How long a Wait may last; a longer timeout is clamped to it (P9).
    """

    def __init__(self, store: Store, changes: Changes, *, max_wait: timedelta) -> None:
        self._store = store
        self._changes = changes
        self._max_wait = max_wait.total_seconds()
        self._draining = False

    def methods(self) -> Mapping[str, Service]:
        """Returns the methods by their full names."""
        service = "/google.longrunning.Operations/"
        return {
            f"{service}GetOperation": self.get,
            f"{service}ListOperations": self.list,
            f"{service}CancelOperation": self.cancel,
            f"{service}DeleteOperation": self.delete,
            f"{service}WaitOperation": self.wait,
        }

    def drain(self) -> None:
        """Answers every Wait with the latest state, from now on."""
        self._draining = True
        self._changes.wake_all()

    async def get(self, body: bytes, call: Call) -> bytes:
        """Returns the latest state of an operation."""
        del call
        request = parse(operations_pb2.GetOperationRequest, body)
        return await self._operation(request.name)

    async def list(self, body: bytes, call: Call) -> bytes:
        """Returns a page of a parent's operations, newest first (S12 to S15)."""
        del call
        request = parse(operations_pb2.ListOperationsRequest, body)
        parent = "" if request.name == names.COLLECTION else request.name
        if request.name != names.COLLECTION:
            names.check_parent(request.name)
        size = paging.page_size(request.page_size)
        if request.return_partial_success:
            raise LroError(
                "return_partial_success is not supported: leave it unset (P10)",
                code=Code.UNIMPLEMENTED,
                reason="PARTIAL_SUCCESS_UNSUPPORTED",
            )
        tokens = paging.PageTokens(self._store.key)
        position = b""
        if request.page_token:
            position = tokens.read(request.page_token, request.name, request.filter)
        if request.filter:
            raise InvalidArgumentError(
                f"filter {cut(request.filter)!r} cannot be evaluated: this server lists without a"
                " filter only; leave it empty",
                reason="INVALID_FILTER",
                metadata={"filter": cut(request.filter)},
            )
        page = await self._store.page(parent, position=position, size=size)
        answer = operations_pb2.ListOperationsResponse()
        answer.operations.extend(map(operations_pb2.Operation.FromString, page.operations))
        if page.position:
            answer.next_page_token = tokens.make(page.position, request.name, request.filter)
        return answer.SerializeToString()

    async def cancel(self, body: bytes, call: Call) -> bytes:
        """Asks to cancel an operation; the operation's state tells what comes of it (P8)."""
        del call
        request = parse(operations_pb2.CancelOperationRequest, body)
        names.split(request.name)
        await self._store.apply(request.name, Cancel())
        return _EMPTY

    async def delete(self, body: bytes, call: Call) -> bytes:
        """Forgets an operation; one that is not done runs on, unseen (P7)."""
        del call
        request = parse(operations_pb2.DeleteOperationRequest, body)
        names.split(request.name)
        await self._store.apply(request.name, Delete())
        return _EMPTY

    async def wait(self, body: bytes, call: Call) -> bytes:
        """Returns the latest state of an operation, when it is done or the time is over (P9)."""
        request = parse(operations_pb2.WaitOperationRequest, body)
        limit = min(self._max_wait, _patience(call.time_remaining()))
        if request.HasField("timeout"):
            limit = min(limit, _seconds(request.timeout))
        loop = asyncio.get_running_loop()
        end = loop.time() + limit
        with self._changes.watch(request.name) as watcher:
            while True:
                operation = await self._operation(request.name)
                left = end - loop.time()
                if left <= 0 or self._draining or _is_done(operation) or not call.may_wait():
                    return operation
                await watcher.wait(min(left, _POLL_SECONDS))

    async def _operation(self, name: str) -> bytes:
        """Returns the served bytes of a name; what is stored need not be checked to be a name."""
        try:
            return await self._store.operation(name)
        except OperationNotFoundError:
            names.split(name)
            raise


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
