"""Stores new records in groups, each of which is one statement, unless some are kept out.

A record is kept out by a *rival*, which has its name, its request or its exclusive target. It waits
for one that is not committed yet. Groups are sorted by these, so that they wait in one order; the
server breaks up what is left. A rival that is stored decides: its call gets the same operation, if
the request is the same one, or else the error.

A process that has room for what it starts claims that at once, by its name. Such a claim waits for
the record here, and is stored along with it: nobody sees the row before, so nobody else may have
it. The server checks the time of the lease, and a row that it keeps out for that is stored without.
Other changes of a record that is not there yet are made as soon as it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator, Sequence

from lro_grpc._errors import LroError, UnavailableError
from lro_grpc._operation.events import Claim, apply_safely
from lro_grpc._operation.record import Record
from lro_grpc._runtime.clock import Micros
from lro_grpc._stores.postgres.changes import Changes, WaitingChange
from lro_grpc._stores.postgres.compare_and_set import shortest_lease
from lro_grpc._stores.postgres.connections import Session
from lro_grpc._stores.postgres.failures import RefusedError, unavailable
from lro_grpc._stores.postgres.grouping import MOST_CALLS, Answered, Groups
from lro_grpc._stores.postgres.portions import portions_to_write
from lro_grpc._stores.postgres.rows import Known, first_version
from lro_grpc._stores.postgres.table import Found
from lro_grpc._stores.postgres.writer_parts import WriterParts
from lro_grpc._stores.refusals import check_same_request, in_progress, name_taken

_MOST_ROUNDS = 50
"""The times that a new record is tried whose rivals are gone each time when it asks for them."""


class _Creation(Answered):
    """A call that makes an operation."""

    def __init__(self, record: Record) -> None:
        super().__init__()
        self.record = record
        self.changes: list[WaitingChange] = []
        """Those that wait for it."""
        self.claimed: Record | None = None
        """The record after the first of these, if that is a claim and can be stored with it."""
        self.is_under_way = False
        """Whether it is its turn, or was."""
        self.is_tried = False
        """Whether it was to be stored, and was not."""

    def claim(self, now: Micros) -> Claim | None:
        """Applies the claim that waits, and returns it; None if nothing is claimed."""
        self.claimed = None
        if self.is_tried or not self.changes or self.changes[0].is_over:
            return None
        event = self.changes[0].event
        if not isinstance(event, Claim):
            return None
        outcome = apply_safely(event, self.record, now)
        if isinstance(outcome, LroError) or not outcome.lease_expire_time:
            return None
        self.claimed = outcome
        return event

    def stored(self) -> None:
        """Gives the record to its caller, and to the one who has claimed it."""
        if self.claimed is not None:
            change = self.changes.pop(0)
            change.call.settle(change.index, self.claimed)
        self.give(self.record)

    def fail(self, error: Exception) -> None:
        """Answers it with an error; with an outage the changes, too, that may have been made."""
        super().fail(error)
        if isinstance(error, UnavailableError):
            for change in self.changes:
                change.fail(error)
            self.changes.clear()


class Creations:
    """Stores new records; see the module.

    Args:
        parts: The parts of the store.
        session: A session for this alone.
        changes: Makes the changes of records that are there.
    """

    def __init__(self, parts: WriterParts, session: Session, changes: Changes) -> None:
        self._parts = parts
        self._session = session
        self._changes = changes
        self._by_name: dict[str, _Creation] = {}
        """The calls that wait or are under way."""
        self._groups = Groups[_Creation]("lro-postgres-creates", self._create, MOST_CALLS)

    async def create(self, record: Record) -> Record:
        """Stores a new record; see ``Store.create``."""
        call = _Creation(record)
        self._groups.add(call)
        self._by_name.setdefault(record.name, call)
        try:
            stored: Record = await call.answer
        except asyncio.CancelledError:
            if not call.is_under_way:  # nor will it ever be
                self._let_go(call)
            raise
        return stored

    def takes(self, change: WaitingChange) -> bool:
        """Takes a change of an operation that is being made; returns whether there is one."""
        call = self._by_name.get(change.name)
        if call is not None:
            call.changes.append(change)
        return call is not None

    async def close(self) -> None:
        """Makes the calls that wait, and ends."""
        try:
            await self._groups.close()
        finally:
            await self._session.close()

    async def _create(self, group: Sequence[_Creation]) -> None:
        for call in group:
            call.is_under_way = True
        try:
            # One statement stores a portion: if it is refused, none of its records is stored.
            for portion in portions_to_write(group, lambda call: call.record.large_bytes):
                await self._create_portion(portion)
        finally:
            for call in group:
                self._let_go(call)

    def _let_go(self, call: _Creation) -> None:
        """Has the changes made that have waited for a record: it is there, or never will be."""
        if self._by_name.get(call.record.name) is call:
            del self._by_name[call.record.name]
        for change in call.changes:
            self._changes.add(change)

    async def _create_portion(self, portion: Sequence[_Creation]) -> None:
        try:
            await self._create_all(portion)
        except RefusedError as error:
            waiting = [call for call in portion if not call.is_over]
            if len(waiting) <= 1:
                self._groups.fail(waiting, error)
                return
            middle = len(waiting) // 2
            await self._create_portion(waiting[:middle])
            await self._create_portion(waiting[middle:])

    async def _create_all(self, group: Sequence[_Creation]) -> None:
        waiting = list(group)
        for _ in range(_MOST_ROUNDS):
            first, later = _distinct(waiting)
            now = self._parts.time.now()
            claims = [claim for call in first if (claim := call.claim(now))]
            tolerance = self._parts.time.tolerance(shortest_lease(claims))
            rows = [call.claimed or call.record for call in first]
            stored = await self._parts.table.insert(self._session, rows, now, tolerance)
            lost = [*self._stored(first, stored), *later]
            if not lost:
                return
            rivals = await self._parts.table.rivals(self._session, [call.record for call in lost])
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
        rows = [call.claimed or call.record for call in made]
        self._parts.publish(
            [Known(first_version(row), row) for row in rows],
            [transition for call in made for transition in _transitions(call)],
        )
        for call in made:
            call.stored()
        for call in creations:
            if call.record.name not in stored:
                call.is_tried = True
                yield call


def _transitions(call: _Creation) -> Iterator[tuple[Record | None, Record]]:
    yield None, call.record
    if call.claimed is not None:
        yield call.record, call.claimed


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
