"""The requests about operations that a page offers, and the words for each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Action:
    """A request about an operation."""

    verb: str
    """Its name in addresses and forms."""
    phrase: str
    """Words for it, with ``{}`` for what it is about: ``Run {} again``."""
    effect: str
    """Its effect, in sentences about one operation."""
    effect_of_many: str
    """Its effect, in sentences about several."""
    said: str
    """A sentence for afterwards."""
    is_grave: bool = False
    """Whether it takes something away."""
    needs_reason: bool = False
    """Whether the server asks why."""

    @property
    def word(self) -> str:
        """Words for a button: ``Run again``."""
        return " ".join(self.phrase.replace("{}", "").split())

    def of(self, what: str) -> str:
        """Returns words for it and what it is about, such as ``this operation``."""
        return self.phrase.format(what)


ACTIONS: Mapping[str, Action] = {
    one.verb: one
    for one in (
        Action(
            "pause",
            "Pause {}",
            "It stops at the next point where it can, and holds no worker until it is resumed.",
            "Each stops at the next point where it can, and holds no worker until it is resumed.",
            "The pause is requested.",
        ),
        Action(
            "resume",
            "Resume {}",
            "It goes back into the queue, and on from where it has stopped.",
            "Each goes back into the queue, and on from where it has stopped.",
            "It goes on.",
        ),
        Action(
            "rerun",
            "Run {} again",
            "A new operation starts by the same method, from the same request."
            " This one stays as it is.",
            "For each a new operation starts by the same method, from the same request."
            " Those that are done stay as they are.",
            "This is the new operation, started from the request of the one before.",
        ),
        Action(
            "cancel",
            "Cancel {}",
            "It is asked to stop, and what its method can undo is undone."
            " It may still succeed if it is nearly done.",
            "Each is asked to stop, and what its method can undo is undone."
            " Some may still succeed if they are nearly done.",
            "The cancellation is requested.",
            is_grave=True,
        ),
        Action(
            "terminate",
            "Terminate {}",
            "It fails at once, and nothing of it is undone. A handler that does not stop may work"
            " on its target for a while beside the next operation. Cancel first: that undoes a"
            " batch.",
            "Each fails at once, and nothing of it is undone. A handler that does not stop may work"
            " on its target for a while beside the next operation. Cancel first: that undoes a"
            " batch.",
            "It was terminated; what it has done was not undone.",
            is_grave=True,
            needs_reason=True,
        ),
        Action(
            "delete",
            "Delete {}",
            "Its record is removed for good. Nothing is undone, and nothing is cancelled.",
            "Their records are removed for good. Nothing is undone, and nothing is cancelled.",
            "The operation was deleted.",
            is_grave=True,
        ),
    )
}
"""The actions by their verbs, in the order in which pages show them."""

CONTROL = frozenset({"pause", "resume", "rerun", "terminate"})
"""The verbs of ``lro.v1.OperationControlService``, which other servers do not have."""


def said(verb: str) -> str:
    """Returns the sentence for afterwards; an empty text for a verb that is none."""
    action = ACTIONS.get(verb)
    return action.said if action else ""


def possible(state: str, *, done: bool) -> tuple[str, ...]:
    """Returns the verbs that may change something in a state, whatever the server has.

    Args:
        state: Such as RUNNING.
        done: Whether the operation is done.
    """
    if done:
        return ("rerun", "delete")
    if state == "PAUSED":
        return ("resume", "cancel", "terminate")
    if state == "CANCELLING":
        return ("terminate",)
    return ("pause", "cancel", "terminate")
