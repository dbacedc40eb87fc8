"""The threads of a ``grpc.server``, of which the calls that wait must leave some."""

from __future__ import annotations

from typing import Any

import grpc

from lro_grpc._errors import ConfigurationError
from lro_grpc._runtime.options import check_number

_FEW = 4
"""Calls that may wait on a server that does not show how many threads it has."""


def waiters_of(server: grpc.Server, wanted: int | None) -> int:
    """Returns how many calls may wait in the threads of a server: half of them unless said.

    Args:
        server: The server.
        wanted: The number that its program gives; None for none.

    Raises:
        ConfigurationError: If it is no such number, or would leave no thread.
    """
    threads = _threads_of(server)
    if wanted is None:
        return _FEW if threads is None else threads // 2
    check_number("max_waiters", wanted, least=0)
    if threads is not None and wanted >= threads:
        raise ConfigurationError(
            f"max_waiters is {wanted}, and the server has {threads} threads, of which none would"
            f" be left; give at most {threads - 1}, or give the server more threads"
        )
    return wanted


def _threads_of(server: Any) -> int | None:
    """Returns the number of a server's threads; None if it cannot be seen.

    Neither grpcio nor ``concurrent.futures`` has a public way to ask.
    """
    pool = getattr(getattr(server, "_state", None), "thread_pool", None)
    threads = getattr(pool, "_max_workers", None)
    return threads if isinstance(threads, int) else None
