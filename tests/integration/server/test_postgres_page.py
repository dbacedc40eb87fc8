"""docs/deploy/postgres.md: what it shows is run, and what it counts is counted."""

from __future__ import annotations

import asyncio
import contextlib
import re
import secrets
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import asyncpg
import pytest
from pages import Page
from postgres_server import with_options

from lro_grpc import ConfigurationError
from lro_grpc._operation.events import Claim
from lro_grpc._stores.postgres import options
from lro_grpc.conformance import SharedStoreConformance
from lro_grpc.stores import Leased, open_url

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = Page("deploy/postgres.md")
ROLES, RIGHTS = PAGE.texts("sql")
URLS = re.findall(r"postgresql://[^\s`'\",]+(?:,[^\s`'\"]+)?", PAGE)
NEEDED = [
    *((right, "lro_operations") for right in ("SELECT", "INSERT", "UPDATE", "DELETE")),
    *((right, "lro_outbox") for right in ("SELECT", "INSERT", "UPDATE", "DELETE")),
    *((right, "lro_attempts") for right in ("SELECT", "INSERT", "DELETE")),
    *((right, "lro_labels") for right in ("SELECT", "INSERT", "DELETE")),
    *(("SELECT", table) for table in ("lro_schema", "lro_secrets")),
]
LEASE = 15_000_000


async def execute(url: str, statements: str) -> None:
    connection = await asyncpg.connect(url.partition("?")[0])
    try:
        await connection.execute(statements)
    finally:
        await connection.close()


def test_the_table_has_every_option_of_a_url() -> None:
    named = re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE)
    with pytest.raises(Exception, match="is no option") as refusal:
        options.parse("postgresql://lro@db/lro?none=1")
    (own,) = re.findall(r"its own are (.*?), and those of libpq", str(refusal.value))
    assert sorted(named) == own.split(", ")


@pytest.mark.parametrize("url", URLS)
def test_each_url_is_read(url: str) -> None:
    parsed = options.parse(url)
    assert parsed.place.startswith(("db", "pgbouncer"))
    if parsed.pgbouncer:
        direct = parsed.of_notices()
        assert direct is not None
        assert direct.place == "db:5432/lro"


@pytest.fixture
def roles(postgres: str) -> Iterator[dict[str, str]]:
    """Names for what the page calls by these, which no other test has."""
    suffix = secrets.token_hex(4)
    names = {"lro_owner": f"lro_owner_{suffix}", "lro": f"lro_{suffix}", "reports": f"r_{suffix}"}
    yield names
    for role in (names["lro"], names["lro_owner"]):
        with contextlib.suppress(asyncpg.UndefinedObjectError):
            asyncio.run(execute(postgres, f"DROP OWNED BY {role} CASCADE; DROP ROLE {role}"))


def test_a_role_that_is_given_these_rights_can_use_the_tables(
    postgres: str, roles: dict[str, str]
) -> None:
    made, granted = (
        re.sub(r"\b(lro_owner|lro|reports)\b", lambda word: roles[word[0]], block)
        for block in (ROLES, RIGHTS)
    )
    owner, role, schema = (roles[name] for name in ("lro_owner", "lro", "reports"))
    asyncio.run(execute(postgres, made))
    asyncio.run(open_as(owner, postgres, schema))
    with pytest.raises(ConfigurationError, match="its role lacks rights"):
        asyncio.run(open_as(role, postgres, schema))
    asyncio.run(execute(as_role(postgres, owner), granted))
    asyncio.run(open_as(role, postgres, schema))
    for right, table in NEEDED:
        asyncio.run(execute(postgres, f"REVOKE {right} ON {schema}.{table} FROM {role}"))
        with pytest.raises(ConfigurationError, match="its role lacks rights") as refusal:
            asyncio.run(open_as(role, postgres, schema))
        missing = refusal.value.message.rpartition("execute ")[2]
        assert missing == f"GRANT {right} ON {schema}.{table} TO {role}"
        asyncio.run(execute(as_role(postgres, owner), missing))
    asyncio.run(open_as(role, postgres, schema))


def as_role(postgres: str, role: str) -> str:
    parts = urlsplit(postgres)
    return parts._replace(netloc=f"{role}@{parts.hostname}:{parts.port}").geturl()


async def open_as(role: str, postgres: str, schema: str) -> None:
    case = SharedStoreConformance()
    url = with_options(as_role(postgres, role), schema=schema)
    store = open_url(url, lambda: case.START)
    await store.open()
    try:
        await store.create(case.record(f"op-{secrets.token_hex(8)}", now=store.now()))
    finally:
        await store.close()


def test_a_process_has_as_many_connections_as_the_page_says(postgres: str) -> None:
    connections = asyncio.run(most_connections(postgres))
    assert connections == 7
    assert "one for notices: seven" in PAGE
    assert f"takes {3 * 4 * connections} of `max_connections`" in PAGE


async def most_connections(postgres: str) -> int:
    """Uses a store in every way, and returns how many connections it has then."""
    case = SharedStoreConformance()
    url = with_options(postgres, application_name="counted")
    store: Any = open_url(url, lambda: case.START)
    await store.open()
    try:
        record = await store.create(case.record(now=store.now()))
        await store.claim({case.METHOD: 1}, Claim(LEASE))
        renewal = store.renew([Leased(record.name, 1)], LEASE)
        await asyncio.to_thread(asyncio.run, renewal)
        await asyncio.gather(*(store.find_id(str(number)) for number in range(50)))
        for _ in range(600):
            connections = len(await sessions(postgres))
            if connections > 6:
                break
            await asyncio.sleep(0.1)  # that of the notices is made meanwhile
        return connections
    finally:
        await store.close()


async def sessions(postgres: str) -> list[Any]:
    connection = await asyncpg.connect(postgres.partition("?")[0])
    try:
        query = "SELECT FROM pg_stat_activity WHERE application_name = 'counted'"
        return list(await connection.fetch(query))
    finally:
        await connection.close()
