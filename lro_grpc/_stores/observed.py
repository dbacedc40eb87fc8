"""A store that reports its changes, and the time that each call takes, to telemetry."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from lro_grpc._operation.telemetry import Telemetry
from lro_grpc._stores.forwarding import ForwardingStore
from lro_grpc._stores.store import Store

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
        self.subscribe(telemetry.changed)

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
