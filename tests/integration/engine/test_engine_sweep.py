"""The parts of a sweep: what keeps failing in one of them holds up none of the others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any, NamedTuple, TypeVar

import pytest
from engine_world import OTHER_METHOD, SWEEP, World

from lro_grpc._errors import Code, UnavailableError
from lro_grpc._operation import states
from lro_grpc._operation.events import Cancel, Claim, LeaseLost, TimePassed
from lro_grpc.stores import ForwardingStore, Store

T = TypeVar("T")

MICROS = 1_000_000

WHY = "other processes are at it all the time"
FAILURES = [UnavailableError(WHY), RuntimeError(WHY)]


class PartlyFailing(ForwardingStore):
    """Passes calls on, but for those that fail.

    Args:
        store: The store.
        failure: The error with which they do.
    """

    def __init__(self, store: Store, failure: Exception) -> None:
        super().__init__(store)
        self.fails: Callable[[str, Any], bool] = lambda call, argument: False
        """Tells of a call, by its name and first argument, whether it fails."""
        self._failure = failure

    async def _call(
        self, call: Callable[..., Coroutine[Any, Any, T]], *arguments: Any, **options: Any
    ) -> T:
        if self.fails(call.__name__, arguments[0] if arguments else None):
            raise self._failure
        return await super()._call(call, *arguments, **options)


def looks_for_what_is_due(call: str, argument: Any) -> bool:
    return call == "expired"


def lets_time_pass(call: str, argument: Any) -> bool:
    return call == "apply_all" and any(isinstance(event, TimePassed) for _, event in argument)


def looks_for_what_is_lost(call: str, argument: Any) -> bool:
    return call == "leased"


def takes_what_is_lost(call: str, argument: Any) -> bool:
    return call == "apply_all" and any(isinstance(event, LeaseLost) for _, event in argument)


TIME = [looks_for_what_is_due, lets_time_pass]
RESCUE = [looks_for_what_is_lost, takes_what_is_lost]


@pytest.fixture(params=["exclusive", "shared"])
def any_world(request: pytest.FixtureRequest, world: World) -> World:
    """Each store in turn, for one process alone and as if others had it open, too."""
    world.is_shared = request.param == "shared"
    return world


async def wait(request: Any, op: Any) -> Any:
    await asyncio.Event().wait()


class Due(NamedTuple):
    """Operations of a method that is served elsewhere, with which a sweep has to do something."""

    overdue: str
    lost: str


async def start(world: World, fails: Callable[[str, Any], bool], failure: Exception) -> Due:
    """Starts an engine whose store fails from then on."""
    failing: list[PartlyFailing] = []
    overdue = await world.create(timeout=MICROS, method=OTHER_METHOD)
    world.clock.advance(timedelta(seconds=2))

    def through(store: Store) -> Store:
        failing.append(PartlyFailing(store, failure))
        return failing[0]

    await world.start(wait, through=through)
    failing[0].fails = fails
    lost = await world.create(method=OTHER_METHOD)
    await world.apply(lost, Claim(MICROS))  # by a worker that is gone
    return Due(overdue, lost)


@pytest.mark.parametrize("failure", FAILURES, ids=["unavailable", "bug"])
@pytest.mark.parametrize("fails", [*TIME, *RESCUE])
async def test_what_fails_in_one_part_of_a_sweep_is_logged_and_the_other_part_goes_on(
    any_world: World, fails: Any, failure: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    due = await start(any_world, fails, failure)
    await any_world.pass_time(4 * SWEEP)
    overdue = (await any_world.record(due.overdue)).state == states.EXPIRED
    lost = (await any_world.record(due.lost)).failed_attempts == 1
    assert (overdue, lost) == (fails in RESCUE, fails in TIME)
    assert any(WHY in message for message in caplog.messages)


@pytest.mark.parametrize("failure", FAILURES, ids=["unavailable", "bug"])
@pytest.mark.parametrize("fails", [*TIME, *RESCUE])
async def test_a_cancel_whose_notice_is_lost_is_found_while_the_rest_of_a_sweep_fails(
    memory_world: World, fails: Any, failure: Exception
) -> None:
    await start(memory_world, fails, failure)
    name = await memory_world.create()
    await memory_world.until_in(name, states.RUNNING)
    await memory_world.apply_unheard(name, Cancel())
    await memory_world.pass_time(4 * SWEEP)
    assert (await memory_world.done(name)).error.code == Code.CANCELLED
