"""The completions that a process has taken and not told yet: which of them is next.

So many are told at a time, and so many of them to one destination: one that is slow holds up no
other. A caller may name many destinations, so no more than half are of one; and no more than half
are tried again, for what was slow is likely to be so. Beyond that they wait, but not for long: what
waits for a slow destination is to leave the room to others, and is put back. Decides alone; it
knows no clock, and tells nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

from lro_grpc._operation.completion import Completion
from lro_grpc._operation.completion_event import CompletionEvent

MOST = 16
"""The most that are told at a time."""

MOST_EACH = 4
"""The most of them to one destination."""

MOST_OF_A_CALLER = 8
"""The most of them of one caller who is known."""

MOST_TRIED_AGAIN = 8
"""The most of them that were tried before."""

MOST_WAITING = 50
"""The most that wait."""

PATIENCE_SECONDS = 5.0
"""The time after which one that waits is put back."""


@dataclass(eq=False, frozen=True, slots=True)
class Delivery:
    """One completion that was taken."""

    completion: Completion
    event: CompletionEvent
    destination: Hashable
    """That to which it is told, as far as it is told from others."""
    taken_at: float
    """The monotonic time at which it was taken."""

    @property
    def shares(self) -> Mapping[Hashable, int]:
        """The shares of which it takes a place, each with the places that there are."""
        shares: dict[Hashable, int] = {("destination", self.destination): MOST_EACH}
        if self.event.caller:
            shares["caller", self.event.caller] = MOST_OF_A_CALLER
        if self.completion.attempt_count > 1:
            shares["tried again"] = MOST_TRIED_AGAIN
        return shares


class DeliveryQueue:
    """Says which delivery begins next; see the module."""

    def __init__(self) -> None:
        self._waiting: list[Delivery] = []
        self._running = 0
        self._taken: Counter[Hashable] = Counter()
        """The places that are taken of each share."""

    @property
    def room(self) -> int:
        """The number of those that may be added."""
        return MOST_WAITING - len(self._waiting)

    @property
    def is_low(self) -> bool:
        """Whether more are to be added: few wait, so that they are taken many at a time."""
        return len(self._waiting) < MOST

    def add(self, delivery: Delivery) -> None:
        """Adds one, behind the others."""
        self._waiting.append(delivery)

    def begin(self) -> Delivery | None:
        """Returns the next one that may begin; None if there is none now."""
        if self._running >= MOST:
            return None
        for number, one in enumerate(self._waiting):
            shares = one.shares
            if all(self._taken[share] < most for share, most in shares.items()):
                self._running += 1
                self._taken.update(shares.keys())
                return self._waiting.pop(number)
        return None

    def end(self, delivery: Delivery) -> None:
        """Takes note that one that had begun has ended."""
        self._running -= 1
        self._taken.subtract(delivery.shares.keys())
        self._taken += Counter()  # without those of which nothing is taken

    def late(self, now: float) -> Sequence[Delivery]:
        """Removes those that have waited for too long at a monotonic time, and returns them."""
        late = [one for one in self._waiting if now - one.taken_at >= PATIENCE_SECONDS]
        self._waiting = [one for one in self._waiting if one not in late]
        return late

    def clear(self) -> Sequence[Delivery]:
        """Removes all that wait, and returns them."""
        waiting, self._waiting = self._waiting, []
        return waiting
