"""Conversions of JSON: where they run, and how much there is to convert."""

from __future__ import annotations

import asyncio
import json
import threading

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lro_grpc._errors import LroError
from lro_grpc._http import conversion
from lro_grpc._http.conversion import converted, cost_of, has_more_values


def test_what_is_large_is_converted_in_one_thread_that_is_not_the_loops():
    async def run() -> tuple[int, list[int]]:
        small = await converted(100, threading.get_ident)
        large = [converted(10**6, threading.get_ident) for _ in range(5)]
        return small, await asyncio.gather(*large)

    small, large = asyncio.run(run())
    assert small == threading.get_ident()
    assert len(set(large)) == 1
    assert large[0] != small


def test_few_conversions_wait_and_those_above_are_refused_at_once():
    gate = threading.Event()

    async def run() -> None:
        waiting = [
            asyncio.ensure_future(converted(10**6, gate.wait))
            for _ in range(conversion._MOST_WAITING)
        ]
        await asyncio.sleep(0)
        with pytest.raises(LroError, match="try again later") as refused:
            await converted(10**6, gate.wait)
        assert refused.value.code.name == "UNAVAILABLE"
        assert await converted(10, lambda: "small ones go on") == "small ones go on"
        gate.set()
        assert all(await asyncio.gather(*waiting))
        assert await converted(10**6, lambda: "again") == "again"

    asyncio.run(run())


@pytest.mark.parametrize("size", [10, 10**6])
def test_a_conversion_that_raises_stop_iteration_ends(size):
    """A future cannot have it: who waits for one would wait forever."""

    async def run() -> None:
        with pytest.raises(RuntimeError, match="StopIteration"):
            await asyncio.wait_for(converted(size, next, iter(())), 30)
        assert await converted(size, lambda: "again") == "again"

    asyncio.run(run())


def test_a_small_text_of_many_values_costs_what_they_do():
    assert cost_of(b'"%s"' % (b"x" * 5000)) == 5002
    assert cost_of(b"[%s1]" % (b"1," * 2000)) > 16 * 1024


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text('a",:[{\\é', max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text('",:\\b'), inner),
    max_leaves=20,
)


def number_of(value: object) -> int:
    """Returns how many values a value has, itself and the names of its members included."""
    if isinstance(value, list):
        return 1 + sum(map(number_of, value))
    if isinstance(value, dict):
        return 1 + len(value) + sum(map(number_of, value.values()))
    return 1


@given(VALUES, st.integers(0, 40), st.booleans())
@example('\\",,,,,,,,', 3, False)
@example(["\\\\", ",,,,,,"], 4, False)
def test_values_are_counted_and_commas_in_strings_are_not(value, most, ascii_only):
    text = json.dumps(value, ensure_ascii=ascii_only).encode()
    number = number_of(value)
    if number > 2 * most + 2:  # a name and its value share a separator; one value has none
        assert has_more_values(text, most)
    if 2 * number <= most:
        assert not has_more_values(text, most)


@pytest.mark.parametrize("length", [65_533, 65_534, 65_535, 65_536, 131_071])
@pytest.mark.parametrize("end", ["\\", '"', '\\"', '"\\', "é", '\\\\\\"'])
def test_what_is_counted_does_not_depend_on_where_the_text_is_cut(length, end):
    for shift in range(8):
        text = json.dumps(["x" * (length - shift) + end + "," * 50, 1, 2, 3]).encode()
        assert not has_more_values(text, 5)
        assert has_more_values(text, 4)


@pytest.mark.parametrize(
    "text", [b'"' + b'\\"' * 10_000, b"[" * 20_000, b'"' * 20_001, b"\\" * 20_001, b"{}," * 10_000]
)
def test_what_is_no_json_is_counted_as_well(text):
    assert has_more_values(text, 100_000) is False
