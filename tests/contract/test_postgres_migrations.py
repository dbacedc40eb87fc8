"""The tables of a database, as migrations make them of what earlier releases have made."""

from __future__ import annotations

import asyncio
import hashlib
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import asyncpg

from lro_grpc._operation.events import Cancel, Claim, Delete
from lro_grpc._operation.record import FIELDS
from lro_grpc._stores.postgres import schema
from lro_grpc.conformance import StoreConformance
from lro_grpc.stores import Query, open_url

if TYPE_CHECKING:
    import pytest

    from lro_grpc.stores import Store

DIGESTS = (
    "b535665c37c67bccf98c82145247296a6245f5acc3fbf8555fb051586ac56e33",
    "16b4168ba7f742b13e2f821258310f86fbbd8bd092b80112c8273905b5468e4e",
    "fb9295c685724466f44640e92754c4b33f3806663615ca7eef2d32d071cd5d6e",
    "b863d89d2d42d0ed6fe703f4a69275d90664fa94843257aa2a352145553fd0d6",
    "0ade0071696f8c00ed8caf9f84f222bfc6dc0e530256b832440ae068bf88cb7c",
    "45e2339b6921c60ea523b667680b3ee5590df45f11b79713bab875c8b38a38c6",
    "f955b2fffc3dd40d6164fe3d4874e53d7eeec1a76fac07a735daf7b72f3e120a",
    "9310da2e9cf379b07e9c2ed314507447c7682b3e3f02071ff11c484ca1df6703",
    "2b30b5713b45f98729b45c75014d5cf1f6783b6ce2b3e12c63176db753124318",
)
"""Of the migrations, by the version that each leads to. Once a release has had one, it stays."""

LEASE = 60_000_000

TYPES = {str: "text", bytes: "bytea", int: "bigint", bool: "boolean"}


def store_of(url: str) -> Store:
    return open_url(url, lambda: StoreConformance.START)


async def fetch(url: str, sql: str) -> list[Any]:
    parts = urlsplit(url)
    connection = await asyncpg.connect(parts._replace(query="").geturl())
    try:
        await connection.execute(f"SET search_path = {parts.query.rpartition('schema=')[2]}")
        return [*await connection.fetch(sql)]
    finally:
        await connection.close()


async def use(store: Store, operation_id: str) -> None:
    """Makes an operation, changes it in several ways, and finds it again."""
    made = await store.create(StoreConformance().record(operation_id))
    (claimed,) = await store.claim({made.method: 1}, Claim(LEASE))
    assert claimed.before == made
    cancelled = await store.apply(made.name, Cancel())
    assert await store.read(made.name) == cancelled
    assert made.name in [one.name for one in await store.leased()]
    page = await store.page(Query(made.parent), position=b"", size=1, records=True)
    assert [*page.records] == [cancelled]


def test_a_migration_stays_as_it_is() -> None:
    """Databases have had it: what is new, such as the column of a field, is another one's."""
    made = [hashlib.sha256(repr(migration).encode()).hexdigest() for migration in schema.MIGRATIONS]
    assert tuple(made) == DIGESTS, (
        "databases of this version have other tables: leave the migrations as they were, add"
        " another one to MIGRATIONS for what is new, and its digest to DIGESTS"
    )


def test_there_is_a_column_for_each_field_with_a_default(postgres: str) -> None:
    """A release before a field leaves it out."""

    async def run() -> list[Any]:
        store = store_of(postgres)
        await store.open()
        await store.close()
        return await fetch(
            postgres,
            "SELECT column_name, data_type, is_nullable, column_default IS NOT NULL"
            " FROM information_schema.columns"
            " WHERE table_schema = current_schema() AND table_name = 'lro_operations'",
        )

    columns = {name: rest for name, *rest in asyncio.run(run())}
    expected = {name: [TYPES[field.type], "NO", True] for name, field in FIELDS.items()}
    assert {name: columns[name] for name in expected if name in columns} == expected, (
        "a field of Record has no such column: add a migration that adds it"
    )
    for name in columns.keys() - expected.keys() - {"sequence", "phase"}:
        assert columns[name][2], name


def test_a_release_goes_on_while_the_next_one_adds_a_column(
    postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the statements that its connections have prepared, too (R12)."""
    added = "ALTER TABLE {prefix}lro_operations ADD COLUMN of_next text NOT NULL DEFAULT 'unset'"

    async def run() -> list[Any]:
        this = store_of(postgres)
        await this.open()
        await use(this, "op-1")
        with monkeypatch.context() as at_next:
            at_next.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, ((added,), 1)))
            at_next.setattr(schema, "VERSION", schema.VERSION + 1)
            next_one = store_of(postgres)
            await next_one.open()
        await use(this, "op-2")
        await use(next_one, "op-3")
        await this.close()
        await next_one.close()
        again = store_of(postgres)
        await again.open()
        await again.close()
        return await fetch(postgres, "SELECT of_next FROM lro_operations")

    assert [row[0] for row in asyncio.run(run())] == ["unset"] * 3


def test_labels_go_with_their_operation_whoever_removes_it(postgres: str) -> None:
    """A release that knows of none, too, and somebody with SQL."""

    async def run() -> list[Any]:
        store = store_of(postgres)
        await store.open()
        for number in range(3):
            text = ",env=prod,team=maps," if number else ""
            await store.create(StoreConformance().record(f"op-{number}", labels=text))
        names = [f"{StoreConformance.PARENT}/operations/op-{number}" for number in range(3)]
        await store.apply_all([(names[1], Cancel()), (names[1], Delete())])
        left = await fetch(postgres, "SELECT key, value FROM lro_labels ORDER BY key")
        await fetch(postgres, "DELETE FROM lro_operations")
        await store.close()
        return [*map(tuple, left), *await fetch(postgres, "SELECT FROM lro_labels")]

    assert asyncio.run(run()) == [("env", "prod"), ("team", "maps")]
