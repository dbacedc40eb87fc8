"""Waiting for several futures at once, in the manner of ``concurrent.futures`` and ``asyncio``.

Each future of an operation is waited for by an *end*: a future of the standard library that has the
timeout, and so makes the last poll of its operation when the time is over. Any other future is its
own end, and has had its time then. So what is done in time counts as done, whoever has seen it.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import threading
from collections.abc import AsyncIterator, Awaitable, Iterable, Iterator, Mapping
from concurrent.futures import ALL_COMPLETED, FIRST_COMPLETED, FIRST_EXCEPTION
from typing import TYPE_CHECKING, Any, TypeVar

from lro_grpc._client.async_future import AsyncOperationFuture
from lro_grpc._client.future import OperationFuture
from lro_grpc._client.future_state import FutureState
from lro_grpc._durations import as_timeout
from lro_grpc._errors import OperationTimeoutError

if TYPE_CHECKING:
    from datetime import timedelta

    from lro_grpc._durations import Duration

F = TypeVar("F", bound="OperationFuture[Any, Any] | concurrent.futures.Future[Any]")
A = TypeVar("A", bound="Awaitable[Any]")
E = TypeVar("E", bound="concurrent.futures.Future[Any] | asyncio.Future[Any]")
T = TypeVar("T")


def wait(
    futures: Iterable[F],
    *,
    timeout: Duration | None = None,
    return_when: str = ALL_COMPLETED,
) -> tuple[set[F], set[F]]:
    """Waits for several futures, as ``concurrent.futures.wait`` does. Cancels nothing.

    Args:
        futures: Futures of operations, and of ``concurrent.futures`` if you like.
        timeout: How long to wait in all; None for as long as it takes. When it is over, a last Get
            of each operation decides, as for ``result``: all at once, for at most half a second.
        return_when: ``FIRST_COMPLETED``, ``FIRST_EXCEPTION`` or ``ALL_COMPLETED``, as in
            ``concurrent.futures``.

    Returns:
        Those whose wait is over, by a response, an error or a call that failed for good; and the
        rest.
    """
    limit = as_timeout(timeout)
    ends = _ends(futures, limit)
    try:
        concurrent.futures.wait(ends, _seconds(limit), return_when)
        if not _is_enough(ends, return_when):  # The time is over.
            concurrent.futures.wait(_ended_by_themselves(ends))
        return _parted(ends)
    finally:
        _forget(ends)


def as_completed(futures: Iterable[F], *, timeout: Duration | None = None) -> Iterator[F]:
    """Yields several futures as they end, as ``concurrent.futures.as_completed`` does.

    Args:
        futures: As for ``wait``.
        timeout: As for ``wait``.

    Raises:
        TimeoutError: If they have not all ended in time.
    """
    limit = as_timeout(timeout)
    ends = _ends(futures, limit)
    left = set(ends)
    try:
        for end in _in_turn(ends, limit):
            if _is_over(end, ends[end]):
                left.remove(end)
                yield ends[end]
        if left:
            raise _unfinished(left, ends, limit)
    finally:
        _forget(ends)


async def async_wait(
    futures: Iterable[A],
    *,
    timeout: Duration | None = None,
    return_when: str = ALL_COMPLETED,
) -> tuple[set[A], set[A]]:
    """Waits for several futures, as ``asyncio.wait`` does. Cancels nothing.

    Args:
        futures: Async futures of operations; tasks, and futures of asyncio, if you like.
        timeout: As for ``wait``.
        return_when: As for ``wait``.

    Returns:
        As ``wait``.
    """
    limit = as_timeout(timeout)
    ends = _async_ends(futures, limit)
    if not ends:
        return set(), set()
    try:
        await asyncio.wait(ends, timeout=_seconds(limit), return_when=return_when)
        if not _is_enough(ends, return_when) and (polled := _ended_by_themselves(ends)):
            await asyncio.wait(polled)
        return _parted(ends)
    finally:
        _forget(ends)


async def async_as_completed(
    futures: Iterable[A], *, timeout: Duration | None = None
) -> AsyncIterator[A]:
    """Yields several futures as they end.

    Args:
        futures: As for ``async_wait``.
        timeout: As for ``wait``.

    Raises:
        TimeoutError: If they have not all ended in time.
    """
    limit = as_timeout(timeout)
    ends = _async_ends(futures, limit)
    left, awaited = set(ends), set(ends)
    loop = asyncio.get_running_loop()
    seconds_in_all = _seconds(limit)
    over = None if seconds_in_all is None else loop.time() + seconds_in_all
    try:
        while awaited:
            seconds = None if over is None else max(over - loop.time(), 0)
            done, awaited = await asyncio.wait(
                awaited, timeout=seconds, return_when=asyncio.FIRST_COMPLETED
            )
            if not done:
                over, awaited = None, awaited & _ended_by_themselves(ends)
            for end in done:
                if _is_over(end, ends[end]):
                    left.remove(end)
                    yield ends[end]
        if left:
            raise _unfinished(left, ends, limit)
    finally:
        _forget(ends)


def _ends(futures: Iterable[F], limit: timedelta | None) -> dict[concurrent.futures.Future[Any], F]:
    return {
        one.concurrent(limit) if isinstance(one, OperationFuture) else one: one
        for one in dict.fromkeys(futures)
    }


def _async_ends(futures: Iterable[A], limit: timedelta | None) -> dict[asyncio.Future[Any], A]:
    return {
        one.concurrent(limit)
        if isinstance(one, AsyncOperationFuture)
        else asyncio.ensure_future(one): one
        for one in dict.fromkeys(futures)
    }


def _in_turn(
    ends: Mapping[concurrent.futures.Future[Any], F], limit: timedelta | None
) -> Iterator[concurrent.futures.Future[Any]]:
    """Yields ends as they end; once the time is over, those alone that do so by themselves."""
    left = set(ends)
    with contextlib.suppress(concurrent.futures.TimeoutError):
        for end in concurrent.futures.as_completed(ends, _seconds(limit)):
            left.remove(end)
            yield end
    yield from concurrent.futures.as_completed(left & _ended_by_themselves(ends))


def _ended_by_themselves(ends: Mapping[E, object]) -> set[E]:
    """Returns the ends that have ended, or will by a last poll."""
    return {end for end, one in ends.items() if end.done() or isinstance(one, FutureState)}


def _is_over(end: E, one: object) -> bool:
    """Whether the wait for a future is over, other than by its time."""
    if not end.done() or end.cancelled() or not isinstance(one, FutureState):
        return end.done()
    return not isinstance(end.exception(), OperationTimeoutError)


def _is_enough(ends: Mapping[E, object], return_when: str) -> bool:
    """Whether a wait need not go on."""
    over = [end for end, one in ends.items() if _is_over(end, one)]
    if return_when == FIRST_COMPLETED and over:
        return True
    if return_when == FIRST_EXCEPTION and any(
        not end.cancelled() and end.exception() is not None for end in over
    ):
        return True
    return len(over) == len(ends)


def _parted(ends: Mapping[E, T]) -> tuple[set[T], set[T]]:
    """Returns the futures whose wait is over, and the rest."""
    over = {one for end, one in ends.items() if _is_over(end, one)}
    return over, set(ends.values()) - over


def _unfinished(left: set[E], ends: Mapping[E, object], limit: timedelta | None) -> TimeoutError:
    return TimeoutError(f"{len(left)} (of {len(ends)}) futures unfinished in {limit}")


def _seconds(limit: timedelta | None) -> float | None:
    """Returns a timeout as threads take it, which cannot wait for more than 292 years."""
    return None if limit is None else min(limit.total_seconds(), threading.TIMEOUT_MAX)


def _forget(ends: Mapping[Any, Any]) -> None:
    """Ends the waits that were made here, and those alone."""
    for end, one in ends.items():
        if end is not one and not end.cancel() and not end.cancelled():
            end.exception()  # asyncio warns of an error that nobody has looked at
