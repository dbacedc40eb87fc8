"""Checks that several processes can use a store."""

from __future__ import annotations

from lro_grpc._errors import ConfigurationError
from lro_grpc._runtime.clock import SystemClock
from lro_grpc._stores.open_url import open_url, without_password


def check_shared(url: str, needed_by: str) -> None:
    """Checks a store's URL; nothing is opened.

    Args:
        url: The URL.
        needed_by: The command or the option that needs a store for several processes.

    Raises:
        ConfigurationError: If one process alone can have the store, or the URL names none.
    """
    if open_url(url, SystemClock().now).exclusive:
        raise ConfigurationError(
            f"{needed_by} needs a store that processes share, and {without_password(url)} belongs"
            " to one process alone; give --store postgresql://…"
        )
