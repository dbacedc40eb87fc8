"""Which errors of a handler are worth another attempt, and when it may begin."""

from __future__ import annotations

import itertools
from collections.abc import Callable

from lro_grpc._engine.handler import Handler
from lro_grpc._errors import RetryableError
from lro_grpc._runtime.log import AnyLog


def is_retryable(handler: Handler, error: BaseException, log: AnyLog) -> bool:
    """Tells whether another attempt may be spared an error.

    Args:
        handler: Whose error it is.
        error: What the attempt ended with.
        log: Where to log that the handler's own predicate has raised.
    """
    if isinstance(error, RetryableError):
        return True
    if handler.retry is None or not isinstance(error, Exception):
        return False
    try:
        return bool(handler.retry(error))
    except Exception:  # the operation fails with the handler's own error then
        log.exception("the retry predicate of %s has raised", handler.method)
        return False


def pause_after(
    handler: Handler, error: BaseException, failed_attempts: int, random: Callable[[], float]
) -> float:
    """Returns the seconds before the next attempt may begin.

    Args:
        handler: Whose backoff it is.
        error: What the attempt ended with.
        failed_attempts: How many attempts have failed before.
        random: Gives numbers uniform in [0, 1).
    """
    if isinstance(error, RetryableError) and error.retry_after is not None:
        return error.retry_after.total_seconds()
    pauses = handler.backoff.pauses(random)
    return next(itertools.islice(pauses, failed_attempts, None))
