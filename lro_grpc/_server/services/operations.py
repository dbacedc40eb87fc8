"""google.longrunning.Operations over a store: bytes in, bytes out, errors raised."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Mapping
from datetime import timedelta

from google.longrunning import operations_pb2
from google.protobuf import duration_pb2

from lro_grpc import paging
from lro_grpc._engine.handler import Handler
from lro_grpc._errors import InvalidArgumentError, cut
from lro_grpc._filtering import parser
from lro_grpc._filtering.expression import Filter
from lro_grpc._filtering.message_fields import MetadataTypes
from lro_grpc._operation import names
from lro_grpc._operation.events import Cancel, Delete
from lro_grpc._operation.telemetry import NO_TELEMETRY, Telemetry
from lro_grpc._runtime.log import log_wait_ended
from lro_grpc._server.guarded_store import Admitted, GuardedStore
from lro_grpc._server.limits import Limits
from lro_grpc._server.poll_advice import PollAdvice
from lro_grpc._server.rpc.call import EMPTY, Behavior, Call, parse
from lro_grpc._server.unserved import Unserved
from lro_grpc._stores.notifier import Notifier
from lro_grpc._stores.store import Order, Page, Query
from lro_grpc._wire.headers import UNSERVED
from lro_grpc._wire.plain_text import header_text


class WaitEnd(enum.Enum):
    """A reason for which a Wait is answered; the first that holds."""

    DONE = "done"
    """The operation is done."""
    DRAIN = "drain"
    """The server goes down; the caller should wait again, elsewhere."""
    TIMEOUT = "timeout"
    """The request's own timeout is over."""
    DEADLINE = "deadline"
    """The RPC's deadline is near: what is left is for the answer to arrive in."""
    MAX_WAIT = "max_wait"
    """The most that the server lets a Wait last is over."""
    NO_PLACE = "no_place"
    """As many calls wait as may; this one is answered at once."""


class OperationsService:
    """The five methods of google.longrunning.Operations.

    Args:
        store: The operations, behind the guard.
        notifier: Wakes calls that wait for a change.
        limits: The most that the server takes on.
        cancel: The event that a Cancel is.
        unserved: The operations that wait in vain.
        max_wait: The longest that a Wait may last; a longer timeout is clamped to it (P9).
        advice: The pause before the next poll, recommended with what is not done (P5).
        served: The handlers of the server, whose types of metadata filters may name fields of.
        telemetry: Observes the ends of Waits.
    """

    def __init__(
        self,
        store: GuardedStore,
        notifier: Notifier,
        limits: Limits,
        *,
        max_wait: timedelta,
        cancel: Cancel,
        unserved: Unserved,
        advice: PollAdvice,
        served: Mapping[str, Handler],
        telemetry: Telemetry = NO_TELEMETRY,
    ) -> None:
        self._store = store
        self._notifier = notifier
        self._limits = limits
        self._cancel = cancel
        self._unserved = unserved
        self._max_wait = max_wait.total_seconds()
        self._advice = advice
        self._served = served
        self._telemetry = telemetry

    def methods(self) -> Mapping[str, Behavior]:
        """Returns the methods by their full names."""
        service = "/google.longrunning.Operations/"
        return {
            f"{service}GetOperation": self._advice.given_by(self.get),
            f"{service}ListOperations": self.list,
            f"{service}CancelOperation": self.cancel,
            f"{service}DeleteOperation": self.delete,
            f"{service}WaitOperation": self._advice.given_by(self.wait),
        }

    async def get(self, body: bytes, call: Call) -> bytes:
        """Returns the latest state of an operation."""
        request = parse(operations_pb2.GetOperationRequest, body)
        admitted = await self._store.admit("operations.get", request.name, request, call)
        record = admitted.known
        if record is None and self._unserved.may_be_any:
            record = await admitted.read(request.name)
        if record is None:
            return await admitted.operation(request.name)
        if self._unserved.may_be_any and not record.done:
            why = self._unserved.why(record)
            if why:
                call.headers.append((UNSERVED, header_text(why)))
        return record.operation

    async def list(self, body: bytes, call: Call) -> bytes:
        """Returns a page of a parent's operations, newest first (S12 to S18)."""
        request = parse(operations_pb2.ListOperationsRequest, body)
        admitted = await self._store.admit(
            "operations.list", request.name, request, call, named=False
        )
        return (await self.listed(admitted, request)).SerializeToString()

    async def listed(
        self, admitted: Admitted, request: operations_pb2.ListOperationsRequest
    ) -> operations_pb2.ListOperationsResponse:
        """Returns the answer to a List, for a call that was let in."""
        page, next_page_token = await self.page(admitted, request)
        answer = operations_pb2.ListOperationsResponse(next_page_token=next_page_token)
        answer.operations.extend(map(operations_pb2.Operation.FromString, page.operations))
        if request.return_partial_success:
            answer.unreachable.extend(page.unreachable)
        return answer

    async def page(
        self,
        admitted: Admitted,
        request: operations_pb2.ListOperationsRequest,
        *,
        order: Order = Order.NEWEST_FIRST,
        records: bool = False,
    ) -> tuple[Page, str]:
        """Returns the page of a request, and the token of the next one; empty if there is none.

        Args:
            admitted: The call, which was let in.
            request: Its request.
            order: The order of the list.
            records: Whether the page is to have the records, too.
        """
        if request.name != names.COLLECTION:
            names.check_parent(request.name)
        size = paging.page_size(request.page_size, most=self._limits.page_size)
        tokens = paging.PageTokens(admitted.store.signing_secret)
        arguments = [request.name, request.filter, str(request.return_partial_success)]
        if order is not Order.NEWEST_FIRST:
            arguments.append(order.value)
        position = b""
        if request.page_token:
            position = tokens.read(request.page_token, *arguments)
        query = self._query(request, order)
        page = await admitted.page(query, position=position, size=size, records=records)
        return page, tokens.make(page.position, *arguments) if page.position else ""

    def filter(self, text: str) -> Filter | None:
        """Returns the filter of a list of operations; None for an empty one."""
        kinds = {handler.metadata_class: None for handler in self._served.values()}
        return parser.parse(text, MetadataTypes([*kinds])) if text else None

    def _query(self, request: operations_pb2.ListOperationsRequest, order: Order) -> Query:
        """Returns the query of a request; with one store, no whole parent is unreachable (S18)."""
        parent = "" if request.name == names.COLLECTION else request.name
        query = Query(parent, self.filter(request.filter), order)
        if request.return_partial_success and not query.has_wildcard:
            raise InvalidArgumentError(
                "return_partial_success is for a list over several parents, and"
                f" {cut(request.name)!r} is one; leave it unset, or give - for a segment of the"
                " parent",
                reason="PARTIAL_SUCCESS_NEEDS_WILDCARD",
                metadata={"name": cut(request.name)},
            )
        return query

    async def cancel(self, body: bytes, call: Call) -> bytes:
        """Requests that an operation be cancelled; its state shows the effect (P8)."""
        kind = operations_pb2.CancelOperationRequest
        await self._store.command("operations.cancel", kind, self._cancel, body, call)
        return EMPTY

    async def delete(self, body: bytes, call: Call) -> bytes:
        """Forgets an operation; one that is not done runs on, unseen (P7)."""
        kind = operations_pb2.DeleteOperationRequest
        await self._store.command("operations.delete", kind, Delete(), body, call)
        return EMPTY

    async def wait(self, body: bytes, call: Call) -> bytes:
        """Returns the latest state of an operation, when it is done or the time is over (P9)."""
        request = parse(operations_pb2.WaitOperationRequest, body)
        admitted = await self._store.admit("operations.wait", request.name, request, call)
        admitted.known = None  # it may be large, and the call long
        time_limits = {
            WaitEnd.DEADLINE: _before_deadline(call.time_remaining()),
            WaitEnd.MAX_WAIT: self._max_wait,
        }
        if request.HasField("timeout"):
            time_limits = {WaitEnd.TIMEOUT: _seconds(request.timeout), **time_limits}
        shortest = min(time_limits, key=time_limits.__getitem__)
        begin = asyncio.get_running_loop().time()
        end = begin + time_limits[shortest]
        with self._notifier.watch(request.name, ends_only=True) as subscription:
            while True:
                operation = await admitted.operation(request.name)
                now = asyncio.get_running_loop().time()
                if _is_done(operation):
                    reason = WaitEnd.DONE
                elif self._notifier.draining:
                    reason = WaitEnd.DRAIN
                elif now >= end:
                    reason = shortest
                elif not call.may_wait():
                    reason = WaitEnd.NO_PLACE
                else:
                    await subscription.wait(end - now)
                    continue
                await admitted.check_again()
                log_wait_ended(request.name, reason.value, now - begin)
                self._telemetry.wait_ended(reason.value, now - begin)
                return operation


def _is_done(operation: bytes) -> bool:
    return operations_pb2.Operation.FromString(operation).done


def _before_deadline(remaining: float | None) -> float:
    """Returns how long to wait under a deadline: less a margin in which the answer arrives."""
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
