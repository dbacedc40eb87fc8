"""Answers of servers that go wrong in a way of their own: functions for a ``FakeOperations``."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any, NoReturn

import grpc
from google.longrunning import operations_pb2

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


def refuses_for_now(
    request: Any,
    context: grpc.ServicerContext,
    header: Sequence[tuple[str, str | bytes]] = (("grpc-retry-pushback-ms", "20"),),
) -> NoReturn:
    """Refuses the call, and says in a header when to come again."""
    del request
    context.set_trailing_metadata(tuple(header))
    context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many calls")


def at_random(seed: int) -> Callable[[Any, Any], operations_pb2.Operation]:
    """Answers a Wait as gapic-showcase does: by a number that is drawn, whatever the truth is."""
    draw = random.Random(seed)

    def answer(request: Any, context: object) -> operations_pb2.Operation:
        del context
        drawn = draw.randrange(3)
        one = operations_pb2.Operation(name=request.name, done=drawn > 0)
        if drawn == 1:
            one.response.SetInParent()  # an Any without a type
        elif drawn == 2:
            one.error.SetInParent()
        return one

    return answer


def at_random_in_a_stream(seed: int) -> Callable[[Any, Any], Iterator[operations_pb2.Operation]]:
    """Answers a Watch in that manner, and ends the stream."""
    answer = at_random(seed)
    return lambda request, context: iter([answer(request, context)])
