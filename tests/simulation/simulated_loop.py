"""An event loop in virtual time, in which a seed decides who goes first.

Nothing ever waits: when no step is ready, time goes on to the next timer. Of the steps that are
ready together, each task's may come before or after any other's, and may be put off for a while;
but a task's first step comes before what could end the task, and plain callbacks keep their order.
Every task and timer belongs to the process in which it was begun, and a process can be frozen or
killed between any two steps.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import heapq
import inspect
import itertools
from asyncio import events
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lro_grpc._errors import AttemptStopped

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from random import Random

MOST_STEPS = 150_000
"""After which a run that has no end is given up."""

_MASK = 2**64 - 1


@dataclass(eq=False)
class Process:
    """What ends or stands still as one."""

    number: int
    alive: bool = True
    frozen: bool = False
    held: list[_Step] = field(default_factory=list)
    """What has become ready while it was frozen."""

    def __post_init__(self) -> None:
        self.context = contextvars.copy_context()
        self.context.run(_process.set, self)


OUTSIDE = 0
"""The number that stands for no process: what belongs to none is never frozen, nor killed."""

_process: contextvars.ContextVar[Process | None] = contextvars.ContextVar("process", default=None)


def current_process() -> Process | None:
    """Returns the process to which the running step belongs."""
    return _process.get()


@dataclass(eq=False)
class _Step:
    handle: asyncio.Handle
    process: Process | None
    task: int
    """The number of the task whose step it is; 0 for a plain callback."""
    is_first: bool = False
    """Whether the task begins with it; then nothing that comes later may come before it."""


class SimulatedLoop(asyncio.AbstractEventLoop):
    """See above.

    Args:
        random: Decides all that may be one way or the other.
        postponed: How often a task's step is put off, from 0 to 1.
    """

    def __init__(self, random: Random, postponed: float = 0.1) -> None:
        self.random = random
        self.errors: list[dict[str, Any]] = []
        """What nobody has caught."""
        self.steps = 0
        self.executor_fails: Callable[[Process | None], Exception | None] = lambda process: None
        """Is asked for the error with which a call in an executor is to fail, instead of done."""
        self._seed = random.getrandbits(64)
        self._postponed = int(postponed * _MASK)
        self._now = 0.0
        self._ready: list[_Step] = []
        self._timers: list[tuple[float, int, asyncio.TimerHandle, Process | None]] = []
        self._sequence = itertools.count()
        self._turn_number = 0
        self._tasks: dict[Any, int] = {}
        self._over = False

    def run(self, main: Coroutine[Any, Any, Any]) -> Any:
        """Runs a coroutine to its end; whatever else is left then never goes on."""
        events._set_running_loop(self)
        try:
            task = self.create_task(main)
            while not task.done():
                self._turn()
            return task.result()
        finally:
            self._end()
            events._set_running_loop(None)

    def thaw(self, process: Process) -> None:
        process.frozen = False
        self._ready += process.held
        process.held.clear()

    # What asyncio asks of a loop.

    def time(self) -> float:
        return self._now

    def call_soon(
        self,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> asyncio.Handle:
        context = contextvars.copy_context() if context is None else context
        handle = asyncio.Handle(callback, args, self, context)
        if not self._over:
            known = len(self._tasks)
            number = self._number_of(callback)
            step = _Step(handle, context.get(_process), number, is_first=number > known)
            self._ready.append(step)
        return handle

    call_soon_threadsafe = call_soon

    def call_at(
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        context = contextvars.copy_context() if context is None else context
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        heapq.heappush(self._timers, (when, next(self._sequence), timer, context.get(_process)))
        return timer

    def call_later(
        self,
        delay: float,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        return self.call_at(self._now + max(0.0, delay), callback, *args, context=context)

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(
        self, coro: Coroutine[Any, Any, Any], *, name: object = None, **options: Any
    ) -> asyncio.Task[Any]:
        return asyncio.Task(coro, loop=self, name=name, **options)

    async def run_in_executor(self, executor: object, func: Callable[..., Any], *args: Any) -> Any:
        """Calls the function here and now, with what may come before and after it in a thread."""
        del executor
        await self._pass_some_time()
        error = self.executor_fails(current_process())
        if error is not None:
            raise error
        result = func(*args)
        await self._pass_some_time()
        return result

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return self._over

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if not self._over:
            self.errors.append(context)

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """It is skipped when its time comes."""

    # How it goes on.

    async def _pass_some_time(self) -> None:
        if self.random.random() < 0.3:
            await asyncio.sleep(self.random.choice((0.0, 0.001, 0.02)))

    def _number_of(self, callback: Any) -> int:
        task = getattr(callback, "__self__", None)
        if not isinstance(task, asyncio.Task):
            return 0
        return self._tasks.setdefault(task, len(self._tasks) + 1)

    def _turn(self) -> None:
        """Lets everything go one step that is ready to."""
        if not self._ready:
            while self._timers and self._timers[0][2].cancelled():
                heapq.heappop(self._timers)
            if not self._timers:
                raise AssertionError("everyone waits, and nobody will ever be woken")
            self._now = max(self._now, self._timers[0][0])
        while self._timers and self._timers[0][0] <= self._now:
            _, _, timer, process = heapq.heappop(self._timers)
            self._ready.append(_Step(timer, process, self._number_of(timer._callback)))
        self._turn_number += 1
        turn, self._ready = self._ready, []
        if len(turn) > 1:
            turn = self._in_order(turn)
        for step in turn:
            process = step.process
            if step.handle.cancelled() or (process is not None and not process.alive):
                continue
            if process is not None and process.frozen:
                process.held.append(step)
                continue
            step.handle._run()
            self.steps += 1
        if self.steps > MOST_STEPS:
            raise AssertionError(f"{self.steps} steps, and no end")

    def _in_order(self, turn: list[_Step]) -> list[_Step]:
        """Returns the steps of a turn in their random order, but for those that are put off.

        Not the order in which they came decides, for that may follow from the order of a set.
        """
        chosen: list[tuple[int, int, _Step]] = []
        for position, step in enumerate(turn):
            if step.is_first:
                chosen.append((-1, step.task, step))
            elif step.task:
                dice = self._dice(step.task)
                if dice < self._postponed:
                    self._ready.append(step)
                else:
                    chosen.append((dice, 0, step))
            else:
                owner = -1 - (step.process.number if step.process else OUTSIDE)
                chosen.append((self._dice(owner), position, step))
        return [step for _, _, step in sorted(chosen, key=_order)]

    def _dice(self, owner: int) -> int:
        """Returns 64 random bits that follow from the seed, the owner and the turn alone."""
        mixed = self._seed ^ (owner * 0x9E3779B97F4A7C15) ^ (self._turn_number << 32)
        for factor in (0xBF58476D1CE4E5B9, 0x94D049BB133111EB):
            mixed = (mixed ^ (mixed >> 30)) * factor & _MASK
        return mixed ^ (mixed >> 31)

    def _end(self) -> None:
        """Lets go of all tasks, which hold each other in place."""
        self._over = True
        for task in self._tasks:
            if not task.done():
                task._log_destroy_pending = False
                _close(task.get_coro())


def _close(coroutine: Any) -> None:
    """Ends a coroutine that nobody awaits any more, and those that it was to await."""
    if inspect.getcoroutinestate(coroutine) == inspect.CORO_CREATED:
        for value in coroutine.cr_frame.f_locals.values():
            if inspect.iscoroutine(value):
                _close(value)
    # A frame may hold what is no more, such as a dead process's connection.
    with contextlib.suppress(Exception, AttemptStopped):
        coroutine.close()


def _order(one: tuple[int, int, _Step]) -> tuple[int, int]:
    return one[:2]
