"""Experience: a server's answers to a client so far, from which the next call is chosen.

The rules are told in ``plan.py``, in *Methods that cannot be used*. A poller gathers its own from
call to call; what it finds to be unusable, every client of the same channel knows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from lro_grpc._errors import Code, LroError

WATCH, WAIT, GET = "WatchOperation", "WaitOperation", "GetOperation"
SHARED_WATCH = "WatchOperations"

_WATCHES = (SHARED_WATCH, WATCH)

_WATCH_COOL_DOWN = 30.0
"""The time for which a Watch that was refused is not tried again."""
_UNUSABLE_FOR = 600.0
"""The time for which a method that cannot be used is not tried again."""
_MOST_FAILED_IN_A_ROW = 2
"""The times in a row that a method may fail though Gets are answered."""
_MOST_CANCELLED_IN_A_ROW = 3
"""The times in a row that a server may answer CANCELLED, as one that shuts down does."""


class Unusable:
    """The methods that cannot be used with a channel's server, remembered for ten minutes.

    Not for ever: the server may be upgraded under a client that lives on.
    """

    def __init__(self) -> None:
        self._until: dict[str, float] = {}

    def add(self, method: str, now: float) -> None:
        """Remembers that the method cannot be used."""
        self._until[method] = now + _UNUSABLE_FOR

    def has(self, method: str, now: float) -> bool:
        """Whether the method is not worth trying."""
        return now < self._until.get(method, now)


@dataclasses.dataclass(frozen=True, slots=True)
class EndedCall:
    """A call of the poller, after which the operation is not done."""

    method: str
    """The RPC's name."""
    error: LroError | None
    """The error that it ended with; None for OK."""
    may_pass: bool
    """Whether that is an error to wait out."""
    was_held: bool
    """Whether the server held it."""
    at: float
    """The time at which it ended."""

    @property
    def is_unimplemented(self) -> bool:
        """Whether the server has no such method, and can do without."""
        return self._code is Code.UNIMPLEMENTED and self.method != GET

    @property
    def is_refused_watch(self) -> bool:
        """Whether it is a Watch, shared or not, that ended at once."""
        return self.method in _WATCHES and not self.was_held

    @property
    def is_silent(self) -> bool:
        """Whether it is a shared Watch on which the server has said nothing for too long."""
        ended = self.method == SHARED_WATCH and self._code is Code.DEADLINE_EXCEEDED
        return ended and not self.was_held

    @property
    def has_failed(self) -> bool:
        """Whether it failed; after a deadline that passed it has not."""
        return self._code not in (Code.OK, Code.DEADLINE_EXCEEDED)

    @property
    def is_cancelled(self) -> bool:
        """Whether it ended as the calls do of a server that shuts down."""
        return self._code is Code.CANCELLED

    @property
    def _code(self) -> Code:
        return self.error.code if self.error else Code.OK


@dataclasses.dataclass(frozen=True, slots=True)
class Experience:
    """The lessons of a poller's calls so far, about the server and the way to it."""

    only_gets: bool = False
    """Whether the latest call ended with an error: nothing but Gets until one is answered."""
    rests: str = ""
    """The kind of Watch that was refused, if no other call that may be held has gone since."""
    rests_until: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """The times from which each kind of Watch may go again."""
    failures: Mapping[str, int] = dataclasses.field(default_factory=dict)
    """The failures of each method since it was last answered."""
    cancelled: int = 0
    """The number of the latest calls, in a row, that ended with CANCELLED."""

    def lets(self, method: str, now: float) -> bool:
        """Whether that kind of Watch may go."""
        return self.rests != method and now >= self.rests_until.get(method, now)

    def passes(self, call: EndedCall) -> bool:
        """Whether the error of the latest call is waited out."""
        return call.may_pass or 0 < self.cancelled <= _MOST_CANCELLED_IN_A_ROW

    def is_deadly(self, call: EndedCall) -> bool:
        """Whether the latest call is of a method that the server does not survive."""
        failures = self.failures.get(call.method, 0)
        if call.is_silent:
            return True
        return call.has_failed and call.method != GET and failures >= _MOST_FAILED_IN_A_ROW

    def after(self, call: EndedCall) -> Experience:
        """Returns the experience with one more call."""
        cancelled = self.cancelled + 1 if call.is_cancelled else 0
        shown = dataclasses.replace(self, cancelled=cancelled)
        if call.is_unimplemented:
            return shown
        if call.method != GET:
            shown = dataclasses.replace(shown, rests=call.method if call.is_refused_watch else "")
        if call.is_refused_watch and not shown.passes(call):
            rests_until = {**shown.rests_until, call.method: call.at + _WATCH_COOL_DOWN}
            return dataclasses.replace(shown, rests_until=rests_until)
        failures = dict(self.failures)
        if call.error is None or (call.method in _WATCHES and call.was_held):
            failures[call.method] = 0
        elif call.has_failed:
            failures[call.method] = failures.get(call.method, 0) + 1
        return dataclasses.replace(shown, only_gets=call.error is not None, failures=failures)
