"""The list of operations as its page shows it: rows, chips of states, a filter that is wrong."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from urllib.parse import quote_plus

from lro_grpc._console.actions import ACTIONS, Action
from lro_grpc._console.looks import Look, look_of
from lro_grpc._console.markup import Budget, cut

if TYPE_CHECKING:
    from lro_grpc._console.row import Row
    from lro_grpc._errors import LroError

SIZE = 50
"""The rows of a page, unless the address says otherwise."""

MOST_ROWS = 500
"""The most rows of a page."""

NOT_DONE = "done = false"
"""The filter of what is not done."""

_WORD = re.compile(r"[\w.:-]+|\S?")
_ON_A_CHIP = (
    *("QUEUED", "PENDING", "RUNNING", "PAUSED", "CANCELLING"),
    *("SUCCEEDED", "PARTIALLY_SUCCEEDED", "FAILED", "CANCELLED", "EXPIRED"),
)
"""The states by which one looks for operations, in the order in which they come about. UPDATING is
a moment of RUNNING."""


@dataclass(frozen=True, slots=True)
class Chip:
    """A link to all operations, or to those in a state."""

    word: str
    filter: str
    look: Look | None
    count: str
    """The number of operations, such as ``1,200+``; empty if it is not known."""
    is_chosen: bool


@dataclass(frozen=True, slots=True)
class FilterProblem:
    """A filter that the server refuses, split at the word that is wrong."""

    before: str
    wrong: str
    """Empty if the server does not say which word it is."""
    after: str
    why: str


@dataclass(frozen=True, slots=True)
class ListPage:
    """A page of a list."""

    rows: tuple[Row, ...]
    parent: str
    filter: str
    size: int
    token: str
    next_token: str
    parents: tuple[str, ...]
    chips: tuple[Chip, ...]
    actions: tuple[Action, ...]
    """The actions on the rows that are selected."""
    acts_on_all: bool
    """Whether it may be done to all that the filter finds, too."""
    notes: tuple[str, ...]
    problem: FilterProblem | None

    @property
    def size_if_odd(self) -> int | str:
        """The size for an address; empty if it is the usual one."""
        return "" if self.size == SIZE else self.size

    @property
    def is_selectable(self) -> bool:
        """Whether rows can be selected."""
        return bool(self.actions)


def list_page(
    rows: Iterable[Row],
    *,
    parent: str,
    filter: str = "",  # noqa: A002 - the field's own name
    size: int = SIZE,
    token: str = "",
    next_token: str = "",
    parents: Iterable[str] = (),
    actions: Collection[str] = (),
    acts_on_all: bool = False,
    counts: Mapping[str, str] | None = None,
    notes: Iterable[str] = (),
    problem: FilterProblem | None = None,
) -> ListPage:
    """Returns a page of a list.

    Args:
        rows: Its rows.
        parent: The parent whose operations they are.
        filter: The filter, as it was given.
        size: The most rows of a page.
        token: The token of this page; empty for the newest one.
        next_token: The token of the next one; empty if there is none.
        parents: Parents to choose from.
        actions: The verbs of what may be done to the rows.
        acts_on_all: Whether it may be done to all that the filter finds, too.
        counts: The number of operations in each state, as text.
        notes: Sentences about the list.
        problem: The server's refusal of the filter.
    """
    return ListPage(
        rows=tuple(_bounded(rows)),
        parent=parent,
        filter=filter,
        size=size,
        token=token,
        next_token=next_token,
        parents=tuple(dict.fromkeys([parent, *parents])),
        chips=tuple(_chips(filter.strip(), counts or {})),
        actions=tuple(one for verb, one in ACTIONS.items() if verb in actions),
        acts_on_all=acts_on_all,
        notes=tuple(notes),
        problem=problem,
    )


def _bounded(rows: Iterable[Row]) -> Iterator[Row]:
    """Yields rows as they are, and without their texts and links once the page is full."""
    budget = Budget()
    for row in rows:
        address = quote_plus(row.address)
        if budget.spend(address, row.address, row.address, row.verb, row.subject, row.id, row.note):
            yield row
        else:
            yield replace(
                row,
                id=cut(row.id, 20),
                verb=cut(row.verb, 20),
                subject=cut(row.subject, 20),
                note="The page is full of long texts: ask for fewer rows, by size in the address",
                can_open=False,
                can_act=False,
            )


def _chips(chosen: str, counts: Mapping[str, str]) -> Iterator[Chip]:
    yield Chip("All", "", None, "", not chosen)
    yield Chip("Not done", NOT_DONE, None, "", chosen == NOT_DONE)
    for state in _ON_A_CHIP:
        query = f"state = {state}"
        look = look_of(state)
        yield Chip(look.word, query, look, counts.get(state, ""), chosen == query)


def filter_problem(text: str, error: LroError) -> FilterProblem:
    """Returns a server's refusal of a filter, with the word that is wrong where it tells that.

    Args:
        text: The filter.
        error: The refusal; its ``position`` counts characters from 1.
    """
    position = error.metadata.get("position", "")
    if not (position.isascii() and position.isdigit() and 0 < len(position) < 7):
        return FilterProblem("", "", "", cut(error.message, 1_000))
    begin = max(0, min(int(position) - 1, len(text)))
    found = _WORD.match(text, begin)
    end = max(begin, found.end() if found else begin)
    why = error.message.rpartition(f"character {position}: ")[2]
    return FilterProblem(
        before=cut(text[:begin], 2_000),
        wrong=cut(text[begin:end], 200) or "␠",
        after=cut(text[end:], 2_000),
        why=cut(why, 1_000),
    )
