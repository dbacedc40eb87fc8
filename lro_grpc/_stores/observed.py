"""A store that reports its own changes, and the time that each call takes, to telemetry.

Telemetry counts, so each change is reported once, by the call that has made it. And telemetry links
a count to the trace of its cause, so a change is reported in the context of that call. A listener
knows what was before a change, and not whose it is; the call knows the record that came of it, and
not what was before. So the two are put together here: what is announced of an operation while a
call is about to change it is kept, and the call reports of that the change that has led to its
answer. A claim is about to change any operation.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from lro_grpc._errors import LroError
from lro_grpc._operation.events import Claim, Event
from lro_grpc._operation.record import Record
from lro_grpc._operation.telemetry import Telemetry
from lro_grpc._runtime.repeated_lines import PROCESS
from lro_grpc._stores.forwarding import ForwardingStore
from lro_grpc._stores.store import Change, Claimed, KeyedClaims, Store

T = TypeVar("T")


class _Announced:
    """The changes of one operation that were announced while calls are about to change it."""

    def __init__(self) -> None:
        self.calls = 0
        self.changes: list[tuple[Record | None, Record]] = []
        """Those that no call has reported: the records before and after."""


class ObservedStore(ForwardingStore):
    """Passes every call on to another store, and reports to telemetry.

    Args:
        store: The store itself.
        telemetry: Gets the changes that this process makes, and the duration of each call.
        monotonic: Returns seconds since some fixed moment; never goes back.
    """

    def __init__(self, store: Store, telemetry: Telemetry, monotonic: Callable[[], float]) -> None:
        super().__init__(store)
        self._telemetry = telemetry
        self._monotonic = monotonic
        self._announced: dict[str, _Announced] = {}
        self._claims = 0
        """The number of claims that are under way."""
        self.subscribe(self._on_change)

    async def create(self, record: Record) -> Record:
        """Stores a new record, unless its ``request_id`` was used before."""
        with self._changing([record.name]):
            stored = await super().create(record)
            self._report(record.name, stored)
        return stored

    async def apply(self, name: str, event: Event) -> Record:
        """Applies one event, and returns the record as it is then."""
        with self._changing([name]):
            after = await super().apply(name, event)
            self._report(name, after)
        return after

    async def apply_all(self, changes: Sequence[Change]) -> Sequence[Record | LroError]:
        """Applies events in their order; the outcome of one does not touch the others."""
        names = [name for name, _ in changes]
        with self._changing(names):
            outcomes = await super().apply_all(changes)
            for name, outcome in zip(names, outcomes, strict=True):
                if isinstance(outcome, Record):
                    self._report(name, outcome)
        return outcomes

    async def claim(
        self,
        limits: Mapping[str, int],
        claim: Claim,
        *,
        left_out: Collection[str] = (),
        ready_before: int | None = None,
    ) -> Sequence[Claimed]:
        """Applies a claim to operations that are ready, oldest first."""
        with self._claiming():
            claimed = await super().claim(
                limits, claim, left_out=left_out, ready_before=ready_before
            )
            self._report_claimed(claimed)
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
        with self._claiming():
            claims = await super().claim_by_key(
                method,
                limit,
                per_key,
                claim,
                after=after,
                left_out=left_out,
                ready_before=ready_before,
            )
            self._report_claimed(claims.claimed)
        return claims

    def _report_claimed(self, claimed: Sequence[Claimed]) -> None:
        for before, outcome in claimed:
            if isinstance(outcome, Record):
                self._report(before.name, outcome)

    @contextmanager
    def _claiming(self) -> Iterator[None]:
        self._claims += 1
        try:
            yield
        finally:
            self._claims -= 1
            if not self._claims:
                self._announced = {name: one for name, one in self._announced.items() if one.calls}

    @contextmanager
    def _changing(self, names: Sequence[str]) -> Iterator[None]:
        for name in names:
            self._announced.setdefault(name, _Announced()).calls += 1
        try:
            yield
        finally:
            for name in names:
                announced = self._announced[name]
                announced.calls -= 1
                if not announced.calls and not self._claims:
                    del self._announced[name]

    def _on_change(self, before: Record | None, after: Record) -> None:
        announced = self._announced.get(after.name)
        if announced is None and self._claims:
            announced = self._announced[after.name] = _Announced()
        if announced is not None:
            announced.changes.append((before, after))

    def _report(self, name: str, answer: Record) -> None:
        """Reports the change that a record is the answer to; there is none if nothing changed."""
        announced = self._announced.get(name)
        changes = announced.changes if announced else []
        for change in changes:
            if change[1] == answer:
                changes.remove(change)
                try:
                    self._telemetry.changed(*change)
                except Exception as error:  # noqa: BLE001 - it is stored, whatever this makes of it
                    text = f"telemetry has raised at a change of {name}"
                    kind = ("telemetry", type(error))
                    PROCESS.say(logging.ERROR, text, kind=kind, error=error)
                return

    async def _call(
        self, call: Callable[..., Coroutine[Any, Any, T]], *arguments: Any, **options: Any
    ) -> T:
        """Makes one call, and reports the time until its answer."""
        begin = self._monotonic()
        error: BaseException | None = None
        try:
            return await call(*arguments, **options)
        except BaseException as raised:
            error = raised
            raise
        finally:
            self._telemetry.answered(call.__name__, self._monotonic() - begin, error)
