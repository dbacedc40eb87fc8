"""A store that reports its changes, and the time that each call takes, to telemetry."""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from lro_grpc._operation.record import Record
from lro_grpc._operation.telemetry import Telemetry
from lro_grpc._stores.forwarding import ForwardingStore
from lro_grpc._stores.store import Store

_log = logging.getLogger("lro_grpc")

T = TypeVar("T")


class ObservedStore(ForwardingStore):
    """Passes every call on to another store, and reports to telemetry.

    Args:
        store: The store itself.
        telemetry: Gets the changes, as any listener does, and the duration of each call.
        monotonic: Returns seconds since some fixed moment; never goes back.
    """

    def __init__(self, store: Store, telemetry: Telemetry, monotonic: Callable[[], float]) -> None:
        super().__init__(store)
        self._telemetry = telemetry
        self._monotonic = monotonic
        self.subscribe(self._on_change)

    def _on_change(self, before: Record | None, after: Record) -> None:
        try:
            self._telemetry.changed(before, after)
        except Exception:  # noqa: BLE001 - the store has committed, and others listen, too
            _log.exception("telemetry has raised at a change of %s", after.name)

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
