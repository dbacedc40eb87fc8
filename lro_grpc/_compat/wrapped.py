"""The parts of an operation of google-api-core, and calls of them without repetitions.

Only this module uses names that are not public there: ``_refresh``, ``_cancel``, ``_result_type``
and ``_metadata_type``, which hold the constructor's arguments of those names. They are the same in
google-api-core 2.25 and 2.44.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from google.api_core import version
from google.api_core.operation import Operation
from google.api_core.operation_async import AsyncOperation

from lro_grpc._client.connection import CallMetadata
from lro_grpc._errors import ConfigurationError
from lro_grpc._wire import headers


@dataclasses.dataclass(frozen=True, slots=True)
class Wrapped:
    """The parts of an operation of google-api-core."""

    refresh: Callable[..., Any]
    """Calls GetOperation and returns the operation; a coroutine function of an AsyncOperation."""
    cancel: Callable[..., Any]
    """Calls CancelOperation, in the same manner."""
    response: type[Any]
    """The declared type of the response: a proto-plus or a protobuf class."""
    metadata: type[Any] | None
    """The declared type of the metadata, if there is one."""

    @property
    def call_metadata(self) -> CallMetadata:
        """The gRPC metadata that the client sends with each Get, but for what routes that call."""
        sent = getattr(self.refresh, "keywords", {}).get("metadata") or ()
        return [(key, value) for key, value in sent if key != headers.REQUEST_PARAMS]


def parts_of(operation: Operation | AsyncOperation) -> Wrapped:
    """Takes an operation apart.

    Raises:
        ConfigurationError: If this version of google-api-core is put together in another way.
    """
    try:
        return Wrapped(
            refresh=operation._refresh,
            cancel=operation._cancel,
            response=operation._result_type,
            metadata=operation._metadata_type,
        )
    except AttributeError as missing:
        raise ConfigurationError(
            f"an operation of google-api-core {version.__version__} has no {missing.name};"
            " install a version from 2.25 to 2.44, or a newer lro-grpc",
            metadata={"version": version.__version__, "missing": str(missing.name)},
        ) from missing


def once(function: Callable[..., Any], timeout: timedelta | None) -> Callable[[], Any]:
    """Returns a refresh or a cancel as a call without repetitions, and with a deadline.

    Args:
        function: ``Wrapped.refresh`` or ``Wrapped.cancel``: any function, but mostly a partial one
            of a client's method. It gets a deadline, and ``retry=None``, only if it has such
            parameters.
        timeout: The deadline; None for the function's own.
    """
    made = functools.partial(function)  # of a partial function, an equal one
    takes = inspect.signature(made.func).parameters
    arguments: dict[str, Any] = {**made.keywords, "retry": None}
    if timeout is not None:
        arguments["timeout"] = timeout.total_seconds()
    for name in {"retry", "timeout"} - takes.keys():
        arguments.pop(name, None)
    if (metadata := arguments.get("metadata")) is not None:
        arguments["metadata"] = list(metadata)  # google-api-core appends to it with every call
    elif "metadata" not in takes:  # operation.from_grpc gives it to a function that takes none
        arguments.pop("metadata", None)
    return functools.partial(made.func, *made.args, **arguments)
