"""The numbers on the chips of states: what a server counts, asked for now and then."""

from __future__ import annotations

import asyncio

from lro.v1.operation_summary_pb2 import SummarizeOperationsResponse
from lro.v1.state_pb2 import JobState
from lro_grpc import Code, LroError
from lro_grpc._console.counts import StateCounts


def summary(*counts: tuple[str, JobState.ValueType, int, bool]) -> SummarizeOperationsResponse:
    found = SummarizeOperationsResponse()
    for method, state, count, is_estimate in counts:
        found.counts.add(method=method, state=state, count=count, lower_bound=is_estimate)
    return found


def test_the_methods_of_a_state_are_added_up():
    async def summarize(*_):
        return summary(
            ("s/A", JobState.JOB_STATE_RUNNING, 1_000, False),
            ("s/B", JobState.JOB_STATE_RUNNING, 234, True),
            ("s/B", JobState.JOB_STATE_FAILED, 2, False),
        )

    counts = asyncio.run(StateCounts(summarize).of((), "-"))
    assert counts == {"RUNNING": "1,234+", "FAILED": "2"}


def test_a_state_of_a_later_version():
    async def summarize(*_):
        return summary(("s/A", 99, 1, False))

    assert asyncio.run(StateCounts(summarize).of((), "-")) == {"99": "1"}


def test_a_refusal_is_no_trouble_and_is_remembered():
    asked = []

    async def summarize(credentials, parent):
        asked.append((credentials, parent))
        raise LroError("no", code=Code.PERMISSION_DENIED)

    async def ask_twice():
        counts = StateCounts(summarize)
        return [await counts.of((), "-"), await counts.of((), "-"), await counts.of((), "p")]

    assert asyncio.run(ask_twice()) == [{}, {}, {}]
    assert asked == [((), "-"), ((), "p")]


def test_what_takes_long_holds_nobody_up_and_comes_later():
    async def ask():
        may_answer = asyncio.Event()

        async def summarize(*_):
            await may_answer.wait()
            return summary(("s/A", JobState.JOB_STATE_RUNNING, 1, False))

        counts = StateCounts(summarize)
        first = await counts.of((), "-")
        may_answer.set()
        while not (later := await counts.of((), "-")):
            pass
        return first, later

    assert asyncio.run(ask()) == ({}, {"RUNNING": "1"})
