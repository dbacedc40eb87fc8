"""A long-running method as the engine knows it: its function, its types, its limits."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from google.protobuf.message import Message

from lro_grpc._runtime.backoff import Backoff
from lro_grpc._wire.proto_plus import parser_of, protobuf_class

DEFAULT_THREADS = 16
"""Attempts of one method at a time in one process, for a ``def`` handler."""

DEFAULT_TASKS = 1000
"""Attempts of one method at a time in one process, for an ``async def`` handler."""

RETRY_BACKOFF = Backoff(timedelta(seconds=1), 2.0, timedelta(minutes=1))
"""Between attempts that fail: from 1 s by 2 up to a minute, each with full jitter."""


@dataclass(frozen=True, slots=True)
class Handler:
    """One long-running method, found by its full name.

    The types are those of the method's ``operation_info``, or those that the service declares:
    protobuf's own classes, or proto-plus classes. The function takes and returns the very same.

    Raises:
        ConfigurationError: If a type is no message type.
    """

    method: str
    """``/pkg.Service/Method``."""
    run: Callable[[Any, Any], Any]
    """The function, or coroutine function, of the request and the context."""
    request: type[Any]
    """The request's type."""
    response: type[Any]
    """The type that ``run`` returns."""
    metadata: type[Any]
    """The type of ``Operation.metadata``."""
    error_domain: str
    """``ErrorInfo.domain`` of the handler's errors that name none."""
    concurrency: int | None = None
    """Attempts at a time in one process; None for 16 threads or 1000 tasks."""
    concurrency_per_key: int | None = None
    """Attempts at a time of one concurrency key, in all processes; None for any number."""
    retry: Callable[[Exception], bool] | None = None
    """Tells whether an error that ``run`` raised is worth another attempt."""
    backoff: Backoff = RETRY_BACKOFF
    """The pauses between attempts that fail."""
    redact: Callable[[Any], Any] | None = None
    """Makes of a copy of a request what may be shown of it to those who run the service."""
    former_names: Collection[str] = ()
    """Methods of former releases, by their full names: their operations are this one's, too."""
    progress_timeout: timedelta | None = None
    """For how long an attempt may make no progress before it counts as lost; None for any time."""
    is_async: bool = field(init=False)
    """Whether ``run`` is a coroutine function."""
    slots: int = field(init=False)
    """Attempts at a time in one process."""
    request_class: type[Message] = field(init=False, repr=False)
    """Protobuf's own class of the request's type."""
    response_class: type[Message] = field(init=False, repr=False)
    """Protobuf's own class of the response's type."""
    metadata_class: type[Message] = field(init=False, repr=False)
    """Protobuf's own class of the metadata's type."""
    parse_request: Callable[[bytes], Any] = field(init=False, repr=False)
    """Returns a serialized request as an object of its type."""

    @property
    def names(self) -> tuple[str, ...]:
        """The methods whose operations it runs: the former ones, then its own."""
        return (*self.former_names, self.method)

    def __post_init__(self) -> None:
        is_async = inspect.iscoroutinefunction(self.run)
        derived = {
            "is_async": is_async,
            "slots": self.concurrency or (DEFAULT_TASKS if is_async else DEFAULT_THREADS),
            "request_class": protobuf_class(self.request),
            "response_class": protobuf_class(self.response),
            "metadata_class": protobuf_class(self.metadata),
            "parse_request": parser_of(self.request),
        }
        for name, value in derived.items():
            object.__setattr__(self, name, value)
