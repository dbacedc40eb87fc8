"""Schedules of pauses, and what a schedule may not be."""

from __future__ import annotations

import itertools
import math
from datetime import timedelta
from typing import Any

import pytest

from lro_grpc._errors import Code
from lro_grpc._runtime.backoff import DEFAULT_BACKOFF, Backoff, Retry


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
        {"initial": 0},
        {"initial": -1},
        {"initial": math.nan},
        {"initial": True},
        {"initial": None},
        {"initial": 5.1},
        {"multiplier": 0.5},
        {"multiplier": math.nan},
        {"multiplier": math.inf},
        {"multiplier": True},
        {"multiplier": "2"},
        {"maximum": "5s"},
        {"maximum": math.inf},
        {"maximum": timedelta(milliseconds=1)},
    ],
)
def test_a_schedule_that_cannot_be_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="0 < initial"):
        Backoff(**wrong)  # type: ignore[arg-type]


def test_without_jitter_each_pause_is_its_ceiling() -> None:
    """As Deployment Manager asks of its pollers: 5, 10, 20 … up to 180 s."""
    backoff = Backoff(timedelta(seconds=5), 2, timedelta(seconds=180), jitter=False)
    pauses = backoff.pauses(lambda: 0.123)
    assert list(itertools.islice(pauses, 8)) == [5, 10, 20, 40, 80, 160, 180, 180]


def test_a_schedule_may_be_given_in_seconds() -> None:
    backoff = Backoff(initial=1, multiplier=2, maximum=2.5)
    assert backoff == Backoff(timedelta(seconds=1), 2, timedelta(seconds=2.5))
    assert list(itertools.islice(backoff.pauses(lambda: 1.0), 3)) == [1, 2, 2.5]


@pytest.mark.parametrize("attempts", [0, -1, 1.5, math.nan, None])
def test_a_retry_needs_an_attempt(attempts: Any) -> None:
    with pytest.raises(ValueError, match="at least one attempt"):
        Retry(attempts=attempts)


@pytest.mark.parametrize("codes", [Code.INTERNAL, "INTERNAL", {"INTERNAL"}, [14], None, {None}])
def test_the_codes_of_a_retry_are_codes(codes: Any) -> None:
    with pytest.raises(TypeError, match=r"codes is .*; give a set of lro_grpc\.Code"):
        Retry(codes=codes)


def test_ok_is_no_code_of_a_retry() -> None:
    with pytest.raises(ValueError, match="OK"):
        Retry(codes={Code.OK})


def test_the_backoff_of_a_retry_is_one() -> None:
    with pytest.raises(TypeError, match="backoff is 5; give a Backoff"):
        Retry(backoff=5)  # type: ignore[arg-type]


def test_a_retry_may_have_one_attempt() -> None:
    assert Retry(attempts=1).attempts == 1


def test_the_jitter_is_a_flag() -> None:
    with pytest.raises(ValueError, match="jitter is 'no'; give True or False"):
        Backoff(jitter="no")  # type: ignore[arg-type]
