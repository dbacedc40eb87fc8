"""The stop state of an attempt: the reason for which it has to stop, one order deciding.

``StopState`` is about the attempt. Six things stop a handler. Each is given by another part of the
engine, from another thread perhaps, and while one stop is under way the next may come. One order
decides:

    rank  reason                      given by                      stored then
    0     (none: it runs)
    1     CANCEL, PAUSE, TIMEOUT      a caller; ``checkpoint``;     Fail with CANCELLED; Release;
                                      the operation's deadline      Expire
    2     TIMEOUT, and stuck          the progress limit            LeaseLost, as stuck
    3     SHUTDOWN                    the drain                     Release
    4     LEASE_LOST                  the fence, or the lease       nothing: it is another's

A reason is accepted if its rank is above that of the one that holds: so of equals the first wins,
and an attempt that has lost its lease writes nothing, whatever else is asked. The undoing of a
batch ranks as 1 by itself: neither a cancel nor the deadline cuts it short, for both have led to
it. That a handler is stuck is kept even where the reason is refused; it says how the attempt
counts.

``Ending`` is about the operation: what callers and the deadline ask of it, whatever its attempt
makes of that. It only grows, and it outlives a stop: an attempt that is stopped for a shutdown
still knows that its operation is cancelled, and a batch is rolled back by it.

Both are pure: no clock, no lock, no task. ``Attempt`` holds the lock, and interrupts where
``StopState`` says so.
"""

from __future__ import annotations

from dataclasses import dataclass

from lro_grpc._errors import StopReason
from lro_grpc._operation.record import Record

_RANKS = {
    StopReason.CANCEL: 1,
    StopReason.PAUSE: 1,
    StopReason.TIMEOUT: 1,
    StopReason.SHUTDOWN: 3,
    StopReason.LEASE_LOST: 4,
}
_STUCK = 2


@dataclass(slots=True)
class StopState:
    """The reason for which an attempt has to stop, if any."""

    reason: StopReason | None = None
    is_stuck: bool = False
    """Whether the handler has made no progress for too long."""
    is_undoing: bool = False
    """Whether the handler's work is being undone."""

    def accepts(self, reason: StopReason) -> bool:
        """Tells whether a reason takes the place of the one that holds."""
        return self._rank(reason) > self._rank(self.reason)

    def give(self, reason: StopReason) -> bool:
        """Gives a reason; returns whether it was accepted, so that the handler is interrupted."""
        accepted = self.accepts(reason)
        if accepted:
            self.reason = reason
        return accepted

    def begin_undo(self) -> None:
        """Drops the reason that has led to the undoing, so that it does not stop it."""
        self.is_undoing = True
        if (
            self.reason is not None
            and self._rank(self.reason) == 1
            and self.reason is not StopReason.PAUSE
        ):
            self.reason = None

    def _rank(self, reason: StopReason | None) -> int:
        if reason is None:
            return int(self.is_undoing)
        if reason is StopReason.TIMEOUT and self.is_stuck:
            return _STUCK
        return _RANKS[reason]


@dataclass(slots=True)
class Ending:
    """The wishes of callers and of the deadline for an operation."""

    cancel_requested: bool = False
    pause_requested: bool = False
    is_timed_out: bool = False
    """Whether the operation's own time is over."""
    claimed_to_undo: bool = False
    """Whether the attempt was begun only to undo the work of earlier ones."""

    @classmethod
    def at_claim(cls, record: Record, claim_time: int) -> Ending:
        """Returns the wishes for an operation when an attempt begins.

        Args:
            record: The operation right after its claim.
            claim_time: When the store has applied the claim, in microseconds since 1970 UTC.
        """
        is_timed_out = record.is_to_undo and record.is_overdue(claim_time)
        return cls(
            record.cancel_requested,
            record.pause_requested,
            is_timed_out,
            claimed_to_undo=record.cancel_requested or is_timed_out,
        )

    @property
    def reason(self) -> StopReason | None:
        """The reason why the operation is to end, whatever its handler could still do, or None."""
        if self.cancel_requested:
            return StopReason.CANCEL
        return StopReason.TIMEOUT if self.is_timed_out else None

    def see(self, record: Record) -> bool:
        """Notes the wishes for the operation by now; returns whether a cancel is new.

        A pause can be taken back. A cancel cannot, and it no longer matters to a done operation.
        """
        self.pause_requested = record.pause_requested
        is_new = record.cancel_requested and not record.done and not self.cancel_requested
        self.cancel_requested = self.cancel_requested or is_new
        return is_new
