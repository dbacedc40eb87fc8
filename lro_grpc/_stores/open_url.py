"""Opens a store by its URL."""

from __future__ import annotations

import importlib
import re

from lro_grpc._errors import ConfigurationError
from lro_grpc._stores.memory import MemoryStore
from lro_grpc._stores.sqlite.store import SqliteStore
from lro_grpc._stores.store import Now, Store

_POSTGRES = ("postgresql://", "postgres://")


def open_url(url: str, now: Now) -> Store:
    """Returns the store that a URL names; it is not open yet.

    Args:
        url: ``memory:``, ``sqlite:///relative/file.db``, ``sqlite:////absolute/file.db`` or
            ``postgresql://user@host/database``.
        now: Returns the time in microseconds since 1970 UTC. A Postgres store goes by the time of
            its database.

    Raises:
        ConfigurationError: If the URL is none of these, or what it needs is not installed.
    """
    if url == "memory:":
        return MemoryStore(now)
    scheme, separator, path = url.partition(":///")
    if scheme == "sqlite" and separator and path and path != ":memory:":
        return SqliteStore(path, now)
    if url.startswith(_POSTGRES):
        return _postgres(url)
    shown = without_password(url)
    raise ConfigurationError(
        f"{shown!r} is not a store; give memory:, sqlite:///file.db (relative),"
        " sqlite:////folder/file.db (absolute) or postgresql://user@host/database",
        reason="UNKNOWN_STORE",
        metadata={"url": shown},
    )


def _postgres(url: str) -> Store:
    """Returns a store in Postgres; its driver is an extra, and is imported here."""
    try:
        module = importlib.import_module("lro_grpc._stores.postgres.store")
    except ModuleNotFoundError as cause:
        if cause.name != "asyncpg":
            raise
        raise ConfigurationError(
            "a Postgres store needs asyncpg: pip install 'lro-grpc[postgres]'",
            reason="UNKNOWN_STORE",
            metadata={"url": without_password(url)},
        ) from cause
    store: Store = module.PostgresStore(url)
    return store


def without_password(url: str) -> str:
    """Returns a URL as it may be shown."""
    return re.sub(r"(://[^/@:]*):[^/@]*@", r"\1:***@", url)
