"""What the engine knows of a long-running method: how to run it, and its types."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import Message

DEFAULT_THREADS = 16
"""Attempts of one method at a time in one process, for a ``def`` handler."""

DEFAULT_TASKS = 1000
"""Attempts of one method at a time in one process, for an ``async def`` handler."""


@dataclass(frozen=True, slots=True)
class Handler:
    """The run of one method, found by the method's full name.

    The response and metadata types are those of the method's ``operation_info``.
    """

    method: str
    """``/pkg.Service/Method``."""
    run: Callable[[Any, Any], Any]
    """Called with the request and the context; a function, or a coroutine function."""
    request: type[Message]
    """The request's type."""
    response: type[Message]
    """The type that ``run`` returns."""
    metadata: type[Message]
    """The type of ``Operation.metadata``."""
    error_domain: str
    """``ErrorInfo.domain`` of the handler's errors that name none."""
    concurrency: int | None = None
    """Attempts at a time in one process; the default of the handler's colour unless given."""

    @property
    def is_async(self) -> bool:
        """Whether ``run`` is a coroutine function."""
        return inspect.iscoroutinefunction(self.run)

    @property
    def slots(self) -> int:
        """Attempts at a time in one process."""
        return self.concurrency or (DEFAULT_TASKS if self.is_async else DEFAULT_THREADS)
