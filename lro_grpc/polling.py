"""How an operation is waited for: backoff schedules, and the plan that decides every step.

A plan is a generator of steps. Whoever drives it performs the step that it yields and sends back
``None``, or the ``LroError`` that the step's RPC ended with; the plan returns when the operation
is done and raises when the wait is over for another reason. Sync and async clients drive the
same plan. Nothing here calls, sleeps or reads a clock of its own.

Times of the clock are seconds as floats; it may start anywhere but never goes back.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Generator, Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, TypeAlias

from google.longrunning import operations_pb2

from lro_grpc.errors import Code, LroError, OperationTimeoutError

if TYPE_CHECKING:
    from google.protobuf.message import Message

RPC_TIMEOUT = timedelta(seconds=10)
"""The deadline of a call that is to be answered at once (P13)."""

_FOREVER = 1e9
"""More than thirty years: stands for no timeout."""
_HOLD = 30.0
"""The longest Wait: short enough for idle limits on the way and to notice a dead peer."""
_HOLD_GRACE = 5.0
"""How much longer than it was asked to hold a Wait may take before it is given up."""
_HELD = 1.0
"""A Wait that took this long was held by the server: the next may follow without a pause."""
_LAST_POLL = 0.2
"""How long before the deadline the last poll begins, so that its answer comes within it."""
_MEMORY = 600.0
"""How long a method that was answered UNIMPLEMENTED is not tried again."""

_WAIT = "WaitOperation"
_TRANSIENT = frozenset({Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED})


@dataclasses.dataclass(frozen=True, slots=True)
class Backoff:
    """An exponential schedule with full jitter: each pause is uniform between zero and a ceiling.

    Raises:
        ValueError: If the first ceiling is not above zero, the multiplier below one, or the
            maximum below the first ceiling.
    """

    initial: timedelta = timedelta(milliseconds=100)
    """The ceiling of the first pause."""
    multiplier: float = 1.5
    """What each further ceiling is multiplied by."""
    maximum: timedelta = timedelta(seconds=5)
    """The highest ceiling."""

    def __post_init__(self) -> None:
        if not timedelta(0) < self.initial <= self.maximum or self.multiplier < 1:
            raise ValueError(f"{self} needs 0 < initial <= maximum and multiplier >= 1")

    def pauses(self, random: Callable[[], float]) -> Iterator[float]:
        """Returns the endless pauses, in seconds.

        Args:
            random: Gives numbers uniform in [0, 1), as ``random.random`` does.
        """
        ceiling, maximum = self.initial.total_seconds(), self.maximum.total_seconds()
        while True:
            yield ceiling * random()
            ceiling = min(ceiling * self.multiplier, maximum)


DEFAULT_BACKOFF = Backoff()
"""From 0.1 s by 1.5 up to 5 s: between polls, and after UNAVAILABLE."""


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
    """One RPC of google.longrunning.Operations; as a step: make it and keep what it returns."""

    method: str
    """The RPC's name, such as ``GetOperation``."""
    request: Message
    """Its request."""
    timeout: timedelta | None
    """Its deadline, from now; None for none."""


@dataclasses.dataclass(frozen=True, slots=True)
class Pause:
    """A step: do nothing for a while."""

    seconds: float
    """How long, above zero."""


@dataclasses.dataclass(frozen=True, slots=True)
class Turn:
    """A step: become the only one of an operation's waiters that calls, or give up in time."""

    seconds: float
    """How long to wait while another has the turn; zero or less only tries."""


Step: TypeAlias = Call | Pause | Turn
Steps: TypeAlias = Generator[Step, LroError | None, None]


def get_call(name: str, timeout: timedelta | None) -> Call:
    """Asks for the latest state of an operation."""
    return Call("GetOperation", operations_pb2.GetOperationRequest(name=name), timeout)


def wait_call(name: str, hold: timedelta | None, timeout: timedelta | None) -> Call:
    """Asks for the state of an operation once it is done, or after ``hold`` (P9)."""
    request = operations_pb2.WaitOperationRequest(name=name)
    if hold is not None:
        request.timeout.FromTimedelta(hold)
    return Call(_WAIT, request, timeout)


def look_steps(latest: Callable[[], operations_pb2.Operation]) -> Steps:
    """Plans one look at an operation: one Get, or nothing if it is known to be done.

    A transient error is no news, so it is no error either.

    Args:
        latest: Gives the latest state that was seen of the operation.

    Raises:
        LroError: What the call ended with, unless that is transient.
    """
    if not latest().done:
        error = yield get_call(latest().name, RPC_TIMEOUT)
        if error is not None and error.code not in _TRANSIENT:
            raise error


def wait_steps(
    latest: Callable[[], operations_pb2.Operation],
    *,
    timeout: timedelta | None,
    backoff: Backoff,
    unimplemented: Unimplemented,
    clock: Callable[[], float],
    random: Callable[[], float],
) -> Steps:
    """Plans the wait until an operation is done: by WaitOperation, else by polling GetOperation.

    Every call ends within the timeout. UNAVAILABLE is tried again after a pause, and
    DEADLINE_EXCEEDED only says "not done yet". A server may answer a Wait at once (P9), so calls
    that it does not hold are kept apart by growing pauses (C8).

    Args:
        latest: Gives the latest state that was seen of the operation.
        timeout: How long to wait in all; None for as long as it takes.
        backoff: The pauses.
        unimplemented: What is known of the server; a Wait that it does not have is added.
        clock: Gives the present time in seconds.
        random: Gives numbers uniform in [0, 1).

    Raises:
        OperationTimeoutError: If the operation is not done in time: up to 0.2 s before the
            timeout is over, when the last poll says so, and never after it.
        LroError: What a call ended with, if that is not transient.
    """
    if latest().done:
        return
    name, start = latest().name, clock()
    seconds = _FOREVER if timeout is None else timeout.total_seconds()
    end = start + seconds
    last = end - min(_LAST_POLL, seconds / 5)
    pauses = backoff.pauses(random)
    trouble: LroError | None = None

    yield Turn(last - start)
    while not latest().done and (now := clock()) < end:
        polls_last = now >= last
        # A server that let a Wait run into its deadline may still answer a Get.
        overdue = trouble is not None and trouble.code is Code.DEADLINE_EXCEEDED
        waits = not (polls_last or overdue or unimplemented.has(_WAIT, now))
        if waits:
            hold = min(_HOLD, last - now)
            # Half the margin is kept for a last poll if the server does not answer.
            limit = min(hold + _HOLD_GRACE, (last + end) / 2 - now)
            trouble = yield wait_call(name, timedelta(seconds=hold), timedelta(seconds=limit))
        else:
            trouble = yield get_call(name, min(RPC_TIMEOUT, timedelta(seconds=end - now)))

        answered = clock()
        if trouble is not None and trouble.code is Code.UNIMPLEMENTED and waits:
            unimplemented.add(_WAIT, answered)
            continue
        if trouble is not None and trouble.code not in _TRANSIENT:
            raise trouble
        if latest().done or polls_last or (trouble is None and answered >= last):
            break
        if waits and answered - now >= _HELD:
            pauses = backoff.pauses(random)
            if trouble is None or trouble.code is not Code.UNAVAILABLE:
                continue
        pause = min(next(pauses), last - answered)
        if pause > 0:
            yield Pause(pause)

    if not latest().done:
        message = f"{name} is not done after {timeout}; wait again, or cancel it"
        if trouble is not None:
            message += f" (the last call ended with {trouble.code.name}: {trouble.message})"
        raise OperationTimeoutError(message, operation=latest()) from trouble
