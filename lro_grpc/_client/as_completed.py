"""Waiting for several futures at once, in the manner of ``concurrent.futures`` and ``asyncio``."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import AsyncIterator, Awaitable, Iterable, Iterator, Mapping
from concurrent.futures import ALL_COMPLETED
from typing import TYPE_CHECKING, Any, TypeVar

from lro_grpc._client.future import OperationFuture
from lro_grpc._durations import as_timeout

if TYPE_CHECKING:
    from lro_grpc._durations import Duration

F = TypeVar("F", bound="OperationFuture[Any, Any] | concurrent.futures.Future[Any]")
A = TypeVar("A", bound="Awaitable[Any]")


def wait(
    futures: Iterable[F],
    *,
    timeout: Duration | None = None,
    return_when: str = ALL_COMPLETED,
) -> tuple[set[F], set[F]]:
    """Waits for several futures, as ``concurrent.futures.wait`` does. Cancels nothing.

    Args:
        futures: Futures of operations, and of ``concurrent.futures`` if you like.
        timeout: How long to wait in all; None for as long as it takes.
        return_when: ``FIRST_COMPLETED``, ``FIRST_EXCEPTION`` or ``ALL_COMPLETED``, as in
            ``concurrent.futures``.

    Returns:
        Those whose wait is over, by a response, an error or a call that failed for good; and the
        rest.
    """
    seconds = _seconds(timeout)
    ends = _ends(futures)
    try:
        done, not_done = concurrent.futures.wait(ends, seconds, return_when)
        return {ends[one] for one in done}, {ends[one] for one in not_done}
    finally:
        _forget(ends)


def as_completed(futures: Iterable[F], *, timeout: Duration | None = None) -> Iterator[F]:
    """Yields several futures as they end, as ``concurrent.futures.as_completed`` does.

    Args:
        futures: As for ``wait``.
        timeout: How long to wait in all; None for as long as it takes.

    Raises:
        TimeoutError: If they have not all ended in time.
    """
    seconds = _seconds(timeout)
    ends = _ends(futures)
    try:
        for one in concurrent.futures.as_completed(ends, seconds):
            yield ends[one]
    except concurrent.futures.TimeoutError as late:
        raise TimeoutError(f"{late} in {as_timeout(timeout)}") from late
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
        timeout: How long to wait in all; None for as long as it takes.
        return_when: As for ``wait``.

    Returns:
        As ``wait``.
    """
    seconds = _seconds(timeout)
    ends = {asyncio.ensure_future(one): one for one in dict.fromkeys(futures)}
    try:
        if not ends:
            return set(), set()
        done, not_done = await asyncio.wait(ends, timeout=seconds, return_when=return_when)
        return {ends[one] for one in done}, {ends[one] for one in not_done}
    finally:
        _forget(ends)


async def async_as_completed(
    futures: Iterable[A], *, timeout: Duration | None = None
) -> AsyncIterator[A]:
    """Yields several futures as they end.

    Args:
        futures: As for ``async_wait``.
        timeout: How long to wait in all; None for as long as it takes.

    Raises:
        TimeoutError: If they have not all ended in time.
    """
    loop = asyncio.get_running_loop()
    seconds_in_all = _seconds(timeout)
    end = None if seconds_in_all is None else loop.time() + seconds_in_all
    ends = {asyncio.ensure_future(one): one for one in dict.fromkeys(futures)}
    left = set(ends)
    try:
        while left:
            seconds = None if end is None else max(end - loop.time(), 0)
            done, left = await asyncio.wait(
                left, timeout=seconds, return_when=asyncio.FIRST_COMPLETED
            )
            if not done:
                raise TimeoutError(
                    f"{len(left)} (of {len(ends)}) futures unfinished in {as_timeout(timeout)}"
                )
            for one in done:
                yield ends[one]
    finally:
        _forget(ends)


def _ends(futures: Iterable[F]) -> dict[concurrent.futures.Future[Any], F]:
    return {
        one.concurrent() if isinstance(one, OperationFuture) else one: one
        for one in dict.fromkeys(futures)
    }


def _seconds(timeout: Duration | None) -> float | None:
    """Returns a timeout as threads take it, which cannot wait for more than 292 years."""
    limit = as_timeout(timeout)
    return None if limit is None else min(max(limit.total_seconds(), 0.0), threading.TIMEOUT_MAX)


def _forget(ends: Mapping[Any, Any]) -> None:
    """Ends the waits that were made here, and those alone."""
    for end, one in ends.items():
        if end is not one and not end.cancel() and not end.cancelled():
            end.exception()  # asyncio warns of an error that nobody has looked at
