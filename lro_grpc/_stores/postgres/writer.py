"""Writes changes in groups, with one statement for all the calls that wait.

A group of changes is applied to records in memory and stored by one statement, which is a
transaction of its own: one round trip, and one commit (``attempt``, ``statements``). So is a group
of new records. Both have a connection to themselves, and so have claims, whose transaction holds
the rows that it has found until they are claimed.

**No two processes wait for each other.** A change is stored if the row has the version that it was
made of, and is in nobody else's hands at that moment. Otherwise the operation is *contended*: its
changes are set aside for a moment, and are then made before all others, of the row as it is by
then. Meanwhile other changes go on; those of the same operation line up behind. The pauses are
random, and grow, so that processes which meet once do not meet again and again. After
``_PATIENCE_SECONDS`` the outcome of these changes is UNAVAILABLE, and that of no others.

A new record does wait for a rival with its name, its request or its target that is not committed
yet. Groups are sorted by these, so that they wait in one order; the server breaks up what is left.

When a statement is durable, its records are remembered, the listeners are called with each change
in order, and then the callers get their answers: in one step of the event loop.

======================  ==========================================================================
what goes wrong         what becomes of the group
======================  ==========================================================================
a change is refused     its error is its answer; the others are not touched
a record is unstorable  the group is made again in halves, until one change alone gets the error
a row is contended      its changes are made again, and the others are not touched
the clock is off        it is measured, and all is made again
the group is late       this process took longer to make it than the server's check of the time
                        allows: it is made again in halves, which take less
the database is out     all in that statement is UNAVAILABLE; it may have been carried out, so the
                        remembered records are dropped; the log says so once a minute
a caller is cancelled   its changes are not made, if they wait; else they are made, and announced
the event loop ends     calls that wait, and all later ones, get UNAVAILABLE
the store is closed     all calls that wait are made first; later ones get UNAVAILABLE
======================  ==========================================================================
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from lro_grpc._errors import LroError, UnavailableError
from lro_grpc._operation.events import Claim, Event
from lro_grpc._operation.record import Record
from lro_grpc._stores.postgres.attempt import Time, attempt
from lro_grpc._stores.postgres.connections import Session
from lro_grpc._stores.postgres.failures import DamagedPageError, RefusedError, closed, unavailable
from lro_grpc._stores.postgres.grouping import Answered, Groups
from lro_grpc._stores.postgres.remembered import RememberedRecords
from lro_grpc._stores.postgres.rows import Known, first_version, size_of
from lro_grpc._stores.postgres.staged_changes import StagedChanges
from lro_grpc._stores.postgres.table import Found, Table, portions_of_bytes
from lro_grpc._stores.store import (
    Change,
    Claimed,
    Listener,
    announce,
    check_same_request,
    in_progress,
    name_taken,
)

_MOST_CALLS = 1000
"""The most changes in one group."""

_PATIENCE_SECONDS = 5.0
"""The time for which changes of a contended operation are tried."""

_PAUSE_SECONDS = 0.002
"""The longest pause before the first repetition; that before the nth is n times as long."""

_MOST_PAUSES = 25
"""Pauses grow no more after so many."""

_MOST_REFUSED = 15
"""The times in a row that a claim is refused for its time; as it halves, a thousand become one."""

_MOST_ROUNDS = 50
"""The times that a new record is tried whose rivals are gone each time when it asks for them."""


class _Changes(Answered):
    """A call that changes operations."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self._outcomes: dict[int, Record | LroError] = {}
        self._number = number

    def settle(self, index: int, outcome: Record | LroError) -> None:
        """Takes the outcome of one change, unless it has one; the last one is the answer."""
        self._outcomes.setdefault(index, outcome)
        if len(self._outcomes) < self._number:
            return
        outcomes = [self._outcomes[index] for index in range(self._number)]
        outages = [one for one in outcomes if isinstance(one, UnavailableError)]
        if len(outages) == self._number:
            self.fail(outages[0])
        else:
            self.give(outcomes)


@dataclass(frozen=True)
class _Change:
    """One change of a call."""

    call: _Changes
    index: int
    name: str
    event: Event

    @property
    def is_over(self) -> bool:
        """Whether nobody waits for it any more."""
        return self.call.is_over

    def fail(self, error: Exception) -> None:
        """Makes an error its outcome; a bug answers the whole call."""
        if isinstance(error, LroError):
            self.call.settle(self.index, error)
        else:
            self.call.fail(error)


class _Creation(Answered):
    """A call that makes an operation."""

    def __init__(self, record: Record) -> None:
        super().__init__()
        self.record = record


class _Claiming(Answered):
    """A call that claims what is ready."""

    def __init__(self, limits: Mapping[str, int], claim: Claim, left_out: Collection[str]) -> None:
        super().__init__()
        self.limits = limits
        self.claim = claim
        self.left_out = left_out


class _Portion(NamedTuple):
    """What has come of one transaction that claims."""

    claimed: Sequence[Claimed]
    found: int
    """The operations that it has found."""
    more: bool
    """Whether there may be more."""
    is_untimely: bool
    """Whether the server has refused some of it for its time, which is measured anew since."""
    is_late: bool
    """Whether this process took too long from the events to the statement."""


@dataclass
class _Contention:
    """An operation at which another process is."""

    since: float
    rounds: int = 0
    aside: list[_Change] = field(default_factory=list)
    """Its changes that wait for the next attempt; none while that is under way."""


class Writer:
    """Makes all changes of one process; see the module.

    Args:
        table: The rows.
        creating: A session for new records.
        changing: Another one, for changes.
        claiming: Another one, for claims.
        remembered: The remembered records.
        time: The time, and the bound within which the server checks it.
        listeners: Get each change; may grow.
    """

    def __init__(
        self,
        table: Table,
        creating: Session,
        changing: Session,
        claiming: Session,
        remembered: RememberedRecords,
        time: Time,
        listeners: Sequence[Listener],
    ) -> None:
        self._table = table
        self._creating, self._changing, self._claiming = creating, changing, claiming
        self._remembered = remembered
        self._time = time
        self._listeners = listeners
        self._loop = asyncio.get_running_loop()
        self._contended: dict[str, _Contention] = {}
        self._answers: set[asyncio.Future[object]] = set()
        """Those that calls which change operations wait for."""
        self._closing = False
        self._creations = Groups[_Creation]("lro-postgres-creates", self._create, _MOST_CALLS)
        self._changes = Groups[_Change]("lro-postgres-changes", self._change, _MOST_CALLS)
        self._claims = Groups[_Claiming]("lro-postgres-claims", self._claim, 1)

    async def create(self, record: Record) -> Record:
        """Stores a new record; see ``Store.create``."""
        call = _Creation(record)
        self._creations.add(call)
        stored: Record = await call.answer
        return stored

    async def apply_all(self, changes: Sequence[Change]) -> Sequence[Record | LroError]:
        """Applies events; see ``Store.apply_all``."""
        if not changes:
            return []
        if self._closing:
            raise closed()
        call = _Changes(len(changes))
        for index, (name, event) in enumerate(changes):
            self._changes.add(_Change(call, index, name, event))
        self._answers.add(call.answer)
        call.answer.add_done_callback(self._answers.discard)
        outcomes: Sequence[Record | LroError] = await call.answer
        return outcomes

    async def claim(
        self, limits: Mapping[str, int], claim: Claim, left_out: Collection[str]
    ) -> Sequence[Claimed]:
        """Claims what is ready; see ``Store.claim``."""
        call = _Claiming(limits, claim, left_out)
        self._claims.add(call)
        claimed: Sequence[Claimed] = await call.answer
        return claimed

    async def close(self) -> None:
        """Makes the calls that wait, and ends."""
        self._closing = True
        try:
            await self._claims.close()
            await self._creations.close()
            if self._answers:  # some changes may be set aside, for a moment or for several
                await asyncio.wait(self._answers)
            await self._changes.close()
        finally:
            for session in (self._creating, self._changing, self._claiming):
                await session.close()

    # Changes.

    async def _change(self, group: Sequence[_Change]) -> None:
        left = group
        while left := [change for change in left if not self._is_set_aside(change)]:
            left = await self._try(left)

    async def _try(self, changes: Sequence[_Change]) -> Sequence[_Change]:
        """Makes some changes, and returns those for which there was no room."""
        try:
            attempted = await attempt(
                self._table,
                self._changing,
                self._remembered,
                self._time,
                [(change.name, change.event) for change in changes],
            )
        except Exception as error:  # noqa: BLE001 - it is the answer to these changes alone
            for change in changes:
                self._remembered.drop(change.name)  # nobody knows whether it was stored
            if isinstance(error, RefusedError) and len(changes) > 1:
                await self._change_in_halves(changes)
                return ()
            for change in changes:
                self._contended.pop(change.name, None)
            self._changes.fail(changes, error)
            return ()
        if attempted.is_late and len(changes) > 1:
            await self._change_in_halves(changes)
            return ()
        for known in attempted.stored:
            self._remembered.keep(known)
        for step in attempted.steps:
            announce(self._listeners, *step)
        contended: dict[str, list[_Change]] = {name: [] for name in attempted.contended}
        left: list[_Change] = []
        for change, outcome in zip(changes, attempted.outcomes, strict=True):
            if change.name in contended:
                contended[change.name].append(change)
            elif change.name in attempted.left:
                left.append(change)
            else:
                self._contended.pop(change.name, None)
                change.call.settle(change.index, outcome)
        for name, aside in contended.items():
            self._set_aside(name, aside)
        if attempted.is_untimely:
            await self._measure()
        return left

    async def _change_in_halves(self, changes: Sequence[_Change]) -> None:
        middle = len(changes) // 2
        await self._change(changes[:middle])
        await self._change(changes[middle:])

    def _is_set_aside(self, change: _Change) -> bool:
        """Returns whether a change waits with others of its operation, and lines it up there."""
        contention = self._contended.get(change.name)
        if contention is None or not contention.aside:
            return False
        contention.aside.append(change)
        return True

    def _set_aside(self, name: str, changes: list[_Change]) -> None:
        """Has the changes of a contended operation wait for a moment."""
        self._remembered.drop(name)
        now = self._loop.time()
        contention = self._contended.setdefault(name, _Contention(now))
        contention.rounds += 1
        if now - contention.since > _PATIENCE_SECONDS:
            del self._contended[name]
            for change in changes:
                change.fail(unavailable(f"other processes are at {name} all the time"))
            return
        contention.aside = changes
        longest = _PAUSE_SECONDS * min(contention.rounds, _MOST_PAUSES)
        self._loop.call_later(random.random() * longest, self._take_up, contention)  # noqa: S311

    def _take_up(self, contention: _Contention) -> None:
        """Has changes that were set aside made before all others."""
        aside, contention.aside = contention.aside, []
        self._changes.put_back(aside)

    async def _measure(self) -> None:
        """Has the time measured anew; if that fails, so does what is made next."""
        with contextlib.suppress(UnavailableError, RefusedError):
            await self._time.measure()

    # New records.

    async def _create(self, group: Sequence[_Creation]) -> None:
        # One statement stores a portion: if it is refused, none of its records is stored.
        for portion in portions_of_bytes(group, lambda call: size_of(call.record)):
            await self._create_portion(portion)

    async def _create_portion(self, portion: Sequence[_Creation]) -> None:
        try:
            await self._create_all(portion)
        except RefusedError as error:
            waiting = [call for call in portion if not call.is_over]
            if len(waiting) <= 1:
                self._creations.fail(waiting, error)
                return
            middle = len(waiting) // 2
            await self._create_portion(waiting[:middle])
            await self._create_portion(waiting[middle:])

    async def _create_all(self, group: Sequence[_Creation]) -> None:
        waiting = list(group)
        for _ in range(_MOST_ROUNDS):
            first, later = _distinct(waiting)
            records = [call.record for call in first]
            stored = await self._table.insert(self._creating, records)
            lost = [*self._stored(first, stored), *later]
            if not lost:
                return
            rivals = await self._table.rivals(self._creating, [call.record for call in lost])
            waiting = [call for call in lost if not _refused(call, rivals)]
            if not waiting:
                return
        for call in waiting:
            call.fail(unavailable(f"rivals of {call.record.name} come and go all the time"))

    def _stored(
        self, creations: Sequence[_Creation], stored: Collection[str]
    ) -> Iterator[_Creation]:
        """Answers the calls whose records are stored, and yields the others."""
        made = [call for call in creations if call.record.name in stored]
        for call in made:
            self._remembered.keep(Known(first_version(call.record), call.record))
            announce(self._listeners, None, call.record)
        for call in made:
            call.give(call.record)
        yield from (call for call in creations if call.record.name not in stored)

    # Claims.

    async def _claim(self, group: Sequence[_Claiming]) -> None:
        (call,) = group
        claimed: list[Claimed] = []
        try:
            for method, limit in call.limits.items():
                await self._claim_oldest(method, limit, call, claimed)
        except Exception as error:  # noqa: BLE001 - what is claimed is this process's all the same
            if claimed:
                call.give(claimed)
            self._claims.fail(group, error)
        else:
            call.give(claimed)

    async def _claim_oldest(
        self, method: str, limit: int, call: _Claiming, claimed: list[Claimed]
    ) -> None:
        """Adds what it claims of a method: in one transaction, unless that is too much or late."""
        most, refused = limit, 0
        while limit > 0 and not call.is_over:
            left_out = {*call.left_out, *(one.before.name for one in claimed)}
            asked = min(limit, most)
            try:
                portion = await self._claim_portion(method, asked, call.claim, left_out)
            except DamagedPageError:
                if await self._table.find_unreadable(self._claiming, method, asked, left_out):
                    continue
                raise
            claimed += portion.claimed
            if not portion.is_untimely:
                limit = limit - portion.found if portion.more else 0
                continue
            limit -= len(portion.claimed)
            if portion.is_late:
                most = max(1, asked // 2)
            refused = 0 if portion.claimed else refused + 1
            if refused == _MOST_REFUSED:
                raise unavailable("its database refuses the time of a claim again and again")

    async def _claim_portion(
        self, method: str, limit: int, claim: Claim, left_out: Collection[str]
    ) -> _Portion:
        claimed: list[Claimed] = []
        steps: list[tuple[Record, Record]] = []
        stored: list[Known] = []
        async with self._claiming.transaction() as transaction:
            ready = await self._table.ready(transaction, method, limit, left_out)
            at = self._time.now()
            staged = StagedChanges(ready.known, {}, at)
            outcomes = {name: staged.apply(name, claim) for name in ready.known}
            bound = self._time.tolerance(claim.lease)
            changed = await self._table.change(transaction, staged.changed, at, bound)
            is_untimely = len(changed) < len(staged.changed)
            is_late = is_untimely and self._time.is_over(at, claim.lease)
        for name, outcome in outcomes.items():
            known = ready.known[name]
            if name in changed:
                steps += staged.steps(name)
                stored.append(Known(known.version + 1, staged.steps(name)[-1][1]))
            if name in changed or isinstance(outcome, LroError):
                claimed.append(Claimed(known.record, outcome))
        for one in stored:
            self._remembered.keep(one)
        for step in steps:
            announce(self._listeners, *step)
        if is_untimely:
            await self._measure()
        return _Portion(claimed, len(outcomes), ready.more, is_untimely, is_late)


def _distinct(
    creations: Sequence[_Creation],
) -> tuple[Sequence[_Creation], Sequence[_Creation]]:
    """Parts new records into those that do not keep each other out, sorted, and the others."""
    taken: set[tuple[str, ...]] = set()
    first: list[_Creation] = []
    later: list[_Creation] = []
    for call in creations:
        keys: list[tuple[str, ...]] = [("name", call.record.name)]
        if call.record.request_id:
            keys.append(("request", *_request_key(call.record)))
        if call.record.exclusive_target:
            keys.append(("target", call.record.exclusive_target))
        (later if taken.intersection(keys) else first).append(call)
        taken.update(keys)
    # In one order in all processes; what has no rivals stays in the order of its start.
    first.sort(key=lambda call: (_request_key(call.record), call.record.exclusive_target))
    return first, later


def _refused(creation: _Creation, rivals: Found[Known]) -> bool:
    """Answers a call whose record is kept out by one that is stored; returns whether it is."""
    record = creation.record
    try:
        stored = _kept_out(record, rivals)
    except LroError as error:
        creation.fail(error)
        return True
    if stored is not None:
        creation.give(stored)
    return stored is not None


def _kept_out(record: Record, rivals: Found[Known]) -> Record | None:
    """Returns the operation of the same request; None if nothing keeps the record out.

    Raises:
        LroError: If another operation does.
    """
    stored = [known.record for known in rivals.known.values()]
    for rival in stored:
        if record.request_id and _request_key(rival) == _request_key(record):
            if rival.name in rivals.damaged:
                raise rivals.damaged[rival.name]
            return check_same_request(rival, record)
    if record.name in rivals.known:
        raise name_taken(record.name)
    for rival in stored:
        if record.exclusive_target and rival.exclusive_target == record.exclusive_target:
            holder = None if rival.name in rivals.damaged else rival
            raise in_progress(record.exclusive_target, holder, caller=record.caller)
    return None


def _request_key(record: Record) -> tuple[str, str, str, str]:
    """Returns what no two operations have in common, if they have a ``request_id``."""
    if not record.request_id:
        return "", "", "", ""
    return record.method, record.request_id, record.caller, record.parent
