"""Symbols for the reflection service: the file that defines each, methods included."""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pool
from google.protobuf.descriptor import FileDescriptor

_POOL: Any = descriptor_pool.Default()


class Symbols:
    """Protobuf's own pool, which by itself finds the file of a service, but not of its method."""

    def __getattr__(self, name: str) -> Any:
        return getattr(_POOL, name)

    def FindFileContainingSymbol(self, symbol: str) -> FileDescriptor:  # noqa: N802 - the pool's
        """Returns the file that declares a symbol.

        Raises:
            KeyError: If none does.
        """
        found: FileDescriptor
        try:
            found = _POOL.FindFileContainingSymbol(symbol)
        except KeyError:
            found = _POOL.FindMethodByName(symbol).containing_service.file
        return found
