"""Limits of the bodies of requests: of each, and of all that are held at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from lro_grpc._http import responses


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """The limits of the bodies of requests."""

    size: int
    """The most bytes of a body."""
    seconds: float
    """The longest time that a body may take to arrive."""
    values: int
    """The most values in the JSON of a body, names of members included."""
    held: int
    """The most bytes of all bodies that have arrived, and are not converted yet."""


class Bodies:
    """Counts the bytes of the bodies that are held in memory.

    Args:
        limits: The limits.
    """

    def __init__(self, limits: BodyLimits) -> None:
        self.limits = limits
        """The limits."""
        self._held = 0

    @contextlib.contextmanager
    def place(self) -> Iterator[Callable[[int], None]]:
        """Gives a place for a body while the context lasts: a function to call with each size.

        Raises:
            HttpError: From that function, if the bytes are more than may be held.
        """
        ours = 0

        def hold(size: int) -> None:
            nonlocal ours
            if self._held + size > self.limits.held:
                raise responses.busy(f"bodies of {self._held} bytes are on their way")
            self._held += size
            ours += size

        try:
            yield hold
        finally:
            self._held -= ours
