"""What a server takes on at most."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, fields

from lro_grpc import paging
from lro_grpc._errors import ConfigurationError, LimitReachedError
from lro_grpc._operation.record import Record
from lro_grpc._stores.store import Store

_ALL = 2**63 - 1


class Queues:
    """The operations of each method that wait, as far as the store has told.

    Args:
        store: Where the operations are kept.
        limit: How many of one method may wait.
    """

    def __init__(self, store: Store, limit: int) -> None:
        self._store = store
        self._limit = limit
        self._waiting: dict[str, set[str]] = {}
        self._entering: dict[str, Counter[str | bytes]] = {}
        store.subscribe(self._on_change)

    async def load(self, method: str) -> None:
        """Finds the operations of a method that wait from before."""
        self._entering[method] = Counter()
        waiting = await self._store.claimable({method: _ALL}, ready=False)
        self._waiting[method] = set(waiting)

    @contextlib.contextmanager
    def entry(self, record: Record) -> Iterator[None]:
        """Keeps a place for an operation while it is stored.

        The same request, sent twice at once, has one place.

        Raises:
            LimitReachedError: If as many wait as may.
        """
        method, key = record.method, _key(record)
        entering = self._entering[method]
        waiting = len(self._waiting[method]) + len(entering)
        if waiting >= self._limit and key not in entering:
            raise LimitReachedError(
                f"{waiting} operations of {method} wait to be run, and {self._limit} may;"
                " try again later",
                subject=method,
            )
        entering[key] += 1
        try:
            yield
        finally:
            entering[key] -= 1
            if entering[key] <= 0:
                del entering[key]

    def _on_change(self, _before: Record | None, record: Record) -> None:
        waiting = self._waiting.get(record.method)
        if waiting is not None:
            self._entering[record.method].pop(_key(record), None)  # it is counted here from now on
            (waiting.add if record.claimable else waiting.discard)(record.name)


def _key(record: Record) -> str | bytes:
    """Returns what the start of an operation has in common with the same one sent again."""
    return record.fingerprint or record.name


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
