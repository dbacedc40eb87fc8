"""What the engine knows of a long-running method: how to run it, and its types."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from lro_grpc._runtime.backoff import Backoff

DEFAULT_THREADS = 16
"""Attempts of one method at a time in one process, for a ``def`` handler."""

DEFAULT_TASKS = 1000
"""Attempts of one method at a time in one process, for an ``async def`` handler."""

RETRY_BACKOFF = Backoff(timedelta(seconds=1), 2.0, timedelta(minutes=1))
"""Between attempts that fail: from 1 s by 2 up to a minute, each with full jitter."""


@dataclass(frozen=True, slots=True)
class Handler:
    """The run of one method, found by the method's full name.

    The types are those of the method's ``operation_info``, or as its author has declared them:
    protobuf's own classes, or proto-plus classes. The run is given and returns the very same.
    """

    method: str
    """``/pkg.Service/Method``."""
    run: Callable[[Any, Any], Any]
    """Called with the request and the context; a function, or a coroutine function."""
    request: type[Any]
    """The request's type."""
    response: type[Any]
    """The type that ``run`` returns."""
    metadata: type[Any]
    """The type of ``Operation.metadata``."""
    error_domain: str
    """``ErrorInfo.domain`` of the handler's errors that name none."""
    concurrency: int | None = None
    """Attempts at a time in one process; the default of the handler's stack unless given."""
    retry: Callable[[Exception], bool] | None = None
    """Tells whether an error that ``run`` raised is worth another attempt."""
    backoff: Backoff = RETRY_BACKOFF
    """How long to wait between attempts that fail."""
    progress_timeout: timedelta | None = None
    """For how long an attempt may say nothing before it counts as lost; None for any time."""

    @property
    def is_async(self) -> bool:
        """Whether ``run`` is a coroutine function."""
        return inspect.iscoroutinefunction(self.run)

    @property
    def slots(self) -> int:
        """Attempts at a time in one process."""
        return self.concurrency or (DEFAULT_TASKS if self.is_async else DEFAULT_THREADS)
