"""The protocol of a store, with the values that its calls take and give.

A store is the one arbiter of operations. It applies events one at a time to the latest record of
each, keeps what they return, and refuses what they refuse: so two workers never both hold an
operation, and no request is started twice. Engines and servers keep no state that a store does not
have; after a crash they begin again from it.

* An answer means that the change is durable. Without an answer it may have happened or not (R11):
  so it is after an ``UnavailableError``.
* A listener gets each change that a call of its own process makes, before that call returns, and
  whoever reads after that sees the change or a later one (R8). What other processes change is told
  by ``follow`` and ``follow_work`` alone, and not surely: whoever depends on it also looks (R9).
* An event may be applied to several states of an operation before one result is kept: it is pure.
* Calls that run at the same time have no order among them. Where one has to come after another,
  await the other one first.
* Claims of several processes are disjoint, and none waits for another.

``lro_grpc.conformance`` holds every store to this.
"""

from __future__ import annotations

import enum
import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from lro_grpc._errors import LroError
from lro_grpc._filtering.expression import (
    Filter,
    comparisons,
    is_costly,
    is_of_description,
    labels_in,
)
from lro_grpc._operation.attempts import AttemptRecord
from lro_grpc._operation.completion import Completion, Settlement
from lro_grpc._operation.events import Claim, Event
from lro_grpc._operation.names import ANY_PARENT
from lro_grpc._operation.record import Record
from lro_grpc._runtime.repeated_lines import PROCESS

Listener = Callable[[Record | None, Record], None]
"""Takes a durable change, on the event loop: the record before it (None for a new one), and after.

A change that this store has made reaches its listeners before the call that made it returns.
"""

Change = tuple[str, Event]
"""An operation's name, and the event to apply to it."""

Now = Callable[[], int]
"""Returns the time in microseconds since 1970 UTC."""

MOST_EXAMINED = 10_000
"""The most records that a store looks at for one page."""

MOST_COMPARISONS = 100_000
"""The most comparisons that a filter makes for one page."""

MOST_COUNTED = 100_000
"""The most operations of a method and a state that are counted while they are not done."""

MOST_SUMMARIZED = 20_000
"""The newest operations among which those that are done are counted."""

MOST_PENDING = 10_000
"""The most completions that are counted while they wait to be told."""

MOST_KEYS = 64
"""The most concurrency keys of which a claim looks for operations."""

MOST_LABELS_COUNTED = 8
"""The most labels of a filter of which a store finds the one that the fewest operations have."""


class Order(enum.Enum):
    """The order of a list. A page is a stretch of it, so the order is the same on all pages."""

    NEWEST_FIRST = "newest first"
    """By their creation, the newest first."""
    BY_NAME = "by name"
    """By their names, in the order of code points."""


@dataclass(frozen=True, slots=True)
class Query:
    """The operations that a list holds."""

    parent: str
    """The exact parent, empty for none; or one in which a segment ``-`` stands for any segment;
    or ``-`` alone for every parent, and none."""
    filter: Filter | None = None
    """The condition on the operations; None for all."""
    order: Order = Order.NEWEST_FIRST

    @property
    def has_wildcard(self) -> bool:
        """Whether more than one parent may be meant."""
        return "-" in self.parent.split("/")

    def matches(self, record: Record) -> bool:
        """Returns whether the list holds a record; never one that is deleted."""
        return self.covers(record) and (self.filter is None or self.filter.matches(record))

    def examined(self, most: int) -> int:
        """Returns the number of records that a page looks at: fewer if the filter compares much."""
        each = comparisons(self.filter.expression) if self.filter else 0
        return max(1, min(most, MOST_COMPARISONS // max(1, each)))

    @property
    def is_costly(self) -> bool:
        """Whether its filter takes long of each record that it looks at."""
        return self.filter is not None and is_costly(self.filter.expression)

    @property
    def is_of_description(self) -> bool:
        """Whether its filter asks for what DescribeOperation tells, and a list does not."""
        return self.filter is not None and is_of_description(self.filter.expression)

    @property
    def labels(self) -> Sequence[tuple[str, str]]:
        """The labels, each a key and a value, that all have that it lists.

        A page that looks for operations by one of these looks at no others. There are none for a
        list by name, for a store has what has a label in the order of creation.
        """
        if self.filter is None or self.order is not Order.NEWEST_FIRST:
            return ()
        return labels_in(self.filter.expression)[:MOST_LABELS_COUNTED]

    def covers(self, record: Record) -> bool:
        """Returns whether the list holds a record, filter aside."""
        return not record.deleted and self.means(record.parent)

    def means(self, parent: str) -> bool:
        """Returns whether its parent is this one, or stands for it."""
        if not self.has_wildcard:
            return parent == self.parent
        if self.parent == ANY_PARENT:
            return True
        pattern, segments = self.parent.split("/"), parent.split("/")
        return len(pattern) == len(segments) and all(
            one == other or (one == "-" and other)
            for one, other in zip(pattern, segments, strict=True)
        )


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a list, in the order of its query."""

    operations: Sequence[bytes]
    """Serialized ``google.longrunning.Operation`` messages."""
    position: bytes
    """The beginning of the next page; empty if this is the last one."""
    unreachable: Sequence[str] = ()
    """The names of operations that belong on this page, and cannot be shown."""
    records: Sequence[Record] = ()
    """The records of the operations, if they were asked for."""


@dataclass(frozen=True, slots=True)
class Leased:
    """An operation that an attempt holds."""

    name: str
    attempt: int
    create_time: int = 0
    """That of the operation; 0 for whichever has the name."""


class Claimed(NamedTuple):
    """The result for an operation that was to be claimed."""

    before: Record
    """The operation before the claim."""
    outcome: Record | LroError
    """The operation with its lease, for its next attempt to begin; without one if it was overdue,
    and has expired; or the error with which it has refused the claim."""


class KeyedClaims(NamedTuple):
    """The result for the keys of a method of which operations were to be claimed."""

    claimed: Sequence[Claimed]
    """The result for each operation, in the order of their turns."""
    last_key: str
    """The key that had its turn last: the next claim begins behind it."""
    has_more: bool
    """Whether there may be more to claim now: of these keys, or of others."""


class Count(NamedTuple):
    """The number of operations of one method in one state."""

    method: str
    state: int
    """A ``lro.v1.JobState``."""
    number: int
    is_lower_bound: bool
    """Whether there may be more."""


class Oldest(NamedTuple):
    """The operation that has been as it is for the longest."""

    since: int
    """The time since when, in microseconds since 1970 UTC."""
    name: str
    """Its name; empty if it is hidden."""


@dataclass(frozen=True, slots=True)
class Counts:
    """The numbers of operations, and those of them that have waited and run the longest."""

    counts: Sequence[Count]
    """By method and state, in the order of both; none is of no operation."""
    oldest_ready: Mapping[str, Oldest]
    """Of each method the one that has been ready the longest, among the 100 that are next."""
    oldest_attempt: Oldest | None
    """The one whose attempt has run the longest; None if none runs."""
    examined: int
    """The number of the parent's operations that were examined: the newest ones."""
    earliest_examined: int
    """The creation of the oldest one that was examined; 0 if all were."""


class Store(Protocol):
    """Keeps records, and applies events to them one at a time; see the module.

    Every method is called on one event loop, and only between ``open`` and ``close``. A store that
    cannot answer raises ``UnavailableError``.
    """

    def now(self) -> int:
        """Returns the store's time, in microseconds since 1970 UTC.

        The times that its records hold are compared with this one, never with another clock's. It
        may be behind the time at which the store applies an event, and is not ahead of it as far
        as this process can know.
        """
        ...

    @property
    def exclusive(self) -> bool:
        """Whether an open store proves that the process that had it open before is gone."""
        ...

    @property
    def is_lost(self) -> bool:
        """Whether it stores nothing any more, until its process opens it anew: its file is gone."""
        ...

    @property
    def signing_secret(self) -> bytes:
        """A secret of 32 random bytes that lives as long as the store does."""
        ...

    async def open(self) -> None:
        """Makes the store ready.

        Raises:
            ConfigurationError: If it cannot be opened, or another process owns it.
        """
        ...

    async def close(self) -> None:
        """Finishes what was begun and lets go of the store."""
        ...

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Adds a listener, which must neither block nor raise.

        It gets the changes that the calls of this process make.

        Returns:
            A function that removes the listener; no listener may call it.
        """
        ...

    def follow(self, name: str, follower: Callable[[Record | None], None]) -> Callable[[], None]:
        """Tells what other processes make of one operation, from now on.

        The latest state is told, on the event loop: some states may be skipped, and one may be
        told twice, or a second late; and, rarely, one is never told. Nothing need be told of an
        operation after it is done. An exclusive store has nothing to tell.

        Args:
            name: The operation's name.
            follower: Is called with each state, and with None once the operation is gone; it must
                neither block nor raise.

        Returns:
            A function that ends it; a follower may call it.
        """
        ...

    def follow_work(
        self, has_room: Callable[[str], bool], follower: Callable[[str], None]
    ) -> Callable[[], None]:
        """Tells of methods of which other processes may have left an operation to be claimed.

        It is told as ``follow`` tells: perhaps late, twice, in vain, or, rarely, never. Nothing
        need be told of a method before this process has asked to claim of it. An exclusive store
        has nothing to tell.

        The end of an attempt may leave one, too: where its operation has a ``concurrency_key``,
        the next one of the key may begin.

        Args:
            has_room: Returns whether this process claims by itself what its calls make ready, so
                that no other one need be told; is called with the method of each such operation,
                after the listeners.
            follower: Is called with a method, on the event loop; must neither block nor raise.

        Returns:
            A function that ends it; a follower may call it.
        """
        ...

    async def create(self, record: Record) -> Record:
        """Stores a new record, unless its caller has used its ``request_id`` before.

        Returns:
            The record; or the one that is stored under the same method, parent, caller,
            ``request_id`` and fingerprint.

        Raises:
            RequestIdReusedError: If that one's fingerprint is another (S22).
            OperationInProgressError: If that one was deleted, and is not done (R2); or if an
                operation has its ``exclusive_target`` (S6).
            LroError: If an operation has the name.
        """
        ...

    async def apply(self, name: str, event: Event) -> Record:
        """Applies one event, and returns the record as it is then.

        Raises:
            OperationNotFoundError: If no operation has the name.
            LroError: What the event itself raises; nothing has changed.
        """
        ...

    async def apply_all(self, changes: Sequence[Change]) -> Sequence[Record | LroError]:
        """Applies events in their order; the outcome of one does not touch the others.

        Returns:
            For each change the record as it is then, or the error with which it was refused. An
            ``UnavailableError`` is no refusal: that change was made or not (R11), and another try
            may pass.
        """
        ...

    async def read(self, name: str) -> Record:
        """Returns the record of a name.

        Raises:
            OperationNotFoundError: If no operation has the name, or it is deleted.
        """
        ...

    async def read_attempts(self, name: str) -> tuple[Record, Sequence[AttemptRecord]]:
        """Returns the record of a name and its attempts, both as they were at one moment.

        The attempts are the first one and the latest 49, by their numbers; of one that is not
        known any more there is its number.

        Raises:
            OperationNotFoundError: If no operation has the name, or it is deleted.
        """
        ...

    async def operation(self, name: str) -> bytes:
        """Returns the bytes that Get answers with.

        Raises:
            OperationNotFoundError: If no operation has the name, or it is deleted.
        """
        ...

    async def find_request(self, method: str, request_id: str, caller: str) -> Sequence[Record]:
        """Returns the operations that a caller has started under a ``request_id``.

        There is one of a parent at most. One that is deleted is among them until it ends. The id
        of another caller is another id.
        """
        ...

    async def find_id(self, operation_id: str) -> Sequence[str]:
        """Returns the names that end with an id, whatever their parents: one, unless ids repeat.

        If they do, a store may return two of them, and no more.
        """
        ...

    async def latest_rerun(self, name: str) -> str:
        """Returns the latest operation whose ``source_operation`` has a name; empty for none.

        One that is deleted does not count.
        """
        ...

    async def page(
        self,
        query: Query,
        *,
        position: bytes,
        size: int,
        examined: int = MOST_EXAMINED,
        records: bool = False,
    ) -> Page:
        """Returns the operations that a query asks for, in its order.

        A page may hold fewer than ``size``, and none at all, though more follow: a list ends with
        the page that has no position.

        Args:
            query: What to list.
            position: ``Page.position`` of the page before; empty for the first.
            size: The most operations on it; positive.
            examined: The most records to look at; positive. ``Query.examined`` may allow fewer.
            records: Whether the page is to have the records, too.
        """
        ...

    async def counts(
        self, query: Query, *, most: int = MOST_COUNTED, examined: int = MOST_SUMMARIZED
    ) -> Counts:
        """Returns how many operations there are, by their methods and states.

        It takes about as long however many there are, and holds up no other call. Those that are
        not done are counted up to a bound, hidden ones, too, for they take places. Those that are
        done are counted among the newest ones of the parent; where that has a wildcard, among the
        newest of all parents.

        With a filter all are counted among the newest ones, hidden ones not; and so are those that
        have waited and run the longest. A store may examine fewer then, if that takes long.

        Args:
            query: Which operations; its order does not matter.
            most: The most of a method and a state that are counted while they are not done. A
                store may count fewer if that takes long, as where far more wait under other
                parents, and says so. Positive.
            examined: The most records to look at for those that are done; positive.
        """
        ...

    async def exclusive_holder(self, target: str) -> str:
        """Returns the operation whose ``exclusive_target`` this is; empty for none."""
        ...

    async def claimable(self, limits: Mapping[str, int]) -> Sequence[str]:
        """Returns the operations that are ready: whose next attempt may begin, oldest first.

        A delayed one is not, until ``TimePassed`` makes it ready: so a store finds those that are
        without a look at those that rest, however many they are. Those with a ``concurrency_key``
        may come after all others, key by key.

        Args:
            limits: The methods, and the most operations to return of each.
        """
        ...

    async def claim(
        self,
        limits: Mapping[str, int],
        claim: Claim,
        *,
        left_out: Collection[str] = (),
        ready_before: int | None = None,
    ) -> Sequence[Claimed]:
        """Applies a claim to operations that are ready, oldest first; see ``claimable``.

        Those with a ``concurrency_key`` are for ``claim_by_key`` alone. An operation that another
        call is changing may be passed over.

        Args:
            limits: The methods, and the most operations to claim of each; those that refuse the
                claim are counted.
            claim: The claim.
            left_out: The names of operations that are passed over.
            ready_before: A time; what has been ready only since then, or since later, is passed
                over, by its ``update_time``. Not so if that is ahead of ``now``: then the clock has
                been set back, and nothing is to wait for it. None for any time.

        Returns:
            What has become of each operation that it was applied to. There may be more to claim
            if they are as many as may be.
        """
        ...

    async def claim_by_key(
        self,
        method: str,
        limit: int,
        per_key: int,
        claim: Claim,
        *,
        after: str = "",
        left_out: Collection[str] = (),
        ready_before: int | None = None,
    ) -> KeyedClaims:
        """Applies a claim to operations with a ``concurrency_key`` that are ready, one key in turn.

        The keys are a ring, in the order of their code points. From the first one behind ``after``
        on, each that has something ready has its turn: of each its oldest, then of each the next
        one, until the limit is reached. A key has no more turns once an attempt holds ``per_key``
        of its operations, those of this call and of all processes. They are counted in the
        commit of the claim; nobody keeps that count, so that nothing is left of a process that
        is gone but its leases.

        So it takes as long however many operations wait of a key. It looks at ``MOST_KEYS`` keys at
        most; the next call looks at those behind them.

        Args:
            method: The method.
            limit: The most operations to claim; those that refuse the claim are counted.
            per_key: The most of a key that attempts hold at a time; 0 for any number.
            claim: The claim.
            after: The key behind which the turns begin; empty for the first one.
            left_out: The names of operations that are passed over.
            ready_before: See ``claim``.
        """
        ...

    async def waiting(self, method: str, most: int, *, delayed: bool = False) -> Mapping[str, int]:
        """Returns how many operations wait for an attempt, by their callers.

        Those that are ready count, and those that rest between two attempts.

        Args:
            method: Their method.
            most: The most to count, in all.
            delayed: Whether to count instead those that wait for the time of their first attempt.
        """
        ...

    async def leased(self, *, until: int | None = None) -> Sequence[Leased]:
        """Returns the operations that an attempt holds.

        A store that is not ``exclusive`` may return some thousands, and no more: those whose leases
        end first.

        Args:
            until: Leaves out those whose lease is not over at this time; None for none.
        """
        ...

    async def waiting_methods(self) -> Mapping[str, int]:
        """Returns how many operations wait for an attempt, now or later, by their methods."""
        ...

    async def held_of_key(self, method: str, concurrency_key: str, most: int) -> int:
        """Returns how many operations of a method that have a key an attempt holds.

        Args:
            method: Their method.
            concurrency_key: Their key; not empty.
            most: The most to count.
        """
        ...

    async def expired(self, limit: int, *, to_undo: bool = False) -> Sequence[str]:
        """Returns operations that ``TimePassed`` changes now.

        Each of them expires, is removed, or becomes ready.

        Args:
            limit: The most operations to return.
            to_undo: Whether to return overdue ones as well that wait for an attempt to undo them.
        """
        ...

    async def take_completions(self, limit: int, lease: int) -> Sequence[Completion]:
        """Takes completions that are due, those first that have been so for longest.

        The completion of an operation whose record says ``notify`` is stored together with the
        record that is done, and stays when the operation is removed; see ``completed``.

        Args:
            limit: The most to take; a store may take fewer of large ones.
            lease: The time until each is due again, unless it is settled before, in microseconds.

        Returns:
            The completions as they are now; ``attempt_count`` is one more. Nobody else takes them
            before the lease is over; or before the store is opened anew, if it is exclusive.
        """
        ...

    async def settle_completions(self, settlements: Sequence[Settlement]) -> None:
        """Changes completions that were taken, or removes them.

        A change is made only if ``attempt_count`` is still as it is known: if nobody else has taken
        the completion since. What is removed is removed all the same. Of a change the name, the
        times of the operation and the event stay as they are.
        """
        ...

    async def read_completion(self, name: str, create_time: int) -> Completion | None:
        """Returns the completion of an operation, with no ``event``; None if there is none.

        Args:
            name: The operation's name.
            create_time: The operation's.
        """
        ...

    async def pending_completions(self, most: int = MOST_PENDING) -> int:
        """Returns how many completions wait to be told, those that were taken among them.

        What is given up does not wait. It holds up no other call.

        Args:
            most: The most to look at: where there are more, they are not counted. Positive.
        """
        ...


class SharedStore(Store, Protocol):
    """A store that several processes have open at a time: ``exclusive`` is false."""

    async def renew(self, leased: Sequence[Leased], lease: int) -> Sequence[Record | LroError]:
        """Applies a ``Heartbeat`` to each of some operations that attempts of this process hold.

        It is called on another event loop than everything else, in another thread, while the
        store's own loop may stand still: so it cannot wait for anything that goes on there, such as
        a connection that belongs to it. It may be cancelled, and be called again. No listener
        hears of it.

        Args:
            leased: The operations, and the attempts that hold them.
            lease: The time for which they are held from now on, in microseconds.

        Returns:
            For each operation the record as it is then, or the error with which the heartbeat was
            refused. The texts and bytes of the record, which no heartbeat changes, may be empty.
        """
        ...


def announce(listeners: Iterable[Listener], before: Record | None, after: Record) -> None:
    """Calls listeners with a change. One that raises, by a bug, keeps it from no other one."""
    for listener in tuple(listeners):
        try:
            listener(before, after)
        except Exception as error:  # noqa: BLE001 - the change has happened, whatever it makes of it
            PROCESS.say(
                logging.ERROR,
                f"a listener has raised at a change of {after.name}",
                kind=("listener", type(error)),
                error=error,
                extra={"operation": after.name},
            )


def nothing_followed() -> None:
    """Ends nothing: what ``follow`` returns where no other process changes anything."""
