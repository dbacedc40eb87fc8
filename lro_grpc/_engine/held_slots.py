"""Warns of a method whose slots are all held by attempts that have started operations of it.

If they wait for those, as a handler does that calls itself, none of them ever ends: what they wait
for waits for their slots. That cannot be known, so it is only said, once for a method, when two
sweeps in turn have found the very same attempts: a handler that starts the next operation, and
returns, holds its slot no longer. Of each attempt the latest such operation is looked at.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping

from lro_grpc._engine.attempt import Attempt
from lro_grpc._errors import OperationDamagedError, OperationNotFoundError
from lro_grpc._stores.store import Store

_log = logging.getLogger("lro_grpc")


class HeldSlots:
    """Looks at the attempts of one process.

    Args:
        store: Where the operations are kept.
        attempts: The attempts that run, by their operations' names.
    """

    def __init__(self, store: Store, attempts: Mapping[str, Attempt]) -> None:
        self._store = store
        self._attempts = attempts
        self._before: Mapping[str, Collection[Attempt]] = {}
        """The attempts that held all slots of each method at the sweep before."""
        self._warned: set[str] = set()

    async def look(self) -> None:
        """Looks at all attempts, once a sweep."""
        nested: dict[str, set[Attempt]] = {}
        for attempt in self._attempts.values():
            if attempt.own_started:
                nested.setdefault(attempt.handler.method, set()).add(attempt)
        full = {
            method: attempts
            for method, attempts in nested.items()
            if method not in self._warned and len(attempts) >= _slots(attempts)
        }
        before, self._before = self._before, full
        for method, attempts in full.items():
            if before.get(method) == attempts and await self._none_is_done(attempts):
                self._warned.add(method)
                _log.warning(
                    "all %d slots of %s are held by attempts that have started an operation of it"
                    " which is not done: if they wait for it, none of them ends; give the inner"
                    " work a method of its own, or this one more concurrency",
                    *(_slots(attempts), method),
                    extra={"method": method},
                )

    async def _none_is_done(self, attempts: Collection[Attempt]) -> bool:
        for attempt in attempts:
            try:
                is_done = (await self._store.read(attempt.own_started)).done
            except (OperationNotFoundError, OperationDamagedError):
                is_done = True
            if is_done:
                attempt.own_started = ""
                return False
        return True


def _slots(attempts: Collection[Attempt]) -> int:
    return next(iter(attempts)).handler.slots
