"""How many operations wait for an attempt, and how many may."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator

from lro_grpc.errors import LimitReachedError
from lro_grpc.record import Record
from lro_grpc.stores import Store


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
        self._entering: Counter[str] = Counter()
        store.subscribe(self._on_change)

    async def load(self, method: str) -> None:
        """Counts the operations of a method that wait from before."""
        waiting = await self._store.claimable({method: self._limit})
        self._waiting[method] = set(waiting)

    @contextlib.contextmanager
    def entry(self, method: str) -> Iterator[None]:
        """Keeps a place for an operation while it is stored.

        Raises:
            LimitReachedError: If as many wait as may.
        """
        waiting = len(self._waiting.get(method, ())) + self._entering[method]
        if waiting >= self._limit:
            raise LimitReachedError(
                f"{waiting} operations of {method} wait to be run, and {self._limit} may;"
                " try again later",
                subject=method,
            )
        self._entering[method] += 1
        try:
            yield
        finally:
            self._entering[method] -= 1

    def _on_change(self, record: Record) -> None:
        waiting = self._waiting.get(record.method)
        if waiting is not None:
            (waiting.add if record.claimable else waiting.discard)(record.name)
