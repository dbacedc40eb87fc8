"""Questions before an action, and the answers after it."""

from __future__ import annotations

from dataclasses import dataclass

from lro_grpc._console.actions import Action
from lro_grpc._console.markup import cut
from lro_grpc._console.trouble import trouble_of
from lro_grpc._errors import LroError

SURE_WITHOUT_TYPING = 20
"""The most operations that one acts on without typing their number."""

_LISTED = 8
_LISTED_OF_ALL = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A question before an action."""

    action: Action
    names: tuple[str, ...]
    """The operations that it is about."""
    back: str
    """The address to go back to."""
    is_bulk: bool = False
    """Whether the names are those that a filter has found."""
    parent: str = ""
    filter: str = ""
    more: bool = False
    """Whether the filter finds more than these."""
    once: str = ""
    """A text of this question alone, for an action that would be another if it were sent twice."""
    wrong: str = ""
    """The fault of the answer before; empty for none."""

    @property
    def what(self) -> str:
        """Words for the operations, after a verb."""
        one = len(self.names) == 1
        return "this operation" if one else f"{len(self.names):,} operations"

    @property
    def effect(self) -> str:
        """Sentences about what will happen."""
        return self.action.effect if len(self.names) == 1 else self.action.effect_of_many

    @property
    def number_to_type(self) -> int:
        """The number that is to be typed; 0 for none."""
        return len(self.names) if len(self.names) > SURE_WITHOUT_TYPING else 0

    @property
    def listed(self) -> tuple[str, ...]:
        """The names that are shown."""
        return self.names[: _LISTED_OF_ALL if self.is_bulk else _LISTED]


@dataclass(frozen=True, slots=True)
class Refusal:
    """An operation for which the server has refused an action."""

    name: str
    code: str
    message: str


def refusal_of(name: str, error: LroError) -> Refusal:
    """Returns the refusal that an error is, without the hosts that gRPC names."""
    trouble = trouble_of(error)
    return Refusal(name, trouble.code, cut(trouble.message or trouble.heading))


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of an action on some operations."""

    action: Action
    done: tuple[tuple[str, str], ...]
    """The name of each, and that of its new operation, if there is one."""
    refused: tuple[Refusal, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkPage:
    """The progress of an action on many operations."""

    action: Action
    id: str
    parent: str
    filter: str
    total: int
    done: int
    """Those that were asked for, whatever came of it."""
    refused: int
    shown: tuple[Refusal, ...]
    """Those of the refused for which there is a place on the page."""
    is_running: bool
    is_stopped: bool

    @property
    def percent(self) -> int:
        """The part of them that is done."""
        return 100 if not self.total else self.done * 100 // self.total

    @property
    def word(self) -> str:
        """Its state in a word."""
        if self.is_running:
            return "Stopping" if self.is_stopped else "Running"
        return "Stopped" if self.is_stopped else "Done"
