"""A store that several processes have open keeps its contract: alone, and with the others."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from lro_grpc._operation.events import Heartbeat
from lro_grpc.conformance import SharedStoreConformance, StoreConformance
from lro_grpc.stores import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lro_grpc import LroError
    from lro_grpc.stores import Leased, Now, Record


class SharedMemoryStore(MemoryStore):
    """A memory store that has its records in common with others.

    Args:
        now: Tells the time.
        all_stores: Those that have the same records: this one joins them.
    """

    exclusive = False

    def __init__(self, now: Now, all_stores: list[SharedMemoryStore]) -> None:
        super().__init__(now)
        if all_stores:
            own = {"_now": now, "_listeners": self._listeners}
            vars(self).update(vars(all_stores[0]) | own)
        all_stores.append(self)
        self._all = all_stores
        self._followers: dict[str, list[Callable[[Record | None], None]]] = {}
        self._workers: list[tuple[Callable[[str], bool], Callable[[str], None]]] = []
        self.subscribe(self._notify)

    async def renew(self, leased: Sequence[Leased], lease: int) -> Sequence[Record | LroError]:
        return await self.apply_all([(one.name, Heartbeat(one.attempt, lease)) for one in leased])

    def follow(self, name: str, follower: Callable[[Record | None], None]) -> Callable[[], None]:
        followers = self._followers.setdefault(name, [])
        followers.append(follower)
        return lambda: followers.remove(follower)

    def follow_work(
        self, has_room: Callable[[str], bool], follower: Callable[[str], None]
    ) -> Callable[[], None]:
        worker = (has_room, follower)
        self._workers.append(worker)
        return lambda: self._workers.remove(worker)

    def _notify(self, before: Record | None, after: Record) -> None:
        """Tells the other stores of a change, a moment later."""
        is_left = after.claimable and not any(
            has_room(after.method) for has_room, _ in self._workers
        )
        for other in self._all:
            if other is not self:
                asyncio.get_running_loop().call_soon(other._hear, after, is_left)

    def _hear(self, record: Record, is_left: bool) -> None:
        for follower in list(self._followers.get(record.name, ())):
            follower(None if record.deleted else record)
        for _, follower in list(self._workers) if is_left else ():
            follower(record.method)


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
