"""Optional dependencies: what to install where one is missing."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator


@contextlib.contextmanager
def extra(name: str) -> Iterator[None]:
    """Names the extra to install, if an import inside the block finds no module.

    Args:
        name: The name of the extra, and of the public module that needs it.

    Raises:
        ModuleNotFoundError: If another package's module is missing.
    """
    try:
        yield
    except ModuleNotFoundError as cause:
        if str(cause.name).partition(".")[0] in ("lro", "lro_grpc"):
            raise
        raise ModuleNotFoundError(
            f"lro_grpc.{name} needs {cause.name}: pip install 'lro-grpc[{name}]'", name=cause.name
        ) from cause
