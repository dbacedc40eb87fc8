"""One operation that is followed: what is known of it, and who waits for what."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import dataclasses
import functools
import logging
import math
from collections.abc import AsyncGenerator, Awaitable, Callable
from datetime import timedelta

from google.longrunning import operations_pb2

from lro_grpc._client import plan
from lro_grpc._client.connection import Connection
from lro_grpc._errors import LIBRARY_DOMAIN, Code, LroError
from lro_grpc._runtime import backoff
from lro_grpc._runtime.clock import Clock
from lro_grpc._runtime.steps import async_drive

_logger = logging.getLogger(__name__)


@dataclasses.dataclass(eq=False, slots=True)
class _Waiter:
    """One who waits."""

    start: float
    """Since when, by the clock."""
    timeout: timedelta | None
    """For how long; None for as long as it takes."""
    changes: bool
    """Whether for changes, or for the end only."""
    news: asyncio.Event = dataclasses.field(default_factory=asyncio.Event)
    """Is set when there is something to look at."""
    failure: LroError | None = None
    """What has ended the following."""


@dataclasses.dataclass(eq=False, slots=True)
class _Get:
    """A Get that is on its way, and shared by all who want one meanwhile."""

    began: float
    """When, by the clock."""
    calling: asyncio.Task[plan.Reply]
    """Returns what comes of it."""
    sharers: int = 0
    """How many wait for it."""


class Following:
    """An operation as a client sees it. All who wait for it share the calls that are made.

    Calls are made only while someone waits.

    Args:
        connection: The server.
        operation: What is known of the operation.
        backoff: The pauses between polls, and after UNAVAILABLE.
        clock: Tells the time.
        random: Gives numbers uniform in [0, 1).
    """

    def __init__(
        self,
        connection: Connection,
        operation: operations_pb2.Operation,
        *,
        backoff: backoff.Backoff,
        clock: Clock,
        random: Callable[[], float],
    ) -> None:
        self.seen = plan.Seen(operation)
        self._connection = connection
        self._backoff = backoff
        self._clock = clock
        self._random = random
        self._waiters: set[_Waiter] = set()
        self._task: asyncio.Task[None] | None = None
        self._get: _Get | None = None
        self._version = 0
        self._is_current = False

    async def wait(self, timeout: timedelta | None) -> None:
        """Returns when the operation is done.

        Raises:
            OperationTimeoutError: If it is not done in time.
            LroError: If a call failed for good.
        """
        plan.check_timeout(timeout)
        if self.seen.operation.done:
            return
        waiter = self._join(timeout, changes=False)
        try:
            await self._wait_until(self._is_done, waiter)
        finally:
            self._leave(waiter)

    async def look(self) -> None:
        """Takes a fresh look: at most one Get.

        Raises:
            LroError: If the call failed for good.
        """
        await async_drive(plan.look_steps(self.seen), self._perform)

    async def states(
        self, timeout: timedelta | None
    ) -> AsyncGenerator[operations_pb2.Operation, None]:
        """Yields the present state, then the latest whenever it has changed, the last one last.

        Raises:
            OperationTimeoutError: If the operation is not done in time.
            LroError: If a call failed for good.
        """
        plan.check_timeout(timeout)
        if self.seen.operation.done:
            yield self.seen.operation
            return
        waiter = self._join(timeout, changes=True)
        version: int | None = None
        try:  # No "with", for its generator would be closed in whatever thread collects garbage.
            while True:
                await self._wait_until(functools.partial(self._has_news, version, waiter), waiter)
                version, operation = self._version, self.seen.operation
                yield operation
                if operation.done:
                    return
        finally:
            self._leave(waiter)

    def _has_news(self, version: int | None, waiter: _Waiter) -> bool:
        """Tells whether there is a state after that version; after None, one that is present."""
        if version is None:
            return self._is_current or self.seen.answered >= waiter.start
        return self._version > version

    def _is_done(self) -> bool:
        return self.seen.operation.done

    def _join(self, timeout: timedelta | None, *, changes: bool) -> _Waiter:
        """Follows the operation until the waiter leaves."""
        waiter = _Waiter(self._clock.monotonic(), timeout, changes)
        watches = self._wants_changes() or self._is_current
        self._waiters.add(waiter)
        if self._task is None or (changes and not watches):
            self._follow()
        return waiter

    def _leave(self, waiter: _Waiter) -> None:
        self._waiters.discard(waiter)
        if not self._waiters:
            self._stop()

    def _wants_changes(self) -> bool:
        return any(waiter.changes for waiter in self._waiters)

    def _until(self) -> float:
        """Returns until when anybody waits, without the last polls."""
        ends = (plan.deadlines(one.start, one.timeout)[1] for one in self._waiters)
        return max(ends, default=-math.inf)

    def _follow(self) -> None:
        self._stop()
        steps = plan.follow_steps(
            self.seen,
            changes=self._wants_changes,
            until=self._until,
            backoff=self._backoff,
            unimplemented=self._connection.unimplemented,
            clock=self._clock.monotonic,
            random=self._random,
        )
        self._task = asyncio.get_running_loop().create_task(self._run(steps))

    def _stop(self) -> None:
        """Ends the following, and the call that it makes."""
        if self._task is not None:
            self._task.cancel()
            self._task = None
            self._is_current = False
            self.seen.due = math.inf

    async def _run(self, steps: plan.Steps) -> None:
        try:
            await async_drive(steps, self._perform)
        except LroError as error:
            failure = error
        except asyncio.CancelledError as error:
            if self._task is not asyncio.current_task():
                raise
            # Not by _stop(), but by one who has cancelled all tasks that there were.
            message = f"cannot follow {self.seen.operation.name}: the task of it was cancelled"
            failure = LroError(message, code=Code.CANCELLED)
            failure.__cause__ = error
        except Exception as error:
            _logger.exception("cannot follow %s", self.seen.operation.name)
            failure = LroError(f"cannot follow {self.seen.operation.name}: {error!r}")
            failure.__cause__ = error
        else:
            return
        self._task = None
        for waiter in self._waiters:
            waiter.failure = _copy(failure)
        self._tell()

    async def _wait_until(self, enough: Callable[[], bool], waiter: _Waiter) -> None:
        steps = plan.wait_steps(
            self.seen,
            enough=enough,
            start=waiter.start,
            timeout=waiter.timeout,
            clock=self._clock.monotonic,
        )
        await async_drive(steps, functools.partial(self._perform, waiter=waiter))

    async def _perform(
        self, step: plan.Step, *, waiter: _Waiter | None = None
    ) -> plan.Reply | None:
        match step:
            case plan.Pause(seconds):
                await self._clock.sleep(seconds)
                return None
            case plan.Listen(seconds):
                assert waiter is not None
                return await self._listen(waiter, seconds)
            case plan.Watch():
                return await self._watch(step)
            case plan.Call(method=plan.GET):
                return await self._get_once(step)
            case plan.Call():
                self.seen.due = self._clock.monotonic() + step.hold.total_seconds()
                reply = self._taken(await self._connection.call(step))
                self.seen.due = math.inf
                return reply

    async def _listen(self, waiter: _Waiter, seconds: float | None) -> plan.Reply:
        if waiter.failure is None:
            waiter.news.clear()
            await self._within(seconds, waiter.news.wait())
        return plan.Reply(waiter.failure)

    async def _watch(self, step: plan.Watch) -> plan.Reply:
        states = self._connection.watch(step)
        try:
            async with contextlib.aclosing(states):
                while True:
                    following = asyncio.ensure_future(anext(states, None))
                    if not await self._within(step.silence, following):
                        message = f"the Watch was silent for {step.silence:g} s"
                        error = LroError(message, code=Code.DEADLINE_EXCEEDED)
                        return self._taken(plan.Reply(error))
                    if (operation := following.result()) is None:
                        return plan.Reply()
                    taken = self._taken(plan.Reply(message=operation))
                    if taken.error is not None:
                        return taken
                    self._is_current = True
        except LroError as error:
            return self._taken(plan.Reply(error))
        finally:
            if self._task is asyncio.current_task():  # if not, another may watch by now
                self._is_current = False

    async def _get_once(self, call: plan.Call) -> plan.Reply:
        """Makes a Get, or waits for the one that is on its way."""
        assert call.timeout is not None
        if self._get is None or self._get.calling.done():
            calling = asyncio.get_running_loop().create_task(self._connection.call(call))
            self._get = _Get(self._clock.monotonic(), calling)
        get = self._get
        get.sharers += 1
        try:
            if await self._within(call.timeout.total_seconds(), asyncio.shield(get.calling)):
                reply = get.calling.result()
                if reply.error is not None and get.sharers > 1:
                    reply = plan.Reply(_copy(reply.error))
                return self._taken(reply, asked=get.began)
            return plan.Reply(LroError("no answer in time", code=Code.DEADLINE_EXCEEDED))
        finally:
            get.sharers -= 1
            if not get.sharers:
                get.calling.cancel()
                if self._get is get:
                    self._get = None

    async def _within(self, seconds: float | None, awaitable: Awaitable[object]) -> bool:
        """Waits for something as long as that, and tells whether it has ended in time."""
        awaited = asyncio.ensure_future(awaitable)
        time = None if seconds is None else asyncio.ensure_future(self._clock.sleep(seconds))
        both = [one for one in (awaited, time) if one]
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            return awaited.done()
        finally:
            for one in both:
                one.cancel()
            await asyncio.gather(*both, return_exceptions=True)

    def _taken(self, reply: plan.Reply, *, asked: float = math.inf) -> plan.Reply:
        """Takes in what a call has returned.

        Args:
            reply: What it has returned.
            asked: When a Get was made, which tells the state of about that time.
        """
        try:
            if reply.error is None:
                self._learn(reply.message, is_late=asked < self.seen.answered)
        except LroError as error:
            reply = plan.Reply(error)
        self.seen.trouble = reply.error
        return reply

    def _learn(self, operation: operations_pb2.Operation, *, is_late: bool) -> None:
        known = self.seen.operation
        if operation.name != known.name:
            raise LroError(
                f"the server returned {operation.name!r} when asked for {known.name!r}",
                code=Code.INTERNAL,
                reason="WRONG_OPERATION",
                domain=LIBRARY_DOMAIN,
                metadata={"expected": known.name, "actual": operation.name},
            )
        self.seen.answered = self._clock.monotonic()
        # Answers may arrive in any order, but no state goes back to an earlier one.
        if not known.done and (operation.done or not is_late) and operation != known:
            self.seen.operation = operation
            self._version += 1
        self._tell()

    def _tell(self) -> None:
        for waiter in self._waiters:
            waiter.news.set()


def _copy(error: LroError) -> LroError:
    """Returns an error for one more to raise: a traceback is of one thread."""
    copied = copy.copy(error)
    copied.__cause__ = error.__cause__
    return copied
