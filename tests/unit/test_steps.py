"""The drivers of plans: what a plan yields is performed in order, and its result returned."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from lro_grpc._runtime.steps import async_drive, drive

if TYPE_CHECKING:
    from collections.abc import Callable, Generator


def driven_sync(plan: Any, perform: Callable[[str], int | None]) -> int:
    return drive(plan, perform)


def driven_async(plan: Any, perform: Callable[[str], int | None]) -> int:
    async def perform_async(step: str) -> int | None:
        await asyncio.sleep(0)
        return perform(step)

    return asyncio.run(async_drive(plan, perform_async))


@pytest.fixture(params=[driven_sync, driven_async])
def driven(request: pytest.FixtureRequest) -> Callable[..., int]:
    return request.param


def doubling(performed: list[str]) -> Callable[[str], int | None]:
    def perform(step: str) -> int | None:
        performed.append(step)
        return 2 * int(step) if step.isdecimal() else None

    return perform


def test_each_step_is_performed_and_its_reply_sent_back(driven: Callable[..., int]) -> None:
    def plan() -> Generator[str, int | None, int]:
        first = yield "1"
        nothing = yield "pause"
        last = yield str(first)
        assert nothing is None
        return last or 0

    performed: list[str] = []
    assert driven(plan(), doubling(performed)) == 4
    assert performed == ["1", "pause", "2"]


def test_a_plan_without_steps_returns_its_result_at_once(driven: Callable[..., int]) -> None:
    def plan() -> Generator[str, int | None, int]:
        return 7
        yield "never"

    performed: list[str] = []
    assert driven(plan(), doubling(performed)) == 7
    assert performed == []


def test_an_error_of_the_plan_is_raised(driven: Callable[..., int]) -> None:
    def plan() -> Generator[str, int | None, int]:
        reply = yield "1"
        raise ValueError(f"the reply was {reply}")

    with pytest.raises(ValueError, match="the reply was 2"):
        driven(plan(), doubling([]))


def test_an_error_of_a_step_ends_the_drive(driven: Callable[..., int]) -> None:
    def plan() -> Generator[str, int | None, int]:
        yield "1"
        raise AssertionError("goes no further")

    def perform(step: str) -> int | None:
        raise KeyError(step)

    with pytest.raises(KeyError, match="1"):
        driven(plan(), perform)
