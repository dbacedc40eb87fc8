"""The watcher of an operation: performs both plans of ``plan.py``, for all who wait.

**One event loop.** All of a watcher runs on one loop: the scheduler's for threads, the caller's in
asyncio. So nothing here has a lock, and the code between two awaits is atomic.

**Steps.** The poller has a task of its own. It begins with the first waiter
and ends with the last, together with the call that it makes: there is no call while nobody waits.
The steps of a waiter are performed where it waits; cancelling it disturbs no other. A waiter that
is the first to want updates has the poller begin anew, for a Wait of 30 s would keep it from a
Watch.

**One stream.** Where the client follows several operations, their pollers join one Watch of all
(``shared_watch.py``), and each takes in what is sent of its own operation.

**One Get at a time.** The poller, last polls and refreshes may want a Get at the same moment.
They share the one that is on its way, each with its own deadline; the last that gives up cancels
it. Only a last poll takes none that began before its time.

**States never go back.** Answers arrive in any order. A done operation stays done, and the answer
to a Get that began before the latest answer counts only if it says "done".

**Errors.** The error that ends the poller is raised by every waiter, as a copy: a traceback
belongs to one thread. The next wait begins anew, with a new poller.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import logging
import math
from collections.abc import AsyncGenerator, Awaitable, Callable
from datetime import timedelta

from google.longrunning import operations_pb2

from lro_grpc._client import experience, plan
from lro_grpc._client.connection import Connection
from lro_grpc._client.error_copies import copy_of
from lro_grpc._client.shared_watch import SharedWatch
from lro_grpc._client.time_limit import ends_within
from lro_grpc._durations import Duration, as_timeout
from lro_grpc._errors import LIBRARY_DOMAIN, Code, LroError
from lro_grpc._runtime import backoff
from lro_grpc._runtime.clock import Clock
from lro_grpc._runtime.steps import async_drive

_logger = logging.getLogger(__name__)


@dataclasses.dataclass(eq=False, slots=True)
class _Waiter:
    """A wait for the operation."""

    start: float
    """The time at which it began."""
    timeout: timedelta | None
    """The time that it may take; None for as long as it takes."""
    wants_updates: bool
    """Whether it is for every change, or for the end alone."""
    updated: asyncio.Event = dataclasses.field(default_factory=asyncio.Event)
    """Set with each answer of the server, and when the poller fails."""
    failure: LroError | None = None
    """The error that ended the poller, as this waiter's own copy."""


@dataclasses.dataclass(eq=False, slots=True)
class _SharedGet:
    """A Get that is on its way, shared by all who want one meanwhile."""

    began: float
    """The time at which it was made."""
    calling: asyncio.Task[plan.Reply]
    """The call."""
    sharers: int = 0
    """The number of those who wait for it."""


class Watcher:
    """One operation of a server, watched for all who wait for it through one client.

    Its ``snapshot`` is the latest knowledge of the operation.

    Args:
        connection: The server.
        shared: The stream of the operations that the client follows.
        operation: Its latest known state.
        backoff: The pauses between polls, and after UNAVAILABLE.
        outlives: The codes that a wait outlives, beside those that every wait does.
        polls: Whether to use Get alone.
        clock: The clock.
        random: Gives numbers uniform in [0, 1).
    """

    def __init__(
        self,
        connection: Connection,
        shared: SharedWatch,
        operation: operations_pb2.Operation,
        *,
        backoff: backoff.Backoff,
        outlives: frozenset[Code],
        polls: bool,
        clock: Clock,
        random: Callable[[], float],
    ) -> None:
        self.snapshot = plan.Snapshot(operation)
        self._connection = connection
        self._shared = shared
        self._backoff = backoff
        self._outlives = outlives
        self._polls = polls
        self._clock = clock
        self._random = random
        self._waiters: set[_Waiter] = set()
        self._poller: asyncio.Task[None] | None = None
        self._get: _SharedGet | None = None
        self._version = 0
        """Rises with each new state."""
        self._is_streaming = False
        """Whether a Watch is open, and has sent a state: the snapshot is then of now."""

    async def wait(self, timeout: Duration | None) -> None:
        """Returns when the operation is done.

        Raises:
            OperationTimeoutError: If it is not done in time.
            LroError: If a call failed for good.
        """
        limit = as_timeout(timeout)
        if self.snapshot.operation.done:
            return
        waiter = self._join(limit, wants_updates=False)
        try:
            await self._wait_until(self._is_done, waiter)
        finally:
            self._leave(waiter)

    async def refresh(self) -> None:
        """Brings the snapshot up to date, by one Get unless the operation is known to be done.

        Raises:
            LroError: If the call failed for good.
        """
        steps = plan.refresh_steps(self.snapshot, outlives=self._outlives)
        await async_drive(steps, self._perform)

    async def command(self, answer: Awaitable[operations_pb2.Operation]) -> None:
        """Awaits the answer to a call that changes the operation, and takes in its state.

        Args:
            answer: The operation as it is then; without a name if the server leaves it out.

        Raises:
            LroError: If the call failed for good, or is answered with another operation.
        """
        requested_at = self._clock.monotonic()
        operation = await answer
        if not operation.name:
            return
        is_stale = requested_at < self.snapshot.answered_at
        reply = self._take_in(plan.Reply(message=operation), as_of=requested_at, is_stale=is_stale)
        if reply.error is not None:
            raise reply.error

    async def states(
        self, timeout: Duration | None
    ) -> AsyncGenerator[operations_pb2.Operation, None]:
        """Yields the present state, then the latest one after each change, up to the done one.

        Raises:
            OperationTimeoutError: If the operation is not done in time.
            LroError: If a call failed for good.
        """
        limit = as_timeout(timeout)
        if self.snapshot.operation.done:
            yield self.snapshot.operation
            return
        waiter = self._join(limit, wants_updates=True)
        version: int | None = None
        try:  # No "with": garbage collection would close a context manager in any thread.
            while True:
                await self._wait_until(functools.partial(self._has_update, version, waiter), waiter)
                version, operation = self._version, self.snapshot.operation
                yield operation
                if operation.done:
                    return
        finally:
            self._leave(waiter)

    def _has_update(self, version: int | None, waiter: _Waiter) -> bool:
        """Whether there is a state after that version; after None, one that is of now."""
        if version is None:
            return self._is_streaming or self.snapshot.answered_at >= waiter.start
        return self._version > version

    def _is_done(self) -> bool:
        return self.snapshot.operation.done

    def _join(self, timeout: timedelta | None, *, wants_updates: bool) -> _Waiter:
        """Adds a waiter; the operation is followed until it leaves."""
        waiter = _Waiter(self._clock.monotonic(), timeout, wants_updates)
        watches = self._wants_updates() or self._is_streaming
        self._waiters.add(waiter)
        if self._poller is None or (wants_updates and not watches):
            self._start_poller()
        return waiter

    def _leave(self, waiter: _Waiter) -> None:
        self._waiters.discard(waiter)
        if not self._waiters:
            self._stop_poller()

    def _wants_updates(self) -> bool:
        return any(waiter.wants_updates for waiter in self._waiters)

    def _followed_until(self) -> float:
        """Returns the time until which anybody waits; the last polls come after it."""
        ends = (plan.end_of_wait(one.start, one.timeout) for one in self._waiters)
        return max(ends, default=-math.inf)

    def _start_poller(self) -> None:
        self._stop_poller()
        steps = plan.follow_steps(
            self.snapshot,
            wants_updates=self._wants_updates,
            shares=lambda: self._shared.is_worth_it,
            until=self._followed_until,
            backoff=self._backoff,
            outlives=self._outlives,
            polls=self._polls,
            unusable=self._connection.unusable,
            clock=self._clock.monotonic,
            random=self._random,
        )
        self._poller = asyncio.get_running_loop().create_task(self._run_poller(steps))

    def _stop_poller(self) -> None:
        """Ends the poller, and the call that it makes."""
        if self._poller is not None:
            self._poller.cancel()
            self._poller = None
            self._is_streaming = False
            self.snapshot.answer_due = math.inf

    async def _run_poller(self, steps: plan.Steps) -> None:
        try:
            with self._shared.following(self.snapshot.operation.name):
                await async_drive(steps, self._perform)
        except LroError as error:
            failure = error
        except asyncio.CancelledError as error:
            if self._poller is not asyncio.current_task():
                raise
            # It was not _stop_poller(), which forgets the task, but say asyncio.run() at its end.
            message = f"cannot follow {self.snapshot.operation.name}: the task of it was cancelled"
            failure = LroError(message, code=Code.CANCELLED)
            failure.__cause__ = error
        except Exception as error:
            _logger.exception("cannot follow %s", self.snapshot.operation.name)
            failure = LroError(f"cannot follow {self.snapshot.operation.name}: {error!r}")
            failure.__cause__ = error
        else:
            return
        self._poller = None
        for waiter in self._waiters:
            waiter.failure = copy_of(failure)
        self._notify()

    async def _wait_until(self, is_satisfied: Callable[[], bool], waiter: _Waiter) -> None:
        steps = plan.wait_steps(
            self.snapshot,
            is_satisfied=is_satisfied,
            start=waiter.start,
            timeout=waiter.timeout,
            clock=self._clock.monotonic,
        )
        await async_drive(steps, functools.partial(self._perform, waiter=waiter))

    async def _perform(
        self, step: plan.Step, *, waiter: _Waiter | None = None
    ) -> plan.Reply | None:
        match step:
            case plan.Sleep(seconds):
                await self._clock.sleep(seconds)
                return None
            case plan.AwaitUpdate(seconds):
                assert waiter is not None
                return await self._await_update(waiter, seconds)
            case plan.Watch():
                return await self._watch(step)
            case plan.Join():
                return await self._share_watch(step)
            case plan.Call(method=experience.GET):
                return await self._share_get(step)
            case plan.Call():
                began = self._clock.monotonic()
                held_until = began + step.server_wait.total_seconds()
                self.snapshot.answer_due = held_until
                reply = await self._connection.call(step)
                self.snapshot.answer_due = math.inf
                as_of = held_until if self._clock.monotonic() >= held_until else began
                return self._take_in(reply, as_of=as_of, may_doubt=True)

    async def _await_update(self, waiter: _Waiter, seconds: float | None) -> plan.Reply:
        if waiter.failure is None:
            waiter.updated.clear()
            await ends_within(self._clock, seconds, waiter.updated.wait())
        return plan.Reply(waiter.failure)

    async def _watch(self, step: plan.Watch) -> plan.Reply:
        states = self._connection.watch(step)
        try:
            async with contextlib.aclosing(states):
                while True:
                    reading = asyncio.ensure_future(anext(states, None))
                    if not await ends_within(self._clock, step.idle_timeout, reading):
                        message = f"the Watch was silent for {step.idle_timeout:g} s"
                        error = LroError(message, code=Code.DEADLINE_EXCEEDED)
                        return self._take_in(plan.Reply(error))
                    if (operation := reading.result()) is None:
                        return plan.Reply()
                    if not operation.ByteSize():  # a message without an operation
                        error = _wrong_operation("", self.snapshot.operation.name)
                        return self._take_in(plan.Reply(error))
                    taken = self._take_in(plan.Reply(message=operation), may_doubt=True)
                    if taken.error is not None or taken.is_doubted:
                        return taken
                    self._is_streaming = True
        except LroError as error:
            return self._take_in(plan.Reply(error))
        finally:
            if self._poller is asyncio.current_task():  # else another poller may stream by now
                self._is_streaming = False

    async def _share_watch(self, step: plan.Join) -> plan.Reply:
        poller = asyncio.current_task()

        def take(operation: operations_pb2.Operation) -> plan.Reply | None:
            taken = self._take_in(plan.Reply(message=operation), may_doubt=True)
            if taken.error is not None or taken.is_doubted or operation.done:
                return taken
            if self._poller is poller:
                self._is_streaming = not step.ends_only
            return None

        name = self.snapshot.operation.name
        try:
            reply = await self._shared.join(name, ends_only=step.ends_only, take=take)
            return reply if reply.error is None else self._take_in(reply)
        finally:
            if self._poller is poller:
                self._is_streaming = False

    async def _share_get(self, call: plan.Call) -> plan.Reply:
        """Makes a Get, or waits for the one that is on its way already."""
        assert call.timeout is not None
        if self._get is None or self._get.calling.done() or self._get.began < call.since:
            calling = asyncio.get_running_loop().create_task(self._connection.call(call))
            self._get = _SharedGet(self._clock.monotonic(), calling)
        get = self._get
        get.sharers += 1
        try:
            if await ends_within(
                self._clock, call.timeout.total_seconds(), asyncio.shield(get.calling)
            ):
                reply = get.calling.result()
                if reply.error is not None and get.sharers > 1:
                    reply = plan.Reply(copy_of(reply.error))
                is_stale = get.began < self.snapshot.answered_at
                return self._take_in(reply, as_of=get.began, is_stale=is_stale)
            return plan.Reply(LroError("no answer in time", code=Code.DEADLINE_EXCEEDED))
        finally:
            get.sharers -= 1
            if not get.sharers:
                get.calling.cancel()
                if self._get is get:
                    self._get = None

    def _take_in(
        self,
        reply: plan.Reply,
        *,
        as_of: float = -math.inf,
        is_stale: bool = False,
        may_doubt: bool = False,
    ) -> plan.Reply:
        """Updates the snapshot by the reply to a call, and returns the reply.

        Args:
            reply: The reply; becomes an error if its message is about another operation.
            as_of: The time of which its state is, or an earlier one; the beginning of time if that
                is not known.
            is_stale: Whether something was answered since then.
            may_doubt: Whether the snapshot stays as it is if the message lacks something.
        """
        known = self.snapshot.operation
        is_blank = reply.error is None and not reply.message.ByteSize()
        if reply.error is None and reply.message.name != known.name:
            reply = _under_its_name(known.name, reply)
        if reply.error is None:
            lacks_something = is_blank or plan.lacks_something(known, reply.message)
            if may_doubt and not known.done and lacks_something:
                return dataclasses.replace(reply, is_doubted=True)
            self.snapshot.as_of = max(self.snapshot.as_of, as_of)
            self._update(reply.message, is_stale=is_stale)
        self.snapshot.error = reply.error
        return reply

    def _update(self, operation: operations_pb2.Operation, *, is_stale: bool) -> None:
        known = self.snapshot.operation
        self.snapshot.answered_at = self._clock.monotonic()
        if not known.done and (operation.done or not is_stale) and operation != known:
            self.snapshot.operation = operation
            self._version += 1
        self._notify()

    def _notify(self) -> None:
        for waiter in self._waiters:
            waiter.updated.set()


def _under_its_name(name: str, reply: plan.Reply) -> plan.Reply:
    """Returns an answer under another name as one under the name that was asked for.

    A server may know one operation by several names, with a project's number for its id, or tell
    none at all. The id, which is the last segment, stays the same; an answer with another one is
    about another operation.
    """
    actual: str = reply.message.name
    if actual and _id_in(actual) != _id_in(name):
        return plan.Reply(_wrong_operation(actual, name))
    named = operations_pb2.Operation()
    named.CopyFrom(reply.message)
    named.name = name
    return dataclasses.replace(reply, message=named)


def _id_in(name: str) -> str:
    return name.rpartition("/")[2]


def _wrong_operation(actual: str, expected: str) -> LroError:
    return LroError(
        f"the server returned {actual!r} when asked for {expected!r}",
        code=Code.INTERNAL,
        reason="WRONG_OPERATION",
        domain=LIBRARY_DOMAIN,
        metadata={"expected": expected, "actual": actual},
    )
