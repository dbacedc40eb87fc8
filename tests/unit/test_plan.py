"""The plan of a single call: how often it is made, and within which time."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from google.longrunning import operations_pb2
from google.rpc import error_details_pb2
from hypothesis import given
from hypothesis import strategies as st

from lro_grpc._client import plan
from lro_grpc._errors import Code, LroError
from lro_grpc._runtime.backoff import DEFAULT_RETRY, Retry
from lro_grpc._runtime.steps import drive


def driven(
    steps: Any, answers: list[Code | None], *, took: float = 0.0
) -> tuple[list[plan.Call], list[float], Any]:
    """Returns the calls, the pauses and the outcome of a plan, of which each call takes so long."""
    calls: list[plan.Call] = []
    pauses: list[float] = []

    def perform(step: plan.Step) -> plan.Reply | None:
        if isinstance(step, plan.Sleep):
            pauses.append(step.seconds)
            CLOCK[0] += step.seconds
            return None
        assert isinstance(step, plan.Call)
        calls.append(step)
        CLOCK[0] += took
        code = answers[min(len(calls), len(answers)) - 1]
        error = LroError("as the test says", code=code) if code else None
        return plan.Reply(error, operations_pb2.Operation(name="operations/1"))

    try:
        return calls, pauses, drive(steps, perform)
    except LroError as error:
        return calls, pauses, error


CLOCK = [0.0]


def called(retry: Retry | None, answers: list[Code | None], **how: float) -> Any:
    call = plan.get_call("operations/1", timedelta(seconds=10))
    steps = plan.call_steps(call, retry=retry, clock=lambda: CLOCK[0], random=lambda: 1.0)
    return driven(steps, answers, **how)


def test_a_call_that_is_answered_is_made_once() -> None:
    calls, pauses, outcome = called(DEFAULT_RETRY, [None])
    assert (len(calls), pauses, outcome.name) == (1, [], "operations/1")


def test_a_call_is_made_again_after_growing_pauses_within_its_timeout() -> None:
    """P13: five attempts, 0.5 s by 2 up to 10 s, in 10 s altogether."""
    calls, pauses, outcome = called(DEFAULT_RETRY, [Code.UNAVAILABLE])
    assert pauses == [0.5, 1, 2, 4]
    assert [call.timeout.total_seconds() for call in calls] == [10, 9.5, 8.5, 6.5, 2.5]
    assert outcome.code is Code.UNAVAILABLE


def test_a_call_is_not_made_again_when_its_time_is_over() -> None:
    calls, _, outcome = called(DEFAULT_RETRY, [Code.UNAVAILABLE], took=4.0)
    assert len(calls) == 3
    assert outcome.code is Code.UNAVAILABLE


@given(st.sampled_from(sorted(set(Code) - {Code.OK, Code.UNAVAILABLE})))
def test_no_other_code_is_worth_another_attempt(code: Code) -> None:
    """C2."""
    calls, pauses, outcome = called(DEFAULT_RETRY, [code])
    assert (len(calls), pauses, outcome.code) == (1, [], code)


def test_without_a_retry_there_is_one_attempt() -> None:
    """C3."""
    calls, _, outcome = called(None, [Code.UNAVAILABLE])
    assert (len(calls), outcome.code) == (1, Code.UNAVAILABLE)


def test_a_call_is_made_again_when_the_server_says_so_but_within_its_timeout() -> None:
    info = error_details_pb2.RetryInfo()
    info.retry_delay.seconds = 3
    refusal = LroError("busy", code=Code.UNAVAILABLE, details=[info])
    steps = plan.call_steps(
        plan.get_call("operations/1", timedelta(seconds=10)),
        retry=DEFAULT_RETRY,
        clock=lambda: CLOCK[0],
        random=lambda: 0.0,
    )
    pauses: list[float] = []

    def perform(step: plan.Step) -> plan.Reply | None:
        if not isinstance(step, plan.Sleep):
            return plan.Reply(refusal)
        pauses.append(step.seconds)
        CLOCK[0] += step.seconds
        return None

    with pytest.raises(LroError, match="busy"):
        drive(steps, perform)
    assert pauses == [3, 3, 3]


def test_a_call_with_the_longest_timeout_there_is_is_made_again() -> None:
    steps = plan.call_steps(
        plan.get_call("operations/1", timedelta.max),
        retry=DEFAULT_RETRY,
        clock=lambda: CLOCK[0],
        random=lambda: 0.0,
    )
    calls, pauses, outcome = driven(steps, [Code.UNAVAILABLE, None])
    assert (len(calls), pauses, outcome.name) == (2, [], "operations/1")
