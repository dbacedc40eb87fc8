"""Hints on the operations with a concurrency key that wait, as far as this process knows them.

The store alone knows which keys have a place (``Store.claim_by_key``), so that none of these
operations is claimed by its name. It goes round the keys of a method, and looks at some of them at
a time: what is kept here is where it is, and whether another round is due.

* **So many have become ready, or have left a place** to the next of their key, by changes that this
  process has heard of. Each of these lets one more be claimed, and no two: the round ends when that
  many have begun.
* **There may be more**, or **one may be forgotten**: as for those without a key (``claim_queue``).

A round ends when the store has no more; and also once it has come past the end of the keys for a
second time since anything came of it, for then no key has a place. However many keys are full, they
are looked at once, and then no more until something has changed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from lro_grpc._operation.record import Record
from lro_grpc._runtime.clock import Micros
from lro_grpc._stores.store import KeyedClaims

_UNBOUNDED = 2**31 - 1


class KeyedTurn(NamedTuple):
    """The operations that are to be claimed by key."""

    stored_as: str
    """The method under which they are stored."""
    after: str
    """The key behind which the turns begin."""
    limit: int
    """The most of them."""
    ready_before: Micros | None = None
    """They have been ready since before this time; None for any."""


class _TurnResult(NamedTuple):
    """The result of a turn."""

    claims: KeyedClaims
    begun: int
    """The attempts that have begun."""
    has_changed: bool
    """Whether the next turn finds other operations."""


_Turns = Generator[KeyedTurn, _TurnResult, None]


@dataclass(slots=True)
class _Round:
    """A round that has begun."""

    turns: _Turns
    next: KeyedTurn
    """The turn that is to come, or that is under way."""
    in_hand: int = 0
    """The operations that a turn under way may claim, for which it has slots."""


class KeyRounds:
    """Hints on what to claim by key, by method; see the module.

    Args:
        methods: The methods whose operations are claimed here.
    """

    def __init__(self, methods: Iterable[str]) -> None:
        self._added: dict[str, int] = {}
        """By methods how many more can be claimed than in the round before."""
        self._has_more: dict[str, Micros | None] = dict.fromkeys(methods)
        """Methods of which there may be more: that has been ready since before a time, or any."""
        self._swept: dict[str, Micros] = {}
        """Methods of which one may be forgotten that has been ready since before a time."""
        self._after: dict[str, str] = {}
        """The keys that had their turns last, by the methods under which operations are stored."""
        self._under_way: dict[str, _Round] = {}
        self._used: set[str] = set()
        """Methods of which an operation with a key was seen here."""

    def is_used(self, method: str) -> bool:
        """Whether an operation of the method with a key was seen here."""
        return method in self._used

    def in_hand(self, method: str) -> int:
        """Returns the number of operations that a turn under way may claim."""
        under_way = self._under_way.get(method)
        return under_way.in_hand if under_way else 0

    def may_have(self, method: str) -> bool:
        """Tells whether an operation of the method may wait that has a place."""
        marks = (self._added, self._under_way, self._has_more, self._swept)
        return any(method in one for one in marks)

    def number(self, method: str) -> int | None:
        """Returns how many that wait have no slot yet, as far as is known; None for any number."""
        under_way = self._under_way.get(method)
        if method in self._has_more or (under_way and under_way.next.limit == _UNBOUNDED):
            return None
        rest = under_way.next.limit - under_way.in_hand if under_way else 0
        return rest + self._added.get(method, 0) + (method in self._swept)

    def add(self, method: str) -> None:
        """Notes that one has become ready, or has left its place to another one."""
        self._added[method] = self._added.get(method, 0) + 1
        self._used.add(method)

    def has_more(self, method: str, ready_before: Micros | None = None) -> None:
        """Lets the store be asked; see ``ClaimQueue.has_more``."""
        earlier = self._has_more.get(method, 0)
        is_any = ready_before is None or earlier is None
        self._has_more[method] = None if is_any else max(ready_before or 0, earlier or 0)

    def sweep(self, methods: Sequence[str], ready_before: Micros) -> None:
        """Lets the store be asked for one of each method that may be forgotten."""
        self._swept = dict.fromkeys(methods, ready_before)

    def take(self, method: str, names: Sequence[str], limit: int) -> KeyedTurn:
        """Returns what to claim next.

        Args:
            method: The method; something of it may wait.
            names: The methods under which its operations are stored.
            limit: The most to claim.
        """
        if method not in self._under_way:
            turns = self._turns_of(method, names)
            self._under_way[method] = _Round(turns, next(turns))
        round_ = self._under_way[method]
        turn = round_.next._replace(limit=min(limit, round_.next.limit))
        round_.in_hand = turn.limit
        return turn

    def _turns_of(self, method: str, names: Sequence[str]) -> _Turns:
        if method in self._has_more:
            ready_before = self._has_more.pop(method)
            if ready_before is None:
                self._swept.pop(method, None)
                self._added.pop(method, None)
            return self._turns(names, _UNBOUNDED, ready_before)
        if method in self._added:
            return self._turns(names, self._added.pop(method), None)
        return self._turns(names, _UNBOUNDED, self._swept.pop(method), first=1)

    def _turns(
        self,
        names: Sequence[str],
        left: int,
        ready_before: Micros | None,
        *,
        first: int = _UNBOUNDED,
    ) -> _Turns:
        """Yields the turns of a round, and is sent what has come of each."""
        most = first
        for stored_as in names:
            ends = 0
            while ends < 2:
                after = self._after.get(stored_as, "")
                turn = KeyedTurn(stored_as, after, min(left, most), ready_before)
                claims, begun, has_changed = yield turn
                self._after[stored_as] = claims.last_key
                left -= begun
                if not left:
                    return
                left_places = has_changed and begun < len(claims.claimed)
                if not (claims.has_more or left_places):
                    break
                if has_changed:
                    ends, most = 0, _UNBOUNDED
                elif claims.last_key <= after:
                    ends += 1

    def took(self, method: str, claims: KeyedClaims, *, is_stuck: bool) -> None:
        """Takes what has come of a turn.

        Args:
            method: The method.
            claims: The store's answer.
            is_stuck: Whether the store is asked for those again that have refused the claim.
        """
        outcomes = [one.outcome for one in claims.claimed]
        if outcomes:
            self._used.add(method)
        applied = [one for one in outcomes if isinstance(one, Record)]
        begun = sum(1 for one in applied if one.lease_expire_time)
        has_changed = bool(applied or (outcomes and not is_stuck))
        result = _TurnResult(claims, begun, has_changed)
        turns = self._under_way.pop(method).turns
        with contextlib.suppress(StopIteration):
            self._under_way[method] = _Round(turns, turns.send(result))

    def failed(self, method: str) -> None:
        """Begins anew after a turn of which nothing is known."""
        del self._under_way[method]
        self.has_more(method)
