"""A store that several processes have open keeps its contract: alone, and with the others."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from followed import Followed

from lro_grpc._operation.events import Heartbeat
from lro_grpc.conformance import SharedStoreConformance, StoreConformance
from lro_grpc.stores import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lro_grpc import LroError
    from lro_grpc.stores import Leased, Now, Record


class SharedMemoryStore(Followed, MemoryStore):
    """A memory store that has its records in common with others.

    Args:
        now: Tells the time.
        all_stores: Those that have the same records: this one joins them.
    """

    exclusive = False

    def __init__(self, now: Now, all_stores: list[SharedMemoryStore]) -> None:
        MemoryStore.__init__(self, now)
        if all_stores:
            own = {"_now": now, "_listeners": self._listeners}
            vars(self).update(vars(all_stores[0]) | own)
        all_stores.append(self)
        self._all = all_stores
        Followed.__init__(self)
        self.subscribe(self._notify)

    async def renew(self, leased: Sequence[Leased], lease: int) -> Sequence[Record | LroError]:
        return await self.apply_all([(one.name, Heartbeat(one.attempt, lease)) for one in leased])

    def _notify(self, before: Record | None, after: Record) -> None:
        """Tells the other stores of a change, a moment later."""
        was_held = before is not None and before.lease_expire_time
        leaves_place = after.concurrency_key and was_held and not after.lease_expire_time
        is_left = (after.claimable or leaves_place) and not self.has_room(after.method)
        for other in self._all:
            if other is not self:
                asyncio.get_running_loop().call_soon(other._hear, after, is_left)

    def _hear(self, record: Record, is_left: bool) -> None:
        self.notify(record)
        if is_left:
            self.notify_of_work(record.method)


class TestSharedStore(StoreConformance):
    store: SharedMemoryStore | None = None

    def make_store(self, now: Now) -> SharedMemoryStore:
        self.store = self.store or SharedMemoryStore(now, [])  # its records stay for the next open
        return self.store


class TestSharedStores(SharedStoreConformance):
    all_stores: list[SharedMemoryStore]

    def make_store(self, now: Now) -> SharedMemoryStore:
        vars(self).setdefault("all_stores", [])
        return SharedMemoryStore(now, self.all_stores)
