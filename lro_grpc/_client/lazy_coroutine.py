"""A coroutine that begins when it is awaited, with a truth value before that."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator
from typing import Any, TypeVar

T_co = TypeVar("T_co", covariant=True)


class LazyCoroutine(Coroutine[Any, Any, T_co]):
    """A coroutine that begins when it is awaited, and is true or false before.

    ``asyncio.wait`` asks a future for ``done()`` and awaits nothing. It gets what is known without
    a call; a coroutine would be true whatever it is of, and warn that nobody has awaited it.

    Args:
        make: Makes the coroutine.
        known: What is known without it.
    """

    def __init__(self, make: Callable[[], Coroutine[Any, Any, T_co]], *, known: bool) -> None:
        self._make = make
        self._known = known
        self._coroutine: Coroutine[Any, Any, T_co] | None = None

    def __bool__(self) -> bool:
        return self._known

    def __await__(self) -> Generator[Any, Any, T_co]:
        return self._begun().__await__()

    def send(self, value: Any, /) -> Any:
        """Goes on, as a coroutine does."""
        return self._begun().send(value)

    def throw(self, *error: Any) -> Any:
        """Goes on with an error, as a coroutine does."""
        return self._begun().throw(*error)

    def close(self) -> None:
        """Ends it, as a coroutine."""
        if self._coroutine is not None:
            self._coroutine.close()

    def _begun(self) -> Coroutine[Any, Any, T_co]:
        if self._coroutine is None:
            self._coroutine = self._make()
        return self._coroutine
