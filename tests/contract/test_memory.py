from __future__ import annotations

from typing import TYPE_CHECKING

from lro_grpc.conformance import StoreConformance
from lro_grpc.stores import MemoryStore

if TYPE_CHECKING:
    from lro_grpc.stores import Now


class TestMemoryStore(StoreConformance):
    store: MemoryStore | None = None

    def make_store(self, now: Now) -> MemoryStore:
        self.store = self.store or MemoryStore(now)  # its records stay for the next open
        return self.store
