"""Opens a store by its URL."""

from __future__ import annotations

import importlib
import re
from types import ModuleType
from typing import TYPE_CHECKING

from lro_grpc._errors import ConfigurationError

if TYPE_CHECKING:
    from lro_grpc._stores.store import Now, Store

_ANY = re.DOTALL | re.IGNORECASE
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
    # A store is imported where it is named: what only reads a URL does not wait for all of them.
    if url == "memory:":
        from lro_grpc._stores.memory import MemoryStore

        return MemoryStore(now)
    path = sqlite_path(url)
    if path:
        from lro_grpc._stores.sqlite.store import SqliteStore

        return SqliteStore(path, now)
    if is_postgres(url):
        store: Store = postgres_module("store", url).PostgresStore(url)
        return store
    raise unknown_store(url)


def sqlite_path(url: str) -> str:
    """Returns the path of the file that a URL names; empty if it names none."""
    scheme, separator, path = url.partition(":///")
    return path if scheme == "sqlite" and separator and path != ":memory:" else ""


def is_postgres(url: str) -> bool:
    """Returns whether a URL names a Postgres database."""
    return url.startswith(_POSTGRES)


def postgres_module(name: str, url: str) -> ModuleType:
    """Returns a module of the store in Postgres; its driver is an extra, and is imported here.

    Args:
        name: The module.
        url: The URL of the store that needs it.

    Raises:
        ConfigurationError: If the driver is not installed.
    """
    try:
        return importlib.import_module(f"lro_grpc._stores.postgres.{name}")
    except ModuleNotFoundError as cause:
        if cause.name != "asyncpg":
            raise
        raise ConfigurationError(
            "a Postgres store needs asyncpg: pip install 'lro-grpc[postgres]'",
            reason="UNKNOWN_STORE",
            metadata={"url": without_password(url)},
        ) from cause


def unknown_store(url: str) -> ConfigurationError:
    """Returns the error for a URL that names no store."""
    shown = without_password(url)
    return ConfigurationError(
        f"{shown!r} is not a store; give memory:, sqlite:///file.db (relative),"
        " sqlite:////folder/file.db (absolute) or postgresql://user@host/database",
        reason="UNKNOWN_STORE",
        metadata={"url": shown},
    )


def without_password(url: str) -> str:
    """Returns a URL as it may be shown, however it was meant.

    The password ends at the last ``@``, for one in it may lack its escape.
    """
    if url.startswith("sqlite:"):
        return url
    shown = re.sub(r"^([a-z+]*:/*[^:/@]*):.*@", r"\1:***@", url, flags=_ANY)
    return re.sub(r"([?&](?:[a-z]*pass[a-z]*|notices_url)=)[^&]*", r"\1***", shown, flags=_ANY)
