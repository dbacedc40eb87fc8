"""Turns, threads of which so many run at a time, and the turns of callers."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from lro_grpc._runtime.threads import BoundedThreads
from lro_grpc._runtime.turns import Turns
from lro_grpc._server.limits import CallerTurns, Share


def test_turns_are_given_in_the_order_in_which_they_were_waited_for() -> None:
    had: list[int] = []

    async def have(turns: Turns, number: int) -> None:
        await turns.take()
        had.append(number)
        turns.give_back()

    async def run() -> None:
        turns = Turns(1)
        await turns.take()
        waiting = [asyncio.create_task(have(turns, number)) for number in range(3)]
        await asyncio.sleep(0)
        assert turns.waiting == 3
        waiting[1].cancel()
        turns.give_back()
        await asyncio.wait(waiting)
        assert turns.is_unused

    asyncio.run(run())
    assert had == [0, 2]


def test_nothing_is_kept_of_a_caller_whose_turn_comes_when_its_call_is_cancelled() -> None:
    async def list_one(turns: CallerTurns) -> None:
        async with turns.of("ann", lambda: None):
            raise AssertionError("it was cancelled before")

    async def run() -> None:
        turns = CallerTurns()
        async with turns.of("ann", lambda: None):
            waiting = asyncio.create_task(list_one(turns))
            await asyncio.sleep(0)
        waiting.cancel()  # it has the turn, and does not know yet
        await asyncio.wait([waiting])
        assert waiting.cancelled()
        assert not turns

    asyncio.run(run())


def test_nothing_is_kept_of_a_caller_that_has_no_place_any_more() -> None:
    share = Share(4, 0.5)
    for caller in ("ann", "bob", "ann"):
        share.take(caller)
    share.give_back("ann")
    assert len(share) == 2
    share.give_back("ann")
    share.give_back("bob")
    assert len(share) == 0


def test_a_thread_that_cannot_be_started_takes_no_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        del thread
        raise RuntimeError("can't start new thread")

    async def run() -> Any:
        threads = BoundedThreads(1, waiting=1)
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            with pytest.raises(RuntimeError, match="can't start"):
                await threads.run("one", lambda: None)
        return await asyncio.wait_for(threads.run("another", lambda: "done"), 60)

    assert asyncio.run(run()) == "done"
