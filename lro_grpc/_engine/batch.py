"""Creates several targets as one operation, all or nothing.

**Written ahead.** Each target's state is stored before what follows from it begins: CREATING before
``create`` is called, DELETING before ``delete`` is. So whatever attempt comes next knows from the
record which targets may exist, and none is left behind when a worker dies in the middle. The price
is that a call which was cut off is made once more, so both must cope with its leftovers.

**Forward, then back.** ``_create_all`` has up to ``parallelism`` targets under way at a time. A
target that fails with an error worth another try keeps its state and its place, and is tried again
after a pause, by the method's own policy; in either direction. The first failure ends the way
forward, and so does a cancel or the deadline: no further target is begun, those under way are
awaited, and ``_undo_all`` deletes what exists, newest first. A stop that is about this
attempt alone, such as a shutdown, ends the walk in either direction: the states stay as they are,
and the next attempt goes on from them.

**Stopped or failed?** A target that was interrupted raises as one that has failed. While the
attempt is being stopped, anything that is no ``Exception`` counts as the stop. In a cancelled
operation, an interrupted target of this attempt is FAILED, because ``create`` cleans up after
itself; one whose creation an earlier attempt began may exist, and is deleted.

**The plan** is a generator of steps, and knows neither threads nor tasks; it decides, and the
drivers (``batch_drivers``) do as it says, with a thread or a task for each target.
"""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Generator, Sequence
from dataclasses import dataclass

from google.rpc import error_details_pb2, status_pb2

from lro_grpc._engine.attempt import Attempt
from lro_grpc._engine.retries import pause_after, retryable, words
from lro_grpc._errors import (
    LIBRARY_DOMAIN,
    AttemptStopped,
    Code,
    LroError,
    OperationTooLargeError,
    StopReason,
    cut,
    from_status,
    to_status,
)
from lro_grpc._operation import size
from lro_grpc._operation.batch_states import (
    BEGUN,
    CODE_BYTES,
    UNBEGUN,
    BatchStates,
    Status,
    fault_in,
)
from lro_grpc._operation.events import SaveBatch, cancelled_status, expired_status
from lro_grpc._runtime.clock import Clock
from lro_grpc._runtime.public_error import status_of
from lro_grpc._runtime.repeated_lines import PROCESS
from lro_grpc._wire.plain_text import one_line

_SAVES = 100
"""The writes of the states of a large batch, on its way in one direction, if it is fast."""

_INTERVAL = 0.1
"""Seconds after which they are stored anyway, once something has changed."""

_MOST_NAMED = 10
"""Targets that an error names at most."""


@dataclass(frozen=True, slots=True)
class Save:
    """Stores the states as they are now."""


@dataclass(frozen=True, slots=True)
class Begin:
    """Begins to create or to delete a target, and goes on."""

    target: str
    undo: bool


@dataclass(frozen=True, slots=True)
class Rest:
    """Begins the pause before a target is tried again, and goes on; a stop ends it early."""

    target: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Wake:
    """Ends all pauses now."""


@dataclass(frozen=True, slots=True)
class Await:
    """Waits until a begun target, or a pause, has ended; the reply is an ``Ended``."""


@dataclass(frozen=True, slots=True)
class Ended:
    """The end of a target that was begun: created or deleted, or the error why not."""

    target: str
    error: BaseException | None


Step = Save | Begin | Rest | Wake | Await
Plan = Generator[Step, Ended | None, None]


class _Pace:
    """Paces the writes of the states: after each change, or in a large batch after several.

    All states are stored each time, so a large batch would take a time that grows with its square.
    A batch that is fast stores up to a hundredth of its targets as begun ahead of their turn, as
    many as have ended since it last did; one that is slow can afford to store each change.

    Args:
        number: How many targets there are.
        clock: Measures the time since states were stored.
    """

    def __init__(self, number: int, clock: Clock) -> None:
        self._most = number // _SAVES
        self._clock = clock
        self._saved_at = clock.monotonic() - _INTERVAL
        self._ended = 0
        self._changed = True
        self.must_save = False
        """Whether something begins, or has failed, only when the states are stored."""

    def ended(self, *, failed: bool) -> None:
        """Notes that a target has ended."""
        self._ended += 1
        self._changed = True
        self.must_save = self.must_save or failed

    def saved(self) -> None:
        """Notes that the states are stored."""
        self._saved_at = self._clock.monotonic()
        self._ended = 0
        self._changed = self.must_save = False

    def ahead(self) -> int:
        """Returns how many targets are to be stored as begun ahead of their turn."""
        return 0 if self._is_slow else min(2 * self._ended, self._most)

    def is_save_due(self, under_way: int) -> bool:
        """Tells whether the states are to be stored before anything else."""
        may_wait = self._most and under_way and not self._is_slow
        return self.must_save or (self._changed and not may_wait)

    @property
    def _is_slow(self) -> bool:
        return self._clock.monotonic() - self._saved_at >= _INTERVAL


class Batch:
    """The one batch of an operation.

    Args:
        attempt: The attempt that drives the batch; its record has the states so far.
        targets: The targets, in the order in which to create them.
        parallelism: How many to create, or to delete, at a time.

    Raises:
        ValueError: If the targets are no list of names that differ, or parallelism is not positive.
        LroError: If the batch was begun with other targets.
        OperationTooLargeError: If there are too many of them to be shown.
    """

    def __init__(self, attempt: Attempt, targets: Sequence[str], parallelism: int) -> None:
        fault = fault_in(targets)
        if fault:
            raise ValueError(f"the targets of the batch are {cut(repr(targets))}; {fault}")
        if parallelism < 1:
            raise ValueError(f"parallelism is {parallelism}; give a positive number")
        self._attempt = attempt
        self._parallelism = parallelism
        self._domain = attempt.handler.error_domain
        stored = attempt.record
        self._states = (
            BatchStates(stored.batch) if stored.batch else BatchStates.begin(list(targets))
        )
        self._cut_off = frozenset(self._states.among(frozenset({Status.CREATING})))
        self._tries = Counter[str]()
        self._error = status_pb2.Status.FromString(stored.batch_error)
        if self._states.targets != list(targets):
            raise LroError(
                f"{attempt.name} was begun with the targets {self._states.targets},"
                f" and is now asked for {list(targets)}; an operation has one batch, and its"
                " targets must follow from the request alone",
                code=Code.INTERNAL,
                reason="BATCH_CHANGED",
                domain=LIBRARY_DOMAIN,
            )
        self._room = CODE_BYTES * len(targets)
        if not stored.batch:
            attempt.check_size(self._saved(), room=self._room)

    def saved(self) -> SaveBatch:
        """Returns the event that stores the states as they are now, their errors cut if need be.

        Room is left for each target to fail. So with nothing but codes the states always fit.
        """
        for cut_errors in (self._states.shorten_errors, self._states.leave_codes):
            event = self._saved()
            try:
                self._attempt.check_size(event, room=self._room)
            except OperationTooLargeError:
                cut_errors()
            else:
                return event
        return self._saved()

    def _saved(self) -> SaveBatch:
        return SaveBatch(
            self._attempt.progress.take(),
            self._states.serialized(),
            self._error.SerializeToString(),
        )

    def plan(self) -> Plan:
        """Creates every target, or undoes those that were begun.

        Raises:
            LroError: The first failure, once everything is rolled back.
            AttemptStopped: If the attempt was stopped; with CANCEL or TIMEOUT, once everything is
                rolled back, else with the states left for the next attempt.
        """
        yield from self._create_all()
        if self._failed or (self._ending and not self._attempt.stopping.is_stuck):
            yield from self._undo_all()
            if self._failed:
                raise from_status(self._error)
            raise AttemptStopped(self._ending or StopReason.CANCEL)
        self._attempt.raise_if_stopped()

    def undo_plan(self, error: status_pb2.Status) -> Plan:
        """Undoes a batch that was created, because its operation ends with an error all the same.

        Args:
            error: The operation's error.

        Raises:
            AttemptStopped: If the attempt was stopped.
        """
        if not self._failed and error.code != Code.CANCELLED:
            self._error.CopyFrom(error)
        yield from self._undo_all()

    def _create_all(self) -> Plan:
        return self._walk(self._states.among(UNBEGUN | {Status.CREATING}), undo=False)

    def _walk(self, targets: Sequence[str], *, undo: bool) -> Plan:
        """Begins targets in their order, and ends when none is under way and no more may begin."""
        waiting, stored = deque(targets), deque[str]()
        under_way = 0
        resting: dict[str, Ended] = {}
        self._tries.clear()
        pace = _Pace(len(targets), self._attempt.clock)
        while True:
            if self._is_over(undo):
                if resting:
                    yield Wake()
                for target in stored:
                    self._not_begun(target, undo)
                stored.clear()
            elif waiting and not stored and under_way < self._parallelism:
                for _ in range(min(len(waiting), self._parallelism - under_way + pace.ahead())):
                    stored.append(waiting.popleft())
                    self._begin(stored[-1], undo)
                pace.must_save = True
            if pace.is_save_due(under_way):
                yield Save()
                pace.saved()
                continue  # for it may be over since
            while stored and under_way < self._parallelism:
                under_way += 1
                yield Begin(stored.popleft(), undo)
            if not under_way:
                return
            ended = yield Await()
            assert ended is not None
            is_over = self._is_over(undo)
            if ended.target in resting and not is_over:
                del resting[ended.target]
                yield Begin(ended.target, undo)
                continue
            failed = resting.pop(ended.target, None) or self._that_may_pass(ended)
            if failed and not is_over:
                resting[ended.target] = failed
                yield self._rest(failed)
                continue
            under_way -= 1
            self._end(self._given_up(failed) if failed else ended, undo)
            pace.ended(failed=bool(failed or ended.error))

    def _begin(self, target: str, undo: bool) -> None:
        state = Status.DELETING if undo else Status.CREATING
        if self._states.of(target) != state:
            self._states.move(target, state)

    def _not_begun(self, target: str, undo: bool) -> None:
        """Ends a target that was stored as begun, and will not be."""
        if not undo and self._interrupted:
            self._end(self._interrupted_end(target), undo)
        elif not undo and target not in self._cut_off:
            self._states.move(target, Status.FAILED, error=self._never_picked())

    def _interrupted_end(self, target: str) -> Ended:
        return Ended(target, AttemptStopped(self._attempt.stop_reason or StopReason.CANCEL))

    def _given_up(self, failed: Ended) -> Ended:
        """Returns the end of a target whose error may pass, and that is not tried again."""
        return self._interrupted_end(failed.target) if self._interrupted else failed

    def _that_may_pass(self, ended: Ended) -> Ended | None:
        """Returns an end with an error that is worth another try; None if it is another."""
        attempt = self._attempt
        if not isinstance(ended.error, Exception):
            return None
        self._tries[ended.target] += 1
        is_last = self._tries[ended.target] >= attempt.record.max_attempts
        if is_last or not retryable(attempt.handler, ended.error, attempt.log):
            return None
        return ended

    def _rest(self, failed: Ended) -> Rest:
        """Returns the pause before a target is tried again."""
        attempt, target = self._attempt, failed.target
        assert failed.error is not None
        failures = self._tries[target] - 1
        seconds = pause_after(attempt.handler, failed.error, failures, attempt.random)
        text = (
            f"{attempt.name}, target {target}: failed, to be tried again after {seconds:.1f} s:"
            f" {one_line(words(failed.error))}"
        )
        kind = ("target", attempt.handler.method)
        PROCESS.say(logging.WARNING, text, kind=kind, log=attempt.log)
        return Rest(target, seconds)

    def _end(self, ended: Ended, undo: bool) -> None:
        if undo:
            self._deleted(ended)
        else:
            self._created(ended)

    def _created(self, ended: Ended) -> None:
        if ended.error is None:
            self._states.move(ended.target, Status.READY)
        elif not self._is_stop(ended.error):
            error = self._status(ended.target, ended.error)
            self._states.move(ended.target, Status.FAILED, error=error)
            if not self._failed:
                self._error.CopyFrom(error)
        elif self._ending and ended.target not in self._cut_off:
            # One of this attempt has cleaned up after itself; one of an earlier attempt has not.
            self._states.move(ended.target, Status.FAILED, error=self._ending_status())

    def _undo_all(self) -> Plan:
        self._attempt.begin_undo()
        never_picked = self._never_picked()
        for target in self._states.among(UNBEGUN):
            self._states.move(target, Status.FAILED, error=never_picked)
        yield from self._walk(self._states.among(BEGUN)[::-1], undo=True)
        self._attempt.raise_if_stopped()

    def _deleted(self, ended: Ended) -> None:
        if ended.error is None:
            self._states.move(ended.target, Status.ROLLED_BACK)
        elif not self._is_stop(ended.error):
            error = self._status(ended.target, ended.error)
            self._states.move(ended.target, Status.FAILED, error=error)
            self._attempt.left_over.append(ended.target)

    def _is_over(self, undo: bool) -> bool:
        """Tells whether no further target may begin."""
        return self._stopped if undo else self._failed or self._interrupted

    @property
    def _failed(self) -> bool:
        return self._error.code != 0

    @property
    def _ending(self) -> StopReason | None:
        return self._attempt.ending.reason

    @property
    def _stopped(self) -> bool:
        return self._attempt.stop_reason is not None

    @property
    def _interrupted(self) -> bool:
        return self._stopped or self._ending is not None

    def _is_stop(self, error: BaseException) -> bool:
        """Tells whether a target was stopped with the attempt, and has not failed by itself.

        A stopped target keeps its state: for the next attempt, or to be undone after a cancel.
        """
        return not isinstance(error, Exception) and self._interrupted

    def _status(self, target: str, error: BaseException) -> status_pb2.Status:
        where = f"{self._attempt.name}, target {target},"
        expected = retryable(self._attempt.handler, error, self._attempt.log)
        status = status_of(expected or error, where, domain=self._domain, log=self._attempt.log)
        return size.shortened(status, self._attempt.operation_bytes // 20)

    def _ending_status(self) -> status_pb2.Status:
        if self._ending is StopReason.TIMEOUT:
            return expired_status(self._attempt.record)
        return cancelled_status()

    def _never_picked(self) -> status_pb2.Status:
        states = self._states
        failed = [t for t in states.targets if self._failed and states.error_of(t) == self._error]
        why = f"{failed[0]} failed" if failed else "the operation was stopped"
        error = LroError(
            f"not begun, because {why}",
            code=Code.ABORTED,
            reason="BATCH_ABORTED",
            domain=LIBRARY_DOMAIN,
            metadata={"failed": failed[0]} if failed else {},
        )
        return to_status(error)


def with_left_over(error: status_pb2.Status, targets: Sequence[str]) -> status_pb2.Status:
    """Returns an operation's error that names the targets which could not be deleted."""
    named = status_pb2.Status()
    named.CopyFrom(error)
    for detail in named.details:
        info = error_details_pb2.ErrorInfo()
        if targets and detail.Unpack(info):
            info.metadata["left_over"] = _listed(targets)
            detail.Pack(info)
    return named


def _listed(targets: Sequence[str]) -> str:
    more = len(targets) - _MOST_NAMED
    return ", ".join(targets[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
