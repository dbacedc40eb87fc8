"""A store that tells an observer what it changes, and how long it takes to answer."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

from lro_grpc._errors import LroError
from lro_grpc._operation.events import Event
from lro_grpc._operation.record import Record
from lro_grpc._operation.telemetry import Telemetry
from lro_grpc._stores.forwarding import ForwardingStore
from lro_grpc._stores.store import Change, Store

T = TypeVar("T")


class ObservedStore(ForwardingStore):
    """Passes everything on to another store, and tells of it.

    Args:
        store: The store itself.
        telemetry: The observer.
        monotonic: Returns seconds since some fixed moment; never goes back.
    """

    def __init__(self, store: Store, telemetry: Telemetry, monotonic: Callable[[], float]) -> None:
        super().__init__(store)
        self._telemetry = telemetry
        self._monotonic = monotonic

    async def create(self, record: Record) -> Record:
        """Stores a new record, unless its ``request_id`` was used before."""
        stored = await super().create(record)
        if stored.name == record.name:
            self._telemetry.changed(None, stored)
        return stored

    async def apply(self, name: str, event: Event) -> Record:
        """Applies one event, and returns the record as it is then."""
        observed = _Observed(event)
        after = await super().apply(name, observed)
        self._tell(observed, after)
        return after

    async def apply_all(self, changes: Sequence[Change]) -> Sequence[Record | LroError]:
        """Applies events in their order; the outcome of one does not touch the others."""
        observed = [(name, _Observed(event)) for name, event in changes]
        outcomes = await super().apply_all(observed)
        for (_, event), outcome in zip(observed, outcomes, strict=True):
            if isinstance(outcome, Record):
                self._tell(event, outcome)
        return outcomes

    async def _call(
        self, call: Callable[..., Coroutine[Any, Any, T]], *arguments: Any, **options: Any
    ) -> T:
        """Makes one call, and tells how long the answer has taken."""
        begin = self._monotonic()
        error: BaseException | None = None
        try:
            return await call(*arguments, **options)
        except BaseException as raised:
            error = raised
            raise
        finally:
            self._telemetry.answered(call.__name__, self._monotonic() - begin, error)

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
        """See :class:`lro_grpc._operation.events.Event`."""
        after = self._event.apply(record, now)
        self.before = record
        self.has_changed = after is not record
        return after
