"""Changes some operations once: reads them, applies events, and stores what the versions allow.

What is known of an operation may be old. So:

* A change is stored only if the row still has the version that it was made of. What comes back is
  changed; all else is **contended**, and has to be tried again.
* An outcome that changes nothing, such as a refusal, has no row that would confirm it. If it was
  made of a remembered record, it is made again of the row before anyone is told: that record may
  be old, an answer never.

What it reads has a bound in bytes, and so has what it writes. What there is no room for is **left**
to the next round, which has a time of its own.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from typing import NamedTuple

from lro_grpc._errors import LroError
from lro_grpc._operation.events import Claim, Event, Heartbeat
from lro_grpc._operation.record import Record
from lro_grpc._stores.postgres.database_clock import StoreTime
from lro_grpc._stores.postgres.portions import portions_to_write
from lro_grpc._stores.postgres.remembered import RememberedRecords
from lro_grpc._stores.postgres.rows import Known, size_of_change
from lro_grpc._stores.postgres.staged_changes import StagedChanges
from lro_grpc._stores.postgres.table import Fetching, Found, Table
from lro_grpc._stores.store import Change

_LONGEST_LEASE = 2**62

Read = Callable[[Fetching, Collection[str]], Awaitable[Found[Known]]]
"""Returns what is stored of some operations, at least of one: the others are left."""


class Result(NamedTuple):
    """The result of the changes."""

    outcomes: Sequence[Record | LroError]
    """Of each event, in order; those of operations that are contended or left count for nothing."""
    contended: Collection[str]
    """The operations that have not been changed, because another process is at them."""
    left: Collection[str]
    """The operations for which there was no room."""
    transitions: Sequence[tuple[Record, Record]]
    """The changes that are durable now, each as the records before and after."""
    stored: Sequence[Known]
    """The records that are stored now, changed or not."""
    is_untimely: bool
    """Whether nothing at all could be changed, as when the time is off."""
    is_late: bool
    """Whether that may be because this process took too long from the events to the statement."""


async def compare_and_set(
    table: Table,
    on: Fetching,
    remembered: RememberedRecords,
    time: StoreTime,
    changes: Sequence[Change],
    read: Read,
) -> Result:
    """Applies events to some operations, and stores what comes of it.

    Args:
        table: The rows.
        on: What carries the statements out.
        remembered: The remembered records; they stay as they are.
        time: The time.
        changes: The operations' names, and the events to apply.
        read: Reads operations, with all that the events look at.
    """
    names = dict.fromkeys(name for name, _ in changes)
    found = Found(dict(remembered.of(names)))
    unknown = [name for name in names if name not in found.known]
    left: set[str] = set()
    if unknown:
        found.update(await read(on, unknown))
        left.update(found.left)
    at = time.now()
    staged = StagedChanges(found.known, found.damaged, at)
    outcomes = [staged.apply(*change) for change in changes]
    is_read = frozenset(unknown)
    doubtful = [name for name in names if not staged.has_changed(name) and name not in is_read]
    if doubtful:
        for name in doubtful:
            del found.known[name]
        found.update(await read(on, doubtful))
        left.update(found.left)
        at = time.now()
        staged = StagedChanges(found.known, found.damaged, at)
        outcomes = [staged.apply(*change) for change in changes]
    all_changed = staged.changed
    changed = next(portions_to_write(all_changed, size_of_change), ())
    left.update(change.after.name for change in all_changed[len(changed) :])
    stored: Collection[str] = ()
    lease = shortest_lease(event for _, event in changes)
    if changed:
        stored = await table.change(on, changed, at, time.tolerance(lease))
    is_untimely = bool(changed) and not stored
    contended = [one.after.name for one in changed if one.after.name not in stored]
    sound = (one for name, one in found.known.items() if name not in found.damaged)
    return Result(
        outcomes,
        contended,
        left,
        staged.transitions_of(stored),
        [
            *(one for one in sound if not staged.has_changed(one.record.name)),
            *(
                Known(one.known.version + 1, one.after, one.known.is_whole)
                for one in changed
                if one.after.name in stored
            ),
        ],
        is_untimely,
        is_untimely and time.is_late(at, lease),
    )


def shortest_lease(events: Iterable[Event]) -> int:
    """Returns the shortest lease that some events give, in microseconds."""
    leases = (event.lease for event in events if isinstance(event, (Claim, Heartbeat)))
    return min(leases, default=_LONGEST_LEASE)
