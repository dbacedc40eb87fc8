"""What a server takes on at most."""

from __future__ import annotations

from dataclasses import dataclass, fields

from lro_grpc import paging
from lro_grpc._errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Limits:
    """What a server takes on at most; each answered by RESOURCE_EXHAUSTED unless it says otherwise.

    How many attempts of a method run at a time is in its mark (``concurrency``); the rest waits in
    the queue. How large a request may be is the gRPC server's own option
    (``grpc.max_receive_message_length``, 4 MiB unless set).

    Raises:
        ConfigurationError: If one of them is not positive.
    """

    queue: int = 10_000
    """Operations of one method that wait for an attempt; a start above it is refused."""
    waiters: int = 50_000
    """Wait calls that a ``grpc.aio`` server holds open; above it a Wait answers at once (P9)."""
    streams: int = 10_000
    """Watch calls that a ``grpc.aio`` server holds open; a Watch above it is refused."""
    page_size: int = paging.MAX_PAGE_SIZE
    """Operations on a page; a larger ``page_size`` is clamped to it (S12)."""

    def __post_init__(self) -> None:
        """Checks the numbers."""
        for field in fields(self):
            value = getattr(self, field.name)
            if value < 1:
                raise ConfigurationError(f"the limit {field.name} is {value}; give a positive one")
