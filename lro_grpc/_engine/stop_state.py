"""Why an attempt has to stop: which reason holds, when several are given.

How an attempt ends. Six things stop a handler. Each is given by another part of the engine, from
another thread perhaps, and while one stop is under way the next may come. One order decides:

    rank  reason                      given by                      what is stored then
    0     (none: it runs)
    1     CANCEL, PAUSE, TIMEOUT      a caller; ``checkpoint``;     Fail with CANCELLED; Release;
                                      the operation's deadline      Expire
    2     TIMEOUT, and stuck          the progress limit            LeaseLost, as stuck: another one
    3     SHUTDOWN                    the drain                     Release
    4     LEASE_LOST                  the fence, or the lease       nothing: it is another's

A reason is accepted if its rank is above that of the one that holds: so of equals the first wins,
and whoever holds no lease any more writes nothing, whatever else is asked. What undoes a batch
ranks as 1 by itself: neither a cancel nor the deadline cuts it short, for both have led to it.
That a handler is stuck is kept even where the reason is refused; it tells how the attempt counts.

Pure: no clock, no lock, no task. ``Attempt`` holds the lock, and interrupts where this says so.
"""

from __future__ import annotations

from lro_grpc._errors import StopReason

_RANKS = {
    StopReason.CANCEL: 1,
    StopReason.PAUSE: 1,
    StopReason.TIMEOUT: 1,
    StopReason.SHUTDOWN: 3,
    StopReason.LEASE_LOST: 4,
}
_STUCK = 2


class StopState:
    """The reason for which an attempt has to stop, if any."""

    __slots__ = ("is_stuck", "is_undoing", "reason")

    def __init__(self) -> None:
        self.reason: StopReason | None = None
        self.is_stuck = False
        """Whether the handler has made no progress for too long."""
        self.is_undoing = False
        """Whether what the handler has done is being undone."""

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
        """Drops what has led to the undoing, so that it does not stop it."""
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
