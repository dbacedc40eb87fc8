"""Limits of a server, of one caller of it, and of a queue."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from typing import NamedTuple

from lro_grpc import paging
from lro_grpc._engine.handler import Handler
from lro_grpc._errors import LimitReachedError, UnavailableError
from lro_grpc._operation.record import Record
from lro_grpc._operation.size import OPERATION_BYTES
from lro_grpc._runtime.clock import Clock
from lro_grpc._runtime.options import check_number, check_part
from lro_grpc._runtime.repeated_lines import PROCESS
from lro_grpc._runtime.turns import Turns
from lro_grpc._stores.store import Store

_MOST = 2**63 - 1

_COUNT_SHARED = 1.0
"""The seconds between two counts of what waits in a store that others share."""

_COUNT_ALONE = 60.0
"""The same in a store that is this process's own."""

_PART_OF_TIME = 20
"""A count that takes long is followed by a pause of so many times as long."""

_MOST_COUNTS = 3
"""The times in a row that a queue is counted which changes meanwhile."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The most that a server takes on; above it the answer is RESOURCE_EXHAUSTED unless said here.

    How many attempts of a method run at a time is an option of the method (``concurrency``); the
    rest waits in the queue. How large a request may be is an option of the gRPC server
    (``grpc.max_receive_message_length``, 4 MiB unless set).

    Attributes:
        queue: Operations of one method that wait for an attempt; a start above it is refused.
            Where processes share the store those of all are counted, once a second.
        scheduled: Operations of one method that were started to begin later, and wait for that;
            such a start above it is refused. Once their time has come they count in ``queue``.
        waiters: Wait calls that a ``grpc.aio`` server holds open; above it a Wait answers at
            once (P9).
            Also the operations that are watched by WatchOperations, on either kind of server; one
            above it is refused, and the stream goes on.
        streams: Watch calls that a ``grpc.aio`` server holds open; a Watch above it is refused.
        page_size: Operations on a page; a larger ``page_size`` is clamped to it (S12).
        operation_bytes: Bytes of one operation, serialized; a start, a report or an outcome
            above it is refused. The default is a little below the 4 MiB that a gRPC client
            reads, unless its channel sets ``grpc.max_receive_message_length``.
        request_bytes: Bytes of the requests above 16 KiB whose operations are being stored; a start
            that comes when there are as many is refused.
        per_caller: The largest part of ``queue``, ``scheduled``, ``waiters``, ``streams``,
            ``request_bytes`` and ``max_waiters`` that one caller may take, above 0 and up to 1; so
            one caller alone never stops the others. It needs an ``identify``; all callers to whom
            that gives no name count as one.
        queue_per_caller: Operations of one method that one caller may have in ``queue``, in place
            of the part of it that ``per_caller`` gives. It needs an ``identify``, too.

    Raises:
        ConfigurationError: If one of them is not a positive whole number, or ``per_caller`` no
            part of one, or ``queue_per_caller`` more than ``queue``.
    """

    queue: int = 10_000
    scheduled: int = 100_000
    waiters: int = 50_000
    streams: int = 10_000
    page_size: int = paging.MAX_PAGE_SIZE
    operation_bytes: int = OPERATION_BYTES
    request_bytes: int = 256 * 1024 * 1024
    per_caller: float = 0.5
    queue_per_caller: int | None = None

    def __post_init__(self) -> None:
        """Checks the numbers."""
        others = ("per_caller", "queue_per_caller")
        for option in (field.name for field in fields(self) if field.name not in others):
            check_number(f"the limit {option}", getattr(self, option), most=_MOST)
        check_part("the limit per_caller", self.per_caller)
        if self.queue_per_caller is not None:
            check_number("the limit queue_per_caller", self.queue_per_caller, most=self.queue)


class Share:
    """The most places that one caller may have, of those that there are.

    Callers that ``identify`` gives no name share one share: to have none is no way round it.

    Args:
        most: The places that there are.
        per_caller: The largest part of them for one caller.
        number: The most for one caller, in place of that part; None for the part.
    """

    def __init__(self, most: int, per_caller: float, number: int | None = None) -> None:
        part = most if per_caller == 1 else max(1, int(most * per_caller))
        self.most = part if number is None else number
        """The most places of one caller."""
        self.taken = 0
        """The places that all callers have."""
        self._taken_by: dict[str, int] = {}

    def __len__(self) -> int:
        """Returns the number of callers that have a place."""
        return len(self._taken_by)

    def is_taken(self, caller: str) -> bool:
        """Whether a caller has as many places as it may."""
        return self._taken_by.get(caller, 0) >= self.most

    def take(self, caller: str, number: int = 1) -> None:
        """Counts more places of a caller, or less."""
        _add(self._taken_by, caller, number)
        self.taken += number

    def give_back(self, caller: str) -> None:
        """Counts one less."""
        self.take(caller, -1)

    def refusal(self, caller: str, what: str) -> LimitReachedError:
        """Returns the error for a caller that has its share.

        Args:
            caller: The caller.
            what: The kind of thing that has the places.
        """
        return LimitReachedError(
            f"{self.most} {what} are yours, which is the share of one caller; try again later",
            subject=caller,
        )


class CallerTurns:
    """Lets each caller have one thing done at a time, so that the others get their turn."""

    def __init__(self) -> None:
        self._turns: dict[str, Turns] = {}

    def __len__(self) -> int:
        """Returns the number of callers that have a turn, or wait for one."""
        return len(self._turns)

    @contextlib.asynccontextmanager
    async def of(self, caller: str, before_waiting: Callable[[], None]) -> AsyncIterator[None]:
        """Has a caller's turn while the context lasts.

        Args:
            caller: The caller.
            before_waiting: Is called if another thing of the caller is being done; may refuse.
        """
        turns = self._turns.setdefault(caller, Turns(1))
        if not turns.is_free:
            before_waiting()
        try:
            await turns.take()
            try:
                yield
            finally:
                turns.give_back()
        finally:
            if turns.is_unused:
                self._turns.pop(caller, None)


class _Queue:
    """The operations of one method that wait, or are about to.

    Args:
        limit: The most that may.
        share: The share that each caller has of them.
        delayed: Whether it is of those that wait for the time of their first attempt, or of those
            that are ready, or rest between two attempts.
    """

    def __init__(self, limit: int, share: Share, *, delayed: bool) -> None:
        self.entering: dict[str | bytes, int] = {}
        """The starts under way of those that are not stored yet."""
        self.limit = limit
        self.share = share
        self.delayed = delayed
        self.is_used = False
        """Whether an operation has entered since the last count."""
        self.changes = 0
        """The changes that were counted: of a count, those meanwhile may be missing."""
        self._waiting: dict[str, int] = {}
        """Those that are stored, by their callers."""

    def __len__(self) -> int:
        return self.share.taken

    def enter(self, key: str | bytes, caller: str) -> None:
        """Counts a start that is under way."""
        starts = self.entering.get(key, 0)
        if not starts:
            self.share.take(caller)
        self.entering[key] = starts + 1
        self.is_used = True

    def leave(self, key: str | bytes, caller: str) -> None:
        """Counts a start no more that has ended, unless its operation is counted by now."""
        starts = self.entering.get(key, 0)
        if starts > 1:
            self.entering[key] = starts - 1
        elif starts:
            self._drop(key, caller)

    def note_stored(self, record: Record) -> None:
        """Counts a new operation no more as one that is on its way."""
        if self.entering and (key := _key(record)) in self.entering:
            self._drop(key, record.caller)

    def add(self, caller: str) -> None:
        """Counts one that waits from now on."""
        self._wait(caller, 1)

    def remove(self, caller: str) -> None:
        """Counts one no more that waits no longer."""
        if caller in self._waiting:  # it may have been missed
            self._wait(caller, -1)

    def recount(self, waiting: Mapping[str, int]) -> None:
        """Takes how many operations are stored and wait, by their callers."""
        self.is_used = False
        for caller in {*self._waiting, *waiting}:
            self._wait(caller, waiting.get(caller, 0) - self._waiting.get(caller, 0))

    def _wait(self, caller: str, number: int) -> None:
        self.changes += 1
        _add(self._waiting, caller, number)
        self.share.take(caller, number)

    def _drop(self, key: str | bytes, caller: str) -> None:
        del self.entering[key]
        self.share.give_back(caller)


class _Place(NamedTuple):
    """A context in which a start has a place in a queue."""

    queue: _Queue
    key: str | bytes
    caller: str

    def __enter__(self) -> None:
        self.queue.enter(self.key, self.caller)

    def __exit__(self, *_: object) -> None:
        self.queue.leave(self.key, self.caller)


class Queues:
    """Counts the operations of each method that wait for an attempt, and refuses more than may.

    An operation takes its place before it is stored, not after: else all starts that are on their
    way at once would find the same place free. Once the store announces it, it is counted as one
    that waits, and no longer as on its way.

    Only the changes of this process are announced to it. Where others share the store it counts
    anew each second, as long as anything waits or is started: so the limit is about right, give or
    take what all of them start in a second. Where none does, a count may still miss what was stored
    though the store could not say so; then it is right again after a minute.

    Args:
        store: Where the operations are kept.
        clock: Waits for the next count.
        limits: How many operations of one method may wait.
        has_callers: Whether one caller is told from another, so that each has a share.
    """

    def __init__(
        self, store: Store, clock: Clock, limits: Limits, *, has_callers: bool = False
    ) -> None:
        self._store = store
        self._clock = clock
        self._limits = limits
        self._has_callers = has_callers
        self._queues: dict[str, Mapping[bool, _Queue]] = {}
        """By the methods' own and their former names, which share them; and by ``delayed``."""
        store.subscribe(self._on_change)

    async def load(self, handler: Handler) -> None:
        """Finds the operations of a method that wait already, at the start of the server."""
        limits = self._limits
        part = limits.per_caller if self._has_callers else 1
        number = limits.queue_per_caller if self._has_callers else None
        queues = {
            False: _Queue(limits.queue, Share(limits.queue, part, number), delayed=False),
            True: _Queue(limits.scheduled, Share(limits.scheduled, part), delayed=True),
        }
        for queue in queues.values():
            queue.recount(await self._waiting(queue, handler.names))
        self._queues.update(dict.fromkeys(handler.names, queues))

    def start(self) -> None:
        """Begins to count anew at times."""
        self._counting = asyncio.create_task(self._keep_counting())

    async def stop(self) -> None:
        """Counts anew no more."""
        self._counting.cancel()
        await asyncio.gather(self._counting, return_exceptions=True)

    async def _keep_counting(self) -> None:
        took = 0.0
        while True:
            pause = _COUNT_ALONE if self._store.exclusive else _COUNT_SHARED
            await self._clock.sleep(max(pause, took * _PART_OF_TIME))
            begin = self._clock.monotonic()
            try:
                await self._count_again()
            except UnavailableError:
                pass  # the starts say so themselves
            except Exception as error:  # noqa: BLE001 - a bug in one count must not end them all
                text = "the operations that wait could not be counted; trying again"
                PROCESS.say(logging.ERROR, text, error=error)
            took = self._clock.monotonic() - begin

    async def _count_again(self) -> None:
        names: dict[_Queue, list[str]] = {}
        for method, queues in self._queues.items():
            for queue in queues.values():
                names.setdefault(queue, []).append(method)
        for queue, methods in names.items():
            if queue.is_used or len(queue):
                queue.recount(await self._counted(queue, methods))

    async def _counted(self, queue: _Queue, methods: Iterable[str]) -> Mapping[str, int]:
        """Returns how many operations of a queue wait, with what has changed meanwhile."""
        for _ in range(_MOST_COUNTS):
            changes = queue.changes
            waiting = await self._waiting(queue, methods)
            if queue.changes == changes:
                break
        return waiting

    async def _waiting(self, queue: _Queue, methods: Iterable[str]) -> Mapping[str, int]:
        """Returns how many operations of some methods are in a queue, by their callers."""
        # A count that stopped at the limit would fall below it with the first that leaves the
        # queue, though more wait than may: so it has to go on for as many as leave in a second.
        most = _MOST if self._store.exclusive else min(2 * queue.limit, _MOST)
        waiting: Counter[str] = Counter()
        for method in methods:
            waiting.update(await self._store.waiting(method, most, delayed=queue.delayed))
        return waiting

    def entry(self, record: Record) -> _Place:
        """Keeps a place for an operation while it is stored: until the context ends.

        The same request, sent twice at once, takes one place.

        Raises:
            LimitReachedError: If as many wait as may, in all or of the caller.
        """
        method, caller, key = record.method, record.caller, _key(record)
        queue = self._queues[method][record.is_delayed_start]
        if key not in queue.entering:
            waits = "wait for their time" if queue.delayed else "wait to be run"
            if queue.share.is_taken(caller) and queue.share.most < queue.limit:
                raise queue.share.refusal(caller, f"operations of {method} that {waits}")
            if len(queue) >= queue.limit:
                raise LimitReachedError(
                    f"{len(queue)} operations of {method} {waits}, and the limit is"
                    f" {queue.limit}; try again later",
                    subject=method,
                )
        return _Place(queue, key, caller)

    def _on_change(self, before: Record | None, after: Record) -> None:
        queues = self._queues.get(after.method)
        if queues is None:
            return
        if before is None:
            for queue in queues.values():
                queue.note_stored(after)
        left, entered = _queue_of(before), _queue_of(after)
        if left != entered:
            if left is not None:
                queues[left].remove(after.caller)
            if entered is not None:
                queues[entered].add(after.caller)


def _queue_of(record: Record | None) -> bool | None:
    """Returns the queue that an operation waits in, by ``delayed``; None if it waits in none."""
    return record.is_delayed_start if record is not None and record.claimable else None


def _add(counts: dict[str, int], caller: str, number: int) -> None:
    """Adds to the number of a caller; one whose number is 0 is not kept."""
    count = counts.get(caller, 0) + number
    if count:
        counts[caller] = count
    else:
        counts.pop(caller, None)


def _key(record: Record) -> str | bytes:
    """Returns a key that a start shares with the same request sent again."""
    return record.fingerprint or record.name
