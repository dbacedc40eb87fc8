"""Plans of a waiting client: the calls that it makes, at the times that it makes them.

A plan is a generator of steps (``_runtime/steps.py``): it decides, and the watcher that performs
its steps calls, sleeps and reads the time. So the sync and the async client share every decision,
and a test runs hours of them in virtual time.

**Two plans, one snapshot.** ``follow_steps`` runs once for an operation, while anybody waits for
it, and makes the calls that a server may hold: ten waiters cost as many of them as one.
``wait_steps`` runs once for each waiter, and mostly sleeps until there is an update. The two meet
in the ``Snapshot`` alone: every answer goes into it, every waiter reads it. Before each call the
poller asks anew until when anybody waits, and whether anybody wants updates on the way; so
waiters come and go without a word to it.

**The call to make.** The first row that the server can serve:

============  =================  ==============================================
wanted        call               held by the server
============  =================  ==============================================
either        WatchOperations    until the end, where others are followed, too
updates       WatchOperation     until the end; it sends every change
updates       WaitOperation      for at most 1 s, so that changes are seen
the end       WaitOperation      for at most 30 s
either        GetOperation       not at all; a pause lies between two of them
============  =================  ==============================================

Those who want the end alone are served by Wait even where there is a Watch: it costs one message
instead of one for each change. Where a client follows several operations, they share one call,
WatchOperations (``shared_watch.py``), which sends the end alone if nobody wants more. The first of
them goes on with its own call until that ends: who waits for one operation shares nothing.

**Methods that cannot be used.** Only Get is required (P6), and a client may be made to poll. A
Watch or a Wait that is answered UNIMPLEMENTED is not tried again for ten minutes, by any client of
the same channel. What refuses a Watch with another error, such as a proxy that lets no stream
through, may still let the next call of the table through: that goes next, and the Watch rests for
30 s. A shared Watch is not tried again for ten minutes, too, if the server takes it and says
nothing. A call that fails with an error to be waited out is followed by Gets until one is answered:
they are small, and kill no server. If the next Watch or Wait then fails again, it is what the
server, or the way to it, does not survive: it, too, is not tried again for ten minutes. A deadline
that passes counts for nothing here.

**Answers that are doubted.** An answer to a Watch or a Wait lacks something if the metadata that
was there has gone; or if it is done and has neither response nor error, or a response without a
type, or an error without a code; or if it is blank, as of a method that nobody has written. Some
services have no result to give (P2), and some servers answer a Wait at random. So one Get decides,
and nothing is believed before it. If it lacks nothing, the answer was wrong: the server is polled
for ten minutes, as one that has none of these methods.

**Errors.** UNAVAILABLE is waited out. DEADLINE_EXCEEDED means "not done yet", and a Get goes next,
which a server that let a Wait run into its deadline may still answer. CANCELLED comes from a
server that shuts down, and is believed when it is repeated. RESOURCE_EXHAUSTED is waited out if
the server says when to come again, and so are the codes of the client's ``Retry``. Any other error
ends the plan, and so the wait of all; that of a Watch only if a Wait or a Get has it, too.

**Pauses.** A call that the server held is followed by the next at once. One that it answered at
once, done or not (P9), is followed by a pause, which grows from call to call (C8) unless the server
names it; so no server makes the client a busy loop. An answer may name the pause before the next
Get, for up to an hour. A refusal can only make the pause longer, for up to a minute: a front end
that nobody has asked may have written it.

**The last poll.** Pauses are up to 5 s, and a server that is slow or away may answer none of the
shared calls in time. So a waiter whose time is over makes a Get of its own, and gives it 0.5 s. It
makes none if a Get was made since the end, and leaves half of that time to a Wait that the server
holds until the end. So no wait reports a timeout for an operation that was done before it,
none reports one early, and none takes more than half a second longer than its timeout.

All times are seconds of a clock that may start anywhere and never goes back.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Container, Generator
from datetime import timedelta
from typing import Any, ClassVar, TypeAlias

from google.longrunning import operations_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2

from lro.v1 import operation_control_service_pb2
from lro_grpc._client.experience import (
    GET,
    SHARED_WATCH,
    WAIT,
    WATCH,
    EndedCall,
    Experience,
    Unusable,
)
from lro_grpc._durations import Duration, as_timedelta, as_timeout
from lro_grpc._errors import Code, LroError, OperationTimeoutError
from lro_grpc._runtime.backoff import DEFAULT_RETRY, Backoff, Retry
from lro_grpc._runtime.clock import LONGEST

RPC_TIMEOUT = timedelta(seconds=10)
"""The deadline of a call that is to be answered at once (P13)."""

_LONG_WAIT = 30.0
"""The longest Wait: short enough for idle limits on the way, and to notice a dead peer."""
_SHORT_WAIT = 1.0
"""The longest Wait while anybody wants updates, and the server has no Watch."""
_WAIT_DEADLINE_MARGIN = 5.0
"""The time that a Wait may take beyond the one that the server may hold it."""
_HELD_FROM = 1.0
"""A call that took this long was held by the server: the next may follow without a pause."""
WATCH_IDLE_TIMEOUT = 35.0
"""A Watch that sends nothing for this long is given up; servers repeat themselves more often."""
_LAST_POLL_TIME = 0.5
"""The longest that a wait goes on after its end, for the answer to its last poll."""
_CLOCK_MARGIN = 2e-6
"""The time by which a Wait, held for whole microseconds, may end before the client that waits."""
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.01, 3600.0
"""The bounds of the pause that a server may ask for with an answer."""
_LONGEST_RETRY_DELAY = 60.0
"""The longest pause that a server may ask for with a refusal."""

_TRANSIENT = frozenset({Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED})


@dataclasses.dataclass(frozen=True, slots=True)
class Call:
    """A step: make one unary RPC."""

    method: str
    """The RPC's name, such as ``GetOperation``."""
    request: Message
    """Its request."""
    timeout: timedelta | None
    """Its deadline, from now; None for none."""
    server_wait: timedelta = timedelta(0)
    """The longest time for which the request lets the server hold it."""
    since: float = -math.inf
    """The earliest time at which a Get may have begun that is shared in place of this one."""
    operation: str = ""
    """The operation that it is about, if it is about one."""


@dataclasses.dataclass(frozen=True, slots=True)
class Watch:
    """A step: make one WatchOperation, and take in every state until the stream ends.

    A stream that is idle for too long is given up, with DEADLINE_EXCEEDED.
    """

    request: operation_control_service_pb2.WatchOperationRequest
    """Its request."""
    idle_timeout: float
    """The seconds without an answer that are too long."""
    method: ClassVar[str] = WATCH
    """The RPC's name."""


@dataclasses.dataclass(frozen=True, slots=True)
class Join:
    """A step: take in the states of the client's shared Watch until it has no more of them."""

    ends_only: bool
    """Whether only the end is wanted."""
    method: ClassVar[str] = SHARED_WATCH
    """The RPC's name."""


@dataclasses.dataclass(frozen=True, slots=True)
class Sleep:
    """A step: let time pass. It has no reply."""

    seconds: float
    """The time to let pass, above zero."""


@dataclasses.dataclass(frozen=True, slots=True)
class AwaitUpdate:
    """A step of a waiter: sleep until the server has answered, or the time is over.

    The reply has the error that ended the poller, if one did.
    """

    seconds: float | None
    """The longest time; None for as long as it takes."""


Step: TypeAlias = "Call | Watch | Join | Sleep | AwaitUpdate"


@dataclasses.dataclass(frozen=True, slots=True)
class Reply:
    """The outcome of a step."""

    error: LroError | None = None
    """The error that the RPC ended with; None if it ended with OK."""
    message: Any = None
    """The response of a ``Call``."""
    poll_after: float | None = None
    """The seconds after which the server wants the next Get, if it says so."""
    is_doubted: bool = False
    """Whether the response of a Watch or a Wait is doubted, and so not in the snapshot."""


Steps: TypeAlias = "Generator[Step, Reply | None, None]"


@dataclasses.dataclass(slots=True)
class Snapshot:
    """The latest knowledge of an operation; its watcher keeps it up to date."""

    operation: operations_pb2.Operation
    """The latest state that was seen."""
    answered_at: float = -math.inf
    """The time of the server's latest answer."""
    as_of: float = -math.inf
    """The time of which the latest answer to a Get or a Wait is, or an earlier one."""
    answer_due: float = math.inf
    """The time at which the server is to answer a call that it holds; infinite without one."""
    error: LroError | None = None
    """The error of the latest call; None if it was answered."""


def get_call(name: str, timeout: Duration | None) -> Call:
    """Asks for the latest state of an operation."""
    request = operations_pb2.GetOperationRequest(name=name)
    return Call(GET, request, as_timeout(timeout), operation=name)


def wait_call(name: str, server_wait: timedelta | None, timeout: timedelta | None) -> Call:
    """Asks for the state of an operation once it is done, or after ``server_wait`` (P9)."""
    request = operations_pb2.WaitOperationRequest(name=name)
    if server_wait is not None:
        request.timeout.FromTimedelta(server_wait)
    return Call(WAIT, request, timeout, server_wait or timedelta(0), operation=name)


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
        The RPC's response.

    Raises:
        LroError: The error that the last attempt ended with.
    """
    end = None if call.timeout is None else clock() + min(call.timeout, LONGEST).total_seconds()
    attempts = retry.attempts if retry else 1
    pauses = (retry or DEFAULT_RETRY).backoff.pauses(random)
    for attempt in range(1, attempts + 1):
        reply = yield call
        assert reply is not None
        if reply.error is None:
            return reply.message
        if attempt == attempts or reply.error.code not in codes_of(retry):
            raise reply.error
        pause = _pause(next(pauses), reply, random)
        if end is not None:
            left = end - clock() - pause
            if left <= 0:
                raise reply.error
            call = dataclasses.replace(call, timeout=as_timedelta("timeout", left))
        if pause > 0:
            yield Sleep(pause)
    raise AssertionError("the last attempt returns or raises")


def codes_of(retry: Retry | None) -> frozenset[Code]:
    """Returns the codes after which a call is made again."""
    return frozenset(retry.codes) if retry else frozenset()


def refresh_steps(
    snapshot: Snapshot, *, outlives: frozenset[Code], timeout: timedelta = RPC_TIMEOUT
) -> Steps:
    """Plans one refresh of a snapshot: one Get, or nothing if the operation is known to be done.

    A server that is away or shuts down leaves the snapshot as it is; that is no error.

    Args:
        snapshot: The snapshot of the operation.
        outlives: The codes that are no error either.
        timeout: The deadline of the call.

    Raises:
        LroError: Any other error that the call ended with.
    """
    if not snapshot.operation.done:
        reply = yield get_call(snapshot.operation.name, timeout)
        if reply and reply.error and not _may_pass(reply.error, outlives | {Code.CANCELLED}):
            raise reply.error


def follow_steps(
    snapshot: Snapshot,
    *,
    wants_updates: Callable[[], bool],
    shares: Callable[[], bool],
    until: Callable[[], float],
    backoff: Backoff,
    outlives: frozenset[Code],
    polls: bool,
    unusable: Unusable,
    clock: Callable[[], float],
    random: Callable[[], float],
) -> Steps:
    """Plans the calls that follow an operation until it is done, on behalf of all who wait.

    Args:
        snapshot: The snapshot of the operation.
        wants_updates: Returns whether anybody wants to see the changes on the way.
        shares: Returns whether the client follows other operations, too.
        until: Returns the time until which anybody waits.
        backoff: The pauses.
        outlives: The codes that are waited out, beside those that always are.
        polls: Whether to use Get alone.
        unusable: The methods that cannot be used; the plan adds those that it finds.
        clock: Gives the present time in seconds.
        random: Gives numbers uniform in [0, 1).

    Raises:
        LroError: The error that a call ended with, if it is not one to wait out.
    """
    name = snapshot.operation.name
    pauses = backoff.pauses(random)
    shown = Experience()
    while not snapshot.operation.done:
        now = clock()
        left = until() - now
        if left <= 0:  # The last polls are up to those who wait.
            yield Sleep(_LAST_POLL_TIME)
            continue
        may_hold = not polls and not shown.only_gets
        usable = {
            method
            for method in (SHARED_WATCH, WATCH, WAIT)
            if may_hold and shown.lets(method, now) and not unusable.has(method, now)
        }
        step, server_wait = _next_step(
            name, usable, shares=shares(), wants_updates=wants_updates(), left=left
        )
        reply = yield step
        assert reply is not None
        if reply.is_doubted:
            known = snapshot.operation
            step, server_wait = get_call(name, RPC_TIMEOUT), 0.0
            reply = yield step
            assert reply is not None
            if reply.error is None and not lacks_something(known, reply.message):
                for method in (SHARED_WATCH, WATCH, WAIT):
                    unusable.add(method, clock())
        if snapshot.operation.done:
            return
        ended = clock()
        has_answered = snapshot.answered_at >= now
        call = EndedCall(
            step.method,
            reply.error,
            may_pass=reply.error is not None and _may_pass(reply.error, outlives),
            was_held=_was_held(step.method, server_wait, ended - now, has_answered=has_answered),
            at=ended,
        )
        shown = shown.after(call)
        if call.is_unimplemented:
            unusable.add(call.method, ended)
            continue  # The next best call is made at once.
        passes = shown.passes(call)
        if call.is_refused_watch and not passes:
            continue
        if call.error and not passes and call.method not in (SHARED_WATCH, WATCH):
            raise call.error
        if shown.is_deadly(call):
            unusable.add(call.method, ended)
        if call.was_held:
            pauses = backoff.pauses(random)
        if call.has_failed or not call.was_held:
            pause = _pause(next(pauses), reply, random)
            if pause > 0:
                yield Sleep(pause)


def _was_held(method: str, server_wait: float, took: float, *, has_answered: bool) -> bool:
    """Whether the server held a call: the next may follow without a pause."""
    if method in (SHARED_WATCH, WATCH) and not has_answered:
        return False  # It has but taken its time to refuse it.
    return server_wait > 0 and took >= min(_HELD_FROM, server_wait) * 0.9


def lacks_something(known: operations_pb2.Operation, answer: operations_pb2.Operation) -> bool:
    """Whether an answer to a Watch or a Wait is to be confirmed by a Get.

    Args:
        known: The latest knowledge of the operation.
        answer: The answer.
    """
    before, after = known.metadata, answer.metadata
    if before.type_url and (
        before.type_url != after.type_url or bool(before.value) > bool(after.value)
    ):
        return True
    if not answer.done:
        return False
    match answer.WhichOneof("result"):
        case "response":
            return not answer.response.type_url
        case "error":
            return not answer.error.code
    return True


def _may_pass(error: LroError, outlives: frozenset[Code]) -> bool:
    """Whether a call that ended with an error is worth another one, with nothing changed."""
    if error.code in _TRANSIENT or error.code in outlives:
        return True
    return error.code is Code.RESOURCE_EXHAUSTED and _retry_delay(error) is not None


def _retry_delay(error: LroError) -> float | None:
    """Returns the seconds after which the server wants to be asked again, if it says so."""
    for detail in error.details:
        if isinstance(detail, error_details_pb2.RetryInfo):
            return detail.retry_delay.seconds + detail.retry_delay.nanos / 1e9
    return None


def _pause(own: float, reply: Reply, random: Callable[[], float]) -> float:
    """Returns the seconds until the next call: the plan's own, or what the server asks for."""
    if reply.error is not None:
        asked = _retry_delay(reply.error)
        if asked is None or asked <= own:
            return own
        pause = min(asked, _LONGEST_RETRY_DELAY)
    elif reply.poll_after is not None:
        pause = min(max(reply.poll_after, _SHORTEST_PAUSE), _LONGEST_PAUSE)
    else:
        return own
    return pause * (1 + random() / 10)  # so that the pollers of one server do not come at once


def _next_step(
    name: str, usable: Container[str], *, shares: bool, wants_updates: bool, left: float
) -> tuple[Join | Watch | Call, float]:
    """Returns the best call that there is, and for how many seconds the server may hold it."""
    if shares and SHARED_WATCH in usable:
        return Join(ends_only=not wants_updates), math.inf
    if wants_updates and WATCH in usable:
        request = operation_control_service_pb2.WatchOperationRequest(name=name)
        return Watch(request, WATCH_IDLE_TIMEOUT), math.inf
    if WAIT in usable:
        server_wait = min(_SHORT_WAIT if wants_updates else _LONG_WAIT, left)
        limit = timedelta(seconds=server_wait + _WAIT_DEADLINE_MARGIN)
        return wait_call(name, timedelta(seconds=server_wait), limit), server_wait
    return get_call(name, RPC_TIMEOUT), 0.0


def wait_steps(
    snapshot: Snapshot,
    *,
    is_satisfied: Callable[[], bool],
    start: float,
    timeout: timedelta | None,
    clock: Callable[[], float],
) -> Steps:
    """Plans the wait of one waiter, with its last poll.

    Args:
        snapshot: The snapshot of the operation.
        is_satisfied: Returns whether the wait may end.
        start: The time at which the wait began.
        timeout: How long to wait from then on; None for as long as it takes.
        clock: Gives the present time in seconds.

    Raises:
        OperationTimeoutError: If the waiter is not satisfied in time: when the timeout is over,
            and at most 0.5 s after that.
        LroError: The error that ended the poller.
    """
    end = end_of_wait(start, timeout)
    answer_by = end + _LAST_POLL_TIME

    def is_of_the_end() -> bool:
        return snapshot.as_of >= end - _CLOCK_MARGIN

    def await_updates(until: float) -> Steps:
        while not is_satisfied() and (now := clock()) < until:
            reply = yield AwaitUpdate(None if until == math.inf else until - now)
            if reply and reply.error:
                raise reply.error
            if is_of_the_end():
                return

    yield from await_updates(end)
    if snapshot.answer_due < answer_by:  # An answer that is due is as good as a last poll.
        yield from await_updates((end + answer_by) / 2)
    if not is_satisfied() and not is_of_the_end() and (left := answer_by - clock()) > 0:
        limit = min(RPC_TIMEOUT, timedelta(seconds=left))
        yield dataclasses.replace(get_call(snapshot.operation.name, limit), since=end)
    if not is_satisfied():
        message = f"{snapshot.operation.name} is not done after {timeout}; wait again, or cancel it"
        if snapshot.error is not None:
            code = snapshot.error.code.name
            message += f" (the last call ended with {code}: {snapshot.error.message})"
        raise OperationTimeoutError(
            message, operation=snapshot.operation, elapsed=timedelta(seconds=clock() - start)
        ) from snapshot.error


def end_of_wait(start: float, timeout: timedelta | None) -> float:
    """Returns when a wait is over, and its last poll due, by the clock of ``start``."""
    return math.inf if timeout is None else start + timeout.total_seconds()
