"""A store in Postgres keeps the contract: alone, and with others on its database."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lro_grpc._stores.postgres.store import PostgresStore
from lro_grpc.conformance import SharedStoreConformance, StoreConformance

if TYPE_CHECKING:
    from lro_grpc.stores import Now


class TestPostgresStore(StoreConformance):
    @pytest.fixture(autouse=True)
    def _place(self, postgres: str) -> None:
        self.url = postgres

    def make_store(self, now: Now) -> PostgresStore:
        return PostgresStore(self.url, now)


class TestPostgresStores(SharedStoreConformance):
    @pytest.fixture(autouse=True)
    def _place(self, postgres: str) -> None:
        self.url = postgres

    def make_store(self, now: Now) -> PostgresStore:
        return PostgresStore(self.url, now)
