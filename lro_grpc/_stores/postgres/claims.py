"""Claims the oldest operations that are ready, for one call at a time.

A claim is a transaction. It locks the rows that it has found until they are claimed, and passes
over those that another process has locked: so two processes never claim the same, nor wait for each
other. It is made again with fewer rows if it has taken too long, or if the server can read them and
not change them, until one alone is set aside for that; and without the rows that it cannot read.

A claim by key has the keys for itself, too, from before it counts what attempts hold of them until
that is more: two that count at once would both find the last place free, and might take it for two
operations. Locks of keys are the database's own (``pg_try_advisory_xact_lock``): there is no row of
a key. Each statement sees what was stored when it began: so the one that counts is not the one that
locks, and sees all that the key's last holder has claimed. A key that another process has is passed
over, and whoever follows work is told to ask again. Where keys have places for any number, nothing
is counted, and nothing locked.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
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
from lro_grpc._stores.postgres.table import Keys, OfKeys, Ready, Wanted
from lro_grpc._stores.postgres.writer_parts import WriterParts
from lro_grpc._stores.store import Claimed, KeyedClaims

_MOST_REFUSED = 15
"""The times in a row that a claim is refused for its time; as it halves, a thousand become one."""

_MOST_DAMAGED = 10_000
"""The most damaged operations that a claim of a method passes over, beside those set aside."""


class Ring(NamedTuple):
    """The ring of the keys of a method; see ``Store.claim_by_key``."""

    after: str
    """The key behind which they begin."""
    places: int
    """The operations of each that may be held at a time; 0 for any number."""


class _Claiming(Answered):
    """A call that claims what is ready; its answer is what has become of each operation."""

    def __init__(
        self,
        limits: Mapping[str, int],
        claim: Claim,
        left_out: Collection[str],
        ready_before: Micros | None,
        ring: Ring | None = None,
    ) -> None:
        super().__init__()
        self.limits = limits
        self.claim = claim
        self.left_out = left_out
        self.ready_before = ready_before
        self.ring = ring
        """None if it claims what has no key."""
        self.keys: list[Keys] = []
        """The keys that each of its transactions has looked at."""


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


_NO_KEYS = Keys((), "", passed_over=False, more=False)


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
        on_passed_over: Is called with a method of which another process had keys just then.
    """

    def __init__(
        self, parts: WriterParts, session: Session, on_passed_over: Callable[[str], None]
    ) -> None:
        self._parts = parts
        self._session = session
        self._on_passed_over = on_passed_over
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

    async def claim_by_key(
        self,
        method: str,
        limit: int,
        ring: Ring,
        claim: Claim,
        left_out: Collection[str],
        ready_before: Micros | None,
    ) -> KeyedClaims:
        """Claims what is ready and has a key; see ``Store.claim_by_key``."""
        call = _Claiming({method: limit}, claim, left_out, ready_before, ring)
        self._groups.add(call)
        claimed: Sequence[Claimed] = await call.answer
        keys = call.keys[-1] if call.keys else _NO_KEYS
        is_full = len(claimed) >= limit
        last_key = claimed[-1].before.concurrency_key if claimed and is_full else keys.last
        if keys.passed_over and not is_full:
            self._on_passed_over(method)
        return KeyedClaims(claimed, last_key or ring.after, has_more=is_full or keys.more)

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
                result = await self._claim_once(wanted, call, claimed)
            except DamagedPageError:
                if call.ring is not None:
                    keys = call.keys[-1].locked if call.keys else ()
                    wanted = wanted._replace(of_keys=OfKeys(keys, call.ring.places))
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

    async def _claim_once(
        self, wanted: Wanted, call: _Claiming, former: Sequence[Claimed]
    ) -> _Result:
        claim = call.claim
        claimed: list[Claimed] = []
        transitions: list[tuple[Record, Record]] = []
        stored: list[Known] = []
        ready = Ready({}, (), more=False)
        try:
            async with self._session.transaction() as transaction:
                if call.ring is not None:
                    after = former[-1].before.concurrency_key if former else call.ring.after
                    places = call.ring.places
                    keys = await self._parts.table.lock_keys(
                        transaction, wanted.method, after, places
                    )
                    call.keys.append(keys)
                    wanted = wanted._replace(of_keys=OfKeys(keys.locked, places))
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
