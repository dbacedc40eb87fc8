"""A store in memory, for tests and for trying out; it lives as long as its process.

A page is of the records as they are in one step of the event loop. They do not change, so that a
filter, which may take long, is asked of them in a thread (``page_threads``).
"""

from __future__ import annotations

import bisect
import itertools
import os
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial

from lro_grpc._errors import LroError
from lro_grpc._operation import labels, names
from lro_grpc._operation.attempts import AttemptRecord, attempts_of, superseded
from lro_grpc._operation.completion import Completion, Settlement, completed, taken
from lro_grpc._operation.events import Claim, Event, apply_safely
from lro_grpc._operation.publication import not_found
from lro_grpc._operation.record import Record
from lro_grpc._runtime.threads import run_in_thread
from lro_grpc._stores.key_turns import KeyTurns, ring
from lro_grpc._stores.page import (
    Effort,
    Listed,
    page_of,
    position_of,
    sequence_before,
)
from lro_grpc._stores.page_threads import PageThreads, while_wanted
from lro_grpc._stores.refusals import check_same_request, in_progress, name_taken
from lro_grpc._stores.store import (
    MOST_COUNTED,
    MOST_EXAMINED,
    MOST_PENDING,
    MOST_SUMMARIZED,
    Change,
    Claimed,
    Counts,
    KeyedClaims,
    Leased,
    Listener,
    Now,
    Order,
    Page,
    Query,
    announce,
    nothing_followed,
)
from lro_grpc._stores.tally import Tally, counts_by_pages


class _OfKey:
    """The operations of a method and a concurrency key that are ready, and those that run."""

    def __init__(self) -> None:
        self.ready: dict[str, Record] = {}
        self.held: set[str] = set()
        self._turns: list[tuple[int, int, str]] = []
        """The names of those that are ready, in turn: the order, kept, costs a claim nothing."""
        self._turn_of: dict[str, tuple[int, int, str]] = {}

    def keep(self, record: Record, sequence: int) -> None:
        self.held.discard(record.name)
        if self.ready.pop(record.name, None) is not None:
            del self._turns[bisect.bisect_left(self._turns, self._turn_of.pop(record.name))]
        if record.is_ready:
            turn = (record.queue_order, sequence, record.name)
            self.ready[record.name] = record
            self._turn_of[record.name] = turn
            bisect.insort(self._turns, turn)
        elif record.lease_expire_time:
            self.held.add(record.name)

    def in_turn(self) -> Iterator[Record]:
        """Yields what is ready, in turn."""
        return (self.ready[name] for *_, name in self._turns)


class MemoryStore:
    """Keeps records in a dictionary; see :class:`lro_grpc.stores.Store`.

    Args:
        now: Returns the time in microseconds since 1970 UTC.
    """

    exclusive = True
    is_lost = False

    def __init__(self, now: Now) -> None:
        self.signing_secret = os.urandom(32)
        self._now = now
        self._records: dict[str, Record] = {}
        self._sequence: dict[str, int] = {}
        self._attempts: dict[str, dict[int, AttemptRecord]] = {}
        """The superseded attempts of operations that have any."""
        self._completions: dict[tuple[str, int], Completion] = {}
        self._requests: dict[tuple[str, str, str], dict[str, str]] = {}  # -> parent -> name
        self._exclusive_holders: dict[str, str] = {}  # exclusive_target -> name
        self._by_key: dict[str, dict[str, _OfKey]] = {}
        """Of each method the keys of operations that are ready or held."""
        self._next = itertools.count(1)
        self._listeners: list[Listener] = []
        self._threads = PageThreads("lro-memory-pages")

    def now(self) -> int:
        """Returns the time in microseconds since 1970 UTC."""
        return self._now()

    async def open(self) -> None:
        """Does nothing: a dictionary is always ready."""

    async def close(self) -> None:
        """Ends its threads; the records stay for the next ``open``."""
        await self._threads.close()

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Adds a listener, and returns what removes it."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def follow(self, name: str, follower: Callable[[Record | None], None]) -> Callable[[], None]:
        """Does nothing: no other process has it open."""
        del name, follower
        return nothing_followed

    def follow_work(
        self, has_room: Callable[[str], bool], follower: Callable[[str], None]
    ) -> Callable[[], None]:
        """Does nothing: no other process has it open."""
        del has_room, follower
        return nothing_followed

    async def create(self, record: Record) -> Record:
        """Stores a new record, unless its ``request_id`` was used before."""
        stored = self._requests.get(_request_key(record), {}).get(record.parent)
        if stored is not None:
            return check_same_request(self._records[stored], record)
        if record.name in self._records:
            raise name_taken(record.name)
        holder = await self.exclusive_holder(record.exclusive_target)
        if holder:
            held_by = self._records[holder]
            raise in_progress(record.exclusive_target, held_by, caller=record.caller)
        self._sequence[record.name] = next(self._next)
        self._keep(None, record)
        return record

    async def apply(self, name: str, event: Event) -> Record:
        """Applies one event, and returns the record as it is then."""
        if name not in self._records:
            raise not_found(name)
        before = self._records[name]
        after = apply_safely(event, before, self._now())
        if isinstance(after, LroError):
            raise after
        if after is not before:
            if before.exclusive_target and not after.exclusive_target:
                del self._exclusive_holders[before.exclusive_target]
            self._keep(before, after)
        return after

    async def apply_all(self, changes: Sequence[Change]) -> Sequence[Record | LroError]:
        """Applies events in their order; the outcome of one does not touch the others."""
        outcomes: list[Record | LroError] = []
        for name, event in changes:
            try:
                outcomes.append(await self.apply(name, event))
            except LroError as error:
                outcomes.append(error)
        return outcomes

    async def read(self, name: str) -> Record:
        """Returns the record of a name."""
        record = self._records.get(name)
        if record is None or record.deleted:
            raise not_found(name)
        return record

    async def read_attempts(self, name: str) -> tuple[Record, Sequence[AttemptRecord]]:
        """Returns the record of a name and its attempts."""
        record = await self.read(name)
        return record, attempts_of(record, self._attempts.get(name, {}).values())

    async def operation(self, name: str) -> bytes:
        """Returns the bytes that Get answers with."""
        return (await self.read(name)).operation

    async def find_request(self, method: str, request_id: str, caller: str) -> Sequence[Record]:
        """Returns the operations that a caller has started under a ``request_id``."""
        of_request = self._requests.get((method, request_id, caller), {})
        return [self._records[name] for name in of_request.values()]

    async def find_id(self, operation_id: str) -> Sequence[str]:
        """Returns the names that end with an id."""
        return [
            record.name
            for record in self._records.values()
            if not record.deleted and names.split(record.name)[1] == operation_id
        ]

    async def latest_rerun(self, name: str) -> str:
        """Returns the latest operation that runs another one again; empty for none."""
        latest_first = reversed(self._records.values())
        reruns = (one for one in latest_first if one.source_operation == name and not one.deleted)
        return next((one.name for one in reruns), "") if name else ""

    async def page(
        self,
        query: Query,
        *,
        position: bytes,
        size: int,
        examined: int = MOST_EXAMINED,
        records: bool = False,
    ) -> Page:
        """Returns the operations that a query asks for, in its order."""
        look = partial(
            _page,
            query,
            position=position,
            size=size,
            examined=query.examined(examined),
            records=records,
        )
        # Both dictionaries have the order of creation.
        newest_first = reversed(self._sequence.values()), reversed(self._records.values())
        if query.filter is None and query.order is Order.NEWEST_FIRST:
            return look(zip(*newest_first, strict=True), threading.Event())
        sequences, kept = [*newest_first[0]], [*newest_first[1]]
        return await self._threads.run(
            lambda unwanted: look(zip(sequences, kept, strict=True), unwanted),
            slow=query.is_costly,
        )

    async def counts(
        self, query: Query, *, most: int = MOST_COUNTED, examined: int = MOST_SUMMARIZED
    ) -> Counts:
        """Returns how many operations there are, by their methods and states."""
        if query.filter is not None:
            return await counts_by_pages(self.page, query, examined)
        newest_first = [*reversed(self._records.values())]
        counts: Counts = await run_in_thread(
            "lro-counts", _counted, newest_first, query, most, examined
        )
        return counts

    async def exclusive_holder(self, target: str) -> str:
        """Returns the operation that has a target for itself; empty for none."""
        return self._exclusive_holders.get(target, "")

    async def claimable(self, limits: Mapping[str, int]) -> Sequence[str]:
        """Returns the operations that are ready, oldest first."""
        return [
            record.name
            for method, limit in limits.items()
            for record in itertools.islice(
                itertools.chain(self._ready(method), self._ready_by_key(method)), limit
            )
        ]

    async def claim(
        self,
        limits: Mapping[str, int],
        claim: Claim,
        *,
        left_out: Collection[str] = (),
        ready_before: int | None = None,
    ) -> Sequence[Claimed]:
        """Applies a claim to operations that are ready, oldest first."""
        claimed: list[Claimed] = []
        for method, limit in limits.items():
            ready = self._ready(method, left_out, ready_before)
            claimed += await self._claimed(ready[:limit], claim)
        return claimed

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
        """Applies a claim to operations with a key that are ready, one key in turn."""
        keys, now = self._by_key.get(method, {}), self._now()

        def of(key: str) -> Iterator[Record]:
            ready = (
                record
                for record in keys[key].in_turn()
                if record.is_ready_since(ready_before, now) and record.name not in left_out
            )
            places = max(0, per_key - len(keys[key].held)) if per_key else None
            return itertools.islice(ready, places)

        with_ready = [key for key, of_key in keys.items() if of_key.ready]
        turns = KeyTurns(((key, of(key)) for key in ring(with_ready, after)), after)
        claimed = await self._claimed(itertools.islice(turns, limit), claim)
        return KeyedClaims(claimed, turns.last_key, turns.has_more)

    async def _claimed(self, ready: Iterable[Record], claim: Claim) -> Sequence[Claimed]:
        records = [*ready]
        outcomes = await self.apply_all([(record.name, claim) for record in records])
        return [Claimed(*one) for one in zip(records, outcomes, strict=True)]

    def _ready(
        self, method: str, left_out: Collection[str] = (), ready_before: int | None = None
    ) -> Sequence[Record]:
        """Returns what is ready of a method and has no key, in turn."""
        now = self._now()
        ready = [
            record
            for record in self._records.values()
            if record.method == method
            and not record.concurrency_key
            and record.is_ready_since(ready_before, now)
            and record.name not in left_out
        ]
        if any(record.queue_order for record in ready):
            ready.sort(key=lambda record: record.queue_time)
        return ready

    def _ready_by_key(self, method: str) -> Iterator[Record]:
        """Yields what is ready of a method and has a key, key by key."""
        for _, of_key in sorted(self._by_key.get(method, {}).items()):
            yield from of_key.in_turn()

    async def waiting(self, method: str, most: int, *, delayed: bool = False) -> Mapping[str, int]:
        """Returns how many operations wait for an attempt, by their callers."""
        waiting = (
            record.caller
            for record in self._records.values()
            if record.claimable and record.method == method and record.is_delayed_start == delayed
        )
        return Counter(itertools.islice(waiting, most))

    async def leased(self, *, until: int | None = None) -> Sequence[Leased]:
        """Returns the operations that an attempt holds."""
        return [
            Leased(record.name, record.attempt)
            for record in self._records.values()
            if record.lease_expire_time and (until is None or record.lease_expire_time <= until)
        ]

    async def waiting_methods(self) -> Mapping[str, int]:
        """Returns how many operations wait for an attempt, by their methods."""
        return Counter(record.method for record in self._records.values() if record.claimable)

    async def held_of_key(self, method: str, concurrency_key: str, most: int) -> int:
        """Returns how many operations of a method that have a key an attempt holds."""
        of_key = self._by_key.get(method, {}).get(concurrency_key)
        return min(most, len(of_key.held)) if of_key is not None else 0

    async def expired(self, limit: int, *, to_undo: bool = False) -> Sequence[str]:
        """Returns operations that time changes now."""
        now = self._now()
        due = (
            record.name
            for record in self._records.values()
            if record.has_expired(now, is_unserved=to_undo) or record.has_rested(now)
        )
        return list(itertools.islice(due, limit))

    async def take_completions(self, limit: int, lease: int) -> Sequence[Completion]:
        """Takes completions that are due."""
        now = self._now()
        due = [one for one in self._completions.values() if one.next_time <= now]
        due.sort(key=lambda one: one.next_time)
        some = [taken(one, now, lease) for one in due[:limit]]
        self._completions.update((one.key, one) for one in some)
        return some

    async def settle_completions(self, settlements: Sequence[Settlement]) -> None:
        """Settles completions that were taken."""
        for before, after in settlements:
            known = self._completions.get(before.key)
            if after is None:
                self._completions.pop(before.key, None)
            elif known is not None and known.attempt_count == before.attempt_count:
                self._completions[before.key] = after

    async def read_completion(self, name: str, create_time: int) -> Completion | None:
        """Returns the completion of an operation, without its event."""
        known = self._completions.get((name, create_time))
        return known and known._replace(event=b"")

    async def pending_completions(self, most: int = MOST_PENDING) -> int:
        """Returns how many completions wait to be told."""
        waiting = (one for one in self._completions.values() if not one.given_up)
        return len(list(itertools.islice(waiting, most)))

    def _keep(self, before: Record | None, record: Record) -> None:
        completion = completed(before, record)
        if completion:
            self._completions[completion.key] = completion
        if record.deleted and record.done:
            del self._records[record.name], self._sequence[record.name]
            self._attempts.pop(record.name, None)
            if record.request_id:
                of_request = self._requests[_request_key(record)]
                del of_request[record.parent]
                if not of_request:
                    del self._requests[_request_key(record)]
        else:
            self._records[record.name] = record
            attempt = superseded(before, record) if before else None
            if attempt:
                kept = self._attempts.setdefault(record.name, {})
                kept[attempt.number] = attempt
                for number in [one for one in kept if 1 < one < attempt.oldest_kept]:
                    del kept[number]
            if record.request_id:
                of_request = self._requests.setdefault(_request_key(record), {})
                of_request[record.parent] = record.name
            if record.exclusive_target:
                self._exclusive_holders[record.exclusive_target] = record.name
        if record.concurrency_key:
            keys = self._by_key.setdefault(record.method, {})
            of_key = keys.setdefault(record.concurrency_key, _OfKey())
            of_key.keep(record, self._sequence.get(record.name, 0))
            if not (of_key.ready or of_key.held):
                del keys[record.concurrency_key]
        announce(self._listeners, before, record)


def _request_key(record: Record) -> tuple[str, str, str]:
    return record.method, record.request_id, record.caller


def _counted(newest_first: Sequence[Record], query: Query, most: int, examined: int) -> Counts:
    """Returns how many operations there are; in a thread."""
    tally = Tally()
    earliest, left = 0, examined
    for record in newest_first:
        is_examined = left > 0 and (query.has_wildcard or query.covers(record))
        if is_examined:
            left, earliest = left - 1, record.create_time
            tally.examined += query.covers(record)
        if query.means(record.parent) and (is_examined or not record.done):
            tally.add_record(record)
    return tally.counts(most, 0 if left else earliest)


def _page(
    query: Query,
    newest_first: Iterable[tuple[int, Record]],
    unwanted: threading.Event,
    *,
    position: bytes,
    size: int,
    examined: int,
    records: bool,
) -> Page:
    """Returns a page of records, each with its sequence number; in a thread."""
    found: list[Listed] = []
    at, number = b"", 0
    wanted = query.labels
    effort = Effort(query)
    for sequence, record in while_wanted(_behind(newest_first, position, query.order), unwanted):
        if not query.covers(record):
            continue
        if any(labels.value_in(record.labels, key) != value for key, value in wanted):
            continue
        if number == examined or effort.ended_at:
            return page_of(found, size, at)
        number += 1
        at = position_of(query.order, sequence, record.name)
        effort.spend(record, at)
        if query.matches(record):
            found.append(Listed(at, record.operation, record if records else None))
        if len(found) > size:
            break
    return page_of(found, size)


def _behind(
    newest_first: Iterable[tuple[int, Record]], position: bytes, order: Order
) -> Iterable[tuple[int, Record]]:
    """Returns the records behind a position, in an order."""
    if order is Order.BY_NAME:
        after = position.decode()
        behind = (one for one in newest_first if one[1].name > after)
        return sorted(behind, key=lambda one: one[1].name)
    before = sequence_before(position)
    return (one for one in newest_first if one[0] < before)
