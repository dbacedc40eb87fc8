"""A store in Postgres keeps the contract behind a pooler that lends connections by transactions."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
from postgres_server import at_port, with_options
from transaction_pooler import TransactionPooler

from lro_grpc._stores.postgres.store import PostgresStore
from lro_grpc.conformance import SharedStoreConformance, StoreConformance

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lro_grpc.stores import Now


@pytest.fixture
def pooled(postgres: str) -> Iterator[str]:
    """The URL of an empty schema behind a pooler."""
    with contextlib.closing(TransactionPooler(urlsplit(postgres).port or 5432)) as pooler:
        yield with_options(at_port(postgres, pooler.port), pgbouncer="1")


class TestPooledStore(StoreConformance):
    @pytest.fixture(autouse=True)
    def _place(self, pooled: str) -> None:
        self.url = pooled

    def make_store(self, now: Now) -> PostgresStore:
        return PostgresStore(self.url, now)


class TestPooledStores(SharedStoreConformance):
    """They hear each other by connections of their own, which are no transactions."""

    @pytest.fixture(autouse=True)
    def _place(self, pooled: str, postgres: str) -> None:
        self.url = with_options(pooled, notices_url=postgres)

    def make_store(self, now: Now) -> PostgresStore:
        return PostgresStore(self.url, now)


class TestDeafStores(TestPooledStores):
    """Without these, each looks by itself."""

    @pytest.fixture(autouse=True)
    def _place(self, pooled: str, postgres: str) -> None:
        del postgres
        self.url = pooled
