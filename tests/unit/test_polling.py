from __future__ import annotations

import itertools
from datetime import timedelta
from typing import Any

import pytest
from google.longrunning import operations_pb2
from hypothesis import given
from hypothesis import strategies as st

from lro_grpc._client import plan
from lro_grpc._errors import Code, LroError
from lro_grpc._runtime.backoff import (
    DEFAULT_BACKOFF,
    DEFAULT_RETRY,
    DEPLOYMENT_MANAGER_BACKOFF,
    Backoff,
    Retry,
)
from lro_grpc._runtime.steps import drive


def test_pauses_grow_to_the_maximum_and_are_fully_jittered() -> None:
    backoff = Backoff(initial=timedelta(seconds=1), multiplier=2, maximum=timedelta(seconds=5))
    assert list(itertools.islice(backoff.pauses(lambda: 1.0), 5)) == [1, 2, 4, 5, 5]
    assert list(itertools.islice(backoff.pauses(lambda: 0.5), 3)) == [0.5, 1, 2]
    assert list(itertools.islice(backoff.pauses(lambda: 0.0), 2)) == [0, 0]


def test_pauses_do_not_overflow() -> None:
    last = next(itertools.islice(DEFAULT_BACKOFF.pauses(lambda: 1.0), 100_000, None))
    assert last == 5


@pytest.mark.parametrize(
    "wrong",
    [
        {"initial": timedelta(0)},
        {"multiplier": 0.5},
        {"maximum": timedelta(milliseconds=1)},
    ],
)
def test_a_schedule_that_cannot_be_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="0 < initial"):
        Backoff(**wrong)  # type: ignore[arg-type]


def test_the_schedule_that_deployment_manager_documents() -> None:
    pauses = DEPLOYMENT_MANAGER_BACKOFF.pauses(lambda: 0.123)
    assert list(itertools.islice(pauses, 8)) == [5, 10, 20, 40, 80, 160, 180, 180]


def test_a_retry_needs_an_attempt() -> None:
    with pytest.raises(ValueError, match="at least one attempt"):
        Retry(attempts=0)


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
