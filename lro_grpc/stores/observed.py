"""A store that tells an observer what it changes, and how long it takes to answer."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence

from lro_grpc.errors import LroError
from lro_grpc.events import Event
from lro_grpc.record import Record
from lro_grpc.stores.store import MAX_EXAMINED, Change, Held, Listener, Page, Query, Store
from lro_grpc.telemetry import Telemetry


class ObservedStore:
    """Passes everything on to another store; see :class:`lro_grpc.stores.store.Store`.

    Args:
        store: The store itself.
        telemetry: The observer.
        monotonic: Returns seconds since some fixed moment; never goes back.
    """

    def __init__(self, store: Store, telemetry: Telemetry, monotonic: Callable[[], float]) -> None:
        self._store = store
        self._telemetry = telemetry
        self._monotonic = monotonic

    @property
    def exclusive(self) -> bool:
        """Whether having opened the store proves that its former owner is gone."""
        return self._store.exclusive

    @property
    def key(self) -> bytes:
        """The store's secret."""
        return self._store.key

    async def open(self) -> None:
        """Makes the store ready."""
        await self._store.open()

    async def close(self) -> None:
        """Lets go of the store."""
        await self._store.close()

    def subscribe(self, listener: Listener) -> None:
        """Adds a listener."""
        self._store.subscribe(listener)

    async def create(self, record: Record) -> Record:
        """Stores a new record, unless its ``request_id`` was used before."""
        with self._timed("create"):
            stored = await self._store.create(record)
        if stored.name == record.name:
            self._telemetry.changed(None, stored)
        return stored

    async def apply(self, name: str, event: Event) -> Record:
        """Applies one event, and returns the record as it is then."""
        observed = _Observed(event)
        with self._timed("apply"):
            after = await self._store.apply(name, observed)
        self._tell(observed, after)
        return after

    async def apply_all(self, changes: Sequence[Change]) -> Sequence[Record | LroError]:
        """Applies events in their order; the outcome of one does not touch the others."""
        observed = [(name, _Observed(event)) for name, event in changes]
        with self._timed("apply_all"):
            outcomes = await self._store.apply_all(observed)
        for (_, event), outcome in zip(observed, outcomes, strict=True):
            if isinstance(outcome, Record):
                self._tell(event, outcome)
        return outcomes

    async def read(self, name: str) -> Record:
        """Returns the record of a name."""
        with self._timed("read"):
            return await self._store.read(name)

    async def operation(self, name: str) -> bytes:
        """Returns the served bytes of a name."""
        with self._timed("operation"):
            return await self._store.operation(name)

    async def find_request(self, method: str, request_id: str) -> Sequence[Record]:
        """Returns the operations that were started under a ``request_id``."""
        with self._timed("find_request"):
            return await self._store.find_request(method, request_id)

    async def page(
        self, query: Query, *, position: bytes, size: int, examined: int = MAX_EXAMINED
    ) -> Page:
        """Returns the operations that a query asks for, newest first."""
        with self._timed("page"):
            return await self._store.page(query, position=position, size=size, examined=examined)

    async def occupant(self, target: str) -> str:
        """Returns the operation that has a target for itself; empty for none."""
        with self._timed("occupant"):
            return await self._store.occupant(target)

    async def claimable(self, limits: Mapping[str, int], *, ready: bool = True) -> Sequence[str]:
        """Returns the operations that wait for an attempt, oldest first."""
        with self._timed("claimable"):
            return await self._store.claimable(limits, ready=ready)

    async def held(self, *, until: int | None = None) -> Sequence[Held]:
        """Returns the operations that an attempt holds."""
        with self._timed("held"):
            return await self._store.held(until=until)

    async def due(self, limit: int) -> Sequence[str]:
        """Returns operations that are to expire, or to be removed."""
        with self._timed("due"):
            return await self._store.due(limit)

    @contextlib.contextmanager
    def _timed(self, call: str) -> Iterator[None]:
        begin = self._monotonic()
        error: BaseException | None = None
        try:
            yield
        except BaseException as raised:
            error = raised
            raise
        finally:
            self._telemetry.answered(call, self._monotonic() - begin, error)

    def _tell(self, event: _Observed, after: Record) -> None:
        if event.before is not None and event.has_changed:
            self._telemetry.changed(event.before, after)


class _Observed:
    """An event that notes what it happens to.

    Args:
        event: The event itself.
    """

    def __init__(self, event: Event) -> None:
        self.before: Record | None = None
        """The record as it was before, if it has come to that."""
        self.has_changed = False
        """Whether anything is other than before."""
        self._event = event

    def apply(self, record: Record, now: int) -> Record:
        """See :class:`lro_grpc.events.Event`."""
        after = self._event.apply(record, now)
        self.before = record
        self.has_changed = after is not record
        return after
