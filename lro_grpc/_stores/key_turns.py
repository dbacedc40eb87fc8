"""The turns of concurrency keys at one claim: of each key one operation, then of each the next."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Generic, TypeVar

from lro_grpc._stores.store import MOST_KEYS

T = TypeVar("T")


class KeyTurns(Generic[T]):
    """Yields what may be claimed, in turn. A key is asked for no sooner than it has its first turn.

    Args:
        keys: The keys in the order of the ring, each with what may be claimed of it, oldest first:
            nothing where as many run as may.
        after: The key behind which they begin.
    """

    def __init__(self, keys: Iterable[tuple[str, Iterable[T]]], after: str) -> None:
        self.last_key = after
        """The key that had its turn last; once all is yielded, the last one of the ring."""
        self._keys = keys
        self._looked_at = 0
        self._is_over = False

    @property
    def has_more(self) -> bool:
        """Whether there may be more: not all was taken, or there may be more keys."""
        return not self._is_over or self._looked_at == MOST_KEYS

    def __iter__(self) -> Iterator[T]:
        """Yields what may be claimed."""
        going_on: deque[tuple[str, Iterator[T]]] = deque()
        for key, of_key in itertools.islice(self._keys, MOST_KEYS):
            self.last_key = key
            self._looked_at += 1
            rest = iter(of_key)
            for one in itertools.islice(rest, 1):
                going_on.append((key, rest))
                yield one
        end_of_ring = self.last_key
        while going_on:
            self.last_key, rest = going_on.popleft()
            for one in itertools.islice(rest, 1):
                going_on.append((self.last_key, rest))
                yield one
        self.last_key, self._is_over = end_of_ring, True


def ring(keys: Sequence[str], after: str) -> Iterator[str]:
    """Yields keys in the order of their ring, from the first one behind another on."""
    ordered = sorted(keys)
    yield from (key for key in ordered if key > after)
    yield from (key for key in ordered if key <= after)
