"""docs/learn/fair-queues.md: each caller is a key, once the server knows callers."""

from __future__ import annotations

import asyncio
import functools
import queue
import threading
from typing import Any

import pytest
from pages import Page
from reader import defined, serving

PAGE = Page("learn/fair-queues.md")

pytestmark = [pytest.mark.codegen, pytest.mark.usefixtures("folder")]


def identify(context: Any) -> str:
    return str(dict(context.invocation_metadata()).get("x-user", ""))


def called_by(user: str) -> list[tuple[str, str]]:
    return [("x-user", user)]


@pytest.mark.parametrize(("guards", "key"), [({}, ""), ({"identify": identify}, "ada")])
def test_callers_have_keys_if_they_have_names(guards: Any, key: str) -> None:
    service = defined(PAGE, "fair.py")["ReportService"]
    with serving(service, **guards) as reports:
        future = reports.build(1, metadata=called_by("ada"))
        assert list(future.result().pages) == [f"a page for {key}"]
        assert future.describe().concurrency_key == key


def test_the_fifth_of_a_caller_waits_and_the_first_of_another_does_not() -> None:
    service = defined(PAGE, "fair.py")["ReportService"]
    begun: queue.SimpleQueue[str] = queue.SimpleQueue()
    gate = threading.Event()

    @functools.wraps(service.BuildReport)  # with the page's options
    async def build(self: Any, request: Any, op: Any) -> Any:
        begun.put(op.caller)
        await asyncio.to_thread(gate.wait)
        return await service.BuildReport(self, request, op)

    held = type("Held", (service,), {"BuildReport": build})
    with serving(held, identify=identify) as reports:
        users = [*["ada"] * 5, "bob"]
        futures = [reports.build(1, metadata=called_by(user)) for user in users]
        assert sorted(begun.get() for _ in range(5)) == ["ada", "ada", "ada", "ada", "bob"]
        assert futures[4].describe().attempts == []
        gate.set()
        assert [*futures[4].result().pages] == ["a page for ada"]
