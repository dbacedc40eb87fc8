"""Limits of the bodies of requests: of each, and of all that are held at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from starlette.types import Scope

from lro_grpc._http import responses

_UNCOUNTED = 16 * 1024
"""The bytes of each body that may always be held: small ones pass while large ones cannot."""


def check_framing(scope: Scope) -> None:
    """Refuses a request whose end a proxy in front may see elsewhere (RFC 9112, 6.3).

    Raises:
        HttpError: If it has two lengths.
    """
    names = {name for name, _ in scope["headers"]}
    if {b"content-length", b"transfer-encoding"} <= names:
        raise responses.ambiguous_length()


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
    """The most bytes of all bodies that have arrived, and are not converted yet; the first 16 KiB
    of each are not counted."""


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
        """Gives a place for a body while the context lasts: a function to call as it grows.

        Raises:
            HttpError: From that function, if the bytes are more than may be held.
        """
        ours = 0

        def hold(size: int) -> None:
            nonlocal ours
            counted = max(0, size - _UNCOUNTED) - ours
            if self._held + counted > self.limits.held:
                raise responses.busy(f"bodies of {self._held} bytes are on their way")
            self._held += counted
            ours += counted

        try:
            yield hold
        finally:
            self._held -= ours
