"""Drives generators of steps, so that sync and async code follow one plan.

A plan is a generator that decides and does nothing else: it yields a step, is sent the reply to
it, and returns its result when there is no more to do. The driver has each step performed by a
function of its caller, which is where calls, sleeps and threads are. An error that this function
raises ends the drive; an error that the plan is to decide upon has to be part of the reply.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from typing import TypeVar

StepT = TypeVar("StepT")
ReplyT = TypeVar("ReplyT")
ResultT = TypeVar("ResultT")


def drive(
    steps: Generator[StepT, ReplyT | None, ResultT], perform: Callable[[StepT], ReplyT | None]
) -> ResultT:
    """Performs the steps of a plan, one after the other.

    Args:
        steps: The plan.
        perform: Performs one step, and returns the reply to it.

    Returns:
        The plan's result; raises what the plan or ``perform`` raises.
    """
    reply: ReplyT | None = None
    while True:
        try:
            step = steps.send(reply)
        except StopIteration as end:
            result: ResultT = end.value
            return result
        reply = perform(step)


async def async_drive(
    steps: Generator[StepT, ReplyT | None, ResultT],
    perform: Callable[[StepT], Awaitable[ReplyT | None]],
) -> ResultT:
    """Performs the steps of a plan as ``drive`` does, and awaits each."""
    reply: ReplyT | None = None
    while True:
        try:
            step = steps.send(reply)
        except StopIteration as end:
            result: ResultT = end.value
            return result
        reply = await perform(step)
