"""A store that several processes have open keeps the contract, too."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lro_grpc._operation.events import Heartbeat
from lro_grpc.conformance import StoreConformance
from lro_grpc.stores import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lro_grpc import LroError
    from lro_grpc.stores import Leased, Now, Record


class SharedMemoryStore(MemoryStore):
    """A memory store that does not claim to be alone."""

    exclusive = False

    async def renew(self, leased: Sequence[Leased], lease: int) -> Sequence[Record | LroError]:
        return await self.apply_all([(one.name, Heartbeat(one.attempt, lease)) for one in leased])


class TestSharedStore(StoreConformance):
    store: SharedMemoryStore | None = None

    def make_store(self, now: Now) -> SharedMemoryStore:
        self.store = self.store or SharedMemoryStore(now)  # its records stay for the next open
        return self.store
