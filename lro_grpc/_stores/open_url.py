"""Opens a store by its URL."""

from __future__ import annotations

from lro_grpc._errors import ConfigurationError
from lro_grpc._stores.memory import MemoryStore
from lro_grpc._stores.sqlite.store import SqliteStore
from lro_grpc._stores.store import Now, Store


def open_url(url: str, now: Now) -> Store:
    """Returns the store that a URL names; it is not open yet.

    Args:
        url: ``memory:``, ``sqlite:///relative/file.db`` or ``sqlite:////absolute/file.db``.
        now: Returns the time in microseconds since 1970 UTC.

    Raises:
        ConfigurationError: If the URL is none of these.
    """
    if url == "memory:":
        return MemoryStore(now)
    scheme, separator, path = url.partition(":///")
    if scheme == "sqlite" and separator and path and path != ":memory:":
        return SqliteStore(path, now)
    raise ConfigurationError(
        f"{url!r} is not a store; give memory:, sqlite:///file.db (relative) or"
        " sqlite:////folder/file.db (absolute)",
        reason="UNKNOWN_STORE",
        metadata={"url": url},
    )
