"""Makes all changes of one process: new records, changes and claims.

Each of the three has a connection to itself, and makes the calls that wait together (``grouping``):

* ``creations``: one statement stores a group of new records, and the claims of these that wait.
* ``changes``: a group of changes is applied to records in memory, and stored by one statement.
* ``claims``: a transaction holds the rows that it has found until they are claimed.

A statement is a transaction of its own: one round trip, and one commit. When it is durable, its
records are remembered, the listeners are called with each change in order, and then the callers get
their answers: in one step of the event loop.

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

import contextlib
from collections.abc import Callable, Collection, Mapping, Sequence

from lro_grpc._errors import LroError
from lro_grpc._operation.events import Claim
from lro_grpc._operation.record import Record
from lro_grpc._stores.postgres.changes import Changes
from lro_grpc._stores.postgres.claims import Claims, Ring
from lro_grpc._stores.postgres.connections import Session
from lro_grpc._stores.postgres.creations import Creations
from lro_grpc._stores.postgres.failures import closed
from lro_grpc._stores.postgres.writer_parts import WriterParts
from lro_grpc._stores.store import Change, Claimed, KeyedClaims


class Writer:
    """See the module.

    Args:
        parts: The parts of the store.
        creating: A session for new records.
        changing: Another one, for changes.
        claiming: Another one, for claims.
        on_passed_over: Is called with a method of which another process had keys just then.
    """

    def __init__(
        self,
        parts: WriterParts,
        creating: Session,
        changing: Session,
        claiming: Session,
        on_passed_over: Callable[[str], None],
    ) -> None:
        self._changes = Changes(parts, changing)
        self._creations = Creations(parts, creating, self._changes)
        self._claims = Claims(parts, claiming, on_passed_over)
        self._closing = False

    async def create(self, record: Record) -> Record:
        """Stores a new record; see ``Store.create``."""
        return await self._creations.create(record)

    async def apply_all(self, changes: Sequence[Change]) -> Sequence[Record | LroError]:
        """Applies events; see ``Store.apply_all``."""
        if self._closing:  # those that are set aside are still made
            raise closed()
        return await self._changes.apply_all(changes, self._creations.takes)

    async def claim(
        self,
        limits: Mapping[str, int],
        claim: Claim,
        left_out: Collection[str],
        ready_before: int | None,
    ) -> Sequence[Claimed]:
        """Claims what is ready; see ``Store.claim``."""
        return await self._claims.claim(limits, claim, left_out, ready_before)

    async def claim_by_key(
        self,
        method: str,
        limit: int,
        ring: Ring,
        claim: Claim,
        left_out: Collection[str],
        ready_before: int | None,
    ) -> KeyedClaims:
        """Claims what is ready and has a key; see ``Store.claim_by_key``."""
        return await self._claims.claim_by_key(method, limit, ring, claim, left_out, ready_before)

    async def close(self) -> None:
        """Makes the calls that wait, and ends."""
        self._closing = True
        async with contextlib.AsyncExitStack() as parts:  # the last one is closed first
            parts.push_async_callback(self._changes.close)
            parts.push_async_callback(self._creations.close)
            parts.push_async_callback(self._claims.close)
