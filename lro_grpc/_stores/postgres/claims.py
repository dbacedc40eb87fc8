"""Claims the oldest operations that are ready, for one call at a time.

A claim is a transaction. It locks the rows that it has found until they are claimed, and passes
over those that another process has locked: so two processes never claim the same, nor wait for each
other. It is made again with fewer rows if it has taken too long, or if the server can read them and
not change them, until one alone is set aside for that; and without the rows that it cannot read.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from lro_grpc._errors import LroError
from lro_grpc._operation.events import Claim
from lro_grpc._operation.record import Record
from lro_grpc._runtime.clock import Micros
from lro_grpc._stores.postgres.connections import Session
from lro_grpc._stores.postgres.failures import DamagedPageError, unavailable
from lro_grpc._stores.postgres.grouping import Answered, Groups
from lro_grpc._stores.postgres.rows import Known
from lro_grpc._stores.postgres.staged_changes import StagedChanges
from lro_grpc._stores.postgres.table import Ready, Wanted
from lro_grpc._stores.postgres.writer_parts import WriterParts
from lro_grpc._stores.store import Claimed

_MOST_REFUSED = 15
"""The times in a row that a claim is refused for its time; as it halves, a thousand become one."""

_MOST_DAMAGED = 10_000
"""The most damaged operations that a claim of a method passes over, beside those set aside."""


class _Claiming(Answered):
    """A call that claims what is ready."""

    def __init__(
        self,
        limits: Mapping[str, int],
        claim: Claim,
        left_out: Collection[str],
        ready_before: Micros | None,
    ) -> None:
        super().__init__()
        self.limits = limits
        self.claim = claim
        self.left_out = left_out
        self.ready_before = ready_before


class _Result(NamedTuple):
    """The result of one transaction that claims."""

    claimed: Sequence[Claimed]
    damaged: Collection[str]
    """The names of those of which it could make no record."""
    found: int
    """The operations that it has found."""
    more: bool
    """Whether there may be more."""
    is_untimely: bool
    """Whether the server has refused some of it for its time, which is measured anew since."""
    is_late: bool
    """Whether this process took too long from the events to the statement."""


class _UnchangedError(Exception):
    """The server cannot change the rows of some operations, which it can read."""

    def __init__(self, records: Sequence[Record]) -> None:
        super().__init__()
        self.records = records


class Claims:
    """Claims operations; see the module.

    Args:
        parts: The parts of the store.
        session: A session for this alone.
    """

    def __init__(self, parts: WriterParts, session: Session) -> None:
        self._parts = parts
        self._session = session
        self._groups = Groups[_Claiming]("lro-postgres-claims", self._claim, 1)

    async def claim(
        self,
        limits: Mapping[str, int],
        claim: Claim,
        left_out: Collection[str],
        ready_before: Micros | None,
    ) -> Sequence[Claimed]:
        """Claims what is ready; see ``Store.claim``."""
        call = _Claiming(limits, claim, left_out, ready_before)
        self._groups.add(call)
        claimed: Sequence[Claimed] = await call.answer
        return claimed

    async def close(self) -> None:
        """Makes the calls that wait, and ends."""
        try:
            await self._groups.close()
        finally:
            await self._session.close()

    async def _claim(self, group: Sequence[_Claiming]) -> None:
        (call,) = group
        claimed: list[Claimed] = []
        try:
            for method, limit in call.limits.items():
                await self._claim_oldest(method, limit, call, claimed)
        except Exception as error:  # noqa: BLE001 - what is claimed is this process's all the same
            if claimed:
                call.give(claimed)
            self._groups.fail(group, error)
        else:
            call.give(claimed)

    async def _claim_oldest(
        self, method: str, limit: int, call: _Claiming, claimed: list[Claimed]
    ) -> None:
        """Adds what it claims of a method: in one transaction, unless that is too much or late."""
        most, refused = limit, 0
        damaged: set[str] = set()
        while limit > 0 and not call.is_over:
            if len(damaged) > _MOST_DAMAGED:
                raise unavailable(f"more than {_MOST_DAMAGED} operations of {method} are damaged")
            left_out = {*call.left_out, *damaged, *(one.before.name for one in claimed)}
            asked = min(limit, most)
            wanted = Wanted(method, asked, left_out, call.ready_before, self._parts.time.now())
            try:
                result = await self._claim_once(wanted, call.claim)
            except DamagedPageError:
                unreadable = await self._parts.table.find_unreadable(self._session, wanted)
                if unreadable:
                    damaged.update(unreadable)
                    continue
                raise
            except _UnchangedError as refusal:
                most = max(1, len(refusal.records) // 2)
                if len(refusal.records) == 1:
                    (record,) = refusal.records
                    error = self._parts.table.unchangeable(record.name, refusal.__cause__)
                    claimed.append(Claimed(record, error))
                    limit -= 1
                continue
            claimed += result.claimed
            damaged.update(result.damaged)
            if not result.is_untimely:
                limit = limit - result.found if result.more else 0
                continue
            limit -= len(result.claimed)
            if result.is_late:
                most = max(1, asked // 2)
            refused = 0 if result.claimed else refused + 1
            if refused == _MOST_REFUSED:
                raise unavailable("its database refuses the time of a claim again and again")

    async def _claim_once(self, wanted: Wanted, claim: Claim) -> _Result:
        claimed: list[Claimed] = []
        transitions: list[tuple[Record, Record]] = []
        stored: list[Known] = []
        ready = Ready({}, (), more=False)
        try:
            async with self._session.transaction() as transaction:
                ready = await self._parts.table.ready(transaction, wanted)
                at = self._parts.time.now()
                staged = StagedChanges(ready.known, {}, at)
                outcomes = {name: staged.apply(name, claim) for name in ready.known}
                bound = self._parts.time.tolerance(claim.lease)
                changed = await self._parts.table.change(transaction, staged.changed, at, bound)
                is_untimely = len(changed) < len(staged.changed)
                is_late = is_untimely and self._parts.time.is_late(at, claim.lease)
        except DamagedPageError as error:
            if not ready.known:
                raise
            raise _UnchangedError([one.record for one in ready.known.values()]) from error
        for name, outcome in outcomes.items():
            known = ready.known[name]
            if name in changed:
                transitions += staged.transitions(name)
                stored.append(Known(known.version + 1, staged.transitions(name)[-1][1]))
            if name in changed or isinstance(outcome, LroError):
                claimed.append(Claimed(known.record, outcome))
        self._parts.publish(stored, transitions)
        if is_untimely:
            await self._parts.time.try_to_measure()
        return _Result(claimed, ready.damaged, len(outcomes), ready.more, is_untimely, is_late)
