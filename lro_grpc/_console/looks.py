"""The look of each state: a word, a colour and an icon; none is told by its colour alone."""

from __future__ import annotations

from dataclasses import dataclass

from lro_grpc._console.markup import cut


@dataclass(frozen=True, slots=True)
class Look:
    """The look of a state."""

    word: str
    """Such as Partially succeeded."""
    colour: str
    """A token of the style sheet; the class is ``s-{colour}``."""
    icon: str
    """A symbol of the sprite; its id is ``i-{icon}``."""


COLOURS = (
    *("waiting", "running", "paused", "cancelling"),
    *("succeeded", "partial", "failed", "cancelled"),
)
"""The tokens of the style sheet that are colours of states."""

_UNKNOWN = ("waiting", "queued")

_LOOKS = {
    # JobState
    "QUEUED": ("waiting", "queued"),
    "PENDING": ("waiting", "pending"),
    "RUNNING": ("running", "running"),
    "UPDATING": ("running", "updating"),
    "PAUSED": ("paused", "paused"),
    "CANCELLING": ("cancelling", "cancelling"),
    "SUCCEEDED": ("succeeded", "succeeded"),
    "PARTIALLY_SUCCEEDED": ("partial", "partial"),
    "FAILED": ("failed", "failed"),
    "EXPIRED": ("failed", "expired"),
    "CANCELLED": ("cancelled", "cancelled"),
    # BatchCreateInstanceStatus.State
    "PENDING_CREATE": ("waiting", "queued"),
    "CREATING": ("running", "running"),
    "READY": ("succeeded", "succeeded"),
    "DELETING": ("cancelling", "updating"),
    "ROLLED_BACK": ("cancelled", "cancelled"),
    # OperationAttempt.Outcome
    "RETRIED": ("cancelling", "updating"),
    "LOST": ("failed", "failed"),
    "STUCK": ("failed", "expired"),
    "RELEASED": ("waiting", "queued"),
    "TERMINATED": ("failed", "failed"),
}

KNOWN = frozenset(_LOOKS)
"""The states that have a look of their own."""


def look_of(state: str) -> Look:
    """Returns the look of a state, of an instance's state or of an attempt's outcome.

    Args:
        state: Its name without a prefix, such as RUNNING. One that is not known keeps its own word.
    """
    colour, icon = _LOOKS.get(state, _UNKNOWN)
    return Look(cut(state, 40).replace("_", " ").capitalize(), colour, icon)
