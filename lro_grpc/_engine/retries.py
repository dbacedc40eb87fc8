"""Retries: which errors of a handler are worth one, after which pause, and in which words."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable

from lro_grpc._engine.handler import Handler
from lro_grpc._errors import LroError, RetryableError
from lro_grpc._runtime.interrupts import only_errors
from lro_grpc._runtime.log import AnyLog
from lro_grpc._runtime.repeated_lines import PROCESS


def retryable(handler: Handler, error: BaseException, log: AnyLog) -> LroError | None:
    """Returns an error that is worth another try, as a caller may see it; None if it is not.

    An error that the ``retry`` predicate knows was expected. So it is no incident, and is shown in
    its own words, as a ``RetryableError`` would be.
    """
    if isinstance(error, RetryableError):
        return error
    if not _is_expected(handler, error, log):
        return None
    return error if isinstance(error, LroError) else RetryableError(words(error))


def pause_after(
    handler: Handler, error: BaseException, failures: int, random: Callable[[], float]
) -> float:
    """Returns the seconds before the next try may begin.

    Args:
        handler: The handler, which has the backoff.
        error: What it has raised.
        failures: How often it had failed before.
        random: Gives numbers uniform in [0, 1).
    """
    if isinstance(error, RetryableError) and error.retry_after is not None:
        return error.retry_after.total_seconds()
    return next(itertools.islice(handler.backoff.pauses(random), failures, None))


def _is_expected(handler: Handler, error: BaseException, log: AnyLog) -> bool:
    if handler.retry is None or not isinstance(error, Exception):
        return False
    try:
        with only_errors("retry"):
            is_worth_it = handler.retry(error)
    except Exception as raised:  # noqa: BLE001 - it fails with the handler's own error then
        text = f"the retry predicate of {handler.method} has raised"
        PROCESS.say(logging.ERROR, text, error=raised, log=log)
        return False
    if not isinstance(is_worth_it, bool):  # a coroutine, for one, is true
        kind = type(is_worth_it).__qualname__
        text = f"the retry predicate of {handler.method} returned {kind}, not a bool"
        PROCESS.say(logging.ERROR, text, log=log)
        return False
    return is_worth_it


def words(error: BaseException) -> str:
    """Returns the text of an error, or its type where it has none."""
    kind = type(error).__qualname__
    try:
        with only_errors(kind):
            text = error.message if isinstance(error, LroError) else str(error)
            return text.encode(errors="backslashreplace").decode() or kind
    except Exception:  # noqa: BLE001 - it has no words that can be shown
        return kind
