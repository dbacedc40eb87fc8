"""SummarizeOperations: how many operations there are, for those who run the service.

An answer costs the store tens of milliseconds, whoever asks. So one is made at a time, and each
caller waits for at most one; others of it wait behind that, and stay open as a Wait does. An answer
that is younger than a second is given once more to the same question of the same caller.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

from lro.v1.operation_control_service_pb2 import SummarizeOperationsRequest
from lro.v1.operation_summary_pb2 import OperationCount, SummarizeOperationsResponse
from lro_grpc._filtering.expression import Filter
from lro_grpc._operation import names
from lro_grpc._runtime.turns import Turns
from lro_grpc._server.guarded_store import GuardedStore
from lro_grpc._server.limits import CallerTurns
from lro_grpc._server.rpc.call import Behavior, Call, parse
from lro_grpc._stores.store import Counts, Query

METHOD = "/lro.v1.OperationControlService/SummarizeOperations"

_YOUNG_SECONDS = 1.0
"""The age up to which an answer is given once more."""

T = TypeVar("T")

_Question = tuple[str, str, str]
"""A parent, a filter, and the caller that asks."""


class SummarizeService:
    """Sums operations up.

    Args:
        store: The operations, behind the guard.
        filter_of: Returns the filter of a text, as a list has it; None for an empty one.
    """

    def __init__(self, store: GuardedStore, filter_of: Callable[[str], Filter | None]) -> None:
        self._store = store
        self._filter_of = filter_of
        self._turns_of_callers = CallerTurns()
        self._turns = Turns(1)
        self._answers: dict[_Question, tuple[float, bytes]] = {}
        """The answers that are young, and when they were asked for; in that order."""

    def methods(self) -> Mapping[str, Behavior]:
        """Returns its method by its full name."""
        return {METHOD: self.summarize}

    async def summarize(self, body: bytes, call: Call) -> bytes:
        """Returns the numbers of a parent's operations."""
        request = parse(SummarizeOperationsRequest, body)
        admitted = await self._store.admit(
            "operations.summarize", request.parent, request, call, named=False
        )
        if request.parent != names.COLLECTION:
            names.check_parent(request.parent)
        parent = "" if request.parent == names.COLLECTION else request.parent
        query = Query(parent, self._filter_of(request.filter))
        if query.is_of_description:
            await admitted.require("operations.describe")
        question = (parent, request.filter, admitted.caller)
        loop = asyncio.get_running_loop()
        async with self._turns_of_callers.of(admitted.caller, call.stay_open):
            young = self._young(loop.time())
            if question in young:
                return young[question][1]
            if not self._turns.is_free:
                call.stay_open()
            await self._turns.take()
            try:
                begin = loop.time()
                answer = _response(await _to_its_end(admitted.store.counts(query)))
            finally:
                self._turns.give_back()
            self._answers[question] = begin, answer
            return answer

    def _young(self, now: float) -> Mapping[_Question, tuple[float, bytes]]:
        """Returns the answers that are young, and forgets the others."""
        while self._answers:
            oldest = next(iter(self._answers))
            if now - self._answers[oldest][0] < _YOUNG_SECONDS:
                break
            del self._answers[oldest]
        return self._answers


async def _to_its_end(work: Awaitable[T]) -> T:
    """Awaits work that goes on though its caller has gone, and keeps its turn until it ends."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise


def _response(counts: Counts) -> bytes:
    response = SummarizeOperationsResponse(examined_count=counts.examined)
    for one in counts.counts:
        state: Any = one.state
        response.counts.append(
            OperationCount(
                method=one.method.removeprefix("/"),
                state=state,
                count=one.number,
                lower_bound=one.is_lower_bound,
            )
        )
    if counts.oldest_ready:
        ready = min(counts.oldest_ready.values())
        response.oldest_ready_time.FromMicroseconds(ready.since)
        response.oldest_ready_operation = ready.name
    if counts.oldest_attempt is not None:
        response.oldest_attempt_start_time.FromMicroseconds(counts.oldest_attempt.since)
        response.oldest_attempt_operation = counts.oldest_attempt.name
    if counts.earliest_examined:
        response.earliest_examined_create_time.FromMicroseconds(counts.earliest_examined)
    return response.SerializeToString()
