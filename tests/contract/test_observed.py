"""A store that is observed is a store like any other."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from lro_grpc._operation.telemetry import NO_TELEMETRY
from lro_grpc._stores.observed import ObservedStore
from lro_grpc.conformance import StoreConformance
from lro_grpc.stores import MemoryStore

if TYPE_CHECKING:
    from lro_grpc.stores import Now


class TestObservedStore(StoreConformance):
    store: ObservedStore | None = None

    def make_store(self, now: Now) -> ObservedStore:
        made = self.store or ObservedStore(MemoryStore(now), NO_TELEMETRY, time.monotonic)
        self.store = made  # its records stay for the next open
        return made
