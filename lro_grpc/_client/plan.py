"""How an operation is followed: backoff schedules, and the plans that decide every step.

A plan is a generator of steps. Whoever drives it performs the step that it yields and sends back
a ``Reply``; the plan returns when there is no more to do, and raises when it cannot go on. Sync
and async clients drive the same plans. Nothing here calls, sleeps or reads a clock of its own.

Times of the clock are seconds as floats; it may start anywhere but never goes back.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Generator
from datetime import timedelta
from typing import Any, TypeAlias

from google.longrunning import operations_pb2
from google.protobuf.message import Message

from lro.v1 import operation_control_service_pb2
from lro_grpc._errors import Code, LroError, OperationTimeoutError
from lro_grpc._runtime.backoff import DEFAULT_RETRY, Backoff, Retry

RPC_TIMEOUT = timedelta(seconds=10)
"""The deadline of a call that is to be answered at once (P13)."""

_HOLD = 30.0
"""The longest Wait: short enough for idle limits on the way and to notice a dead peer."""
_GLANCE = 1.0
"""The longest Wait while someone wants to see what changes, and the server has no Watch."""
_HOLD_GRACE = 5.0
"""How much longer than it was asked to hold a Wait may take before it is given up."""
_HELD = 1.0
"""A call that took this long was held by the server: the next may follow without a pause."""
_SILENCE = 35.0
"""A Watch that tells nothing for this long is given up; servers repeat themselves more often."""
_SHUNNED = 30.0
"""How long a Watch that did not work out is not tried again."""
_LAST_POLL = 0.2
"""How long before the deadline the last poll begins, so that its answer comes within it."""
_MEMORY = 600.0
"""How long a method that was answered UNIMPLEMENTED is not tried again."""
_MOST_CANCELLED = 3
"""How often in a row a server may answer CANCELLED, as one that shuts down does."""
_SHORTEST_POLL, _LONGEST_POLL = 0.01, 3600.0
"""The pauses that a server may ask for."""

WATCH, WAIT, GET = "WatchOperation", "WaitOperation", "GetOperation"

_TRANSIENT = frozenset({Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED})
_NO_NEWS = _TRANSIENT | {Code.CANCELLED}


class Unimplemented:
    """The methods that a channel's server answered UNIMPLEMENTED to, remembered for ten minutes.

    Not for ever: the server may be upgraded under a client that lives on.
    """

    def __init__(self) -> None:
        self._until: dict[str, float] = {}

    def add(self, method: str, now: float) -> None:
        """Remembers that the server does not have the method."""
        self._until[method] = now + _MEMORY

    def has(self, method: str, now: float) -> bool:
        """Tells whether the method is not worth trying."""
        return now < self._until.get(method, now)


@dataclasses.dataclass(frozen=True, slots=True)
class Call:
    """One unary RPC; as a step of following an operation: make it and keep what it returns."""

    method: str
    """The RPC's name, such as ``GetOperation``."""
    request: Message
    """Its request."""
    timeout: timedelta | None
    """Its deadline, from now; None for none."""
    hold: timedelta = timedelta(0)
    """For how long the server may hold it."""


@dataclasses.dataclass(frozen=True, slots=True)
class Watch:
    """A step: watch the operation and keep every state that is sent, until the stream ends.

    A stream that is silent for too long is given up, with DEADLINE_EXCEEDED.
    """

    request: operation_control_service_pb2.WatchOperationRequest
    """The request of ``WatchOperation``."""
    silence: float
    """How many seconds is too long."""


@dataclasses.dataclass(frozen=True, slots=True)
class Pause:
    """A step: do nothing for a while, or until the operation is done."""

    seconds: float
    """How long, above zero."""


@dataclasses.dataclass(frozen=True, slots=True)
class Listen:
    """A step: wait until the operation is done, the server has told a state, or the time is over.

    The reply has the error that ends the following, if one does.
    """

    seconds: float | None
    """How long; None for as long as it takes."""


Step: TypeAlias = "Call | Watch | Pause | Listen"


@dataclasses.dataclass(frozen=True, slots=True)
class Reply:
    """What came of a step."""

    error: LroError | None = None
    """What the RPC ended with, if not with OK."""
    message: Any = None
    """What a ``Call`` returned."""
    poll_after: float | None = None
    """After how many seconds the server wants the next Get, if it has said so."""


Steps: TypeAlias = "Generator[Step, Reply | None, None]"


@dataclasses.dataclass(slots=True)
class Seen:
    """What is known of an operation that is followed; kept up to date by who performs the steps."""

    operation: operations_pb2.Operation
    """The latest state that was seen."""
    answered: float = -math.inf
    """When the server last told a state."""
    due: float = math.inf
    """Until when a call that the server may hold is to be answered, if one is on its way."""
    trouble: LroError | None = None
    """What the latest call ended with, if it was not answered."""


def get_call(name: str, timeout: timedelta | None) -> Call:
    """Asks for the latest state of an operation."""
    return Call(GET, operations_pb2.GetOperationRequest(name=name), timeout)


def wait_call(name: str, hold: timedelta | None, timeout: timedelta | None) -> Call:
    """Asks for the state of an operation once it is done, or after ``hold`` (P9)."""
    request = operations_pb2.WaitOperationRequest(name=name)
    if hold is not None:
        request.timeout.FromTimedelta(hold)
    return Call(WAIT, request, timeout, hold or timedelta(0))


def call_steps(
    call: Call,
    *,
    retry: Retry | None,
    clock: Callable[[], float],
    random: Callable[[], float],
) -> Generator[Step, Reply | None, Any]:
    """Plans a single call and its repetitions, all within the call's timeout (C2).

    Args:
        call: The call.
        retry: When to make it again; None for never.
        clock: Gives the present time in seconds.
        random: Gives numbers uniform in [0, 1).

    Returns:
        What the RPC returned.

    Raises:
        LroError: What it ended with.
    """
    end = None if call.timeout is None else clock() + call.timeout.total_seconds()
    attempts, codes = (retry.attempts, retry.codes) if retry else (1, frozenset())
    pauses = (retry or DEFAULT_RETRY).backoff.pauses(random)
    for attempt in range(1, attempts + 1):
        reply = yield call
        assert reply is not None
        if reply.error is None:
            return reply.message
        pause = next(pauses)
        if attempt == attempts or reply.error.code not in codes:
            raise reply.error
        if end is not None:
            left = end - clock() - pause
            if left <= 0:
                raise reply.error
            call = dataclasses.replace(call, timeout=timedelta(seconds=left))
        if pause > 0:
            yield Pause(pause)
    raise AssertionError("the last attempt returns or raises")


def look_steps(seen: Seen, timeout: timedelta = RPC_TIMEOUT) -> Steps:
    """Plans one look at an operation: one Get, or nothing if it is known to be done.

    A transient error is no news, so it is no error either; nor is CANCELLED, the word of a server
    that shuts down.

    Args:
        seen: What is known of the operation.
        timeout: The deadline of the call.

    Raises:
        LroError: What the call ended with, unless that is no news.
    """
    if not seen.operation.done:
        reply = yield get_call(seen.operation.name, timeout)
        if reply and reply.error and reply.error.code not in _NO_NEWS:
            raise reply.error


def wait_steps(
    seen: Seen,
    *,
    enough: Callable[[], bool],
    start: float,
    timeout: timedelta | None,
    clock: Callable[[], float],
) -> Steps:
    """Plans one waiter's wait for an operation that is followed: its time, and its last poll.

    Args:
        seen: What is known of the operation.
        enough: Tells whether the waiter has what it waits for.
        start: When the wait began.
        timeout: How long to wait from then on; None for as long as it takes.
        clock: Gives the present time in seconds.

    Raises:
        OperationTimeoutError: If it is not enough in time: up to 0.2 s before the timeout is
            over, when the last poll says so, and never after it.
        LroError: What ended the following of the operation.
    """
    end, last = deadlines(start, timeout)

    def listen(until: float) -> Steps:
        while not enough() and (now := clock()) < until:
            reply = yield Listen(None if until == math.inf else until - now)
            if reply and reply.error:
                raise reply.error
            if seen.answered >= last:
                return

    yield from listen(last)
    if seen.due <= last:  # A call that is to be answered by now is as good as a last poll.
        yield from listen((last + end) / 2)
    if not enough() and seen.answered < last and (left := end - clock()) > 0:
        yield get_call(seen.operation.name, min(RPC_TIMEOUT, timedelta(seconds=left)))
    if not enough():
        message = f"{seen.operation.name} is not done after {timeout}; wait again, or cancel it"
        if seen.trouble is not None:
            code = seen.trouble.code.name
            message += f" (the last call ended with {code}: {seen.trouble.message})"
        raise OperationTimeoutError(
            message, operation=seen.operation, elapsed=timedelta(seconds=clock() - start)
        ) from seen.trouble


def check_timeout(timeout: object) -> None:
    """Checks what a caller has given as a timeout.

    Raises:
        TypeError: If it is neither a ``timedelta`` nor None.
    """
    if timeout is not None and not isinstance(timeout, timedelta):
        raise TypeError(f"timeout is {timeout!r}; give a datetime.timedelta, or None")


def deadlines(start: float, timeout: timedelta | None) -> tuple[float, float]:
    """Returns when a wait is over, and when its last poll is due, by the clock of ``start``."""
    if timeout is None:
        return math.inf, math.inf
    seconds = timeout.total_seconds()
    return start + seconds, start + seconds - min(_LAST_POLL, seconds / 5)


def follow_steps(
    seen: Seen,
    *,
    changes: Callable[[], bool],
    until: Callable[[], float],
    backoff: Backoff,
    unimplemented: Unimplemented,
    clock: Callable[[], float],
    random: Callable[[], float],
) -> Steps:
    """Plans how an operation is followed until it is done: by Watch, else by Wait, else by Get.

    Watch is for those who want to see what changes on the way. Who waits for the end only is
    served by Wait, which costs one message instead of one for each change. A server may lack
    either (P6), and may end them early (P9): what it did not hold is repeated after growing
    pauses (C8), and a Watch is left alone for a while. UNAVAILABLE is tried again after a pause,
    DEADLINE_EXCEEDED only says "not done yet", and CANCELLED, the word of a server that shuts
    down, is believed when it is repeated. Any other error of a Watch counts only if a Wait has
    it too.

    Args:
        seen: What is known of the operation.
        changes: Tells whether anybody wants to see what changes.
        until: Tells until when anybody waits.
        backoff: The pauses.
        unimplemented: What is known of the server; what it does not have is added.
        clock: Gives the present time in seconds.
        random: Gives numbers uniform in [0, 1).

    Raises:
        LroError: What a call ended with, if that is not transient.
    """
    name = seen.operation.name
    pauses = backoff.pauses(random)
    watches_from = clock()
    overdue = turned_away = False
    cancelled = 0
    while not seen.operation.done:
        now = clock()
        left = until() - now
        if left <= 0:  # The last polls are up to those who wait.
            yield Pause(_LAST_POLL)
            continue
        step, hold = _next_step(
            name,
            watches=changes()
            and now >= watches_from
            and not turned_away
            and not unimplemented.has(WATCH, now),
            waits=not unimplemented.has(WAIT, now),
            overdue=overdue,
            hold=min(_GLANCE if changes() else _HOLD, left),
        )
        reply = yield step
        assert reply is not None
        if seen.operation.done:
            return
        answered = clock()
        code = reply.error.code if reply.error else Code.OK
        # A server that let a call run into its deadline may still answer a Get.
        overdue = code is Code.DEADLINE_EXCEEDED
        cancelled = cancelled + 1 if code is Code.CANCELLED else 0

        if code is Code.UNIMPLEMENTED and not (isinstance(step, Call) and step.method == GET):
            unimplemented.add(WATCH if isinstance(step, Watch) else WAIT, answered)
            continue
        was_held = hold > 0 and answered - now >= min(_HELD, hold) * 0.9
        if isinstance(step, Watch) and seen.answered < now:
            was_held = False  # The server has but taken its time to refuse it.
        passes = code in _TRANSIENT or 0 < cancelled <= _MOST_CANCELLED
        # What stands between may let no stream through, and still let a Wait.
        turned_away = isinstance(step, Watch) and not was_held
        if isinstance(step, Watch) and not passes and not was_held:
            watches_from = answered + _SHUNNED
            continue
        if reply.error and not passes and not isinstance(step, Watch):
            raise reply.error
        if was_held:
            pauses = backoff.pauses(random)
        if not was_held or code is Code.UNAVAILABLE:
            pause = next(pauses)
            if reply.poll_after is not None:
                pause = min(max(reply.poll_after, _SHORTEST_POLL), _LONGEST_POLL)
                pause *= 1 + random() / 10
            if pause > 0:
                yield Pause(pause)


def _next_step(
    name: str, *, watches: bool, waits: bool, overdue: bool, hold: float
) -> tuple[Watch | Call, float]:
    """Returns the best call that there is, and for how many seconds the server may hold it."""
    if watches and not overdue:
        request = operation_control_service_pb2.WatchOperationRequest(name=name)
        return Watch(request, _SILENCE), math.inf
    if waits and not overdue:
        limit = timedelta(seconds=hold + _HOLD_GRACE)
        return wait_call(name, timedelta(seconds=hold), limit), hold
    return get_call(name, RPC_TIMEOUT), 0.0
