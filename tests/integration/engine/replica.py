"""One process of several on a store: of what the others change it hears by following alone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from followed import Followed

from lro_grpc._operation.record import Record
from lro_grpc.stores import ForwardingStore, Listener, Store

T = TypeVar("T")


class Replica(Followed, ForwardingStore):
    """Takes the changes that go through it for this process's, and all others for other processes'.

    Args:
        store: A store in memory, which changes nothing once a call waits.
    """

    exclusive = False
    hears = True
    """Whether it hears of what others do; a notice may be lost."""

    def __init__(self, store: Store) -> None:
        ForwardingStore.__init__(self, store)
        Followed.__init__(self)
        self._listeners: list[Listener] = []
        self._is_calling = False
        store.subscribe(self._on_change)

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def _on_change(self, before: Record | None, after: Record) -> None:
        if self._is_calling:
            for listener in tuple(self._listeners):
                listener(before, after)
        elif self.hears:
            was_held = before is not None and before.lease_expire_time > 0
            has_left = after.concurrency_key != "" and was_held and not after.lease_expire_time
            asyncio.get_running_loop().call_soon(self._hear, after, after.is_ready or has_left)

    def _hear(self, record: Record, is_work: bool) -> None:
        self.notify(record)
        if is_work:
            self.notify_of_work(record.method)

    async def _call(
        self, call: Callable[..., Coroutine[Any, Any, T]], *arguments: Any, **options: Any
    ) -> T:
        self._is_calling = True
        try:
            return await super()._call(call, *arguments, **options)
        finally:
            self._is_calling = False
