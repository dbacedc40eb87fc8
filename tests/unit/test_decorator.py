"""The options of the decorator, and those that it refuses."""

from __future__ import annotations

import dataclasses
import inspect
import math
import sys
import typing
from datetime import timedelta
from typing import Any

import pytest

import lro_grpc
from lro_grpc import MethodOptions

TIMES = ["timeout", "progress_timeout", "retention"]
NUMBERS = ["concurrency", "max_attempts"]


@pytest.mark.parametrize("option", TIMES)
@pytest.mark.parametrize(
    "value",
    [
        timedelta(0),
        timedelta(seconds=-1),
        timedelta.min,
        timedelta.max,
        timedelta(days=365_000, microseconds=1),
        "30",
        math.nan,
        "1h",
    ],
    ids=repr,
)
def test_a_time_that_cannot_be_is_refused(option: str, value: Any) -> None:
    for decorator in (MethodOptions, lro_grpc.method):
        with pytest.raises(lro_grpc.ConfigurationError) as raised:
            decorator(**{option: value})
        assert raised.value.message.startswith(f"{option} is {value!r}; give ")


@pytest.mark.parametrize("option", TIMES)
@pytest.mark.parametrize("value", [timedelta(microseconds=1), timedelta(days=365_000)], ids=repr)
def test_the_shortest_and_the_longest_time(option: str, value: timedelta) -> None:
    assert getattr(MethodOptions(**{option: value}), option) == value


@pytest.mark.parametrize("option", NUMBERS)
@pytest.mark.parametrize("value", [0, -1, 2**31, 1.5, math.inf, "1"], ids=repr)
def test_a_number_that_cannot_be_is_refused(option: str, value: Any) -> None:
    for decorator in (MethodOptions, lro_grpc.method):
        with pytest.raises(lro_grpc.ConfigurationError) as raised:
            decorator(**{option: value})
        assert raised.value.message.startswith(f"{option} is {value!r}; give ")


@pytest.mark.parametrize("option", ["lease", "sweep", "retention", "max_wait", "grace"])
@pytest.mark.parametrize("value", [timedelta(seconds=-1), timedelta.max, "30"], ids=repr)
def test_operations_refuse_a_time_that_cannot_be(option: str, value: Any) -> None:
    with pytest.raises(lro_grpc.ConfigurationError) as raised:
        lro_grpc.Operations("memory:", **{option: value})
    assert raised.value.message.startswith(f"{option} is {value!r}; give ")


@pytest.mark.parametrize(
    ("option", "may_be_zero"),
    [("lease", False), ("sweep", False), ("retention", False), ("max_wait", True), ("grace", True)],
)
def test_operations_take_no_time_where_it_makes_sense(option: str, may_be_zero: bool) -> None:
    try:
        lro_grpc.Operations("memory:", **{option: timedelta(0)})
    except lro_grpc.ConfigurationError as error:
        assert not may_be_zero
        assert error.message.startswith(f"{option} is ")  # noqa: PT017 - one of two cases
    else:
        assert may_be_zero


def test_a_decorator_without_parentheses_takes_options_too() -> None:
    """Nothing that was said is dropped."""
    decorator: Any = lro_grpc.method

    def run(self: Any, request: Any, op: Any) -> None: ...

    with pytest.raises(lro_grpc.ConfigurationError):
        decorator(run, max_attempts=0)
    assert decorator(run, pausable=True).__get__(object()).options.pausable


def test_an_unknown_option_is_refused() -> None:
    decorator: Any = lro_grpc.method
    with pytest.raises(TypeError, match="pauseable"):
        decorator(pauseable=True)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="overloads are kept since Python 3.11")
def test_the_decorator_has_the_options_of_its_class_with_their_types_and_defaults() -> None:
    (_, with_options) = typing.get_overloads(lro_grpc.method)
    parameters = inspect.signature(with_options).parameters.values()
    assert {one.kind for one in parameters} == {inspect.Parameter.KEYWORD_ONLY}
    said = [(one.name, one.annotation, one.default) for one in parameters]
    fields = dataclasses.fields(MethodOptions)
    assert said == [(one.name, one.type, one.default) for one in fields]
