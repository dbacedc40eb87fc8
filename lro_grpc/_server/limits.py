"""Limits of a server, and the places of a queue that has one."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, fields

from lro_grpc import paging
from lro_grpc._errors import LimitReachedError
from lro_grpc._operation.record import Record
from lro_grpc._operation.size import OPERATION_BYTES
from lro_grpc._runtime.options import check_number
from lro_grpc._stores.store import Store

_ALL = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Limits:
    """The most that a server takes on; above it the answer is RESOURCE_EXHAUSTED unless said here.

    How many attempts of a method run at a time is an option of the method (``concurrency``); the
    rest waits in the queue. How large a request may be is an option of the gRPC server
    (``grpc.max_receive_message_length``, 4 MiB unless set).

    Raises:
        ConfigurationError: If one of them is not a positive whole number.
    """

    queue: int = 10_000
    """Operations of one method that wait for an attempt; a start above it is refused."""
    waiters: int = 50_000
    """Wait calls that a ``grpc.aio`` server holds open; above it a Wait answers at once (P9)."""
    streams: int = 10_000
    """Watch calls that a ``grpc.aio`` server holds open; a Watch above it is refused."""
    page_size: int = paging.MAX_PAGE_SIZE
    """Operations on a page; a larger ``page_size`` is clamped to it (S12)."""
    operation_bytes: int = OPERATION_BYTES
    """Bytes of one operation, serialized; a start, a report or an outcome above it is refused.

    The default is a little below the 4 MiB that a gRPC client reads, unless its channel sets
    ``grpc.max_receive_message_length``."""

    def __post_init__(self) -> None:
        """Checks the numbers."""
        for field in fields(self):
            check_number(f"the limit {field.name}", getattr(self, field.name), most=_ALL)


class Queues:
    """Counts the operations of each method that wait for an attempt, and refuses more than may.

    An operation takes its place before it is stored, not after: else all starts that are on their
    way at once would find the same place free. Once the store announces it, it is counted by its
    name, and no longer as on its way.

    Args:
        store: Where the operations are kept.
        limit: The most operations of one method that may wait.
    """

    def __init__(self, store: Store, limit: int) -> None:
        self._store = store
        self._limit = limit
        self._waiting: dict[str, set[str]] = {}
        self._entering: dict[str, Counter[str | bytes]] = {}
        store.subscribe(self._on_change)

    async def load(self, method: str) -> None:
        """Finds the operations of a method that wait already, at the start of the server."""
        self._entering[method] = Counter()
        waiting = await self._store.claimable({method: _ALL}, ready=False)
        self._waiting[method] = set(waiting)

    @contextlib.contextmanager
    def entry(self, record: Record) -> Iterator[None]:
        """Keeps a place for an operation while it is stored.

        The same request, sent twice at once, takes one place.

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
            self._entering[record.method].pop(_key(record), None)  # counted by name from now on
            (waiting.add if record.claimable else waiting.discard)(record.name)


def _key(record: Record) -> str | bytes:
    """Returns a key that a start shares with the same request sent again."""
    return record.fingerprint or record.name
