"""Maintenance of many operations, of which some are large."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from lro_grpc._engine.maintenance import Maintenance
from lro_grpc._operation.events import Claim
from lro_grpc._operation.record import Record
from lro_grpc.conformance import StoreConformance
from lro_grpc.stores import ForwardingStore, MemoryStore

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lro_grpc import LroError
    from lro_grpc.stores import Change

MANY = 200
LARGE = 4_000_000
START = StoreConformance.START


class Measuring(ForwardingStore):
    """Notes the bytes of the records with which each call is answered."""

    def __init__(self, now: Callable[[], int]) -> None:
        super().__init__(MemoryStore(now))
        self.answered: list[int] = []

    async def apply_all(self, changes: Sequence[Change]) -> Sequence[Record | LroError]:
        outcomes = await super().apply_all(changes)
        self.answered.append(sum(one.large_bytes for one in outcomes if isinstance(one, Record)))
        return outcomes


@pytest.mark.parametrize(
    ("size", "most_calls"), [(LARGE, 2 * MANY), (10, 20)], ids=["large", "small"]
)
def test_few_large_operations_are_given_back_at_a_time(size: int, most_calls: int) -> None:
    """Those that expire, and those that were lost."""

    async def no_claims() -> None:
        pass

    async def check() -> None:
        now = START
        store = Measuring(lambda: now)
        request = bytes(size)
        for number in range(2 * MANY):
            made = StoreConformance().record(f"op-{number}", request=request, timeout=1)
            await store.create(made)
            if number >= MANY:
                await store.apply(made.name, Claim(10))
        now += 1000
        for _ in range(2):
            maintenance = Maintenance(store, no_claims, lambda _: False, {})
            await maintenance.let_time_pass()
            await maintenance.take_over_lost()
        assert await store.leased() == []
        assert await store.expired(MANY) == []
        assert max(store.answered) <= 17 * LARGE
        assert len(store.answered) <= most_calls

    asyncio.run(check())
