"""A server as the console sees it, over the minutes: what it lacks, and how large its pages are."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from google.longrunning import operations_pb2

from lro_grpc import Code, LroError
from lro_grpc._client import experience, plan
from lro_grpc._console.actions import ACTIONS, CONTROL
from lro_grpc._console.source import ListQuery, Source

MINUTE = 60.0


class Lesser:
    """A server that answers as a test says; it is its own connection."""

    def __init__(self, answer: Callable[[plan.Call], plan.Reply]) -> None:
        self.unusable = experience.Unusable()
        self.calls: list[plan.Call] = []
        self._answer = answer

    def connection(self, _: Any) -> Any:
        return self

    async def call(self, call: plan.Call) -> plan.Reply:
        self.calls.append(call)
        return self._answer(call)


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


def unimplemented(_: plan.Call) -> plan.Reply:
    return plan.Reply(LroError("there is no such method", code=Code.UNIMPLEMENTED))


def test_what_a_server_does_not_have_is_tried_again_after_ten_minutes():
    server, clock = Lesser(unimplemented), Clock()
    source: Any = Source(server, clock)

    def act() -> None:
        with pytest.raises(LroError):
            asyncio.run(source.act((), "delete", "operations/x"))

    assert source.lacks() == set()
    act()
    assert source.lacks() == {"delete"}
    clock.now += 9 * MINUTE
    assert source.lacks() == {"delete"}
    clock.now += 2 * MINUTE
    assert source.lacks() == set()


def test_a_server_without_descriptions_has_no_control_service():
    server, clock = Lesser(unimplemented), Clock()
    source: Any = Source(server, clock)

    def describe() -> None:
        with pytest.raises(LroError):
            asyncio.run(source.described((), "operations/x"))

    describe()
    assert source.lacks() == CONTROL
    assert [call.method for call in server.calls] == ["DescribeOperation", "GetOperation"]
    describe()
    assert [call.method for call in server.calls[2:]] == ["GetOperation"]
    clock.now += 11 * MINUTE
    assert source.lacks() == set()
    describe()
    assert len(server.calls) == 5


def test_every_action_is_requested_by_a_method_of_its_own():
    server = Lesser(unimplemented)
    source: Any = Source(server)
    for verb in ACTIONS:
        with pytest.raises(LroError):
            asyncio.run(source.act((), verb, "operations/x", reason="why"))
    assert len({call.method for call in server.calls}) == len(ACTIONS)
    assert source.lacks(is_described=True) == ACTIONS.keys()


def test_pages_that_were_too_large_are_tried_in_full_again_after_ten_minutes():
    def answer(call: plan.Call) -> plan.Reply:
        if call.request.page_size > 10:
            text = "CLIENT: Received message larger than max (70000000 vs. 67108864)"
            return plan.Reply(LroError(text, code=Code.RESOURCE_EXHAUSTED))
        return plan.Reply(message=operations_pb2.ListOperationsResponse())

    server, clock = Lesser(answer), Clock()
    source: Any = Source(server, clock)

    def sizes(parent: str = "-") -> list[int]:
        del server.calls[:]
        asyncio.run(source.page((), ListQuery(parent, "", 100, "")))
        return [call.request.page_size for call in server.calls]

    assert sizes() == [100, 25, 6]
    assert sizes() == [6]
    assert sizes("projects/p/locations/l") == [100, 25, 6]
    clock.now += 11 * MINUTE
    assert sizes() == [100, 25, 6]


def test_an_operation_that_is_too_large_is_an_error():
    """With one operation a page cannot be smaller."""

    def answer(_: plan.Call) -> plan.Reply:
        return plan.Reply(LroError("message larger than max", code=Code.RESOURCE_EXHAUSTED))

    server = Lesser(answer)
    source: Any = Source(server)
    with pytest.raises(LroError, match="larger than max"):
        asyncio.run(source.page((), ListQuery("-", "", 50, "")))
    assert [call.request.page_size for call in server.calls] == [50, 12, 3, 1]
